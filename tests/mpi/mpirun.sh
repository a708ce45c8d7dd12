#!/bin/sh
# mpirun.sh RANKS PROGRAM [ARG...]: runs a test program on this machine, also with more ranks than cores and as root.
# Exit status 77 (skipped) when there is no mpirun.
ranks=$1
shift
if ! command -v mpirun >/dev/null; then
    echo "skipped: no mpirun (Debian: apt-get install openmpi-bin)"
    exit 77
fi
case $(mpirun --version 2>&1) in
*"Open MPI) 4"*) set -- --oversubscribe --bind-to none --mca btl self,vader -n "$ranks" "$@" ;; # few parts: starts sooner
*"Open MPI"*) set -- --oversubscribe --bind-to none -n "$ranks" "$@" ;;
*) set -- -n "$ranks" "$@" ;;
esac
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
exec mpirun "$@"
