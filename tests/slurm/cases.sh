#!/usr/bin/env bash
# shellcheck disable=SC2031
# Inside the lab: each case is one run of the same config under something that happens on a cluster. It ends with the digest
# of a run that nothing disturbed, and says how many steps were computed twice.
#   cases.sh [CASE...]
set -uo pipefail
export PATH=$PWD:/usr/sbin:$PATH MUSTER=$PWD/muster
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_mpi_yield_when_idle=1 # four nodes share this machine's cores
id='' # set by submit
# shellcheck source-path=SCRIPTDIR
. ./helpers.sh

# ---- started as the files in configs/slurm start it ----

plain() { # plain SCRIPT NODES
    submit "$1" --nodes="$2"
    finished
}
case_srun_1_node() { plain srun-1node 1; }
case_srun_2_nodes() { plain srun-nodes 2; }
case_srun_4_nodes() { plain srun-nodes 4; }
case_mpirun_1_node() { plain mpirun-1node 1; }
case_mpirun_2_nodes() { plain mpirun-nodes 2; }
case_mpirun_4_nodes() { plain mpirun-nodes 4; }

# ---- what somebody asks for ----

# USR1 to the batch shell alone, five times; Slurm queues the job again each time, and it goes on where it was.
case_requeued_five_times() {
    local i before=0
    submit srun-nodes --nodes=2 -- --set run.steps=500
    for i in 1 2 3 4 5; do
        reaches $((before + 3))
        scancel --batch --signal=USR1 "$id"
        starts_again "$i"
        before=$(newest_step)
    done
    finished middle
    at_most 0
}

# As early as can be: the job has just begun, training has not.
case_usr1_at_once() {
    submit srun-1node -- --set run.steps=500
    within 500 has_begun
    scancel --batch --signal=USR1 "$id"
    starts_again 1
    finished middle
    at_most 0
}
case_usr1_at_once_mpirun() {
    submit mpirun-1node -- --set run.steps=500
    within 500 has_begun
    scancel --batch --signal=USR1 "$id"
    starts_again 1
    finished middle
    at_most 0
}

# Slurm's own word to all ranks.
case_usr2_to_ranks() {
    submit srun-nodes --nodes=2
    reaches 50
    scancel --signal=USR2 "$id.0"
    starts_again 1
    finished
    at_most 0
}

# The user does not want the job any more: it ends, with a checkpoint, and stays away. Submitted again it goes on.
case_scancel() {
    submit srun-nodes --nodes=2
    reaches 50
    scancel "$id"
    within 60 is_gone
    steady_gone
    says 'stopped by SIGTERM'
    submit srun-nodes --nodes=2
    finished
    at_most 0
}
case_scancel_mpirun() {
    submit mpirun-nodes --nodes=2
    reaches 50
    scancel "$id"
    within 60 is_gone
    steady_gone
    submit mpirun-nodes --nodes=2
    finished
    at_most 20
}

# By 'muster submit', in folders whose names a shell could misread.
case_submitted() {
    mkdir -p "sub mit/a'b%j"
    (cd "sub mit" && muster submit ../tiny.yaml --time 10 --nodes 2-4 --run "a'b%j/run" --name "$name" --set train.z_loss=0 \
        -- --comment="a 'b' \"c\"") >submitted || fail 'muster submit failed'
    cat submitted
    id=$(sed -n 's/^submitted job \([0-9]*\):.*/\1/p' submitted)
    ln -s "../sub mit/a'b%j/run" "runs/$name"
    out="runs/$name/job-$id.out"
    grep -qF "output   $PWD/sub mit/a'b%j/run/job-$id.out" submitted || fail 'where the output goes'
    reaches 50
    scontrol show job "$id" | grep -qF "Comment=a 'b' \"c\"" || fail 'an option behind -- did not reach sbatch'
    scancel --batch --signal=USR1 "$id"
    starts_again 1
    finished
    at_most 0
}
# What sbatch refuses.
case_submit_refused() {
    local code=0
    muster submit tiny.yaml --time 10 --partition nowhere --run "runs/$name" >refused 2>&1 || code=$?
    cat refused
    [ $code = 2 ] || fail "exit code $code, not 2"
    grep -q 'sbatch refused the job, for the reason above' refused || fail 'no reason'
    submit srun-1node
    finished
}

# ---- the end of the job's time ----

# The limit is a minute, the least that Slurm knows; training takes longer. Without any signal muster knows it from Slurm. Once
# it goes on it is ended, and compared with a run of as many steps.
case_time_is_up() {
    submit srun-1node-nosignal --time=1 -- --set run.steps=1000000 --set checkpoint.every=1000
    starts_again 1
    says "stopped before the job's end at"
    cut_here
    at_most 0
}
# A signal that comes a minute before the end, which is at once: on a busy machine perhaps before training has begun, and then
# at the next start again.
case_time_signal_early() {
    submit srun-1node --time=1 --signal=B:USR1@60 -- --set run.steps=1000000 --set checkpoint.every=1000
    within 500 has_said 'stopped by SIGUSR1'
    starts_again "$(grep -c ', start [0-9]*$' "$out")"
    cut_here
    at_most 0
}
# When muster has already stopped by itself.
case_time_signal_late() {
    submit srun-1node-nosignal --time=1 -- --set run.steps=1000000 --set checkpoint.every=1000
    within 500 grep -qsF "stopped before the job's end at" "$out"
    scancel --batch --signal=USR1 "$id" || echo 'the job is back in the queue already'
    starts_again 1
    cut_here
    at_most 0
}

# ---- preemption ----

preempt() { # takes all nodes for a moment by the partition with the higher priority
    sbatch --parsable -p high -N4 --exclusive -t 1 -o /dev/null --wrap true >/dev/null
}
# With GraceTime the ranks get TERM at once, the batch shell nothing.
case_preempted_srun() {
    submit srun-nodes-nosignal --nodes=4
    reaches 50
    preempt
    starts_again 1
    says 'stopped by SIGTERM'
    finished
    at_most 0
}
# PreemptParameters of the lab: the user signal, to the batch shell, comes in place of TERM.
case_preempted_user_signal() {
    submit srun-nodes --nodes=4
    reaches 50
    preempt
    starts_again 1
    says 'stopped by SIGUSR1'
    finished
    at_most 0
}
case_preempted_mpirun() {
    submit mpirun-nodes --nodes=4
    reaches 50
    preempt
    starts_again 1
    says 'stopped by SIGUSR1'
    finished
    at_most 0
}
# TERM ends mpirun's own helpers on the nodes; what the ranks save before is not sure.
case_preempted_mpirun_term() {
    submit mpirun-nodes-nosignal --nodes=4
    reaches 50
    preempt
    starts_again 1
    finished
    at_most 20
}

# ---- what breaks ----

# A rank is killed. The batch script queues the job again, since there is a newer checkpoint than when it began.
rank_killed() { # rank_killed SCRIPT
    submit "$1" --nodes=4
    reaches 55
    kill -KILL "$(rank_process 2)" || fail 'no rank 2 to kill'
    starts_again 1
    finished
    at_most 20
}
case_rank_killed_srun() { rank_killed srun-nodes; }
case_rank_killed_mpirun() { rank_killed mpirun-nodes; }

case_slurmctld_restarted() {
    submit srun-nodes --nodes=4
    reaches 40
    kill "$(cat /run/slurmctld.pid)"
    within 30 no_slurmctld
    reaches 80
    slurmctld
    within 30 scontrol ping >/dev/null
    finished
    at_most 0
}

# Something happens to a node of four: Slurm queues the job again, and it goes on with three. The node comes back: with four.
loses_a_node() { # loses_a_node STEPS DIES STARTS: how long the run is; what is done to the node, and what brings it back
    local last before
    submit srun-nodes --nodes=3-4 -- --set run.steps="$1"
    reaches 50
    within 1 runs_on 4
    last=$(scontrol show hostnames "$(squeue -h -j "$id" -o %N)" | tail -n 1)
    "$2" "${last#n}"
    starts_again 1
    within 300 goes_on_with 3
    reaches $(($(newest_step) + 30))
    "$3" "${last#n}"
    within 60 all_nodes idle,alloc
    before=$(restarts)
    scancel --batch --signal=USR1 "$id"
    starts_again $((before + 1))
    within 300 last_start_with 4
}
# With all that is on it.
case_node_dies() {
    loses_a_node 200 node_dies node_starts
    finished
    at_most 20
}
# Only Slurm's daemon there: the ranks go on until Slurm misses it (SlurmdTimeout), and its own rank must not write beside those
# of the next start.
case_slurmd_dies() {
    loses_a_node 1000000 slurmd_dies slurmd_starts
    cut_here
    at_most 20
}

# The same by 'muster launch', which 'muster submit' uses: it starts the ranks again itself, Slurm's queue is not asked.
by_launch() { # by_launch NODES
    (muster submit tiny.yaml --time 10 --nodes "$1" --run "runs/$name" --name "$name") >submitted || fail 'muster submit failed'
    id=$(sed -n 's/^submitted job \([0-9]*\):.*/\1/p' submitted)
    out="runs/$name/job-$id.out"
    grep -q ' launch ' "runs/$name/job.sbatch" || fail "the script does not use 'muster launch'"
}
case_launch_rank_killed() {
    by_launch 4
    reaches 55
    kill -KILL "$(rank_process 2)" || fail 'no rank 2 to kill'
    finished
    [ "$(restarts)" = 0 ] || fail 'Slurm was asked'
    at_most 20
}
case_launch_node_dies() {
    local last
    by_launch 2-4
    reaches 50
    within 1 runs_on 4
    last=$(scontrol show hostnames "$(squeue -h -j "$id" -o %N)" | tail -n 1)
    node_dies "${last#n}"
    within 300 goes_on_with 3
    reaches 90
    node_starts "${last#n}"
    within 60 all_nodes idle,alloc
    local before
    before=$(restarts)
    scancel --batch --signal=USR1 "$id"
    starts_again $((before + 1))
    finished
    last_start_with 4 || fail 'the last start was not on four nodes'
    at_most 20
}

# A job that Slurm leaves alone when a node dies: launch goes on with the other nodes.
case_launch_keeps_the_job() {
    id=$(sbatch --parsable --job-name="$name" --time=10 --nodes=4 --exclusive --no-kill -o "$name.out" --wrap "./muster launch tiny.yaml --run runs/$name") ||
        fail 'sbatch refused the job'
    out=$name.out
    reaches 50
    node_dies 4
    within 200 goes_on_with 3
    finished
    [ "$(restarts)" = 0 ] || fail 'Slurm was asked'
    node_starts 4
    within 60 all_nodes idle
    at_most 20
}

# ---- several kinds of nodes in one job ----

case_heterogeneous() {
    het=yes submit het
    finished
}
case_heterogeneous_colon() {
    het=yes submit het-colon
    finished
}

main "$@"
