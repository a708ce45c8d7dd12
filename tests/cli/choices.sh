#!/usr/bin/env bash
# muster eval --choices through the program: forms of questions, what is refused with file and line, the same figures on any
# number of threads and ranks and from every kind of checkpoint. What the losses are, transformers says in tests/oracle.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
cd "$work"
prints() { check "stdout says '$1'" grep -qF -- "$1" out; }
same() { check "$1" cmp -s "$2" out; }

# A model that knows two sentences by heart.
for i in 1 2 3 4 5 6 7 8; do
  printf '{"text": "%s. The quick brown fox jumps over the lazy dog"}\n{"text": "%s. A tiny model answers all questions"}\n' $i $i
done >text.jsonl
expect 0 "$muster" data build text.jsonl --heldout 0 -o tokens.h5
cat >llama.yaml <<'E3'
run: {steps: 120, seed: 1}
model: {family: llama, d_model: 64, n_layers: 2, n_heads: 4, d_ff: 128, max_seq_len: 96}
data: {sources: [tokens.h5], seq_len: 64}
batch: {micro: 4, lanes: 4}
schedule: {peak: 0.005, warmup: 10}
train: {precision: f32}
device: {threads: 1}
E3
expect 0 "$muster" train llama.yaml --run llama

# ---- forms of a question ----
cat >one.jsonl <<'E3'
{"ind": 24, "ctx": "1. The quick brown fox", "endings": ["answers all questions", "jumps over the lazy dog", "is lazy"], "label": "1", "split": "val"}
{"ctx": "3. A tiny model", "endings": ["jumps over the lazy dog", "answers all questions"], "label": 1}

{"question": "5. A tiny model answers", "choices": ["all questions", "the lazy dog"], "answer": 0}
{"context": "6. The quick brown fox ", "choices": ["jumps over the lazy dog", "questions"], "answer": "a"}
{"question": "", "choices": ["zzzzz", "7. A tiny"], "answer": "B"}
E3
printf '\xef\xbb\xbf{"question": "2. The quick", "choices": ["all questions", " brown fox jumps"], "answer": "B"}\r\n' >two.jsonl
expect 0 "$muster" eval llama --choices one.jsonl --choices two.jsonl --threads 1 --details first.jsonl
cp out figures
prints 'questions      6'
prints 'answers        13'
prints 'accuracy       1.000000 by mean loss per token: 6 right, standard error 0.000000'
check 'its lines' [ "$(sed 's/  .*//' out | tr '\n' ' ')" = 'checkpoint questions answers tokens accuracy by sum by byte ' ]
# bytes are tokens: those of the answers, with the blank before most of them
check 'the tokens of the answers' grep -qE "^tokens +$((22 + 24 + 8 + 24 + 22 + 14 + 13 + 24 + 10 + 5 + 9 + 14 + 16))\$" out

# a wrong label is a wrong answer, and only there
sed 's/"answer": "B"/"answer": "A"/' two.jsonl >wrong.jsonl
expect 0 "$muster" eval llama --choices one.jsonl --choices wrong.jsonl --details answers.jsonl
prints 'accuracy       0.833333 by mean loss per token: 5 right, standard error 0.166667'
if command -v jq >/dev/null; then
  expect 0 "$muster" eval llama --choices one.jsonl --choices wrong.jsonl --json
  check 'the same in JSON' [ "$(jq -r '"\(.questions) \(.answers) \(.cut) \(.accuracy * 6 | round)"' out)" = '6 13 0 5' ]
  check 'what was chosen' [ "$(jq -r '"\(.file):\(.line) \(.right) \(.chosen)"' answers.jsonl | tr '\n' ' ')" = \
    'one.jsonl:1 1 1 one.jsonl:2 1 1 one.jsonl:4 0 0 one.jsonl:5 0 0 one.jsonl:6 1 1 wrong.jsonl:1 0 1 ' ]
  check 'losses, tokens and bytes of every answer' jq -es 'all(.losses, .tokens, .bytes | length > 1) and
    (.[0].bytes == [21, 23, 7]) and (.[0].tokens == [22, 24, 8]) and (.[0].losses | .[1] < .[0])' answers.jsonl >/dev/null
fi

# ---- the same figures ----
for threads in 2 3; do
  expect 0 "$muster" eval llama --choices one.jsonl --choices two.jsonl --threads $threads --details more.jsonl
  same "with $threads threads" figures
  check "every loss with $threads threads" cmp -s first.jsonl more.jsonl
done
if has_mpirun; then
  expect 0 ranks 3 "$muster" eval llama --choices one.jsonl --choices two.jsonl
  same 'on 3 ranks' figures
fi
expect 0 "$muster" pack llama -o packed.h5 --weights-only
expect 0 "$muster" eval packed.h5 --choices one.jsonl --choices two.jsonl
check 'from a packed checkpoint' [ "$(tail -n +2 out)" = "$(tail -n +2 figures)" ]
expect 0 "$muster" export llama -o folder
expect 0 "$muster" import folder -o imported.h5
expect 0 "$muster" eval imported.h5 --choices one.jsonl --choices two.jsonl
check 'from an imported model' [ "$(tail -n +2 out)" = "$(tail -n +2 figures)" ]
expect 0 "$muster" eval llama/checkpoints/step-00000120 --choices one.jsonl --choices two.jsonl
check 'from a checkpoint folder' [ "$(tail -n +2 out)" = "$(tail -n +2 figures)" ]

# ---- the context ----
long=$(printf '%090d' 0)
printf '{"question": "%s. The quick brown fox", "choices": ["jumps over the", "all questions"], "answer": 0}\n' "$long" >long.jsonl
expect 0 "$muster" eval llama --choices long.jsonl
says 'note: 2 of 2 answers stand behind more than 64 tokens: the model saw the last ones (--context)'
expect 0 "$muster" eval llama --choices long.jsonl --context 96
says '2 of 2 answers stand behind more than 96 tokens'
expect 2 "$muster" eval llama --choices long.jsonl --context 97
says 'model.max_seq_len of this checkpoint is 96'
expect 2 "$muster" eval llama --choices long.jsonl --context 9
says 'long.jsonl:1: an answer has 15 tokens, and the model sees 9 (--context)'

# ---- what is refused ----
refused() { # refused WORDS LINE
  printf '%s\n%s\n' "$(head -n 1 one.jsonl)" "$2" >bad.jsonl
  expect 1 "$muster" eval llama --choices bad.jsonl
  says "bad.jsonl:2: $1"
  check 'nothing is printed' [ ! -s out ]
}
refused 'not valid JSON' '{"ctx": '
refused 'not valid JSON: duplicate object key' '{"ctx": "a", "ctx": "b", "endings": ["c", "d"], "label": 0}'
refused 'it is no object' '["a"]'
refused "it has no 'ctx', 'question' or 'context'" '{"endings": ["a", "b"], "label": 0}'
refused "it has 'question' and 'context', of which one is wanted" '{"question": "a", "context": "b", "choices": ["c", "d"], "answer": 0}'
refused "'ctx' is no text" '{"ctx": 1, "endings": ["a", "b"], "label": 0}'
refused "it has no 'endings' or 'choices'" '{"ctx": "a", "label": 0}'
refused "'choices' is no list of 2 to 1000 texts" '{"question": "a", "choices": ["b"], "answer": 0}'
refused "'choices' is no list of 2 to 1000 texts" '{"question": "a", "choices": {"text": ["b", "c"]}, "answer": 0}'
refused 'endings[1] is no text, or an empty one' '{"ctx": "a", "endings": ["b", ""], "label": 0}'
refused "it has no 'label' or 'answer'" '{"ctx": "a", "endings": ["b", "c"]}'
for label in 2 -1 '"2"' '""' '"C"' '"-1"' '"01234"' null 0.5; do
  refused "'label' is neither a number from 0 to 1 nor the letter of one of the answers" \
    "{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": $label}"
done
refused "'answer' is neither" '{"question": "a", "choices": ["b", "c"], "answer": "1"}'
printf '\n' >empty.jsonl
expect 1 "$muster" eval llama --choices empty.jsonl
says 'empty.jsonl: there is no question'
expect 1 "$muster" eval llama --choices missing.jsonl
says 'missing.jsonl: No such file or directory'
expect 2 "$muster" eval llama tokens.h5 --choices one.jsonl
says "'tokens.h5' is a token file: --choices are evaluated alone"
expect 2 "$muster" eval llama --choices one.jsonl --split train
says '--split is for token files, not for --choices'
expect 2 "$muster" eval llama --context 5
says '--context is for --choices'
expect 2 "$muster" eval llama --choices one.jsonl --details .
for details in one.jsonl ./same.jsonl; do
  ln -f one.jsonl same.jsonl && cp one.jsonl kept.jsonl
  expect 2 "$muster" eval llama --choices one.jsonl --details $details
  says "--details: '$details' holds the questions of --choices; name another file"
  check 'the questions are as they were' cmp one.jsonl kept.jsonl
done
check 'nothing is left of a failure' [ "$(ls -A | grep -c '^\.')" = 0 ]
finish
