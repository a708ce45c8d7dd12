#!/usr/bin/env bash
# What the plan says that muster allocates on a GPU is what it has had there at most, but for whole pages (0.5 %): on 1 to 3
# ranks, over every transport, with what makes a model fit. The driver's part is left out: the emulated device has none.
#   gpu.sh MUSTER: on the emulated device, with the stand-in for NCCL in the LD_LIBRARY_PATH
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
command -v jq >/dev/null || skip "no jq (Debian: apt-get install jq)"
cd "$work"
export MST_EMULATED_GPUS=4
yes "A text that says little, many times over." | head -n 400 >text.txt
expect 0 "$muster" data build text.txt -o tokens.h5
tiny_config tiny.yaml
sed -i -e 's/d_model: 32/vocab_size: 8192, d_model: 96/' -e 's/d_ff: 64/d_ff: 256/' -e 's/lanes: 4/lanes: 2/' \
  -e 's/device: {/&kernels: cuda, /' tiny.yaml

row() { # row RANKS OPTION...
  local n=$1 planned most
  shift
  rm -rf run most
  MST_EMULATED_MOST=$work/most expect 0 ranks "$n" "$muster" train tiny.yaml --run run --set run.steps=1 "$@"
  planned=$("$muster" plan tiny.yaml --flops 1e9 --json --ranks "$n" "$@" | jq '.memory | .device - .driver')
  most=$(sort -n most | tail -n 1)
  checks=$((checks + 1))
  awk -v n="$n" -v planned="$planned" -v most="$most" -v options="$*" 'BEGIN {
    off = most > 0 ? planned / most - 1 : 1
    printf "%d ranks, %s: planned %.2f MiB, at most %.2f: %+.2f %%\n", n, options, planned / 1048576, most / 1048576, 100 * off
    exit !(off <= 0.005 && off >= -0.005)}' || fail "$n ranks, $*"
}

# What is left open is what a run would take here, where it is measured.
auto() { "$muster" plan tiny.yaml --json --set device.kernels=auto "$@" | jq -r '"\(.device) \(.memory.device > 0)"'; }
check "auto, measured" [ "$(auto)" = "gpu true" ]
check "auto, declared" [ "$(auto --flops 1e9)" = "cpu false" ]
needs() { "$muster" doctor tiny.yaml --run . --set "device.kernels=$1" 2>&1 | grep -o 'the run needs [^,]*'; }
check "the doctor, too" [ "$(needs auto)" = "$(needs cuda)" -a "$(needs auto)" != "$(needs cpu)" ]

row 1 --set train.precision=f32
row 1 --set train.precision=bf16 --set train.recompute=full --set optimizer.moments=bf16
row 1 --set train.precision=bf16 --set optimizer.offload=true --set batch.rounds=2
row 1 --set train.precision=bf16 --set model.family=gpt2 --set model.n_kv_heads=4
# Attention by cuDNN, where heads share keys and where not.
long=(--set train.precision=bf16 --set data.seq_len=512 --set batch.micro=6 --set batch.lanes=1 --set model.vocab_size=512 --set model.n_heads=12)
export MST_EMULATED_CUDNN=91900
row 1 "${long[@]}" --set model.n_kv_heads=6
row 1 "${long[@]}" --set model.n_kv_heads=12
unset MST_EMULATED_CUDNN
if has_mpirun; then
  row 2 --set batch.transport=mpi --set batch.wire=bf16
  row 3 --set batch.transport=mpi --set train.precision=bf16 --set checkpoint.async=false
  row 2 --set batch.transport=peer
  row 2 --set batch.sharding=all --set train.precision=bf16 --set train.recompute=selective --set batch.leaf=2
  row 3 --set batch.transport=nccl --set train.precision=bf16
fi
finish
