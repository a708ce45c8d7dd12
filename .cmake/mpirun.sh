#!/bin/sh
# mpirun of this bundle, for one node: tells Open MPI where its parts lie now, as muster does for itself.
root=$(dirname "$(dirname "$(readlink -f "$0")")")
mpi=$root/lib/muster-mpi
export OPAL_PREFIX="$mpi" OPAL_PKGLIBDIR="$mpi/plugins" OPAL_PKGDATADIR="$mpi/texts" OPAL_SYSCONFDIR="$mpi/etc"
export PMIX_PKGLIBDIR="$mpi/pmix-plugins" PMIX_PKGDATADIR="$mpi/pmix-texts"
exec "$mpi/mpirun" "$@"
