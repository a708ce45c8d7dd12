#!/usr/bin/env bash
# Two programs in one job are refused on all ranks, before they misunderstand each other, with their ranks, hosts and versions.
#   programs.sh MUSTER OLDER_MUSTER
set -euo pipefail
muster=$1 older=$2
. "$(dirname "$0")/../shell.sh"
has_mpirun || skip "no mpirun (Debian: apt-get install openmpi-bin or mpich)"

printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 400) >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml"
for command in "train $work/tiny.yaml --run $work/run" "doctor $work/tiny.yaml"; do
  read -ra words <<<"$command"
  expect 2 "$tests/mpi/mpirun.sh" 1 "$muster" "${words[@]}" : -n 2 "$older" "${words[@]}" : -n 1 "$muster" "${words[@]}"
  says "muster: the ranks of this job are not the same program: rank 0 on "
  says " is $("$muster" --version) of the sources "
  says ", rank 1 on "
  says " is muster 0.0.9 of the sources 0123456789ab (2 of 4 ranks are not rank 0's); give all nodes the same muster"
  check 'it is said once' [ "$(grep -c 'not the same program' "$work/err")" = 1 ]
  check 'in no words of MPI' [ "$(grep -ciE 'truncat|MPI_ERR' "$work/err")" = 0 ]
  check 'nothing was made' [ ! -e "$work/run" ]
done
# Alone, and together with its like, each is good.
expect 0 "$tests/mpi/mpirun.sh" 2 "$older" train "$work/tiny.yaml" --run "$work/older"
cp "$work/out" "$work/result"
expect 0 ranks 2 "$muster" train "$work/tiny.yaml" --run "$work/newer"
check 'the same result' cmp -s "$work/out" "$work/result"
expect 0 "$older" train "$work/tiny.yaml" --run "$work/alone"
finish
