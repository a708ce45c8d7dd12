#!/usr/bin/env bash
# A loss or gradient that is not finite: stop, skip, rollback, each alike on one rank and on four.
#   nonfinite.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 400) >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
# Decay times rate is 100: every update multiplies the matrices by -99, until they overflow.
tiny_config "$work/bad.yaml"
wild='--set optimizer.weight_decay=10 --set schedule.peak=10 --set run.steps=30'

steps_of() { jq -r 'select(.event == "step") | "\(.step) \(.loss_bits) \(.grad_norm_bits)"' "$1/metrics.jsonl"; }

for n in 1 4; do
  # shellcheck disable=SC2086
  expect 1 ranks $n "$muster" train "$work/bad.yaml" --run "$work/stop$n" $wild --set train.on_nonfinite=stop
  says 'is not finite'
  says 'microbatch'
  says 'muster data show'
  cp "$work/err" "$work/stop$n.err"
  # shellcheck disable=SC2086
  expect 0 ranks $n "$muster" train "$work/bad.yaml" --run "$work/skip$n" $wild --set train.on_nonfinite=skip
  check 'skips are recorded' grep -q '"event": *"skip"' "$work/skip$n/metrics.jsonl"
  cp "$work/out" "$work/skip$n.out"
  # shellcheck disable=SC2086
  expect 1 ranks $n "$muster" train "$work/bad.yaml" --run "$work/back$n" $wild --set train.on_nonfinite=rollback
  says 'rollback'
  check 'rollbacks are recorded' grep -q '"event": *"rollback"' "$work/back$n/metrics.jsonl"
done
check 'the same step and microbatch are named' [ "$(grep -o 'step [0-9]*: loss or gradient of [a-z]* [0-9]*' "$work/stop1.err")" = "$(grep -o 'step [0-9]*: loss or gradient of [a-z]* [0-9]*' "$work/stop4.err")" ]
check 'skipping gives the same digests' [ "$(grep '^weights' "$work/skip1.out")" = "$(grep '^weights' "$work/skip4.out")" ]
check 'skipping gives the same steps' [ "$(steps_of "$work/skip1")" = "$(steps_of "$work/skip4")" ]
finish
