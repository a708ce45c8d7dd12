#!/usr/bin/env bash
# muster pack: one file, read wherever a checkpoint is; damage in it is found by name.
#   pack.sh MUSTER CHECKPOINT_RANKS
set -euo pipefail
muster=$1 writer=$2
. "$(dirname "$0")/../shell.sh"
cd "$work"

# ---- the file ----
"$writer" save . >/dev/null
ckpt=w1/step-00001000
expect 0 "$muster" verify $ckpt
line=$(cat out)
expect 0 "$muster" pack $ckpt -o one.h5
check 'the size and the digests' [ "$(cat out)" = "wrote one.h5, $(stat -c %s one.h5) bytes
$line" ]
check 'nothing on stderr' [ ! -s err ]
expect 0 "$muster" verify one.h5
check 'the same digests' [ "$(cat out)" = "$line" ]
expect 0 "$muster" pack one.h5 -o again.h5
check 'packed again it is the same' cmp -s one.h5 again.h5
if has_mpirun; then
  ranks 3 "$writer" save . >/dev/null 2>&1
  expect 0 "$muster" pack w3/step-00001000 -o three.h5 --threads 1
  check 'the same bytes from three ranks' cmp -s one.h5 three.h5
fi
expect 0 "$muster" inspect one.h5 --tensors
for words in 'one packed file' 'model.layers.10.mlp.weight' 'all there'; do check "inspect says '$words'" grep -qF "$words" out; done

# ---- the weights alone ----
expect 0 "$muster" pack $ckpt -o weights.h5 --weights-only
expect 0 "$muster" verify weights.h5
check 'no state' [ "$(cat out)" = "${line%%  *}  (the weights alone: no optimizer state)" ]
expect 0 "$muster" inspect weights.h5
check 'it says so' grep -qF 'no optimizer state' out
expect 0 "$muster" pack one.h5 -o again.h5 --weights-only
check 'the same out of a packed file' cmp -s weights.h5 again.h5
expect 2 "$muster" pack weights.h5 -o more.h5
says 'holds no optimizer state'
check 'nothing was written' [ ! -e more.h5 ]

# ---- the output ----
alone() { [ -z "$(find . -maxdepth 1 -name '.*.tmp')" ]; } # no temporary file is left
expect 2 "$muster" pack $ckpt -o w1
expect 1 "$muster" pack $ckpt -o nowhere/one.h5
cp $ckpt/model.h5 former.h5
expect 2 "$muster" pack $ckpt -o $ckpt/model.h5
says 'is no packed checkpoint'
check 'a part of a checkpoint stays' cmp -s $ckpt/model.h5 former.h5
expect 2 "$muster" pack $ckpt
cp -r w1 bad
shard=$(basename bad/*/shard-*.h5)
printf 'x' | dd of="bad/step-00001000/$shard" bs=1 seek=100000 conv=notrunc status=none
for output in again.h5 new.h5; do
  expect 1 "$muster" pack bad/step-00001000 -o $output
  says "$shard is damaged"
  says ' of model.'
done
check 'a former file stays' cmp -s weights.h5 again.h5
check 'no new one comes' [ ! -e new.h5 ]
for seconds in 0.001 0.002 0.004 0.008 0.012 0.016 0.02 0.03; do
  timeout -s INT $seconds "$muster" pack $ckpt -o interrupted.h5 >/dev/null || true
  [ ! -e interrupted.h5 ] || check 'whole, in spite of an interrupt' cmp -s one.h5 interrupted.h5
  rm -f interrupted.h5
done
check 'no temporary file is left' alone

# ---- damage ----
bytes=$(stat -c %s one.h5)
manifest() { head -c 20000 one.h5 | tr -d '\0'; }
place() { manifest | sed -n "s/.*\"$1.*\"offset\": \([0-9]*\).*/\1/p" | head -n 1; }
# flipped AT WORDS: one byte is another; verify names the file and says WORDS
flipped() {
  cp one.h5 flip.h5
  head -c $(($1 + 1)) one.h5 | tail -c 1 | tr '\000-\377' '\001-\377\000' | dd of=flip.h5 bs=1 seek="$1" conv=notrunc status=none
  expect 1 "$muster" verify flip.h5
  says flip.h5
  says "$2"
}
flipped 0 'does not begin'
flipped 40 'last line' # the manifest's length
flipped 200 'last line'
flipped 7000 'HDF5 structure' # between the manifest and HDF5
flipped 8192 'HDF5 structure' # its first byte
flipped 9000 'HDF5 structure'
flipped $((bytes - 1)) 'HDF5 structure'
flipped "$(place 'master", "tensor": "model.embed_tokens.weight')" 'master of model.embed_tokens.weight'
flipped "$(place 'exp_avg_sq", "tensor": "model.norm.weight')" 'exp_avg_sq of model.norm.weight'
flipped "$(place block_digests)" 'digests.bin'
flipped "$(place tokenizer_file)" 'tokenizer.json'
flipped "$(place companions_file)" 'huggingface.tar'
for size in 0 1 40 49 3000 8192 $((bytes / 2)) $((bytes - 1)) $((bytes + 1)); do
  cp one.h5 cut.h5
  truncate -s $size cut.h5
  expect 1 "$muster" verify cut.h5
  says cut.h5
done
expect 1 "$muster" inspect cut.h5
says "$((bytes + 1)) bytes"

# ---- what is no checkpoint ----
for length in 999999999999 000000000000 00000000486x 000000004864 000067108865; do
  { printf 'muster checkpoint, manifest of %s bytes\n' $length; tail -c +50 one.h5; } >hostile.h5
  for command in verify inspect generate; do
    expect 1 "$muster" $command hostile.h5
    says hostile.h5
  done
done
mkfifo pipe
for file in $ckpt/model.h5 $ckpt/manifest.json pipe; do expect 1 "$muster" verify $file; done
expect 1 "$muster" pack one.h5/x -o new.h5

# ---- a run that goes on from it ----
printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 400) >text.txt
"$muster" data build text.txt -o tokens.h5 >/dev/null
tiny_config tiny.yaml
expect 0 "$muster" train tiny.yaml --run whole
digests=$(cat out)
expect 0 "$muster" train tiny.yaml --run half --set run.steps=4
expect 0 "$muster" pack half -o half.h5
expect 0 "$muster" train tiny.yaml --run on --resume half.h5
check 'the digests of a run that was never packed' [ "$(cat out)" = "$digests" ]
if has_mpirun; then
  expect 0 ranks 3 "$muster" train tiny.yaml --run three --resume half.h5
  check 'on three ranks, too' [ "$(cat out)" = "$digests" ]
fi
expect 0 "$muster" pack half -o half-weights.h5 --weights-only
expect 2 "$muster" train tiny.yaml --run never --resume half-weights.h5
says "--resume 'half-weights.h5': it holds the weights alone"
for file in half half.h5 half-weights.h5; do
  expect 0 "$muster" generate $file --prompt 'The quick' --tokens 30
  cp out said.$file
  expect 0 "$muster" eval $file tokens.h5 --split train
  tail -n +2 out >>said.$file
done
check 'the same text and loss from the folder and the file' cmp -s said.half said.half.h5
check 'and from the weights alone' cmp -s said.half said.half-weights.h5
finish
