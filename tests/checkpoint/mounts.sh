#!/usr/bin/env bash
# Mounts: a target that can only be read, one that becomes so in the middle of a run, one that is full. In a mount namespace
# of its own; skipped where that is not allowed.
#   mounts.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"
if [ "${2:-}" != inside ]; then
  unshare -m true 2>/dev/null || unshare -rm true 2>/dev/null || skip 'no mount namespaces here (needs root or user namespaces)'
  unshare -m true 2>/dev/null && exec unshare -m "$0" "$muster" inside
  exec unshare -rm "$0" "$muster" inside
fi
mkdir "$work/disk"
mount -t tmpfs -o size=64m tmpfs "$work/disk" 2>/dev/null || skip 'a tmpfs cannot be mounted here'
trap 'umount "$work/disk"; rm -rf "$work"' EXIT

printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 400) >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'checkpoint: {every: 2, keep: 0}'
run=$work/disk/run
train() { "$muster" train "$work/tiny.yaml" --run "$run" "$@"; }
export -f train
export muster work run
expect 0 bash -c 'train'
digests=$(cat "$work/out")
rm -rf "$run"

# Only for reading.
mount -o remount,ro "$work/disk"
expect 1 bash -c 'train'
says 'Read-only file system'
says "$work/disk"
mount -o remount,rw "$work/disk"
expect 0 bash -c 'train --set run.steps=4'
line=$(cat "$work/out")
mount -o remount,ro "$work/disk"
expect 0 "$muster" verify "$run"
check 'a checkpoint that can only be read is verified' [ "$(cat "$work/out")" = "$line" ]
expect 0 "$muster" inspect "$run"
expect 0 "$muster" generate "$run" --prompt 'The' --tokens 4
expect 1 bash -c 'train'
says 'Read-only file system'
mount -o remount,rw "$work/disk"

# Full, for real: first while a checkpoint is written, then with room again.
bytes=$(du -sb "$run/checkpoints/step-00000004" | cut -f 1)
free=$(($(stat -f -c '%a * %S' "$work/disk")))
head -c $((free - bytes / 2)) /dev/zero >"$work/disk/filler"
expect 1 bash -c 'train'
says 'No space left on device'
rm "$work/disk/filler"
expect 0 "$muster" verify "$run"
check 'on a full disk: the checkpoint from before is the newest' [ "$(cat "$work/out")" = "$line" ]
check 'on a full disk: nothing is left over' [ "$(ls -A "$run/checkpoints" | tr '\n' ' ')" = 'step-00000002 step-00000004 ' ]
expect 0 bash -c 'train'
check 'with room again: the same digests' [ "$(cat "$work/out")" = "$digests" ]
finish
