#!/usr/bin/env bash
# muster tokenizer train: the report, progress, what is refused before the work, nothing half-written.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
cd "$work"
prints() { check "stdout says '$1'" grep -qE -- "$1" out; }
clean() { check "$1: no other file is left" [ "$(ls -A | grep -cE '\.tmp$|^\.')" = 0 ]; }

mkdir text
i=0
for word in the model learns from its own text again and again while ranks are mustered; do
  i=$((i + 1))
  for k in 1 2 3 4; do echo "$word $i learned 2026, $word again: ${word}s"; done >"text/$i.txt"
done
cp text/1.txt text/copy.txt

# ---- the report ----
expect 0 "$muster" tokenizer train text --vocab 300 --heldout 0 -o tokenizer.json
prints '^read       14 documents, 0\.0 MB$'
prints '^words      [0-9]+, [0-9]+ of them different$'
prints '^tokens     300: 1 special, 256 bytes, 43 merged$'
prints '^text       [1-9]\.[0-9]{3} bytes per token$'
prints '^wrote      tokenizer\.json$'
check "no note where all is as asked" [ "$(grep -c note: out)" = 0 ]
says "read 0.0 MB, 14 documents"
says "merged 43 pairs in"
check "no control characters outside a terminal" [ "$(grep -c $'\033\|\r' err)" = 0 ]
check "it is JSON" jq -e '.version == "1.0" and .model.vocab["<|endoftext|>"] == 0' tokenizer.json >/dev/null
clean "a good end"
cp tokenizer.json first.json

# ---- the same text, the same file ----
expect 0 "$muster" tokenizer train text --vocab 300 --heldout 0 --threads 3 -o tokenizer.json
check "the same file on three threads" cmp tokenizer.json first.json
expect 0 "$muster" tokenizer train text --vocab 300 --heldout 0.3 --seed 4 -o tokenizer.json
prints '^read       ([2-9]|1[0-2]) documents'
check "another file without the held-out documents" [ "$(cmp tokenizer.json first.json >/dev/null; echo $?)" = 1 ]
expect 0 "$muster" tokenizer train text --vocab 5000 --heldout 0 -o tokenizer.json
prints '^note: [0-9]+ tokens and not 5000: no further pair stands twice'
expect 0 "$muster" tokenizer train text --vocab 290 --heldout 0 -o tokenizer.json --special '<|im_start|>' --special '<|endoftext|>' --special '<|im_end|>' --pattern qwen2 --digits
prints '^tokens     290: 3 special, 256 bytes, 31 merged$'
check "special tokens in order" [ "$(jq -c '[.added_tokens[] | [.id, .content]]' tokenizer.json)" = '[[0,"<|endoftext|>"],[1,"<|im_start|>"],[2,"<|im_end|>"]]' ]
check "no two digits together" [ "$(jq -r '.model.vocab | keys[]' tokenizer.json | grep -c '[0-9][0-9]')" = 0 ]
echo '{"body": "a text of a line"}' >lines.jsonl
expect 0 "$muster" tokenizer train lines.jsonl --field body --vocab 260 --heldout 0 -o ./other.json

# ---- refused before the work; a former file stays ----
cp tokenizer.json former.json
mkdir folder
expect 2 "$muster" tokenizer train missing.txt --vocab 300 -o folder
says "muster: the output 'folder' is a folder; name a file"
expect 2 "$muster" tokenizer train missing.txt --vocab 300 -o folder/
expect 2 "$muster" tokenizer train missing.txt --vocab 300 -o ''
expect 2 "$muster" tokenizer train missing.txt --vocab 300 -o /dev/null
says "is there and no regular file"
expect 2 "$muster" tokenizer train missing.txt --vocab 300 -o -
says "'-' names none"
expect 1 "$muster" tokenizer train missing.txt --vocab 300 -o no/such/folder.json
says "muster: cannot write 'no/such/folder.json': No such file or directory"
expect 2 "$muster" tokenizer train text --vocab 256 -o tokenizer.json
says "muster: tokenizer train: --vocab: expected a whole number from 257 to 1048576, found '256'"
expect 2 "$muster" tokenizer train text --vocab many -o tokenizer.json
expect 2 "$muster" tokenizer train text --vocab 300 -o tokenizer.json --pattern gpt5
says "the pattern 'gpt5' is not known; there are gpt2, cl100k and qwen2"
expect 2 "$muster" tokenizer train text --vocab 300 -o tokenizer.json --special x
says "the special token 'x' has the name of byte 120"
expect 2 "$muster" tokenizer train text --vocab 300 -o text/1.txt
says "the output 'text/1.txt' is also an input"
expect 2 "$muster" tokenizer train text --glob '*.md' --vocab 300 -o tokenizer.json
says "no file named *.md"
expect 1 "$muster" tokenizer train missing.txt --vocab 300 -o tokenizer.json
says "missing.txt"
echo '{' >bad.jsonl
expect 1 "$muster" tokenizer train bad.jsonl --vocab 300 -o tokenizer.json
says "bad.jsonl:1"
check "a failure leaves the former file" cmp tokenizer.json former.json
clean "failures"

# ---- interrupted: nothing new, the former file as it was ----
for i in $(seq 1 400000); do echo "word$((i * 7919 % 1000003)) x$((i % 991))"; done >long.txt
for delay in 0.05 0.2 0.6; do
  "$muster" tokenizer train long.txt --vocab 60000 -o tokenizer.json >out 2>err &
  pid=$!
  sleep "$delay"
  kill -TERM "$pid"
  wait "$pid" 2>/dev/null
  check "interrupted after $delay s: the former file, or the new one whole" \
    sh -c 'cmp -s tokenizer.json former.json || jq -e .model.merges tokenizer.json >/dev/null'
  clean "interrupted after $delay s"
done

finish
