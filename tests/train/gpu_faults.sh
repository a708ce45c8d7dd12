#!/usr/bin/env bash
# A GPU whose memory is short, or that fails: what is said, and with what advice.
#   gpu_faults.sh MUSTER: on the emulated device
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

printf 'It was the best of times, it was the worst of times. %.0s' 1 2 3 4 5 6 7 8 >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml"
sed -i -e 's/n_layers: 2/n_layers: 1/' -e 's/device: {/&kernels: cuda, /' -e 's/micro: 2/micro: 64/' "$work/tiny.yaml"

# Memory: what is advised helps. The matrix library's workspace of 32 MiB, which comes first, leaves too little for activations.
export MST_EMULATED_BYTES=55000000
expect 1 "$muster" train "$work/tiny.yaml" --run "$work/short" --set run.steps=1 --set batch.lanes=1 --set batch.micro=256
says ' bytes on GPU 0000:01:00.0: '
says ' of its 55000000 bytes are free; '
says "'muster plan' advises --set batch.micro=128 --set batch.leaf=2 (half the activations; "
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/enough" --set run.steps=1 --set batch.lanes=1 --set batch.micro=128 \
  --set batch.leaf=2
unset MST_EMULATED_BYTES

# Faults: E is the number of CUDA's error, met in the first step.
fault() { # fault E WORDS
  MST_EMULATED_FAULT=$1:40 expect 1 "$muster" train "$work/tiny.yaml" --run "$work/fault-$1" --set run.steps=2
  says "$2"
  says 'GPU 0000:01:00.0: '
  says "see 'dmesg | grep -i xid' and 'nvidia-smi -q -d ECC' on its host"
  says 'the run goes on from its newest checkpoint'
}
fault 214 'its memory lost bits (Xid 48, 94 or 95)'
fault 719 'a kernel of muster went wrong (Xid 13 or 31), or the GPU is broken'
fault 46 'it no longer works (Xid 79'
finish
