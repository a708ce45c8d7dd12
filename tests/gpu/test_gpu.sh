#!/usr/bin/env bash
# What only a GPU can show: every kernel against the specification, every family's loss and gradients against the CPU's, the
# program's training on it, NCCL, the plan's bytes, and NVIDIA's compute-sanitizer. A part that cannot run is skipped and says
# why; without a GPU all are.
#   test_gpu.sh [--quick | --seconds N] CHECK_KERNELS CHECK_MODEL MUSTER [PART...]: --quick: on the emulated device, which is slow;
#   --seconds: for all parts together. PART: kernels, families, training, nccl, plan, sanitizer; none: all
set -euo pipefail
quick='' all_seconds=465
case $1 in
  --quick) quick=quick; shift ;;
  --seconds) all_seconds=$2; shift 2 ;;
esac
check_kernels=$1 check_model=$2 muster=$3
shift 3
known=(kernels families training nccl plan sanitizer)
for name in "$@"; do
  [[ " ${known[*]} " == *" $name "* ]] || { echo "test-gpu: no part '$name'; there are ${known[*]}" >&2; exit 2; }
done
wanted=" ${*:-${known[*]}} "
wants() { [[ $wanted == *" $1 "* ]]; }
tests=$(cd "$(dirname "$0")/.." && pwd)
passed=0 failed=0 skipped=0 cut=0

part() { # part NAME SECONDS COMMAND...
  local name=$1 seconds=$2 start=$SECONDS code=0
  shift 2
  if [ -n "$quick" ]; then # the emulated device is slow, and machines are shared: ctest has a limit
    seconds=1000
  elif [ $((all_seconds - SECONDS)) -lt "$seconds" ]; then
    seconds=$((all_seconds - SECONDS))
  fi
  echo "== $name"
  if [ "$seconds" -gt 0 ]; then
    timeout -k 10 "$seconds" "$@" & # a group of its own, of which nothing is left when its time is up
    child=$!
    wait "$child" || code=$?
  else
    code=1
  fi
  if [ "$code" = 0 ]; then
    passed=$((passed + 1))
  elif [ "$code" = 77 ]; then
    skipped=$((skipped + 1))
  elif [ $((SECONDS - start)) -ge "$seconds" ]; then
    cut=$((cut + 1))
    echo "not finished: $name: its time was up"
  else
    failed=$((failed + 1))
    echo "failed: $name: exit code $code"
  fi
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
    if grep -q 'Device not supported' "$log"; then
      echo "skipped: compute-sanitizer does not support this device, as where a virtual machine keeps its counters away"
      return 77
    fi
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
sanitize() { # sanitize TOOL OPERATION: the checker's trials of one operation under a tool
  part "$1 $2" 60 bash -c 'sanitized "$@"' - "$1" "$check_kernels" --table cuda --op "$2" --seed 1
}

log=$(mktemp)
child=
trap 'rm -f "$log"' EXIT
trap 'kill $child 2>/dev/null; exit 130' INT TERM # that of the part that goes on
export -f sanitized program
export muster log
command -v nvidia-smi >/dev/null && timeout -k 5 30 nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || true
# Whether there is a GPU that the program can use is seen by one operation.
part 'kernels: casts' 60 "$check_kernels" --table cuda --op cast
if [ "$skipped" = 1 ]; then
  echo "test-gpu: nothing passed, all skipped: no GPU that this program can use"
  exit 77
fi
if wants kernels && [ -z "$quick" ]; then part 'kernels' 150 "$check_kernels" --table cuda; fi # emulated: check_kernels_emulated
if wants families; then part 'families' 100 "$check_model"; fi
if wants training; then part 'training' 220 bash -c 'program "$@"' - "$tests/train/gpu.sh" "$muster" $quick; fi
if wants nccl; then part 'nccl' 60 bash -c 'program "$@"' - "$tests/gpu/nccl_one_gpu.sh" "$muster"; fi
if wants plan; then part 'plan' 60 bash -c 'program "$@"' - "$tests/gpu/plan.sh" "$muster" $quick; fi
if wants sanitizer && [ -z "$quick" ]; then # it knows GPUs alone
  for operation in cross_entropy layernorm_backward embedding_backward ordered_sum; do
    sanitize memcheck $operation
    sanitize racecheck $operation
  done
  sanitize memcheck attention_backward
  for operation in attention_forward rmsnorm_backward; do sanitize racecheck $operation; done
  part 'memcheck families' 60 bash -c 'sanitized "$@"' - memcheck "$check_model"
fi
echo "test-gpu: $passed passed, $failed failed, $cut not finished, $skipped skipped, $SECONDS s"
[ "$((failed + cut))" = 0 ]
