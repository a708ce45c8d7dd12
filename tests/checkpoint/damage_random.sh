#!/bin/sh
# damage_random.sh PROGRAM MPIRUN.SH [COUNT [SEED]]: damages at random, to checkpoints of one to three ranks.
program=$1
mpirun=$2
shift 2
command -v "${MUSTER_MPIRUN:-mpirun}" >/dev/null || exec "$mpirun" 1 true # which says why and ends with 77
[ -w /dev/shm ] && : "${TMPDIR:=/dev/shm}" # many small files, a disk is not what is tested
base=$(mktemp -d "${TMPDIR:-/tmp}/muster-damage-XXXXXX") || exit 1
trap 'rm -rf "$base"' EXIT
for ranks in 1 2 3; do
    "$mpirun" $ranks "$program" save "$base" >"$base/log" 2>&1 || { cat "$base/log"; exit 1; }
done
"$program" "$base" "$@"
