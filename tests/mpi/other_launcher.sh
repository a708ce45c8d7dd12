#!/usr/bin/env bash
# other_launcher.sh MUSTER: started by the launcher of another MPI than it was built with, muster refuses; else each rank would
# do the whole job.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
cd "$work" || exit 1
echo "some text, and more of it, to make tokens of" >text.txt
expect 0 "$muster" data build text.txt -o tokens.h5
tiny_config config.yaml

# What the launchers of both MPIs set, and no launcher.
if ldd "$muster" | grep -q libmpich; then
  other=mpirun.openmpi
  expect 2 env OMPI_COMM_WORLD_SIZE=3 OMPI_COMM_WORLD_RANK=0 "$muster" train config.yaml
  says 'built with MPICH'
else
  other=mpiexec.mpich
  expect 2 env PMI_SIZE=3 PMI_RANK=0 MPI_LOCALNRANKS=3 "$muster" train config.yaml
  says 'built with Open MPI'
fi
says 'mpirun started 3 ranks, but MPI finds no other rank'
check "nothing is left" [ ! -e runs ]

if command -v "$other" >/dev/null; then
  MUSTER_MPIRUN=$other expect 2 ranks 2 "$muster" train config.yaml
  says 'mpirun started 2 ranks, but MPI finds no other rank'
  check "nothing is left" [ ! -e runs ]
  check "said once" [ "$(grep -c 'finds no other rank' err)" = 1 ]
fi
expect 0 ranks 2 "$muster" train config.yaml
finish
