#!/usr/bin/env bash
# When muster launch starts the ranks again, and when it does not: with an mpirun that fails as it is told.
#   restarts.sh MUSTER
set -euo pipefail
muster=$(readlink -f "$1")
. "$(dirname "$0")/launch.sh"
tiny_config tiny.yaml 'checkpoint: {every: 2, minutes: 0, async: false}'

# ---- the ends that are no failures ----
stand_in mpirun 'exit 2'
expect 2 "$muster" launch tiny.yaml --ranks 2
check 'a wrong config is not started again' [ "$(calls mpirun)" = 1 ]
says 'not started again'
stand_in mpirun 'exit 75'
expect 75 "$muster" launch tiny.yaml --ranks 2
check 'nor a stop with a checkpoint' [ "$(calls mpirun)" = 2 ]

# ---- the same failure twice ----
rm calls.mpirun
stand_in mpirun 'echo "muster: rank 1: the disk is full" >&2; exit 1'
expect 1 "$muster" launch tiny.yaml --ranks 2
check 'twice, not three times' [ "$(calls mpirun)" = 2 ]
says 'attempt 1 failed'
says 'muster: rank 1: the disk is full'
says 'the same failure twice at step 0'

# ---- also where a number in the message differs ----
rm calls.mpirun
stand_in mpirun 'echo "muster: rank 1: no room ($$ bytes free there)" >&2; exit 1'
expect 1 "$muster" launch tiny.yaml --ranks 2
check 'twice, not three times' [ "$(calls mpirun)" = 2 ]

# ---- the launcher itself, as with an option that it does not know: a few times more, should a node have been busy ----
rm calls.mpirun
stand_in mpirun 'echo "mpirun: unknown option" >&2; echo "job $$" >&2; echo "see --help" >&2; exit 1'
expect 1 "$muster" launch tiny.yaml --ranks 2
check 'four times' [ "$(calls mpirun)" = 4 ]
says 'mpirun failed 4 times in the same way before any step was made: mpirun: unknown option job'
says 'it had made no step, and there is no checkpoint yet'
says '4 attempts, 4 failed; 0 steps (0.0 s) were lost, and 7 s waited'

# ---- what a rank said last ----
stand_in mpirun 'echo "step 7/8 loss 1" >&2; echo "free(): invalid pointer" >&2
  echo "MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD" >&2; echo "with errorcode 1." >&2
  echo "muster: rank 1 (host n1, process 17) died at step 7 in phase compute: ending the job" >&2
  echo "mpirun noticed that process rank 1 exited on signal 6" >&2; exit 134'
expect 1 "$muster" launch tiny.yaml --ranks 2 --restarts 0
says 'exit code 134: a rank was ended by signal 6 (Aborted)'
says '  muster: rank 1 (host n1, process 17) died at step 7'
says 'said before that: free(): invalid pointer'
check 'but no step' bash -c '! grep "said before that: step" err'
check 'nor what mpirun says when a job is aborted' bash -c '! grep "said before that: .*\(MPI_ABORT\|errorcode\)" err'

# ---- a launcher that does not end when a rank has died ----
stand_in mpirun 'echo "mpirun noticed that process rank 1 exited on signal 9" >&2; sleep 300.'$$
expect 1 "$muster" launch tiny.yaml --ranks 2 --restarts 0
says 'launch: mpirun does not end: killed'
says 'mpirun noticed that process rank 1 exited on signal 9'
check 'nor does what it started stay' bash -c "! pgrep -f '^sleep 300.$$\$'"

# ---- other failures: up to --restarts without progress ----
rm calls.mpirun
stand_in mpirun 'kill -9 $$'
rm -f calls.mpirun
expect 1 "$muster" launch tiny.yaml --ranks 2 --restarts 2
check 'the first and two more' [ "$(calls mpirun)" = 3 ]
says 'ended by signal 9'
says 'restart 2 of at most 2 without progress, in 2 s'
says 'given up after 2 restarts without progress (--restarts)'
says '3 attempts, 3 failed'
expect 1 "$muster" launch tiny.yaml --ranks 2 --restarts 0
check 'none' [ "$(calls mpirun)" = 4 ]

# ---- progress begins the count anew: an mpirun that trains two steps more each time, and dies ----
rm -f calls.mpirun
"$muster" train tiny.yaml --run whole >whole.out 2>err
stand_in mpirun "
  n=\$(wc -l <$work/calls.mpirun)
  while [ \"\$1\" != $muster ]; do shift; done
  [ \$n -lt 4 ] || exec \"\$@\"
  \"\$@\" --set run.steps=\$((2 * n)) >$work/part.out || exit
  exit \$((100 + n))"
expect 0 "$muster" launch tiny.yaml --ranks 2 --restarts 1 --run again
check 'three failures, then the end' [ "$(calls mpirun)" = 4 ]
check 'the digest of the run that nothing disturbed' cmp out whole.out
says 'newest checkpoint at 4'
check 'launch.jsonl: four attempts and the end' \
  [ "$(jq -rs 'map(.outcome // .exit_code) | join(" ")' again/launch.jsonl)" = 'failed failed failed done 0' ]
check 'with their steps' [ "$(jq -rs 'map(.checkpoint // .step) | join(" ")' again/launch.jsonl)" = '2 4 6 8 8' ]

# ---- files that are none: nothing is waited for ----
mkdir pipes
mkfifo pipes/launch.jsonl pipes/metrics.jsonl
stand_in mpirun 'exit 75'
expect 75 timeout -s KILL 30 "$muster" launch tiny.yaml --ranks 2 --run pipes
says 'pipes/launch.jsonl'

# ---- a stop while it waits for the next attempt ----
stand_in mpirun 'echo x >>'"$work"'/started; kill -9 $$'
"$muster" launch tiny.yaml --ranks 2 --run waits 2>err &
id=$!
until grep -q 'restart 3' err; do sleep 0.05; kill -0 $id; done # it waits for 4 s now
kill -TERM $id
code=0
wait $id || code=$?
check "exit code $code" [ "$code" = 75 ]
says 'stopped by SIGTERM while no rank was running'
check 'only what was waited counts' grep -qE ' and [3-6] s waited between attempts' err
finish
