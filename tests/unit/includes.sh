#!/usr/bin/env bash
# Includes go down only: kernels/ knows neither worker/ nor coordinator/ nor MPI, NCCL, HDF5 or files; worker/ not coordinator/.
#   includes.sh SOURCE_FOLDER
set -euo pipefail
cd "$1"
failed=0 count=0

forbid() { # forbid FOLDER PATTERN WHY
  count=$((count + 1))
  local found
  found=$(grep -rnE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]$2" "$1" --include='*.[ch]' --include='*.cu' --include='*.cuh' || true)
  [ -z "$found" ] && return
  printf 'failed: %s must not include %s:\n%s\n' "$1" "$3" "$found" >&2
  failed=$((failed + 1))
}

headers_of() { (cd "$1/include/muster" && ls ./*.h) | sed 's|^\./||; s|\.|\\.|' | paste -sd'|'; }

worker=$(headers_of worker) coordinator=$(headers_of coordinator)
forbid kernels "muster/($worker|$coordinator)[\">]" "headers of worker/ or coordinator/"
forbid kernels '(mpi|nccl|hdf5|H5[A-Za-z]*|fcntl|dirent|sys/stat)\.h[">]' "MPI, NCCL, HDF5 or files"
forbid worker "muster/($coordinator)[\">]" "headers of coordinator/"

# A room's private headers are its own: nobody names another room's folder in an include.
forbid kernels '(\.\./)*(worker|coordinator)/' "by folder"
forbid worker '(\.\./)*(kernels|coordinator)/' "by folder"
forbid coordinator '(\.\./)*(kernels|worker)/' "by folder"

# Only main.c may end the process.
count=$((count + 1))
exits=$(grep -rnE '\b(exit|abort)\(' kernels worker coordinator --include='*.c' | grep -vE 'coordinator/cli/main\.c|mst_comm_abort|MPI_Abort|_exit\(|^[^:]*:[0-9]+: *(/?\*|//)' || true)
if [ -n "$exits" ]; then
  printf 'failed: libraries never exit:\n%s\n' "$exits" >&2
  failed=$((failed + 1))
fi
echo "includes: $count checks, $failed failed"
[ "$failed" -eq 0 ]
