#!/usr/bin/env bash
# muster launch with real ranks: one that is killed, a stop, and launch itself killed.
#   ranks.sh MUSTER
set -euo pipefail
muster=$(readlink -f "$1")
. "$(dirname "$0")/launch.sh"
command -v mpirun >/dev/null || skip "no mpirun (Debian: apt-get install openmpi-bin)"
tiny_config tiny.yaml 'checkpoint: {every: 10, minutes: 0}' 'watchdog: {seconds: 20}'
"$muster" train tiny.yaml --set run.steps=150 --run whole >whole.out 2>err

# Processes of a run, but for launch and mpirun.
ranks_of() { pgrep -f -- "train tiny.yaml --run $1 " | while read -r id; do [ "$(cat "/proc/$id/comm" 2>/dev/null)" != muster ] || echo "$id"; done; }
steps_of() { grep -c '"event":"step"' "$1/metrics.jsonl" 2>/dev/null || echo 0; }
begin() { # RUN STEPS: launches, and waits until so many steps are done
  "$muster" launch tiny.yaml --ranks 3 --run "$1" --set run.steps=150 -- --oversubscribe --bind-to none >out 2>err &
  job=$!
  until [ "$(steps_of "$1" | tail -1)" -ge "$2" ]; do sleep 0.05; kill -0 $job; done
}
wait_for() { code=0; wait "$1" || code=$?; }

begin killed 25
kill -9 "$(ranks_of killed | tail -1)"
wait_for $job
check "exit code $code" [ "$code" = 0 ]
says 'attempt 1 failed'
says 'restart 1 of at most 10 without progress'
says '2 attempts, 1 failed'
check 'the digest of the run that nothing disturbed' cmp out whole.out
# However slow the machine is: exactly those behind the checkpoint that the run went on from. While a step of a checkpoint is
# recorded the one before may still be written, but none before that: at most two intervals.
lost=$(jq -rs '(map(.event) | index("resume")) as $at | (.[:$at] | map(select(.event == "step").step) | last) - .[$at].step' killed/metrics.jsonl)
check "steps lost are counted: $lost" [ "$(jq -rs '.[0].steps_lost' killed/launch.jsonl)" = "$lost" ]
check "of two intervals at most: $lost" [ "$lost" -le 20 ]

begin stopped 25
kill -TERM $job
wait_for $job
check "stopped: exit code $code" [ "$code" = 75 ]
check 'not started again' [ "$(jq -rs 'map(select(.event == "attempt")) | length' stopped/launch.jsonl)" = 1 ]
check 'no step was lost' [ "$(jq -rs '.[0].steps_lost' stopped/launch.jsonl)" = 0 ]
expect 0 "$muster" launch tiny.yaml --ranks 2 --run stopped --set run.steps=150
check 'goes on to the same digest' cmp out whole.out

# ---- mpirun is killed: what its ranks still save is not counted as lost ----
begin left 25
kill -9 "$(pgrep -P $job -x mpirun)"
wait_for $job
check "mpirun killed: exit code $code" [ "$code" = 0 ]
check 'the report has the step that the next attempt begins with' [ "$(jq -rs '.[0].checkpoint == .[1].step_from' left/launch.jsonl)" = true ]
check 'to the same digest' cmp out whole.out

# ---- one rank, without a launcher, is stopped: nobody else sees it ----
"$muster" launch tiny.yaml --run alone --set run.steps=150 --set watchdog.seconds=6 >out 2>err &
job=$!
until [ "$(steps_of alone | tail -1)" -ge 25 ]; do sleep 0.05; kill -0 $job; done
kill -STOP "$(ranks_of alone)"
wait_for $job
check "stopped for too long: exit code $code" [ "$code" = 0 ]
says 'is stopped by a signal or a debugger, for '
says '2 attempts, 1 failed'
check 'the digest of the run that nothing disturbed' cmp out whole.out

begin orphans 25
kill -9 $job
wait_for $job
for _ in $(seq 200); do [ -n "$(ranks_of orphans)" ] || break; sleep 0.1; done
check 'launch is killed: no rank is left' [ -z "$(ranks_of orphans)" ]
finish
