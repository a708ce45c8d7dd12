#!/usr/bin/env bash
# batch.balance: auto gives a rank that is slow fewer lanes, says so, and changes no bit.
#   balance.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"
command -v mpirun >/dev/null || skip "no mpirun (Debian: apt-get install openmpi-bin)"

printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 2000) >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml"
settings=(--set run.steps=60 --set batch.lanes=16 --set batch.leaf=2 --set model.d_model=64)

expect 0 "$muster" train "$work/tiny.yaml" --run "$work/alone" "${settings[@]}"
digests=$(cat "$work/out")

# Processes of a run: those whose command line names its folder, but for mpirun.
ranks_of() { pgrep -f -- "--run $1 " | while read -r id; do [ "$(cat "/proc/$id/comm" 2>/dev/null)" != muster ] || echo "$id"; done; }

# Keeps the rank with the highest process number from working, three quarters of the time, until the run ends.
slow_down() {
  local id=
  while kill -0 "$job" 2>/dev/null; do
    [ -n "$id" ] || id=$(ranks_of "$1" | tail -1 || true)
    if [ -n "$id" ] && [ -s "$1/metrics.jsonl" ]; then
      kill -STOP "$id" 2>/dev/null || true
      sleep 0.06
      kill -CONT "$id" 2>/dev/null || true
    fi
    sleep 0.02
  done
}

slow_run() { # DIR EXTRA...
  local dir=$1
  shift
  ranks 3 "$muster" train "$work/tiny.yaml" --run "$dir" "${settings[@]}" "$@" >"$work/out" 2>"$work/err" &
  job=$!
  slow_down "$dir"
  local code=0
  wait "$job" || code=$?
  check "exit code $code" [ "$code" = 0 ]
}

slow_run "$work/auto" --set batch.balance=auto
check 'the digests of one rank' [ "$(cat "$work/out")" = "$digests" ]
says 'the ranks differ in speed: from now on they compute'
check 'metrics.jsonl has the event' grep -q '"event":"balance".*"lanes":\[[0-9]*,[0-9]*,[0-9]*\]' "$work/auto/metrics.jsonl"
lanes=$(grep -o '"lanes":\[[0-9,]*\]' "$work/auto/metrics.jsonl" | head -1 | tr -dc '0-9,')
check "16 lanes are dealt ($lanes)" [ "$((${lanes//,/+}))" = 16 ]
check "the slow rank has fewer than 5, which is an even dealing's least ($lanes)" [ "$(echo "$lanes" | tr , '\n' | sort -n | head -1)" -lt 5 ]

slow_run "$work/even"
check 'the digests of one rank, dealt evenly' [ "$(cat "$work/out")" = "$digests" ]
check 'nothing is dealt anew' [ "$(grep -c '"event":"balance"' "$work/even/metrics.jsonl")" = 0 ]
expect 2 "$muster" train "$work/tiny.yaml" --run "$work/wrong" --set batch.balance=often
says 'batch.balance'
finish
