#!/usr/bin/env bash
# It fails well: a clear message, the right exit code, nothing half-written, no rank left hanging, on one rank and on four.
#   fails_well.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 400) >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml"
head -c 3000 "$work/tokens.h5" >"$work/cut.h5"
head -c 100000 /dev/urandom >"$work/noise.h5"

for n in 1 4; do
  expect 2 ranks $n "$muster" train "$work/no-such.yaml" --run "$work/r$n"
  says 'no-such.yaml'
  expect 2 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/r$n" --set model.d_modle=3
  says "did you mean 'model.d_model'"
  expect 2 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/r$n" --set batch.lanes=3
  says 'batch.lanes'
  expect 2 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/r$n" --set device.level=foo
  says 'device.level'
  check 'nothing was made for a wrong config' [ ! -e "$work/r$n" ]
  expect 1 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/r$n" --set "data.sources=[$work/missing.h5]"
  says 'missing.h5'
  expect 1 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/r$n" --set "data.sources=[$work/cut.h5]"
  says 'cut.h5'
  expect 1 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/r$n" --set "data.sources=[$work/noise.h5]"
  says 'noise.h5'
  expect 2 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/r$n" --set data.seq_len=100000
  expect 2 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/r$n" --set model.vocab_size=100
  says 'muster: --set model.vocab_size=100: model.vocab_size: 100 is less than the 258 tokens'
  expect 1 ranks $n "$muster" train "$work/tiny.yaml" --run /proc/nowhere/run
  says '/proc/nowhere'
  expect 2 ranks $n "$muster" train "$work/tiny.yaml" --run ''
  says "muster: train: --run DIR is empty"
  expect 2 ranks $n "$muster" train "$work/tiny.yaml" --run "$(printf '%05000d' 0)"
  says "the run folder's name has 5000 bytes"
  expect 2 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/r$n" --resume "$work/no-checkpoint"
  says 'no-checkpoint'
done
for command in 'verify' 'inspect' 'eval' 'generate --prompt x'; do
  # shellcheck disable=SC2086
  expect 1 "$muster" $command "$work/no-checkpoint"
  says 'no-checkpoint'
done
# What one source holds out another could train on, when they were split by different seeds.
"$muster" data build "$work/text.txt" --seed 5 -o "$work/other-split.h5" >/dev/null
expect 2 "$muster" train "$work/tiny.yaml" --run "$work/r$n" --set "data.sources=[$work/tokens.h5, $work/other-split.h5]"
says 'were split differently'

mkfifo "$work/pipe.h5"
expect 1 "$muster" train "$work/tiny.yaml" --run "$work/r$n" --set "data.sources=[$work/pipe.h5]"
says 'pipe.h5'

# Memory that is used after it is freed shows with other bytes in it.
MALLOC_PERTURB_=165 expect 0 "$muster" train "$work/tiny.yaml" --run "$work/perturbed"
expect 2 ranks 2 "$muster" train "$work/tiny.yaml" --run "$work/r$n" --set batch.transport=self

# A full disk: the checkpoint fails, its leftovers are gone, every rank ends, and the run goes on once there is room.
if [ "$(id -u)" = 0 ] && mkdir "$work/small" && mount -t tmpfs -o size=1500k tmpfs "$work/small" 2>/dev/null; then
  for n in 1 4; do
    head -c 1300k /dev/zero >"$work/small/filler"
    expect 1 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/small/run"
    says 'o space left'
    check "no half-written checkpoint on $n rank(s)" [ -z "$(ls -A "$work/small/run/checkpoints" 2>/dev/null)" ]
    rm "$work/small/filler"
    expect 0 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/small/run"
    rm -rf "$work/small/run"
  done
  # The disk fills between checkpoints: rank 0 cannot record a step, and the others must not wait for it.
  head -c 1450k /dev/zero >"$work/small/filler"
  expect 1 ranks 3 "$muster" train "$work/tiny.yaml" --run "$work/small/run" --set run.steps=100000 --set checkpoint.minutes=0
  says 'metrics.jsonl'
  umount "$work/small"

  # One node has another file under the same name.
  head -c 9000 "$work/text.txt" >"$work/other.txt"
  "$muster" data build "$work/other.txt" -o "$work/other.h5" >/dev/null
  cat >"$work/stale.sh" <<EOF
#!/bin/sh
[ "\${OMPI_COMM_WORLD_RANK:-\$PMI_RANK}" = 1 ] && mount --bind "$work/other.h5" "$work/tokens.h5"
exec "$muster" "\$@"
EOF
  chmod +x "$work/stale.sh"
  expect 2 ranks 2 unshare -m "$work/stale.sh" train "$work/tiny.yaml" --run "$work/stale"
  says 'token files of rank 1'
else
  echo "note: the full-disk part needs root and a tmpfs; left out here"
fi
finish
