#!/usr/bin/env bash
# muster data build and show: the report, the note, the text and the mask of a microbatch, what is refused.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
cd "$work"
prints() { check "stdout says '$1'" grep -qF -- "$1" out; }

# ---- build ----
{
  echo '{"text": "tab\t escape\u001b[31m bidi\u202e caf\u00e9 \\ \ufeffend\nnext"}'
  for i in $(seq 1 300); do echo "{\"text\": \"document number $i\"}"; done
  echo '{"text": "document number 300"}'
} >lines.jsonl
printf 'one text' >one.txt
expect 0 "$muster" data build lines.jsonl -o all.h5 --heldout 0.1 --seed 3
prints "documents  302, 1 duplicate dropped; 0 empty ones skipped"
prints "wrote      all.h5, tokens "
check "a held-out split" grep -qE '^held out   [1-9][0-9]* documents' out
expect 0 "$muster" data build one.txt -o one.h5 --seed 1
prints "note: the held-out split is empty."
expect 0 "$muster" data build one.txt -o one.h5 --heldout 0
check "no note where none was wanted" [ "$(grep -c note: out)" = 0 ]
expect 1 "$muster" data build one.txt -o x.h5 --tokenizer bpe.json
says "bpe.json"
printf '{"version": "1.0", "model": {"type": "Unigram", "vocab": []}}' >unigram.json
expect 1 "$muster" data build one.txt -o x.h5 -t unigram.json
says "Unigram"
expect 2 "$muster" data build one.txt -o x.h5 --heldout 0.7
printf 'PAR1 and a table PAR1' >table.parquet
expect 1 "$muster" data build table.parquet -o x.h5
says "'table.parquet' is a Parquet file, which muster does not read; make a .jsonl file of it: python3 -c"
printf 'PAR1 is how a text may begin' >par.txt
expect 0 "$muster" data build par.txt -o par.h5 --heldout 0
mkdir folder
expect 2 "$muster" data build missing.txt -o folder
says "muster: the output 'folder' is a folder; name a file"
expect 1 "$muster" data build missing.txt -o x.h5
says "missing.txt"
printf '{"text": "a"}\n{"text": "b"\n' >bad.jsonl
expect 1 "$muster" data build bad.jsonl -o x.h5
says "bad.jsonl:2"
check "nothing is left of a failure" [ "$(ls -A | grep -cE '^x|^\.')" = 0 ]

# ---- with a tokenizer ----
expect 0 "$muster" tokenizer train lines.jsonl --vocab 300 --heldout 0.1 --seed 3 -o tokenizer.json
expect 0 "$muster" data build lines.jsonl -t tokenizer.json -o words.h5 --heldout 0.1 --seed 3 --heldout-list heldout.txt
check "the list names the file once" [ "$(cat heldout.txt)" = lines.jsonl ]
expect 2 "$muster" data build lines.jsonl -t tokenizer.json --end '<|no such|>' -o words.h5
says "the tokenizer has no token '<|no such|>'"
expect 2 "$muster" data build lines.jsonl --end '<|endoftext|>' -o words.h5
says "--end wants a --tokenizer"
cat >words.yaml <<'E3'
run: {name: t, steps: 10}
model: {d_model: 64, n_layers: 1, n_heads: 2}
data: {sources: [words.h5], seq_len: 50}
batch: {micro: 1, leaf: 1, lanes: 1, rounds: 2}
schedule: {peak: 1.0e-3}
E3
expect 2 "$muster" data build lines.jsonl -t tokenizer.json --end '1' -o words.h5
says "'1' is a token of text, not a special one"
expect 1 "$muster" data build lines.jsonl -o words2.h5 --heldout-list no/list.txt
says "there is no folder 'no'"
check "nothing was built" [ ! -e words2.h5 ]
expect 2 "$muster" data build lines.jsonl -o /dev/full
says "the output '/dev/full' is there and no regular file"
check "the device is one still" [ -c /dev/full ]
ln -s elsewhere.h5 link.h5
expect 2 "$muster" data build lines.jsonl -o link.h5
says "the output 'link.h5' is there and no regular file"
cp lines.jsonl before
expect 2 "$muster" data build lines.jsonl -o words2.h5 --heldout-list lines.jsonl
says "the output 'lines.jsonl' is also an input"
check "the input is as it was" cmp -s before lines.jsonl
expect 2 "$muster" data build lines.jsonl -o words2.h5 --heldout-list words2.h5
says "the token file and the list of held-out files would both be 'words2.h5'"
cp lines.jsonl $'two\nlines.jsonl'
expect 2 "$muster" data build $'two\nlines.jsonl' -o words2.h5 --heldout 0.5 --heldout-list list.txt
says "has a line for each, and this name has two"
check "nothing was built" [ ! -e words2.h5 ]
expect 2 "$muster" data build lines.jsonl folder -o words2.h5
says "no file named *.txt or *.jsonl, plain, .gz or .zst, in the inputs' folder 'folder'"
# The model goes with its tokenizer, and with no other.
expect 0 "$muster" train words.yaml --run trained --set run.steps=2
expect 0 "$muster" eval trained words.h5 --split train
expect 0 "$muster" generate trained --prompt 'document' --tokens 5 --temperature 0
expect 2 "$muster" eval trained all.h5 --split train
says "made with another tokenizer"
expect 0 "$muster" tokenizer train one.txt lines.jsonl --vocab 300 --digits -o other.json
expect 0 "$muster" data build lines.jsonl -t other.json -o other.h5 --heldout 0.1 --seed 3
expect 2 "$muster" eval trained other.h5 --split train
says "made with another tokenizer"
expect 0 "$muster" data show words.yaml --step 1
prints "document number "
prints "<|endoftext|>"

# ---- show ----
cat >config.yaml <<'E2'
run: {name: t, steps: 10}
model: {d_model: 64, n_layers: 1, n_heads: 2}
data: {sources: [{path: first.h5}], seq_len: 50}
batch: {micro: 1, leaf: 1, lanes: 1, rounds: 2}
schedule: {peak: 1.0e-3}
E2
head -1 lines.jsonl >first.jsonl
for i in 1 2; do echo "{\"text\": \"document $i\"}"; done >>first.jsonl
expect 0 "$muster" data build first.jsonl -o first.h5 --heldout 0
# One sample: tokens 0 to 50 of 67. Every microbatch shows it, in its epoch.
expect 0 "$muster" data show config.yaml --step 2 --micro 1
prints "step 2, microbatch 1 of 2 (from 0): 1 sequences of 50 tokens"
prints "sequence 0: sample 3, $work/first.h5, epoch 3, tokens 0 to 50, 50 of 50 targets count"
prints '  tab\t escape\x1b[31m bidi\xe2\x80\xae café \\'
prints "  next<eos>d"
expect 0 "$muster" data show config.yaml --sample 2 --micro 1
prints "sample 3, "
check "no step is guessed" [ "$(grep -c '^step' out)" = 0 ]
expect 2 "$muster" data show config.yaml
says "either --step or --sample"
expect 2 "$muster" data show config.yaml --step 11
expect 2 "$muster" data show config.yaml --step 1 --micro 2
expect 2 "$muster" data show config.yaml --step 1 --set data.seq_len=7000
says "training tokens; a sequence length of 7000 needs at least 7001"

# A loss mask, put behind the file's end as docs/data-format.md describes: the first eight tokens are no targets.
bytes=$(stat -c %s first.h5)
count=$(grep -a -m1 -A4 '"tokens"' first.h5 | grep -ao '"count": [0-9]*' | head -1 | cut -d' ' -f2)
mask="{\"type\": \"uint8\", \"count\": $count, \"offset\": $bytes, \"sha256\": \"$(printf '%064d' 0)\"}"
length=$(head -1 first.h5 | cut -d' ' -f6)
tail -c +119 first.h5 | head -c "$length" | sed "0,/\"loss_mask\": null/s//\"loss_mask\": $mask/" >index
{
  printf 'muster tokens 1, index of %012d bytes, sha256 %s\n' "$(stat -c %s index)" "$(sha256sum <index | cut -d' ' -f1)"
  cat index
} >line
{
  cat line
  tail -c +"$(($(stat -c %s line) + 1))" first.h5
  head -c 8 /dev/zero
  head -c $((count - 8)) /dev/zero | tr '\0' '\1'
} >masked.h5
expect 0 "$muster" data show config.yaml --step 1 --set 'data.sources=[{path: masked.h5}]'
prints "43 of 50 targets count"
prints 't[-ab\t esc-]ape\x1b'

finish
