#!/usr/bin/env bash
# Token files of other trainers: the same tokens give the same bits as muster's own file, whatever they lie in; every
# command takes them; what they do not say is asked for by name; Parquet is refused with what to do.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
cd "$work"
prints() { check "stdout says '$1'" grep -qF -- "$1" out; }

# le BYTES NUMBER...: little-endian
le() {
  local bytes=$1 number i
  shift
  for number in "$@"; do
    for ((i = 0; i < bytes; i++)); do printf '%b' "\\x$(printf %02x $((number >> 8 * i & 255)))"; done
  done
}

# ---- the same tokens in every kind of file ----
for i in $(seq 1 300); do echo "{\"text\": \"document number $i, which says $((i * i))\"}"; done >lines.jsonl
expect 0 "$muster" tokenizer train lines.jsonl --vocab 300 -o tokenizer.json
expect 0 "$muster" data build lines.jsonl -t tokenizer.json -o tokens.h5 --heldout 0
field() { grep -a -m1 -A4 '"tokens"' tokens.h5 | grep -ao "\"$1\": [0-9]*" | head -1 | cut -d' ' -f2; }
count=$(field count) offset=$(field offset)
check "there are tokens" [ "$count" -gt 1000 ]
tail -c +"$((offset + 1))" tokens.h5 | head -c "$((2 * count))" >bare.bin
{
  le 4 20240520 1 "$count"
  head -c $((253 * 4)) /dev/zero
  cat bare.bin
} >llmc.bin
{
  header=$(printf "%-117s" "{'descr': '<u2', 'fortran_order': False, 'shape': ($count,), }")
  printf '\x93NUMPY\x01\x00\x76\x00%s\n' "$header"
  cat bare.bin
} >numpy.npy
cp bare.bin pair.bin
{
  printf 'MMIDIDX\0\0'
  le 8 1
  le 1 8
  le 8 2 3
  le 4 100 $((count - 100))
  le 8 0 200
  le 8 0 1 2
} >pair.idx

tiny_config own.yaml
tiny_config other.yaml
sed -i "s|sources: .*|sources: [numpy.npy], tokenizer: tokenizer.json, seq_len: 32}|" other.yaml
digest() { tail -1 out | cut -d' ' -f2; }
expect 0 "$muster" train own.yaml --run own
want=$(digest)
check "a digest" [ ${#want} = 64 ]
for source in numpy.npy llmc.bin pair pair.idx pair.bin; do
  expect 0 "$muster" train other.yaml --run "run-$source" --set "data.sources=[$source]"
  check "$source gives the same weights" [ "$(digest)" = "$want" ]
done
expect 0 "$muster" train other.yaml --run run-bare --set 'data.sources=[bare.bin]' --set data.dtype=uint16 --set run.steps=4
if has_mpirun; then
  expect 0 ranks 2 "$muster" train other.yaml --run run-bare --set 'data.sources=[bare.bin]' --set data.dtype=uint16
  check "on other ranks, resumed: the same weights" [ "$(digest)" = "$want" ]
fi

# Their state names the same data, so that a run goes on with a copy in another kind of file, and with no other data.
expect 0 "$muster" train other.yaml --run moved --set run.steps=4
expect 0 "$muster" train other.yaml --run moved --set 'data.sources=[bare.bin]' --set data.dtype=uint16
check "a run moved to another kind of file" [ "$(digest)" = "$want" ]
head -c $((2 * count - 2)) bare.bin >less.bin
expect 2 "$muster" train other.yaml --run moved --set run.steps=12 --set 'data.sources=[less.bin]' --set data.dtype=uint16
says "was trained on other data"

# ---- the other commands ----
expect 0 "$muster" eval own --split train
own=$(grep -E '^(loss|bits per byte)' out)
expect 0 "$muster" eval run-numpy.npy --split train
check "the same loss and bits per byte" [ "$(grep -E '^(loss|bits per byte)' out)" = "$own" ]
check "they are known" grep -qE '^bits per byte +[0-9]' out
expect 0 "$muster" eval own llmc.bin --split train
check "of a file that is named" [ "$(grep -E '^(loss|bits per byte)' out)" = "$own" ]
expect 1 "$muster" eval own bare.bin --split train
says "set data.dtype to uint16 or uint32"
expect 0 "$muster" eval own bare.bin --split train --dtype uint16
check "of one without a header" [ "$(grep -E '^(loss|bits per byte)' out)" = "$own" ]
expect 2 "$muster" eval own bare.bin --split train --dtype uint8
says "--dtype: 'uint8' is neither uint16 nor uint32"
rm -rf gone && cp -r run-pair gone && mv tokenizer.json away.json
expect 0 "$muster" eval gone pair.idx --split train
check "the checkpoint's tokenizer is enough" [ "$(grep -E '^(loss|bits per byte)' out)" = "$own" ]
mv away.json tokenizer.json
expect 2 "$muster" eval run-pair
says "another trainer's file is all --split train"
expect 0 "$muster" generate run-pair --prompt 'document' --tokens 5 --temperature 0
cp out text
expect 0 "$muster" generate own --prompt 'document' --tokens 5 --temperature 0
check "the same text" cmp -s out text
expect 0 "$muster" data show own.yaml --step 2
sed 's/[^ ]*tokens.h5/FILE/' out >text
expect 0 "$muster" data show other.yaml --step 2
check "the same microbatch" [ "$(sed 's/[^ ]*numpy.npy/FILE/' out)" = "$(cat text)" ]
prints "document number"
expect 0 "$muster" plan other.yaml --flops 1e9 --json
expect 0 "$muster" report run-pair -o page.html
check "the report counts its tokens" grep -qF ">${count:0:-3},${count: -3}<" page.html
expect_any "$muster" doctor other.yaml
check "the doctor reads it" [ "$(cat out err | grep -c 'vocab_size is not given')" = 0 ]

# A held-out file of its own, which is not what is trained on, whatever that lies in.
for sources in '{path: pair, heldout: llmc.bin}' 'less.bin, {path: numpy.npy, heldout: less.bin}' '{path: less.bin, heldout: pair}, llmc.bin'; do
  expect 2 "$muster" train other.yaml --run x --set "data.sources=[$sources]" --set data.dtype=uint16
  says "has the same tokens as"
done
expect 0 "$muster" train other.yaml --run held --set 'data.sources=[{path: less.bin, heldout: llmc.bin}]' --set data.dtype=uint16 --set train.eval_every=4
check "it is evaluated" grep -qF 'step 8: held-out loss' out err
expect 0 "$muster" eval held
check "as the same tokens" [ "$(grep -E '^(loss|bits per byte)' out)" = "$own" ]
expect 2 "$muster" train own.yaml --run x --set 'data.sources=[{path: tokens.h5, heldout: llmc.bin}]'
says "has a held-out split of its own"

# ---- what they do not say ----
expect 1 "$muster" train other.yaml --run x --set 'data.sources=[bare.bin]'
says "set data.dtype to uint16 or uint32"
expect 2 "$muster" train other.yaml --run x --set data.tokenizer=null
says "name the tokenizer.json that it was made with in data.tokenizer, or give model.vocab_size"
expect 0 "$muster" train other.yaml --run bare --set data.tokenizer=null --set model.vocab_size=300
check "the same weights without a tokenizer" [ "$(digest)" = "$want" ]
says "the data does not say its tokenizer"
expect 0 "$muster" eval bare --split train
prints "bits per byte  not known"
expect 2 "$muster" generate bare --prompt x
says "does not say what its tokens stand for"
expect 0 "$muster" generate bare --prompt x --tokens 3 --tokenizer tokenizer.json
expect 2 "$muster" generate run-pair --prompt x --tokenizer tokenizer.json
says "holds the tokenizer that it was trained with"
expect 1 "$muster" train other.yaml --run x --set data.tokenizer=null --set model.vocab_size=290
says "is outside the vocabulary of 290"
expect 1 "$muster" train other.yaml --run x --set data.tokenizer=no.json
says "no.json"
expect 0 "$muster" tokenizer train lines.jsonl --vocab 280 -o small.json
expect 2 "$muster" train own.yaml --run x --set data.tokenizer=small.json
says "is not the tokenizer inside"
expect 1 "$muster" train other.yaml --run x --set data.tokenizer=small.json
says "was made with another tokenizer or type"
expect 2 "$muster" train other.yaml --run x --set data.dtype=float32
says "data.dtype"

finish
