#!/usr/bin/env bash
# watchdog.sh PROGRAM COMMAND...: hurts jobs of four ranks, started by COMMAND PROGRAM ... (mpirun or srun), and checks that
# each ends whole, in time, and with the right rank's name. The working folder must be writable, and the same for all ranks.
set -u
program=$1
shift
launch=("$@")
seconds=3
limit=$((seconds + 10))
ranks=4
export WATCHDOG_TEST=$$ # marks our processes
failures=0 checks=0
# Shared memory of its own: what killed jobs leave behind there, others may clear away under a job that lives.
shared=
if [[ ${launch[0]} == *mpirun* ]]; then
    shared=$(mktemp -d /dev/shm/watchdog-XXXXXX)
    export OMPI_MCA_btl_vader_backing_directory=$shared
fi
trap 'rm -rf ${shared:+"$shared"}' EXIT

fail() {
    failures=$((failures + 1))
    echo "failed: $case_name: $1"
    [ -n "${2-}" ] && sed 's/^/    /' "$2"
}

# The processes of this job, or of one of its ranks. By their environment: under Slurm a node may number processes its own way.
# It starts no process itself: on a busy machine that would take as long as what is measured.
processes() { # [RANK]
    local path name word marked found words
    for path in /proc/[0-9]*; do
        { read -r name <"$path/comm" && [ "$name" = "${program##*/}" ] && mapfile -d '' words <"$path/environ"; } 2>/dev/null || continue
        marked='' found=''
        for word in "${words[@]}"; do
            case $word in
                "WATCHDOG_TEST=$WATCHDOG_TEST") marked=1 ;;
                "OMPI_COMM_WORLD_RANK=${1-}" | "PMI_RANK=${1-}" | "SLURM_PROCID=${1-}") found=1 ;;
            esac
        done
        if [ -n "$marked" ] && { [ -z "${1-}" ] || [ -n "$found" ]; }; then echo "${path#/proc/}"; fi
    done
}

now() { date +%s.%N; }
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.1f", to - from }'; }

start() { # MODE
    rm -f ready.* leave "$case_name".*
    "${launch[@]}" "$program" $seconds "$PWD" "$1" >"$case_name.out" 2>"$case_name.err" &
    job=$!
    local tries=0
    until [ "$(ls ready.* 2>/dev/null | wc -l)" = $ranks ]; do
        tries=$((tries + 1))
        if [ $tries -gt 600 ]; then
            fail "the job did not start within 60 s" "$case_name.err"
            kill -9 $job
            return 1
        fi
        sleep 0.1
    done
    sleep 1.2 # until rank 0 has heard of a step
}

# Waits for the end of the whole job, and checks time, status and message.
finish() { # FROM PATTERN [MPICH]
    local from=$1 pattern=$2 status
    while kill -0 $job 2>/dev/null && [ "$(since "$from" | cut -d. -f1)" -lt $((limit + 5)) ]; do sleep 0.1; done
    local launcher_time rank_time
    launcher_time=$(since "$from")
    if kill -0 $job 2>/dev/null; then
        kill -9 $job
        fail "the launcher still runs after $launcher_time s" "$case_name.err"
    fi
    wait $job
    status=$?
    while [ -n "$(processes)" ] && [ "$(since "$from" | cut -d. -f1)" -lt $((limit + 5)) ]; do sleep 0.1; done
    rank_time=$(since "$from")
    [ -z "$(processes)" ] || { fail "still alive: $(processes | xargs)"; processes | xargs -r kill -9; }
    [ "${rank_time%.*}" -lt $limit ] || fail "the job ended after $rank_time s, the limit is $limit s"
    [ $status -ne 0 ] || fail "exit status 0"
    # MPICH's mpirun kills all when one dies, sometimes before the watchdog has said so, and has its own words: on stdout.
    grep -Eq "^[^ ]*muster: $pattern" "$case_name.err" || grep -q "${3:-^none$}" "$case_name.out" ||
        fail "no message like 'muster: $pattern'" "$case_name.err"
    sed -i '/^[= ]*BAD TERMINATION/,/^=\{70,\}$/d; /^=/d; /^YOUR APPLICATION TERM/,/^Please see the FAQ/d; /^$/d' "$case_name.out"
    [ -s "$case_name.out" ] && fail "something on stdout" "$case_name.out"
    checks=$((checks + 5))
    echo "$case_name: the launcher ended after $launcher_time s, the last rank after $rank_time s, status $status:" \
        "$(grep -o 'muster: .*ending the job' "$case_name.err" | head -1)"
}

hurt() { # CASE SIGNAL RANK PATTERN
    case_name=$1
    start loop || return
    local victim from
    victim=$(processes "$3")
    from=$(now)
    kill "-$2" $victim || fail "rank $3 is process '$victim'"
    local mpich=
    [ "$2" != KILL ] || mpich='BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES'
    finish "$from" "rank $3 $who $4" "$mpich"
}

run_peace() { # MODE
    case_name=$1
    start "$1" || return
    wait $job
    local status=$?
    [ $status = 0 ] || fail "exit status $status" "$1.err"
    [ -s "$1.err" ] && fail "something on stderr" "$1.err"
    checks=$((checks + 2))
    echo "$1: status $status, nothing said"
}

# The case before was warned of in time, in words like these.
warned() { # PATTERN
    checks=$((checks + 1))
    grep -Eq "^[^ ]*muster: warning: $1; the job ends at $seconds s" "$case_name.err" ||
        fail "no warning like '$1'" "$case_name.err"
}

# Strangers at rank 0's port do no harm. The program lies beside the test's, but not in the lab, where ports are elsewhere.
run_strangers() {
    case_name=strangers
    local program_of_strangers=${program%/*}/strangers status
    [ -x "$program_of_strangers" ] || return 0
    case ${MUSTER_MPIRUN-} in *mpich) return 0 ;; esac # a rank of MPICH listens on ports of UCX, too, which strangers do harm
    start visited || return
    "$program_of_strangers" "$(processes 0)" || fail "the strangers were answered"
    touch leave
    wait $job
    status=$?
    [ $status = 0 ] || fail "exit status $status" strangers.err
    [ -s strangers.err ] && fail "something on stderr" strangers.err
    checks=$((checks + 3))
    echo "strangers: status $status, nothing said"
}

run_mode() { # MODE PATTERN
    case_name=$1
    start "$1" || return
    finish "$(now)" "$2"
}

# A job of one rank, which nobody started: its own watchdog ends it.
run_alone() {
    case_name=alone
    case ${launch[0]} in *mpirun*) ;; *) return 0 ;; esac
    local launch=() ranks=1
    start spin || return
    finish "$(now)" "rank 0 $who made no progress for [0-9.]+ s at step 20 in phase work, unit 7"
}

who='\(host [^ ]+, process [0-9]+, test device\)'
run_peace peace
run_peace cut
run_strangers
hurt kill KILL 3 'died at step [0-9]+ in phase (work|sum), where it was for [0-9.]+ s'
hurt stop STOP 2 'gave no sign of life for [0-9.]+ s .* at step [0-9]+ in phase (work|sum)'
warned "rank 2 $who has given no sign of life for [0-9.]+ s .* at step [0-9]+ in phase (work|sum); the others wait"
hurt kill_0 KILL 0 'died at step'
hurt stop_0 STOP 0 'gave no sign of life'
warned "rank 0 $who has given no sign of life for .*"
run_mode spin "rank 2 $who made no progress for [0-9.]+ s at step 20 in phase work, unit 7 \(its main thread used [0-9]+ % of a core\)"
warned "rank 2 $who has been at step 20 in phase work, unit 7 for [0-9.]+ s \(its main thread .*\); the others wait"
run_mode stuck "rank 1 $who is stuck among the others for [0-9.]+ s at step 20 in phase sum .* they wait at step 20 in phase norm"
warned "rank 1 $who has been at step 20 in phase sum for .*; the others wait"
run_alone
run_mode deadlock 'all ranks wait for each other .* rank 0 .* rank 1 \(host [^ ]+\) at step 20 in phase sum'
echo "watchdog under ${launch[*]}: $checks checks, $failures failed"
[ $failures = 0 ] && [ $checks -gt 0 ]
