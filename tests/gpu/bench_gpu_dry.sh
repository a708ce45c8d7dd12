#!/usr/bin/env bash
# Tries ./run bench-gpu out without a GPU: steps on the emulated device, kernels of the CPU, PyTorch on the CPU where it is there;
# and what it says of stand-ins for PyTorch.
#   bench_gpu_dry.sh PYTHON CHECK_KERNELS BENCH_STEP MUSTER
set -u
python=$1 check_kernels=$2 step=$3 muster=$4
. "$(dirname "$0")/../shell.sh"
limit=240 expect 0 "$python" -B "$tests/gpu/bench_gpu.py" --dry "$check_kernels" "$step" "$muster" "$work/results.md"
check 'what is printed is what is kept' diff -q "$work/out" "$work/results.md"
prints() { check "$1" grep -qE -- "$1" "$work/results.md"; }
count() { check "$1: $2" [ "$(grep -cE -- "$2" "$work/results.md")" = "$1" ]; }
for operation in adamw ordered_sum {rmsnorm,layernorm,swiglu,gelu}_{forward,backward}; do
  prints "^\| $operation \|.*\| [0-9]+ % \|.*\| 0\.[89]0 \| (reached|MISSED) \|\$"
done
prints '^### tiny Llama, with less'
prints 'batch.micro 1, weights bf16, gradients and masters f32, moments bf16, train.recompute full,'
count 2 'TFLOP/s of causal FLOPs'
count 2 'together [-+][0-2]\.[0-9]+ % off; bar 3 %: reached'
count 2 'matmul [0-9.]* %'
prints '^A step of one layer of 32 and 512 tokens, best of 2: logits of all 128 rows at once .*: (reached|MISSED)$'
paper='no figure on paper \| 0\.4[08] \| not judged'
if grep -q '^Not measured: PyTorch is missing (' "$work/results.md"; then
  count 1 '^Not '
  count 2 "^\| tiny.* \| $paper \| PyTorch is missing \(.*\) \| 1.00 \| not judged \| not judged \|\$"
else
  torch='^PyTorch [0-9].*, eager, microbatches of' numbers='sdpa .* AdamW; weights, gradients and moments'
  prints "$torch 2, nothing computed again, $numbers f32, autocast to bf16\. .* 256 tokens"
  prints "$torch 1, layers computed again, $numbers bf16, no masters\. .* 64 tokens"
  count 2 '^- muster is [0-9.]+ x; bar 1.00 x the best so far: (reached|MISSED)$'
  count 2 "^\| tiny.* \| $paper \| [0-9.]+ x: eager, .* \| 1.00 \| (reached \| not judged|MISSED \| MISSED: beside PyTorch) \|\$"
  count 4 '^\| bf16 .* heads of 64 \| (for|back)ward \| [0-9.]+ \| own \| [0-9.]+ \| [0-9.]+ x \|'
  count 0 '^Not '
fi
[ "$failures" = 0 ] || cat "$work/results.md"

# A machine with neither a build nor a bundle, and nothing to build.
mkdir -p "$work/bare/tests/gpu"
cp "$tests/../run" "$work/bare"
cp "$tests/gpu/libraries.sh" "$work/bare/tests/gpu"
expect 1 "$work/bare/run" bench-gpu --seconds 9
says 'run: not built within '

oracles=${MUSTER_ORACLES:-$HOME/.cache/muster/oracles}/bin/python
if [ -x "$oracles" ]; then python=$oracles; fi
limit=150 expect 0 "$python" -B "$tests/gpu/check_peers.py"
finish
