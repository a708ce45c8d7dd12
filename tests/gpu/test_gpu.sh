#!/usr/bin/env bash
# What only a GPU can show, in under 8 minutes: the kernel checker with the CUDA bodies, the program's training on it, and
# NVIDIA's compute-sanitizer. A part that cannot run is skipped and says why; without a GPU all are.
#   test_gpu.sh CHECK_KERNELS MUSTER
set -euo pipefail
check_kernels=$1 muster=$2
tests=$(cd "$(dirname "$0")/.." && pwd)
passed=0 failed=0 skipped=0

part() { # part NAME SECONDS COMMAND...
  local name=$1 seconds=$2 start=$SECONDS code=0
  shift 2
  echo "== $name"
  timeout "$seconds" "$@" || code=$?
  case $code in
    0) passed=$((passed + 1)) ;;
    77) skipped=$((skipped + 1)) ;;
    *) failed=$((failed + 1)); echo "failed: $name: exit code $code" ;;
  esac
  echo "== $name: $((SECONDS - start)) s"
}

sanitized() { # sanitized TOOL OPERATION: the checker's trials of one operation under a tool
  if ! command -v compute-sanitizer >/dev/null; then
    echo "skipped: compute-sanitizer is not in the PATH (it comes with the CUDA toolkit)"
    return 77
  fi
  compute-sanitizer --tool "$1" --error-exitcode 9 --print-limit 5 "$check_kernels" --table cuda --op "$2" --seed 1 >"$log" 2>&1 || {
    tail -n 40 "$log"
    return 1
  }
  tail -n 3 "$log"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
part 'kernels' 150 "$check_kernels" --table cuda
if [ "$failed" = 0 ] && [ "$passed" = 0 ]; then
  echo "test-gpu: nothing passed, all skipped: no GPU"
  exit 77
fi
training() {
  if ! "$muster" --version >/dev/null 2>&1; then
    echo "skipped: $muster does not start here: $("$muster" --version 2>&1 | tail -n 1)"
    return 77
  fi
  "$tests/train/gpu.sh" "$muster"
}
export -f training
export muster tests
part 'training' 150 bash -c training
export -f sanitized
export check_kernels log
for operation in cross_entropy layernorm_backward embedding_backward ordered_sum; do
  part "memcheck $operation" 45 bash -c "sanitized memcheck $operation"
  part "racecheck $operation" 45 bash -c "sanitized racecheck $operation"
done
part 'memcheck attention_backward' 60 bash -c 'sanitized memcheck attention_backward'
echo "test-gpu: $passed passed, $failed failed, $skipped skipped, $SECONDS s"
[ "$failed" = 0 ]
