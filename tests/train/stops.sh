#!/usr/bin/env bash
# Stopping and going on: signals end a run with exit code 75 and a checkpoint, the same command finishes it with the same bits.
#   stops.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 400) >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'checkpoint: {every: 0, minutes: 0}'
sed -i 's/steps: 8/steps: 250/' "$work/tiny.yaml"

expect 0 "$muster" train "$work/tiny.yaml" --run "$work/whole"
digests=$(cat "$work/out")

wait_for_step() { # wait_for_step RUN STEP
  for _ in $(seq 600); do
    [ "$(grep -c loss_bits "$1/metrics.jsonl" 2>/dev/null || true)" -ge "$2" ] 2>/dev/null && return
    sleep 0.02
  done
  fail "$1 did not reach step $2"
}

stop_by() { # stop_by SIGNAL RANKS: sends it to one rank
  local signal=$1 n=$2 run=$work/$1-$2 code=0 pid
  ranks "$n" "$muster" train "$work/tiny.yaml" --run "$run" >"$work/out" 2>"$work/err" &
  local job=$!
  wait_for_step "$run" 5
  pid=$(pgrep -f "^$muster train .*--run $run( |$)" | head -n 1)
  kill -s "$signal" "$pid"
  wait $job || code=$?
  check "$signal on $n rank(s): exit code $code" [ "$code" = 75 ]
  says 'with a checkpoint; the same command goes on from there'
  check "$signal leaves a checkpoint" [ -n "$(ls "$run/checkpoints")" ]
  expect 0 ranks $((3 - n)) "$muster" train "$work/tiny.yaml" --run "$run"
  says "note: the number of ranks changes from $n to $((3 - n)): the bits stay the same"
  check "$signal and on: the same digests" [ "$(grep '^weights' "$work/out")" = "$digests" ]
}

stop_by INT 1
stop_by TERM 2
stop_by USR1 1
stop_by USR2 2

stop_by HUP 1

# Under nohup the end of the terminal is nothing to it.
nohup "$muster" train "$work/tiny.yaml" --run "$work/nohup" >"$work/out" 2>"$work/err" &
job=$!
wait_for_step "$work/nohup" 5
kill -s HUP $job
code=0
wait $job || code=$?
check "nohup: exit code $code" [ "$code" = 0 ]
check 'nohup: the same digests' [ "$(grep '^weights' "$work/out")" = "$digests" ]

# Twice: at once, without a word.
"$muster" train "$work/tiny.yaml" --run "$work/twice" >"$work/out" 2>"$work/err" &
job=$!
wait_for_step "$work/twice" 3
kill -s STOP $job # so that both signals are there before the step ends
kill -s INT $job
kill -s CONT $job
kill -s INT $job
code=0
wait $job || code=$?
check "SIGINT twice ends it at once or after the step: exit code $code" [ "$code" = 130 -o "$code" = 75 ]

# Matrices large enough for oneDNN's own kernels: these keep the stack pointer in a buffer, which a handler must not write to.
tiny_config "$work/wide.yaml" 'checkpoint: {every: 0, minutes: 0}'
wide='--set model.d_model=512 --set model.d_ff=1408 --set batch.micro=4 --set data.seq_len=128 --set run.steps=12 --set device.threads=2'
# shellcheck disable=SC2086
expect 0 "$muster" train "$work/wide.yaml" --run "$work/wide" $wide
digests_wide=$(cat "$work/out")
for i in 1 2 3 4; do
  code=0
  # shellcheck disable=SC2086
  "$muster" train "$work/wide.yaml" --run "$work/wide$i" $wide >"$work/out" 2>"$work/err" &
  job=$!
  wait_for_step "$work/wide$i" 1
  for _ in 1 2 3; do
    kill -s USR1 $job 2>/dev/null || true
    sleep 0.01
  done
  wait $job || code=$?
  check "signals within matrix products: exit code $code" [ "$code" = 75 -o "$code" = 0 ]
  # shellcheck disable=SC2086
  expect 0 "$muster" train "$work/wide.yaml" --run "$work/wide$i" $wide
  check 'the same digests after signals within matrix products' [ "$(grep '^weights' "$work/out")" = "$digests_wide" ]
done

expect 2 "$muster" train "$work/tiny.yaml" --run "$work/whole" --resume never
says '--resume never: the run folder holds'
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/whole"
check 'a finished run says its digests again' [ "$(grep '^weights' "$work/out")" = "$digests" ]
expect 0 "$muster" verify "$work/whole"
check 'verify gives the line that training printed' [ "$(cat "$work/out")" = "$digests" ]
expect 2 "$muster" train "$work/tiny.yaml" --run "$work/whole" --set model.d_model=64
says 'model.d_model (32, now 64)'
finish
