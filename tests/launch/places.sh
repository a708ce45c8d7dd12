#!/usr/bin/env bash
# muster launch finds out where it is: the command that it would run in each place, and what it refuses.
#   places.sh MUSTER
set -euo pipefail
muster=$(readlink -f "$1")
. "$(dirname "$0")/launch.sh"
tiny_config tiny.yaml
stand_in mpirun 'exit 9'
stand_in ssh 'exit 0'

# ---- alone ----
expect 0 "$muster" launch tiny.yaml --dry-run
planned " train tiny.yaml"
check 'one rank needs no launcher' grep -q '^# no launcher: one rank' out
expect 0 "$muster" launch tiny.yaml --ranks 3 --dry-run --run 'a folder' --set run.steps=4 -- --tag-output
planned '-n 3 '
planned "--tag-output $muster train tiny.yaml --run 'a folder' --set run.steps=4"
expect 0 "$muster" launch tiny.yaml --ranks 64 --dry-run
planned '-n 4 '
check 'no more ranks than lanes' grep -q 'batch.lanes is 4' out
expect 0 "$muster" launch tiny.yaml --ranks 4 --dry-run -- --bind-to none
check "the user's binding" grep -q '^# no binding: your options' out
check 'none of its own' bash -c '! tail -n 1 out | grep -q -- --map-by'

# ---- hostfile ----
printf '# ours\nn1 slots=4\nn2 slots=4\n\nn3\n' >hosts
expect 0 "$muster" launch tiny.yaml --hostfile hosts --dry-run
planned '--host n1:1,n2:1,n3:1 -n 3 '
expect 0 env OMPI_MCA_orte_default_hostfile=hosts "$muster" launch tiny.yaml --dry-run
planned '--host n1:1,n2:1,n3:1 -n 3 '
expect 2 "$muster" launch tiny.yaml --hostfile nothere --dry-run
says 'nothere'
printf 'n1 slots=many\n' >wrong
expect 2 "$muster" launch tiny.yaml --hostfile wrong --dry-run
says 'hostfile wrong, line 1: expected HOST or HOST slots=N'
for line in 'n1 slots=0' 'n1 slots=-1' 'n1 slots=99999999999999999999' 'n1 slots' n1:4 n1,n2 '-x'; do
  printf '%s\n' "$line" >wrong
  expect 2 "$muster" launch tiny.yaml --hostfile wrong --dry-run
  says 'hostfile wrong, line 1: '
done

# ---- an allocation of Slurm ----
stand_in scontrol '[ "$*" != "show hostnames n[1-4]" ] || printf "n1\nn2\nn3\nn4\n"'
stand_in srun '[ "$1" != --mpi=list ] || printf "MPI plugin types are...\n\tpmix\n\tnone\n"'
slurm=(env SLURM_JOB_ID=17 'SLURM_JOB_NODELIST=n[1-4]' 'SLURM_JOB_CPUS_PER_NODE=8(x4)')
expect 0 "${slurm[@]}" "$muster" launch tiny.yaml --dry-run
planned 'srun --mpi=pmix'
planned '-N4 -n4 --nodelist n1,n2,n3,n4 --ntasks-per-node=1 --cpus-per-task=8'
expect 0 "${slurm[@]}" "$muster" launch tiny.yaml --dry-run --with mpirun
planned 'mpirun --host n1:1,n2:1,n3:1,n4:1 -n 4 '
expect 0 "${slurm[@]}" "$muster" launch tiny.yaml --dry-run --elastic 1-2
planned '-N2 -n2 --nodelist n1,n2 '
expect 2 "${slurm[@]}" "$muster" launch tiny.yaml --dry-run --elastic 5-8
says 'at least 5 nodes are wanted, but there are only 4'
stand_in srun '[ "$1" != --mpi=list ] || echo none'
expect 0 "${slurm[@]}" "$muster" launch tiny.yaml --dry-run
planned 'mpirun --host '
expect 2 "${slurm[@]}" "$muster" launch tiny.yaml --dry-run --with srun
says "'srun --mpi=list' does not name pmix"
expect 2 env SLURM_JOB_ID=17 "$muster" launch tiny.yaml --dry-run
says 'SLURM_JOB_NODELIST is not set'

# ---- refused ----
expect 2 "$muster" launch tiny.yaml --with srun
says 'this is no allocation of Slurm'
expect 2 env OMPI_COMM_WORLD_SIZE=2 "$muster" launch tiny.yaml
says 'this is a rank of mpirun'
expect 2 "$muster" launch tiny.yaml --elastic few
says 'expected MIN-MAX'
expect 2 "$muster" launch tiny.yaml --ranks 0
expect 2 "$muster" launch tiny.yaml --ranks 2 --set model.n_heads=oops
says 'model.n_heads'
expect 2 "$muster" launch nothere.yaml
says 'nothere.yaml'
for option in -n -n3 -np --ntasks=3; do
  expect 2 "$muster" launch tiny.yaml --ranks 2 -- $option 3
  says "'$option' behind '--': launch itself says how many ranks there are"
done
expect 2 "$muster" launch tiny.yaml --ranks 2 --with mpirun -- -c 3
says "'-c' behind '--': launch itself says how many ranks there are"
expect 2 "$muster" launch tiny.yaml --ranks 2 --run ''
says "launch: --run DIR is empty"
expect 2 "$muster" launch tiny.yaml --ranks 2 -- --hostfile=hosts
says 'launch itself says which nodes are used'
expect 2 "$muster" launch tiny.yaml --ranks 2 -- -N2
says 'launch itself says how many nodes are used'
expect 2 "$muster" launch tiny.yaml -- --tag-output
says 'one rank on this machine needs none'
check 'nothing was started' [ ! -e calls.mpirun ]
check 'no run folder was made' [ ! -e runs ]
finish
