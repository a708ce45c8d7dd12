#!/usr/bin/env bash
# A run folder has one writer: a second start is refused, a dead one's folder is taken over, and who lost it writes nothing more.
#   one_writer.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 400) >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'checkpoint: {every: 100, keep: 0, minutes: 0}'
run=$work/run
long='--set run.steps=1000000 --set train.on_nonfinite=skip'

begin() { # begin RANKS LOG: a long run in the background, until it has a checkpoint
  # shellcheck disable=SC2086
  ranks "$1" "$muster" train "$work/tiny.yaml" --run "$run" $long >/dev/null 2>"$work/$2" &
  job=$!
  for _ in $(seq 1000); do
    [ -n "$(ls -d "$run"/checkpoints/step-* 2>/dev/null)" ] && return
    sleep 0.02
  done
  fail "no checkpoint in 20 s"
}
holder() { jq .pid "$run"/lease-*.json; }

for n in 1 2; do
  begin "$n" first.err
  pid=$(holder)
  for m in 1 2; do
    expect 2 ranks "$m" "$muster" train "$work/tiny.yaml" --run "$run"
    says "$run is in use by process $pid on host $(jq -r .host "$run"/lease-*.json)"
    says 'or choose another --run folder'
  done
  expect 0 "$muster" inspect "$run"
  check 'others still read' grep -q '^weights' "$work/out"
  check 'inspect says who trains there' grep -q "^training here  process $pid on host" "$work/out"

  # Killed, and started again at once.
  kill -9 "$pid"
  wait $job || true
  before=$(date +%s)
  expect 0 ranks "$n" "$muster" train "$work/tiny.yaml" --run "$run" --set run.steps=1
  says "taking over the run folder from process $pid on host"
  says 'it has ended without giving it back'
  check 'without waiting' [ $(($(date +%s) - before)) -lt 20 ]
  check 'the lease is given back' [ -z "$(ls "$run" | grep lease)" ]
  rm -rf "$run"
done

# Given back at every end: by a signal, by an error.
begin 1 first.err
kill -USR1 "$(holder)"
code=0
wait $job || code=$?
check "stopped: exit code $code" [ "$code" = 75 ]
check 'the lease is given back after a signal' [ -z "$(ls "$run" | grep lease)" ]
expect 2 "$muster" train "$work/tiny.yaml" --run "$run" --set model.d_model=64
check 'the lease is given back after an error' [ -z "$(ls "$run" | grep lease)" ]
rm -rf "$run"

# Stopped while somebody else takes over: awake again, it commits nothing, records nothing, and says why it ends.
begin 1 first.err
pid=$(holder)
kill -STOP "$pid"
mkdir "$work/other"
mv "$run"/lease-1.json "$work/other"
jq --indent 2 '.epoch = 2 | .token = "00000000000000000000000000000000" | .host = "elsewhere" | .pid = 4711' \
  "$work/other/lease-1.json" >"$run/lease-2.json"
stood=$(ls "$run/checkpoints")
kill -CONT "$pid"
code=0
wait $job || code=$?
check "who lost the folder ends with $code" [ "$code" = 1 ]
cp "$work/first.err" "$work/err"
says 'no longer holds the run folder'
says 'taken over by process 4711 on host elsewhere'
check 'it has committed nothing' [ "$(ls "$run/checkpoints")" = "$stood" ]
check 'its end is not recorded' [ "$(jq -r .event "$run/metrics.jsonl" | tail -n 1)" != stop ]
check 'the lease of the other stands' [ "$(holder)" = 4711 ]
finish
