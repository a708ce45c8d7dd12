#!/usr/bin/env bash
# File systems that lack something: a run on them gives the same digests, or ends with 1 and says why, and the checkpoints
# that were there stay good.
#   file_systems.sh MUSTER POOR_DISK.SO
set -euo pipefail
muster=$1 poor_disk=$2
. "$(dirname "$0")/../shell.sh"

printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 400) >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'checkpoint: {every: 2, keep: 2}'
train() { "$muster" train "$work/tiny.yaml" --run "$run" "$@"; }
export -f train
export muster work run
good() { # good STEP: this checkpoint is there, and whole
  expect 0 "$muster" verify "$run/checkpoints/step-0000000$1"
}

run=$work/plain
expect 0 bash -c 'train'
digests=$(cat "$work/out")
run=$work/other
expect 0 bash -c 'train --set run.steps=4 --set schedule.peak=0.001'
other=$run/checkpoints/step-00000004

# poor LACKS: a run from its beginning over a stop and a resume, with another step 4 in the way, which is set aside. Debug
# builds with sanitizers want to be loaded first. (Names that cannot be exchanged: faults.c, power_cut.c.)
poor() {
  run=$work/poor
  rm -rf "$run" "$work/log"
  touch "$work/log"
  expect 0 env LD_PRELOAD="$poor_disk" POOR_DISK="$1" POOR_LOG="$work/log" bash -c 'train --set run.steps=3'
  cp -r "$other" "$run/checkpoints/step-00000004"
  expect 0 env LD_PRELOAD="$poor_disk" POOR_DISK="$1" POOR_LOG="$work/log" bash -c "train --resume $run/checkpoints/step-00000003"
  check "without $1: the same digests" [ "$(cat "$work/out")" = "$digests" ]
  good 8
  check "without $1: nothing is left over" [ -z "$(find "$run/checkpoints" -maxdepth 1 -name '.*' ! -path "$run/checkpoints")" ]
}
refused() { # refused WORD: that what the last run lacked was asked for
  check "$1 were asked for, and refused" grep -qx "$1" "$work/log"
}
for lack in locks direct hints; do poor "$lack"; done
poor folders
refused folders
poor 'locks direct hints folders'
expect 0 env LD_PRELOAD="$poor_disk" POOR_DISK='locks direct hints folders' "$muster" data build "$work/text.txt" -o "$work/again.h5"
check 'the same token file' cmp -s "$work/tokens.h5" "$work/again.h5"

# A quota: it ends with 1 and says why; what was there before stays, and the run goes on when there is room.
run=$work/quota
expect 0 bash -c 'train --set run.steps=2'
good 2
for quota in 0 1000 100000 300000; do
  rm -f "$work/log"
  expect 1 env LD_PRELOAD="$poor_disk" POOR_DISK=quota POOR_QUOTA=$quota POOR_LOG="$work/log" bash -c 'train'
  says 'Disk quota exceeded'
  says 'make room or '
  good 2
  check "a quota of $quota: only what was there" [ "$(ls -A "$run/checkpoints")" = step-00000002 ]
done
expect 0 bash -c 'train'
check 'with room again: the same digests' [ "$(cat "$work/out")" = "$digests" ]

# TMPDIR is not needed: it may be on another file system, and need not even be there.
run=$work/no-tmp
expect 0 env TMPDIR=/nonexistent bash -c 'train'
check 'without TMPDIR: the same digests' [ "$(cat "$work/out")" = "$digests" ]
if [ -w /dev/shm ] && [ "$(stat -c %d /dev/shm)" != "$(stat -c %d "$work")" ]; then
  run=$(mktemp -d /dev/shm/muster-XXXXXX)
  trap 'rm -rf "$work" "$run"' EXIT
  expect 0 env TMPDIR="$work" bash -c 'train'
  check 'TMPDIR on another file system: the same digests' [ "$(cat "$work/out")" = "$digests" ]
  rm -rf "$run"
fi

# The run folder is moved away while the run goes on: it ends, and what was moved is good.
run=$work/moved
mkdir "$run"
(sleep 0.2; while [ ! -e "$run/checkpoints/step-00000004/manifest.json" ]; do sleep 0.01; done; mv "$run" "$work/elsewhere") &
expect 1 bash -c 'train --set run.steps=400 --set checkpoint.keep=0'
says 'no longer holds the run folder'
wait $!
run=$work/elsewhere
good 4
expect 0 bash -c 'train --set run.steps=8 --resume "$run/checkpoints/step-00000004"'
check 'the moved run goes on: the same digests' [ "$(cat "$work/out")" = "$digests" ]
finish
