#!/usr/bin/env bash
# muster generate and muster eval through the program: the same text on any number of threads and ranks, prompts, stop
# texts, the end of the context, errors; the figures of eval.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
cd "$work"

# prints WORDS: the last expected command printed this on stdout
prints() { check "stdout says '$1'" grep -qF -- "$1" "$work/out"; }
# same WHAT FILE: the last expected command printed just this file
same() { check "$1" cmp -s "$2" "$work/out"; }

# Two models that know a sentence by heart. A document has 46 bytes and an end.
text='The quick brown fox jumps over the lazy dog'
for i in 1 2 3 4 5 6 7 8 9; do printf '{"text": "%s. %s"}\n' "$i" "$text"; done >text.jsonl
expect 0 "$muster" data build text.jsonl --heldout 0.3 -o tokens.h5
train() { # train NAME FAMILY PRECISION
  cat >"$1.yaml" <<EOF
run: {steps: 60, seed: 1}
model: {family: $2, d_model: 64, n_layers: 2, n_heads: 4, d_ff: 128, max_seq_len: 96}
data: {sources: [tokens.h5], seq_len: 64}
batch: {micro: 4, lanes: 4}
schedule: {peak: 0.005, warmup: 10}
train: {precision: $3}
device: {threads: 1}
EOF
  expect 0 "$muster" train "$1.yaml" --run "$1"
}
train llama llama f32
train gpt2 gpt2 bf16

# ---- the same text on any number of threads and ranks ----
for run in llama gpt2; do
  for how in '--temperature 0' '--temperature 1 --seed 7' '--temperature 1.5 --top-p 0.9 --top-k 40 --seed 3'; do
    read -ra options <<<"$how"
    expect 0 "$muster" generate "$run" --prompt 'The quick ' --tokens 150 --ignore-eos --threads 1 "${options[@]}"
    cp out "$run.text"
    check "$run $how: 150 tokens at most, one byte each, and a newline" [ "$(wc -c <out)" -le 161 ]
    for threads in 2 3 8; do
      expect 0 "$muster" generate "$run" --prompt 'The quick ' --tokens 150 --ignore-eos --threads $threads "${options[@]}"
      same "$run $how with $threads threads" "$run.text"
    done
  done
  expect 0 "$muster" generate "$run" --prompt 'The quick ' --tokens 150 --ignore-eos --temperature 1 --seed 8
  check "$run: another seed gives another text" [ "$(cmp -s out "$run.text" || echo differs)" = differs ]
done
if has_mpirun; then
  for n in 1 3; do
    expect 0 ranks $n "$muster" generate llama --prompt 'The quick ' --tokens 150 --ignore-eos --temperature 0
    cp out "ranks-$n"
  done
  check "the same text on 3 ranks" cmp -s ranks-1 ranks-3
fi
expect 0 "$muster" generate llama --prompt 'The quick ' --tokens 40 --temperature 0
check 'the sentence it learned, to its end' [ "$(cat out)" = "$text" ]
says 'muster: 33 tokens, '
says ' tokens/s; prompt of 10 tokens in '
says '; context 64, '
check 'figures are not in the text' [ "$(grep -c 'tokens/s' out)" = 0 ]

# ---- prompts ----
cp out whole
printf 'The quick ' >prompt.txt
expect 0 "$muster" generate llama --prompt-file prompt.txt --tokens 40 --temperature 0
same 'a prompt from a file' whole
expect 0 sh -c '"$0" generate llama --prompt-file - --tokens 40 --temperature 0 <prompt.txt' "$muster"
same 'a prompt from standard input' whole
expect 0 "$muster" generate llama --prompt 'The quick ' --tokens 40 --temperature 0 --no-prompt
check 'only what follows' [ "The quick $(cat out)" = "$text" ]
expect 0 "$muster" generate llama --prompt 'The quick ' --tokens 40 --top-k 1
same '--top-k 1 is --temperature 0' whole
expect 0 "$muster" generate llama --tokens 30 --temperature 0
says 'prompt of 1 token '
cp out begin
expect 0 "$muster" generate llama --prompt '' --tokens 30 --temperature 0
same 'an empty prompt is none' begin
check 'the beginning of a document' grep -qE '^[1-9]\. The quick' out
printf '\377\0\200' >bytes.bin
expect 0 "$muster" generate llama --prompt-file bytes.bin --tokens 3
says 'prompt of 3 tokens'
expect 2 "$muster" generate llama --prompt x --prompt-file prompt.txt
says '--prompt and --prompt-file: give one of them'
expect 2 "$muster" generate llama --prompt-file missing.txt
says 'cannot open --prompt-file missing.txt: No such file'
expect 1 "$muster" generate llama --prompt-file .
says 'cannot read --prompt-file .: Is a directory'

# ---- where it ends ----
expect 0 "$muster" generate llama --prompt 'The quick ' --tokens 99 --temperature 0 --stop 'nothing of it' --stop ' over'
check 'it ends before the stop text' [ "$(cat out)" = 'The quick brown fox jumps' ]
expect 0 "$muster" generate llama --prompt 'The quick ' --tokens 12 --temperature 0 --stop 'ju, not'
check 'what began a stop text is printed in the end' [ "$(cat out)" = 'The quick brown fox ju' ]
expect 2 "$muster" generate llama --stop ''
says 'a stop text is empty'
expect 0 "$muster" generate llama --prompt 'The quick ' --tokens 99 --temperature 0 --ignore-eos
says 'muster: 99 tokens, '
check 'it goes on behind the end of a document' grep -qE "^$text[1-9]\. The quick" out

# ---- the context: 64 tokens of training, 96 of the model ----
long=$text$text$text$text$text
expect 0 "$muster" generate llama --prompt "$long" --tokens 300 --ignore-eos --temperature 0 --threads 1
says 'muster: the prompt has 215 tokens; the model saw the last 64 (--context)'
says 'muster: 300 tokens, '
cp out far
expect 0 "$muster" generate llama --prompt "$long" --tokens 300 --ignore-eos --temperature 0 --threads 3
same 'beyond the context with 3 threads' far
expect 0 "$muster" generate llama --prompt "${long:0-64}" --tokens 300 --ignore-eos --temperature 0 --no-prompt
check 'only the last 64 tokens are seen' [ "$long$(cat out)" = "$(cat far)" ]
expect 0 "$muster" generate gpt2 --prompt "$long" --tokens 300 --ignore-eos --context 96
says '; context 96, '
for context in 1 2 3; do
  expect 0 "$muster" generate gpt2 --prompt abc --tokens 9 --ignore-eos --context $context
  says 'muster: 9 tokens, '
done
for run in llama gpt2; do
  expect 2 "$muster" generate $run --prompt 'not to be seen' --context 97
  check 'nothing is printed before' [ ! -s "$work/out" ]
  says 'a context of 97 tokens; model.max_seq_len of this checkpoint is 96'
done

# ---- what else is wrong ----
expect 2 "$muster" generate llama --top-p 0
says 'generate: --top-p: expected a number from 1e-06 to 1'
expect 2 "$muster" generate llama --top-k 0
expect 2 "$muster" generate llama --temperature -1
expect 2 "$muster" generate llama --context 0
expect 2 "$muster" generate llama --precision f64
expect 1 "$muster" generate nothing-here
if [ -w /dev/full ]; then
  expect 1 sh -c '"$0" generate llama --tokens 5 >/dev/full' "$muster"
  says 'cannot write to standard output: No space left on device'
fi

# ---- eval ----
value() { sed -n "s/^$1  *\\([^ ]*\\).*/\\1/p" "$work/out"; }
for split in heldout train; do
  expect 0 "$muster" eval llama --split $split --threads 1
  cp out figures
  check 'its lines' [ "$(sed 's/  .*//' out | tr '\n' ' ')" = 'checkpoint split tokens bytes loss perplexity bits per byte ' ]
  check 'the split' [ "$(value split)" = $split ]
  documents=$((($(value tokens) + 1) / 47)) # the first token of all is no target
  check "whole documents: $(value tokens) tokens" [ "$(value tokens)" = $((47 * documents - 1)) ]
  check "bytes: $(value bytes)" [ "$(value bytes)" = $((46 * documents - 1)) ]
  expect 0 "$muster" eval llama tokens.h5 --split $split --threads 3
  same "$split with 3 threads, and of the file named" figures
  if command -v jq >/dev/null; then
    expect 0 "$muster" eval llama --split $split --json
    jq -r '"\(.checkpoint) \(.split) \(.tokens) \(.bytes)"' out >got
    check 'the same in JSON' [ "$(cat got)" = "$(sed -n 's/^[a-z]*  *//p' figures | head -n 4 | tr '\n' ' ' | sed 's/ $//')" ]
    check 'loss, perplexity and bits agree' jq -e '((.loss | exp) / .perplexity - 1 | fabs) < 1e-9 and
      (.loss * .tokens / (2 | log) / .bytes / .bits_per_byte - 1 | fabs) < 1e-9' out >/dev/null
  fi
done
expect 0 "$muster" eval llama --split train
one=$(value tokens)
expect 0 "$muster" eval llama tokens.h5 tokens.h5 --split train
check 'two files count together' [ "$(value tokens)" = $((2 * one)) ]
expect 0 "$muster" eval llama --batches 1 --split train
check 'one microbatch of 4 windows' [ "$(value tokens)" = 256 ]
expect 0 "$muster" data build text.jsonl --heldout 0 -o no-heldout.h5
expect 2 "$muster" eval llama no-heldout.h5
says "the split has no token to predict: it has 0 tokens; 'muster data build --heldout' holds some out"
expect 1 "$muster" eval llama missing.h5
finish
