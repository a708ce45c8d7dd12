#!/usr/bin/env bash
# A GPU that breaks is left out: the other ranks go on, in the same processes, to the bits of a run that nothing disturbed.
#   leave_out.sh MUSTER: on emulated devices, with the stand-in for NCCL in the LD_LIBRARY_PATH. A fault is E:N:D, error E of device D
#   at its Nth look for errors; 214 is its memory, 220 its link, 46 that it is gone, 719 a kernel that went wrong.
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"
has_mpirun || skip 'there is no mpirun'
export MST_EMULATED_GPUS=4 MST_EMULATED_NCCL_MADE=$work/made

printf 'It was the best of times, it was the worst of times. %.0s' 1 2 3 4 5 6 7 8 >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'watchdog: {seconds: 40}' 'checkpoint: {every: 2}'
sed -i -e 's/n_layers: 2/n_layers: 1/' -e 's/steps: 8/steps: 4/' -e 's/device: {/&kernels: cuda, /' "$work/tiny.yaml"
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/alone"
want=$(cat "$work/out")

events() { grep -c "\"event\":\"$1\"" "$work/$2/metrics.jsonl" || true; }
made() { sort "$work/made" 2>/dev/null | uniq -c | awk '{print $2, $3, $1}' | paste -sd,; }

# loses RUN RANKS FAULTS LEFT TRANSPORT [OPTION...]: LEFT ranks leave on the way, and the others end well
loses() {
  local run=$1 n=$2 faults=$3 left=$4 transport=$5
  shift 5
  rm -f "$work/made"
  MST_EMULATED_FAULT=$faults expect 0 ranks "$n" "$muster" train "$work/tiny.yaml" --run "$work/$run" "$@"
  check "$run: the bits" [ "$(cat "$work/out")" = "$want" ]
  check "$run: digests of the checkpoint" [ "$("$muster" verify "$work/$run" | grep -o 'weights [0-9a-f]* *state [0-9a-f]*')" = "$want" ]
  check "$run: so many left" [ "$(events leave "$run")" = "$left" ]
  check "$run: so many were told of" [ "$(grep -c 'going on without it, with [0-9] ranks\?, from step [0-9]' "$work/err")" = "$left" ]
  check "$run: over $transport" grep -q "\"transport\":\"$transport\"" "$work/$run/metrics.jsonl"
}

# After a checkpoint, over NCCL, whose communicator is shrunk.
MST_EMULATED_STREAMS=lazy loses nccl 3 214:90:1 1 nccl
says 'warning: rank 1 (host '
says '): GPU 0000:02:00.0: an error that the test asked for: its memory lost bits (Xid 48, 94 or 95): what it computed last is not to be trusted; going on without it, with 2 ranks, from step '
check 'a smaller communicator' [ "$(made)" = 'new 3 3,smaller 2 2' ]

# One after the other, the second time the first rank, until one is left.
MST_EMULATED_STREAMS=others loses twice 3 714:60:1,220:140:0 2 nccl
says 'warning: rank 0 (host '
says 'going on without it, with 1 rank, from step'
check 'a smaller communicator, then none' [ "$(made)" = 'new 3 3,smaller 2 2' ]

# Two at once, while the run begins.
loses both 4 214:5:2,46:5:3 2 nccl
says 'going on without it, with 2 ranks, from step 0'

# Before the first checkpoint; by a library that cannot shrink.
loses early 3 46:30:0 1 mpi --set batch.transport=mpi
says 'going on without it, with 2 ranks, from step 0'
MST_EMULATED_NCCL_VERSION=22600 loses old 3 214:60:1 1 nccl
check 'a new communicator' [ "$(made)" = 'new 2 2,new 3 3' ]

# Sharded weights: in the middle of a pass, so that the others wait in vain for what they gather.
loses sharded 3 214:70:1 1 nccl --set batch.sharding=all --set watchdog.seconds=15

# ends RUN FAULTS WORDS [OPTION...]: as without this
ends() {
  local run=$1 faults=$2 words=$3
  shift 3
  MST_EMULATED_FAULT=$faults expect 1 ranks 3 "$muster" train "$work/tiny.yaml" --run "$work/$run" "$@"
  says "$words"
  check "$run: nobody left" [ "$(events leave "$run")" = 0 ]
}
ends off 214:60:1 'leave that GPU out, or reset it, and start again: the run goes on from its newest checkpoint' --set device.leave_out=false
says 'muster: rank 1: '
ends kernel 719:60:1 'a kernel of muster went wrong (Xid 13 or 31), or the GPU is broken'
MST_EMULATED_FAULT=214:10 expect 1 ranks 2 "$muster" train "$work/tiny.yaml" --run "$work/all"
says 'its memory lost bits'

# The rank that left sleeps, whatever signals it gets; a stop that all are asked for is the others' to make.
MST_EMULATED_FAULT=214:60:1 ranks 3 "$muster" train "$work/tiny.yaml" --run "$work/stop" --set run.steps=100000 --set checkpoint.every=50 \
  >"$work/out" 2>"$work/err" &
job=$!
wait_for() { # wait_for EVENT COUNT [RUN]
  for _ in $(seq 1200); do
    [ "$(events "$1" "${3:-stop}" 2>/dev/null)" -ge "$2" ] 2>/dev/null && return
    sleep 0.05
  done
  fail "no $2 events $1"
}
process_of() { # process_of RUN RANK
  local pid
  for pid in $(pgrep -f "^$muster train .*--run $work/$1( |$)"); do
    if tr '\0' '\n' <"/proc/$pid/environ" | grep -q "^OMPI_COMM_WORLD_RANK=$2$"; then echo "$pid"; fi
  done
}
wait_for leave 1
left=$(process_of stop 1)
ticks() { awk '{print $14 + $15}' "/proc/$left/stat"; }
before=$(ticks)
sleep 2
check "it used $(($(ticks) - before)) hundredths of a second in 2 s" [ $(($(ticks) - before)) -lt 20 ]
for signal in TERM USR1 USR2 HUP INT; do kill -s "$signal" "$left"; done
wait_for step $(($(events step stop) + 5))
kill -s USR1 "$(awk '{print $4}' "/proc/$left/stat")" # the launcher
code=0
wait $job || code=$?
check "stopped: exit code $code" [ "$code" = 75 ]
says 'with a checkpoint; the same command goes on from there'
check 'its checkpoint is good' "$muster" verify "$work/stop"
# Where one works on alone, the one that left sees that it is stopped.
MST_EMULATED_FAULT=214:60:1 ranks 2 "$muster" train "$work/tiny.yaml" --run "$work/alone" --set run.steps=100000 --set watchdog.seconds=5 \
  >"$work/out" 2>"$work/err" &
job=$!
wait_for leave 1 alone
kill -s STOP "$(process_of alone 0)"
code=0
wait $job || code=$?
check "stopped while it worked alone: exit code $code" [ "$code" != 0 ]
says 'is stopped, and went on without rank 1: ending the job'
check 'no process is left' [ -z "$(pgrep -f "^$muster train .*--run $work/")" ]
finish
