#!/usr/bin/env bash
# A run that goes back, past damage or on request, keeps what is good and does not return to what it left.
#   goes_back.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 400) >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml"
train() { "$muster" train "$work/tiny.yaml" --run "$work/run" --set device.threads=1 "$@"; }
export -f train
export muster work
checkpoints() { (cd "$work/run/checkpoints" && ls) | tr '\n' ' '; }
damage() { dd if=/dev/zero of="$(ls "$work/run/checkpoints/$1"/shard-*.h5)" bs=1 seek=9000 count=64 conv=notrunc 2>/dev/null; }

expect 0 bash -c 'train --set run.steps=60'
digests=$(cat "$work/out")
rm -rf "$work/run"

# Past damage: the good checkpoint and the new ones stay, the damaged one is set aside.
expect 0 bash -c 'train --set run.steps=40 --set checkpoint.every=10 --set checkpoint.keep=2'
check "kept: $(checkpoints)" [ "$(checkpoints)" = 'step-00000030 step-00000040 ' ]
damage step-00000040
expect 0 bash -c 'train --set run.steps=34 --set checkpoint.every=2 --set checkpoint.keep=1'
says 'passed over'
says 'step-00000040'
says 'resumed from'
check "after going on from 30: $(checkpoints)" [ "$(checkpoints)" = 'left-step-00000040 step-00000034 ' ]
expect 0 bash -c 'train --set run.steps=60'
check 'the same digests past damage' [ "$(cat "$work/out")" = "$digests" ]

# Every kind of damage is named, nothing of it is removed, and the newest whole one is taken.
rm -rf "$work/run"
expect 0 bash -c 'train --set run.steps=50 --set checkpoint.every=10 --set checkpoint.keep=0'
ckpt=$work/run/checkpoints
damage step-00000050
truncate -s -1 "$ckpt/step-00000040/checksums.bin"
sed -i 's/"updates": 30/"updates": 31/' "$ckpt/step-00000030/manifest.json"
rm "$ckpt"/step-00000020/shard-*.h5
printf x | dd of="$ckpt/step-00000010/model.h5" bs=1 seek=100 conv=notrunc status=none
before=$(cd "$ckpt" && find . -type f | sort | xargs sha256sum)
expect 0 bash -c 'train --set run.steps=10'
says "passed over $ckpt/step-00000050: "
says 'master of '
says "passed over $ckpt/step-00000040: "
says "checksums.bin"
says "passed over $ckpt/step-00000030: "
says 'manifest.json is damaged'
says "passed over $ckpt/step-00000020: "
says 'No such file'
says "the SHA-256 of model.h5 is not the manifest's; training does not need it"
says "resumed from $ckpt/step-00000010"
check 'nothing was touched' [ "$(cd "$ckpt" && find . -type f | sort | xargs sha256sum)" = "$before" ]
expect 0 bash -c 'train --set run.steps=60'
check 'the same digests past all of it' [ "$(cat "$work/out")" = "$digests" ]
check "set aside, not removed: $(checkpoints)" [ "$(checkpoints | tr ' ' '\n' | grep -c '^left-step-000000[2345]0$')" = 4 ]

# Passed over at the very steps that are saved again: those, too, are set aside, byte for byte, and under another name if need be.
# One without its manifest is no less a damaged one.
sums() { (cd "$1" && sha256sum -- * | sort); }
rm -rf "$work/run"
expect 0 bash -c 'train --set run.steps=40 --set checkpoint.every=10 --set checkpoint.keep=0'
mkdir "$ckpt/left-step-00000030"
touch "$ckpt/left-step-00000030/mine"
damage step-00000030
rm "$ckpt/step-00000040/manifest.json"
for step in 30 40; do sums "$ckpt/step-000000$step" >"$work/sums$step"; done
expect 0 bash -c 'train --set run.steps=60 --set checkpoint.every=10 --set checkpoint.keep=1'
says "passed over $ckpt/step-00000040: "
says 'manifest.json: No such file'
says "passed over $ckpt/step-00000030: "
says "resumed from $ckpt/step-00000020"
check 'the same digests past damage at the same steps' [ "$(cat "$work/out")" = "$digests" ]
check "set aside: $(checkpoints)" [ "$(checkpoints)" = 'left-2-step-00000030 left-step-00000030 left-step-00000040 step-00000060 ' ]
check 'nothing of 30 is lost' cmp <(sums "$ckpt/left-2-step-00000030") "$work/sums30"
check 'nothing of 40 is lost' cmp <(sums "$ckpt/left-step-00000040") "$work/sums40"

# No manifest, or none that can be reached, in the only one: nothing is begun anew.
rm -rf "$work/run"
expect 0 bash -c 'train --set run.steps=10'
mv "$ckpt/step-00000010/manifest.json" "$work/manifest.json"
expect 1 bash -c 'train --set run.steps=20'
says "passed over $ckpt/step-00000010: "
says 'none of the 1 checkpoints'
ln -s manifest.json "$ckpt/step-00000010/manifest.json" # ELOOP, as any error of the system
expect 1 bash -c 'train --set run.steps=20'
says 'Too many levels of symbolic links'
says 'none of the 1 checkpoints'
check 'it stays' [ "$(checkpoints)" = 'step-00000010 ' ]
mv "$work/manifest.json" "$ckpt/step-00000010/manifest.json"
expect 0 bash -c 'train --set run.steps=20'
says "resumed from $ckpt/step-00000010"

# What changes in the config is said key by key; what may not is refused, every key of it by name.
expect 2 bash -c 'train --set model.d_model=64 --set run.seed=9 --set schedule.peak=0.001'
says 'run.seed (3, now 9), model.d_model (32, now 64), model.head_dim (8, now 16); use the old values'
says 'note: schedule.peak changes from 0.003 to 0.001'
cp "$work/run/config.yaml" "$work/before"
expect 2 bash -c 'train --resume never --set schedule.peak=0.001'
check 'a start that is refused leaves the config as it was' cmp -s "$work/before" "$work/run/config.yaml"
# A checkpoint that is named brings its own config, also into a new run folder, and packed.
newest=$(ls -d "$work"/run/checkpoints/step-* | tail -n 1)
expect 0 "$muster" pack "$newest" -o "$work/packed.h5"
for from in "$newest" "$work/packed.h5"; do
  expect 2 "$muster" train "$work/tiny.yaml" --run "$work/new" --resume "$from" --set model.rope_theta=500 --set train.precision=bf16 --set schedule.peak=0.001
  says 'model.rope_theta (10000, now 500), train.precision (f32, now bf16); use the old values'
  says 'note: schedule.peak changes from 0.003 to 0.001'
done

# A run folder stands for its newest checkpoint.
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/other" --resume "$work/run" --set run.steps=61
says "resumed from $newest"

# On request: from an older checkpoint, and then on from there.
rm -rf "$work/run"
expect 0 bash -c 'train --set run.steps=40 --set checkpoint.every=10 --set checkpoint.keep=0'
expect 0 bash -c 'train --set run.steps=12 --resume "$work/run/checkpoints/step-00000010"'
check "after going back to 10: $(checkpoints)" [ "$(checkpoints)" = 'left-step-00000020 left-step-00000030 left-step-00000040 step-00000010 step-00000012 ' ]
expect 0 bash -c 'train --set run.steps=13'
says 'step-00000012 at step 12'

# Nothing can be loaded: nothing is begun anew.
damage step-00000010
damage step-00000012
damage step-00000013
expect 1 bash -c 'train --set run.steps=14'
says 'none of the 3 checkpoints'
check 'nothing was removed' [ "$(checkpoints | wc -w)" = 6 ]

# Rolling back does not depend on checkpoints that somebody's stop has made.
wild='--set optimizer.weight_decay=10 --set schedule.peak=1.05 --set train.on_nonfinite=rollback --set checkpoint.every=10 --set checkpoint.keep=1'
for way in '33' '25 33' '31 33' '32 33'; do
  rm -rf "$work/run"
  for steps in $way; do
    expect_any bash -c "train $wild --set run.steps=$steps --set schedule.kind=constant --set optimizer.clip_norm=0"
  done
  states+=("$(grep -ho '^weights.*' "$work/out" || tail -n 1 "$work/err")")
done
for i in 1 2 3; do check "rollback after stops: ${states[$i]}" [ "${states[$i]}" = "${states[0]}" ]; done
# A checkpoint under another step's name does not pass for the newest.
rm -rf "$work/run"
expect 0 bash -c 'train --set run.steps=20 --set checkpoint.every=10'
cp -r "$ckpt/step-00000010" "$ckpt/step-00000030"
expect 0 bash -c 'train --set run.steps=24'
says 'step-00000030: its manifest says step 10'
says 'step-00000020 at step 20'
expect 2 bash -c 'train --set run.steps=24 --resume nowhere'
says "--resume 'nowhere': there is no such file or folder"

# Without run.json and config.yaml (only the checkpoints were copied, perhaps) the config is compared all the same.
rm -rf "$work/run"
expect 0 bash -c 'train --set run.steps=20 --set checkpoint.every=10'
id=$(jq -r .run_id "$work/run/run.json")
cp -r "$work/run" "$work/all"
rm "$work/run/run.json" "$work/run/config.yaml"
expect 2 bash -c 'train --set run.steps=24 --set batch.wire=bf16 --set train.precision=bf16'
says 'differs from'
says 'step-00000020: batch.wire (f32, now bf16), train.precision (f32, now bf16)'
sed -i 's/"updates": 20/"updates": 21/' "$work/run/checkpoints/step-00000020/manifest.json" # the one before it is asked
expect 2 bash -c 'train --set run.steps=24 --set run.seed=9'
says "step-00000010: run.seed (3, now 9)"
expect 0 bash -c 'train --set run.steps=24 --set schedule.peak=0.002'
says 'note: schedule.peak changes from 0.003 to 0.002'
check "the same run: $id" [ "$(jq -r .run_id "$work/run/run.json")" = "$id" ]
rm -rf "$work/run"
cp -r "$work/all" "$work/run"
rm "$work/run/config.yaml"
expect 2 bash -c 'train --set run.steps=24 --set batch.lanes=8'
says 'batch.lanes (4, now 8)'
# What is no file is not waited for, and a damaged config is named by its own name.
mkfifo "$work/run/config.yaml"
expect 1 bash -c 'train --set run.steps=24'
says 'config.yaml is not a file'
rm "$work/run/config.yaml"
echo 'run: [' >"$work/run/config.yaml"
expect 2 bash -c 'train --set run.steps=24'
says 'config.yaml:2:1: error: YAML syntax'

finish
