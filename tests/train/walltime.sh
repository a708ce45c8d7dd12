#!/usr/bin/env bash
# Stops in time for the end of the job, and by signals that come early and late, to the same bits.
#   walltime.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

mkdir "$work/text"
for i in $(seq 40); do printf "The quick brown fox $i jumps over the lazy dog %d. " $(seq 40) >"$work/text/$i.txt"; done
"$muster" data build "$work/text" --heldout 0.1 -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'checkpoint: {every: 0, minutes: 0}'
sed -i 's/train: {/train: {eval_every: 3, eval_batches: 2, /' "$work/tiny.yaml"
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/whole"
digests=$(cat "$work/out")

# finishes RUN: the same command goes on, to the digest of a run that nothing disturbed
finishes() {
  expect 0 "$muster" train "$work/tiny.yaml" --run "$1"
  check "$1: the same digests" [ "$(grep '^weights' "$work/out")" = "$digests" ]
}

# Time for no more than one step a start: each start does one and stops, so that the run ends after as many as it has steps.
starts=0 code=75
while [ $code = 75 ] && [ $starts -lt 20 ]; do
  code=0
  "$muster" train "$work/tiny.yaml" --run "$work/short" --set run.minutes=0.01 >"$work/out" 2>"$work/err" || code=$?
  starts=$((starts + 1))
  [ $code != 75 ] || says 'stopped before run.minutes is up at'
done
check "one step a start: $starts starts for 8 steps, the last with exit code $code" [ "$starts $code" = '8 0' ]
check 'one step a start: the same digests' [ "$(grep '^weights' "$work/out")" = "$digests" ]
check 'one step a start: metrics say why' [ "$(grep -c '"reason":"walltime"' "$work/short/metrics.jsonl")" = 7 ]
expect 75 "$muster" train "$work/tiny.yaml" --run "$work/first" --set run.minutes=0.01
says 'run.minutes is up at'
says ' s, and a checkpoint may take 5 s: one step is done before it; ask for more time'
finishes "$work/first"

# Steps that take some time: the run stops before its time is up, and not long before.
expect 75 "$muster" train "$work/tiny.yaml" --run "$work/long" --set run.minutes=0.2 --set run.steps=1000000
check "stops within 12 s: $(tail -n 1 "$work/long/metrics.jsonl")" \
  [ "$(jq -s '.[-1].step > 50 and .[-1].reason == "walltime"' "$work/long/metrics.jsonl")" = true ]
seconds=$(jq -s 'def t: .time[:19] + "Z" | fromdate; (.[-1] | t) - (.[0] | t)' "$work/long/metrics.jsonl")
check "stops after $seconds s of 12" [ "$seconds" -ge 3 -a "$seconds" -le 12 ]

# The end of a Slurm job: the environment says it, or scontrol. An end that is far, none, and a scontrol that fails stop nothing.
soon=$(($(date +%s) + 5)) later=$(($(date +%s) + 86400))
expect 75 env SLURM_JOB_ID=7 SLURM_JOB_END_TIME=$soon "$muster" train "$work/tiny.yaml" --run "$work/environment"
says 'this job ends at'
says "stopped before the job's end at"
finishes "$work/environment"
expect 0 env SLURM_JOB_ID=7 SLURM_JOB_END_TIME=$later "$muster" train "$work/tiny.yaml" --run "$work/later"
says 'in time for a checkpoint'

mkdir "$work/bin"
scontrol() { # scontrol TEXT: what scontrol is to say; with SLURM_TIME_FORMAT=%s, as the real one
  printf '#!/bin/sh\n[ "$SLURM_TIME_FORMAT $*" = "%%s show job -o 7" ] || exit 1\n%s\n' "$1" >"$work/bin/scontrol"
  chmod +x "$work/bin/scontrol"
}
in_slurm=(env -u SLURM_JOB_END_TIME "PATH=$work/bin:$PATH" SLURM_JOB_ID=7)
scontrol "echo 'JobId=7 StartTime=1 EndTime=$(($(date +%s) + 5)) Deadline=N/A'"
expect 75 "${in_slurm[@]}" "$muster" train "$work/tiny.yaml" --run "$work/scontrol"
says "stopped before the job's end at"
finishes "$work/scontrol"
scontrol "echo 'JobId=7 StartTime=1 EndTime=$(date -d '+5 sec' +%Y-%m-%dT%H:%M:%S) Deadline=N/A'"
expect 75 "${in_slurm[@]}" "$muster" train "$work/tiny.yaml" --run "$work/local"
says "stopped before the job's end at"
scontrol "echo 'JobId=7 StartTime=1 EndTime=$later Deadline=N/A'"
expect 0 "${in_slurm[@]}" SLURM_JOB_END_TIME=$(($(date +%s) - 60)) "$muster" train "$work/tiny.yaml" --run "$work/prolonged"
check 'a job that goes on after its end was prolonged' [ "$(grep -c 'warning: that is in' "$work/err")" = 0 ]
scontrol "echo 'JobId=7 StartTime=1 EndTime=Unknown Deadline=N/A'"
expect 0 "${in_slurm[@]}" "$muster" train "$work/tiny.yaml" --run "$work/unknown"
check 'an end that is not known is not spoken of' [ "$(grep -c 'ends at' "$work/err")" = 0 ]
scontrol 'exit 1'
expect 0 "${in_slurm[@]}" "$muster" train "$work/tiny.yaml" --run "$work/failing"
says 'warning: scontrol does not say when Slurm job 7 ends'
scontrol 'sleep 300'
expect 0 "${in_slurm[@]}" "$muster" train "$work/tiny.yaml" --run "$work/hanging"
says 'warning: scontrol does not say when Slurm job 7 ends'
expect 0 env -u SLURM_JOB_END_TIME SLURM_JOB_ID='7;ls' "$muster" train "$work/tiny.yaml" --run "$work/odd"
expect 2 "$muster" train "$work/tiny.yaml" --run "$work/odd" --set run.minutes=-1
says 'run.minutes'

# catches PID: waits until the process is muster and handles USR1 (signal 10, bit 9 of the mask)
catches() {
  local mask
  until [ "$(readlink "/proc/$1/exe")" = "$(readlink -f "$muster")" ] && mask=$(sed -n 's/^SigCgt:\t//p' "/proc/$1/status") && [ $((0x${mask:-0} >> 9 & 1)) = 1 ]; do
    kill -0 "$1" || return 1
    sleep 0.002
  done
}
# Early: as soon as the handler stands, long before the first step. Late: again and again, until the process is gone.
for when in early often; do
  for signal in TERM USR1 USR2; do
    run=$work/$when-$signal code=0
    "$muster" train "$work/tiny.yaml" --run "$run" >"$work/out" 2>"$work/err" &
    job=$!
    catches $job
    kill -s $signal $job
    if [ $when = often ]; then while kill -s $signal $job 2>/dev/null; do sleep 0.005; done; fi
    wait $job || code=$?
    check "$signal $when: exit code $code" [ $code = 75 ]
    says "stopped by SIG$signal at step 1 of 8, with a checkpoint"
    finishes "$run"
  done
done

# On any rank: the message names it.
ranks 3 "$muster" train "$work/tiny.yaml" --run "$work/one-of-three" --set run.steps=100000 >"$work/out" 2>"$work/err" &
job=$! code=0
until [ "$(grep -c '"step",' "$work/one-of-three/metrics.jsonl" 2>/dev/null)" -ge 2 ] 2>/dev/null; do kill -0 $job; sleep 0.02; done
for pid in $(pgrep -f "^$muster train .*one-of-three"); do
  if tr '\0' '\n' <"/proc/$pid/environ" | grep -qx OMPI_COMM_WORLD_RANK=2; then kill -s USR2 "$pid"; fi
done
wait $job || code=$?
check "USR2 to rank 2: exit code $code" [ $code = 75 ]
says 'stopped by SIGUSR2 to rank 2 on'
finish
