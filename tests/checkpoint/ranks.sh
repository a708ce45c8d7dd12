#!/bin/sh
# ranks.sh PROGRAM MPIRUN.SH: every writer count to every reader count, then full disks on four ranks and one.
program=$1
mpirun=$2
command -v "${MUSTER_MPIRUN:-mpirun}" >/dev/null || exec "$mpirun" 1 true # which says why and ends with 77
base=$(mktemp -d) || exit 1
trap 'rm -rf "$base"' EXIT
for ranks in 1 2 3 4 5 8 12 5 4 3 2 1; do # 12: rank 0 owns nothing
    "$mpirun" $ranks "$program" pass "$base" >"$base/log" 2>&1 || { cat "$base/log"; exit 1; }
    tail -n 1 "$base/log"
done
for ranks in 4 1; do
    timeout 60 "$mpirun" $ranks "$program" full "$base" >"$base/log" 2>&1 || { cat "$base/log"; exit 1; }
    tail -n 1 "$base/log"
    rm -rf "$base/full"
done
