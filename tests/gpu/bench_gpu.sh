#!/usr/bin/env bash
# Times every CUDA body beside what the GPU reaches in the same run (a copy in device memory, a large matrix product).
#   bench_gpu.sh CHECK_KERNELS RESULTS.md: prints the table and adds it, with date, GPU, driver and commit, to RESULTS.md
set -euo pipefail
check_kernels=$1 results=$2
out=$(mktemp)
trap 'rm -f "$out"' EXIT
code=0
"$check_kernels" --table cuda --bench | tee "$out" || code=$?
[ "$code" = 0 ] || exit "$code"
{
  echo
  echo "## $(date -u +%Y-%m-%d), $(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)"
  echo
  echo "Driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)."
  echo "Command: \`check_kernels --table cuda --bench\`. Bytes are counted, not measured; percentages are of the peaks in the first lines."
  echo
  sed 's/^/    /' "$out"
} >>"$results"
