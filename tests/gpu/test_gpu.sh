#!/usr/bin/env bash
# What only a GPU can show, in under 8 minutes: every kernel against the specification, every family's loss and gradients against
# the CPU's, the program's training on it, NCCL, the plan's bytes, and NVIDIA's compute-sanitizer. A part that cannot run is
# skipped and says why; without a GPU all are.
#   test_gpu.sh [--quick] CHECK_KERNELS CHECK_MODEL MUSTER: with --quick on the emulated device, which is slow
set -euo pipefail
quick=
if [ "$1" = --quick ]; then quick=quick; shift; fi
check_kernels=$1 check_model=$2 muster=$3
tests=$(cd "$(dirname "$0")/.." && pwd)
passed=0 failed=0 skipped=0
all_seconds=470

part() { # part NAME SECONDS COMMAND...
  local name=$1 seconds=$2 start=$SECONDS code=0
  shift 2
  if [ -n "$quick" ]; then # the emulated device is slow, and machines are shared: ctest has a limit
    seconds=1000
  elif [ $((all_seconds - SECONDS)) -lt "$seconds" ]; then
    seconds=$((all_seconds - SECONDS))
  fi
  echo "== $name"
  if [ "$seconds" -le 0 ]; then
    code=1
    echo "the time of all parts was up before it"
  else
    timeout -k 10 "$seconds" "$@" || code=$?
  fi
  case $code in
    0) passed=$((passed + 1)) ;;
    77) skipped=$((skipped + 1)) ;;
    *) failed=$((failed + 1)); echo "failed: $name: exit code $code" ;;
  esac
  echo "== $name: $((SECONDS - start)) s"
}

sanitized() { # sanitized TOOL COMMAND...: a command under a tool
  local tool=$1
  shift
  if ! command -v compute-sanitizer >/dev/null; then
    echo "skipped: compute-sanitizer is not in the PATH (it comes with the CUDA toolkit)"
    return 77
  fi
  compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 5 "$@" >"$log" 2>&1 || {
    tail -n 40 "$log"
    return 1
  }
  tail -n 3 "$log"
}

program() { # program COMMAND...: a test of the program, where it starts
  if ! "$muster" --version >/dev/null 2>&1; then
    echo "skipped: $muster does not start here: $("$muster" --version 2>&1 | tail -n 1)"
    return 77
  fi
  "$@"
}

PATH=$PATH:/usr/local/cuda/bin # compute-sanitizer
sanitize() { # sanitize TOOL OPERATION: the checker's trials of one operation under a tool; it knows GPUs alone
  [ -n "$quick" ] || part "$1 $2" 60 bash -c 'sanitized "$@"' - "$1" "$check_kernels" --table cuda --op "$2" --seed 1
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
export -f sanitized program
export muster log
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
if [ -n "$quick" ]; then
  part 'kernels: casts' 60 "$check_kernels" --table cuda --op cast # the test check_kernels_emulated has all
else
  part 'kernels' 150 "$check_kernels" --table cuda
fi
if [ "$failed" = 0 ] && [ "$passed" = 0 ]; then
  echo "test-gpu: nothing passed, all skipped: no GPU"
  exit 77
fi
part 'families' 100 "$check_model"
part 'training' 220 bash -c 'program "$@"' - "$tests/train/gpu.sh" "$muster" $quick
part 'nccl' 60 bash -c 'program "$@"' - "$tests/gpu/nccl_one_gpu.sh" "$muster"
part 'plan' 60 bash -c 'program "$@"' - "$tests/gpu/plan.sh" "$muster" $quick
for operation in cross_entropy layernorm_backward embedding_backward ordered_sum; do
  sanitize memcheck $operation
  sanitize racecheck $operation
done
sanitize memcheck attention_backward
for operation in attention_forward rmsnorm_backward; do sanitize racecheck $operation; done
[ -n "$quick" ] || part 'memcheck families' 60 bash -c 'sanitized "$@"' - memcheck "$check_model"
echo "test-gpu: $passed passed, $failed failed, $skipped skipped, $SECONDS s"
[ "$failed" = 0 ]
