#!/usr/bin/env bash
# The table of docs/scaling.md: what a step of a run comes to on 1 to 128 nodes at 1 to 400 Gb/s, by muster plan.
#   scaling_table.sh MUSTER CONFIG FLOPS [PLAN_OPTION...]     FLOPS: what a step reaches on one node, measured
set -euo pipefail
muster=$1 config=$2 flops=$3
shift 3
rates="1 10 25 100 400"
step() { "$muster" plan "$config" --flops "$flops" --utilisation 100% --json "$@" | jq .tokens_per_second; }
one=$(step --nodes 1 "$@")
printf '| nodes |'
for rate in $rates; do printf ' %s Gb/s |' "$rate"; done
printf '\n|---|'
for rate in $rates; do printf -- '---|'; done
for nodes in 1 2 4 8 16 32 64 128; do
  printf '\n| %s |' "$nodes"
  for rate in $rates; do
    tokens=$(step --nodes $nodes --bandwidth "${rate}Gb/s" "$@")
    awk -v t="$tokens" -v o="$one" -v n=$nodes 'BEGIN {printf " %.0f (%.0f %%) |", t, 100 * t / o / n}'
  done
done
echo
