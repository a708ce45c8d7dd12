# shellcheck shell=bash
# For cases.sh: a case runs in a subshell with a run folder and a log of its own.

# A case that is alone on all nodes, or stops something that others need, is not run beside others.
beside='srun_1_node srun_2_nodes srun_4_nodes mpirun_1_node mpirun_2_nodes mpirun_4_nodes requeued_five_times usr1_at_once
usr1_at_once_mpirun usr2_to_ranks scancel scancel_mpirun submitted submit_refused time_is_up time_signal_early time_signal_late'
alone='heterogeneous heterogeneous_colon preempted_srun preempted_user_signal preempted_mpirun preempted_mpirun_term rank_killed_srun rank_killed_mpirun
slurmctld_restarted node_dies slurmd_dies launch_rank_killed launch_node_dies launch_keeps_the_job'

fail() {
    echo "failed: $*"
    exit 1
}

# The seconds are for a job that waits in the queue behind others, on a machine that is busy with something else.
within() { # within SECONDS COMMAND...: waits until the command succeeds
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $until ] || fail "not in time: $*"
        sleep 0.1
    done
}

# submit SCRIPT [SBATCH OPTION...] [-- MUSTER OPTION...]: sets id
submit() {
    local script=$1 options=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    [ $# -eq 0 ] || shift
    id=$(sbatch --parsable --job-name="$name" --time=10 "${options[@]}" "$script.sbatch" tiny.yaml "runs/$name" "$@") ||
        fail 'sbatch refused the job'
    out=$name-$id.out
}

steps_of() { grep -c '"loss_bits"' "runs/$name/metrics.jsonl" 2>/dev/null || true; }
newest_step() { tail -n 1 "runs/$name/metrics.jsonl" 2>/dev/null | sed -n 's/.*"step":\([0-9]*\).*/\1/p'; }
has_reached() { [ "$(newest_step)" -ge "$1" ] 2>/dev/null; }
reaches() { within 500 has_reached "$1"; }
state() { squeue -h -j "$id" -o %T 2>/dev/null | head -n 1; }
is_running() { [ "$(state)" = RUNNING ]; }
has_begun() { grep -q ', start 1$' "$out" 2>/dev/null; } # the batch shell listens
is_gone() { [ -z "$(state)" ] || [ "$(state)" = CANCELLED ] || [ "$(state)" = COMPLETED ]; }
runs_on() { [ "$(squeue -h -j "$id" -t R -o %D)" = "$1" ]; }
restarts() { scontrol show job -o "$id" | sed -n 's/.* Restarts=\([0-9]*\).*/\1/p'; }
has_restarted() { [ "$(restarts)" -ge "$1" ] 2>/dev/null && is_running; }
goes_on_with() { grep -q "; $1 ranks" "$out"; } # goes_on_with RANKS: a start of the program had so many
last_start_with() { [ "$(grep -o '; [0-9]* ranks' "$out" | tail -n 1)" = "; $1 ranks" ]; }
starts_again() { within 500 has_restarted "$1"; } # starts_again NUMBER: Slurm has started the job again
all_nodes() { [ "$(sinfo -h -p low -t "$1" -N -o %N | wc -l)" = 4 ]; } # all_nodes STATES: all four are in one of them
no_slurmctld() { ! pgrep -x slurmctld >/dev/null; }
has_said() { grep -qF -- "$1" "$out"; }
says() { grep -qF -- "$1" "$out" || fail "the output does not say '$1'"; }

# A job that somebody cancelled stays away: its batch script may ask for it again, Slurm says no.
steady_gone() {
    local until=$((SECONDS + 3))
    while [ $SECONDS -lt $until ]; do
        sleep 0.2
        [ "$(squeue -h -j "$id" -t R,PD -o %T 2>/dev/null)" = '' ] || fail "the cancelled job is back: $(state)"
    done
}

is_over() { digest_printed || is_gone; }
digest_printed() { grep -q '^weights' "$out" 2>/dev/null; }

# The run ends with the digest of one that nothing disturbed.
finished() { # finished [middle]; out is the job's output
    local want=${1:-short}
    within 500 is_over
    within 60 is_gone
    [ "$(grep '^weights' "$out")" = "$(cat "digest.$want")" ] || fail "another digest: $(grep '^weights' "$out")"
}

# Ends a run that would go on for very long, and compares it with one of as many steps that nothing disturbed.
cut_here() {
    local before=$(($(newest_step) + 3)) steps
    reaches "$before"
    scancel "$id"
    within 60 is_gone
    steps=$(find "runs/$name/checkpoints" -name 'step-*' | sort | tail -n 1 | sed 's/.*step-0*//')
    [ "$steps" -ge "$before" ] || fail "no checkpoint after step $before"
    reference "$name" "$steps"
    [ "$("$MUSTER" verify "runs/$name")" = "$(cat "digest.$name")" ] || fail "another digest: $("$MUSTER" verify "runs/$name")"
}

# Steps that a resume went back over.
lost() {
    jq -Rn '[inputs | fromjson?] | reduce .[] as $e ({at: 0, lost: 0};
        if $e.event == "resume" then .lost += ([.at - $e.step, 0] | max) | .at = $e.step
        elif $e.event == "step" then .at = $e.step else . end) | .lost' "runs/$name/metrics.jsonl"
}
at_most() { [ "$(lost)" -le "$1" ] || fail "$(lost) steps lost, not at most $1"; }

rank_process() { # rank_process RANK: its number here
    local pid
    for pid in $(pgrep -f "muster train .*runs/$name( |$)"); do
        tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qxE "(PMIX_RANK|OMPI_COMM_WORLD_RANK)=$1" &&
            [ "$(basename "$(readlink "/proc/$pid/exe")")" = muster ] && echo "$pid" && return
    done
}

node_dies() { kill -KILL "$(cat "/run/node.$1.pid")"; } # number 1 of the node's processes: all of them end with it
slurmd_dies() { kill -KILL "$(pgrep -fx "slurmd -D -N n$1")"; } # alone: what it has started lives on
slurmd_starts() { bash -eu /run/slurmd.sh "$1"; }
node_starts() { bash -eu /run/node.sh "$1"; }

# ---- the whole ----

run_case() { # run_case NAME: in a subshell; its last line is the result
    (
        name=$1
        begin=$SECONDS
        exec >"log/$name" 2>&1
        "case_$name"
        echo "ok   $name: same digest, $(lost) steps lost, $((SECONDS - begin)) s"
    )
    local status=$?
    tail -n 1 "log/$1" | grep '^ok ' || {
        echo "FAILED $1 (status $status):"
        sed 's/^/    | /' "log/$1"
        tail -n 25 "$1"-*.out 2>/dev/null | sed 's/^/    | /'
        squeue | sed 's/^/    | /'
        scancel --name="$1" 2>/dev/null
        return 1
    }
}

reference() { # reference KIND STEPS: what a run that nothing disturbs gives
    "$MUSTER" train tiny.yaml --run "runs/reference-$1" --set "run.steps=$2" --set checkpoint.every=0 2>/dev/null | grep ^weights >"digest.$1"
}

among() { grep -qwF -- "$2" <<<"$1"; }

main() {
    local wanted=${*:-$beside $alone} failed=0 cases=0 pids=() pid case
    mkdir -p log runs
    reference short 200
    reference middle 500
    if ! "$MUSTER" launch --help >/dev/null 2>&1; then
        echo "skipped launch_rank_killed, launch_node_dies: this muster has no 'launch'"
        wanted=$(tr ' ' '\n' <<<"$wanted" | grep -v '^launch_')
    fi
    for case in $wanted; do
        cases=$((cases + 1))
        among "$beside" "$case" || continue
        run_case "$case" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=$((failed + 1)); done
    for case in $wanted; do
        among "$alone" "$case" || continue
        (within 120 all_nodes idle)
        run_case "$case" || failed=$((failed + 1))
    done
    echo "slurm: $cases cases, $failed failed, $SECONDS s"
    [ "$failed" = 0 ]
}
