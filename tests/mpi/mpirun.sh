#!/bin/sh
# mpirun.sh RANKS PROGRAM [ARG...]: runs a test program on this machine, also with more ranks than cores and as root.
# MUSTER_MPIRUN names the launcher of the MPI that the program was built with; ctest sets it. Exit status 77 (skipped) when
# it is not there.
ranks=$1
shift
launcher=${MUSTER_MPIRUN:-mpirun}
if ! command -v "$launcher" >/dev/null; then
    echo "skipped: no $launcher (Debian: apt-get install openmpi-bin or mpich)"
    exit 77
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # Open MPI says not even its version without
case $("$launcher" --version 2>&1) in
*"(Open MPI) 4"* | *"(OpenRTE) 4"*) set -- --oversubscribe --bind-to none --mca btl self,vader -n "$ranks" "$@" ;; # few parts: starts sooner
*"Open MPI"* | *OpenRTE* | *PRRTE*) set -- --oversubscribe --bind-to none -n "$ranks" "$@" ;;
*) set -- -n "$ranks" "$@" ;; # MPICH
esac
exec "$launcher" "$@"
