#!/usr/bin/env bash
# Checkpoints are written while training goes on: the same bits in every way of doing so; a failed save is a warning, and ends
# the run only where the run needs it.
#   saves.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 400) >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'checkpoint: {minutes: 0, keep: 2}'
sed -i 's/steps: 8/steps: 20/' "$work/tiny.yaml"

events() { # events RUN EVENT: how many
  grep -c "\"event\":\"$2\"" "$1/metrics.jsonl" || true
}

expect 0 "$muster" train "$work/tiny.yaml" --run "$work/plain"
digests=$(cat "$work/out")

# A save takes many of these steps.
for n in 1 3; do
  for mode in 'async=false' 'async=true' 'when_busy=skip'; do
    run=$work/$mode-$n
    expect 0 ranks $n "$muster" train "$work/tiny.yaml" --run "$run" --set checkpoint.every=1 --set checkpoint.$mode
    check "$mode on $n rank(s): the same digests" [ "$(grep '^weights' "$work/out")" = "$digests" ]
    check "$mode on $n rank(s): two are kept" [ "$(ls -A "$run/checkpoints" | wc -l)" = 2 ]
    check "$mode on $n rank(s): the last one stands" [ -e "$run/checkpoints/step-00000020/manifest.json" ]
    expect 0 "$muster" verify "$run"
    check "$mode on $n rank(s): verify gives the same digests" [ "$(grep '^weights' "$work/out")" = "$digests" ]
    case $mode in
      when_busy=skip) check "some are skipped on $n rank(s)" [ "$(events "$run" checkpoint)" -lt 20 ] ;;
      *) check "$mode on $n rank(s): all are saved" [ "$(events "$run" checkpoint)" = 20 ] ;;
    esac
  done
done
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/wait" --set checkpoint.every=1
says 's for the checkpoint of step'
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/skip" --set checkpoint.every=1 --set checkpoint.when_busy=skip
says 'is still being written, for'
expect 2 "$muster" train "$work/tiny.yaml" --run "$work/no" --set checkpoint.when_busy=skip --set train.on_nonfinite=rollback
says 'checkpoint.when_busy: skip would let'

# Stopped with a save in flight: that one and the last one stand.
long='--set run.steps=600 --set checkpoint.when_busy=skip'
# shellcheck disable=SC2086
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/long" $long
digests_long=$(cat "$work/out")
code=0
# shellcheck disable=SC2086
"$muster" train "$work/tiny.yaml" --run "$work/stop" $long --set checkpoint.every=1 >"$work/out" 2>"$work/err" &
job=$!
for _ in $(seq 600); do
  [ "$(events "$work/stop" checkpoint 2>/dev/null)" -ge 3 ] 2>/dev/null && break
  sleep 0.02
done
kill -s TERM $job
wait $job || code=$?
check "SIGTERM: exit code $code" [ "$code" = 75 ]
stopped=$(sed -n 's/.* at step \([0-9]*\) of 600, with a checkpoint.*/\1/p' "$work/err")
check "a checkpoint of step $stopped" [ -e "$work/stop/checkpoints/step-$(printf %08d "$stopped")/manifest.json" ]
# shellcheck disable=SC2086
expect 0 ranks 2 "$muster" train "$work/tiny.yaml" --run "$work/stop" $long --set checkpoint.every=7
check 'and on, on two ranks: the same digests' [ "$(grep '^weights' "$work/out")" = "$digests_long" ]

# A copy of the state is part of the memory that is announced.
memory() { # memory ASYNC: bytes that the first step's line says
  "$muster" train "$work/tiny.yaml" --run "$work/memory-$1" --set run.steps=1 --set checkpoint.async=$1 >/dev/null 2>&1
  sed -n 's/.*"memory_bytes":\([0-9]*\).*/\1/p' "$work/memory-$1/metrics.jsonl"
}
parameters=$(sed -n 's/.*"parameters":\([0-9]*\).*/\1/p' "$work/plain/metrics.jsonl")
check 'the copy is counted' [ $(($(memory true) - $(memory false))) -ge $((12 * parameters)) ]

# Files may not grow to a checkpoint's size: each save fails, and only the last one ends the run.
limited=(bash -c 'ulimit -f 100; exec "$@"' limited)
for async in true false; do
  run=$work/limited-$async
  expect 0 "$muster" train "$work/tiny.yaml" --run "$run" --set run.steps=4
  expect 1 "${limited[@]}" "$muster" train "$work/tiny.yaml" --run "$run" --set checkpoint.every=5 --set checkpoint.async=$async
  says 'warning: checkpoint of step 5: cannot write'
  says 'training goes on, the checkpoint of step 4 stays'
  says 'checkpoint of step 20: cannot write'
  check 'three failures that the run survived are recorded' [ "$(events "$run" checkpoint_failed)" = 3 ]
  check 'nothing but the old checkpoint is there' [ "$(ls -A "$run/checkpoints")" = step-00000004 ]
  expect 1 "${limited[@]}" "$muster" train "$work/tiny.yaml" --run "$run" --set checkpoint.every=5 --set train.on_nonfinite=rollback
  check 'where rollbacks go there the first failure ends the run' [ "$(events "$run" checkpoint_failed)" = 3 ]
  says 'checkpoint of step 5: cannot write'
  expect 0 "$muster" train "$work/tiny.yaml" --run "$run"
  check 'and on, with room: the same digests' [ "$(grep '^weights' "$work/out")" = "$digests" ]
done
finish
