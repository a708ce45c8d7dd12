#!/usr/bin/env bash
# Tries ./run bench-gpu out without a GPU: steps on the emulated device, kernels of the CPU, PyTorch on the CPU where it is there.
#   bench_gpu_dry.sh PYTHON CHECK_KERNELS BENCH_STEP MUSTER
set -u
python=$1 check_kernels=$2 step=$3 muster=$4
. "$(dirname "$0")/../shell.sh"
limit=240 expect 0 "$python" -B "$tests/gpu/bench_gpu.py" --dry "$check_kernels" "$step" "$muster" "$work/results.md"
check 'what is printed is what is kept' diff -q "$work/out" "$work/results.md"
prints() { check "$1" grep -qE -- "$1" "$work/results.md"; }
for operation in adamw ordered_sum {rmsnorm,layernorm,swiglu,gelu}_{forward,backward}; do
  prints "^\| $operation \|.*\| [0-9]+ % \|.*\| 0\.[89]0 \| (reached|MISSED) \|\$"
done
prints '^### tiny, with less'
check 'steps of both models' [ "$(grep -c 'TFLOP/s of causal FLOPs' "$work/results.md")" = 2 ]
check 'their memory is the planned' [ "$(grep -cE 'together [-+][0-2]\.[0-9]+ % off; bar 3 %: reached' "$work/results.md")" = 2 ]
check 'their kernels' [ "$(grep -c 'matmul [0-9.]* %' "$work/results.md")" = 2 ]
prints '^A step of one layer of 32 and 512 tokens, best of 2: logits of all 128 rows at once .*: (reached|MISSED)$'
if grep -q '^Not measured: PyTorch is missing$' "$work/results.md"; then
  check 'nothing else is missing' [ "$(grep -c '^Not ' "$work/results.md")" = 2 ]
else
  prints '^PyTorch [0-9].*, eager, sdpa, .* tokens/s, .*; muster is [0-9.]+ x$'
  attention='^\| bf16 .* heads of 64 \| (for|back)ward \| [0-9.]+ \| [0-9.]+ \| [0-9.]+ x \|'
  check 'attention beside it' [ "$(grep -cE "$attention" "$work/results.md")" = 4 ]
  check 'nothing is missing' [ "$(grep -c '^Not ' "$work/results.md")" = 0 ]
fi
[ "$failures" = 0 ] || cat "$work/results.md"
finish
