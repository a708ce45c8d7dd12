#!/usr/bin/env bash
# train.head_rows auto: chosen once, when a run is created, by its device; recorded, and kept whatever the run goes on with.
#   head_rows.sh MUSTER: on the emulated device
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"
export MST_EMULATED_GPUS=2

printf 'It was the best of times, it was the worst of times. %.0s' {1..300} >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'watchdog: {seconds: 100}'
# 8192 rows, so that a sixteenth are 512
sed -i -e 's/d_model: 32, n_layers: 2/d_model: 16, n_layers: 1/' -e 's/d_ff: 64/d_ff: 32/' -e 's/seq_len: 32/seq_len: 16/' \
  -e 's/micro: 2, leaf: 1, lanes: 4/micro: 512, leaf: 1, lanes: 2/' "$work/tiny.yaml"

# train CODE RUN STEPS DEVICE [OPTION...], on $n ranks
train() {
  local code=$1 run=$work/$2 steps=$3 device=$4
  shift 4
  expect "$code" ranks "${n:-1}" "$muster" train "$work/tiny.yaml" --run "$run" --set run.steps="$steps" \
    --set device.kernels="$device" "$@"
}
# created RUN [OPTION...]: on GPUs, where so many rows would take long: the run ends before its first step, since the algorithms
# that it finds recorded are damaged
created() {
  mkdir -p "$work/$1"
  sed 's/algorithm=6/algorithm=7g/' "$work/given/choices.txt" >"$work/$1/choices.txt"
  train 1 "$1" 1 auto "${@:2}"
  check 'it ends where it shall' grep -qF 'a recorded choice of an algorithm is damaged' "$work/err"
  rm "$work/$1/choices.txt"
}
has() { check "$1 has $2 rows" grep -q "^  head_rows: $2\$" "$work/$1/config.yaml"; } # has RUN ROWS
# recorded RUN ROWS: in the newest checkpoint, too
recorded() {
  has "$1" "$2"
  local newest
  newest=$(ls -d "$work/$1"/checkpoints/step-* | tail -n 1)
  check "a checkpoint of $1 has $2 rows" grep -q "head_rows: $2\\\\n" "$newest/manifest.json"
}
digest() { "$muster" verify "$work/$1" | grep -o 'weights [0-9a-f]* *state [0-9a-f]*'; }
memory() { sed -n 's/.*"memory_bytes":\([0-9]*\).*/\1/p' "$work/$1/metrics.jsonl" | head -n 1; } # of the first step
silent() { ! grep -F "$1" "$work/err"; }

# A number stays, whatever the device; on a CPU 256 are chosen.
train 0 given 1 cpu --set batch.micro=1 --set train.head_rows=3
train 0 given 2 cuda --set batch.micro=1
recorded given 3
check 'nothing is chosen for a run that exists' silent 'head_rows'
train 0 cpu 1 cpu
recorded cpu 256

# On a GPU as many as the rule has; kept on the CPU and on more ranks.
created gpu
says 'train.head_rows auto: 512 rows of logits at a time'
has gpu 512
train 0 gpu 1 cpu
recorded gpu 512
check 'nothing is chosen again' silent 'head_rows'
train 0 same 1 cpu --set train.head_rows=512
check 'the bits are those of the number' [ "$(digest gpu)" = "$(digest same)" ]
check 'there are so many logits' [ $(($(memory gpu) - $(memory cpu))) = $((256 * 258 * 4)) ]
if has_mpirun; then
  n=2 train 0 gpu 2 cpu
  recorded gpu 512
  train 0 same 2 cpu
  check 'the same on 2 ranks' [ "$(digest gpu)" = "$(digest same)" ]
fi
train 2 gpu 3 cpu --set train.head_rows=256
says 'train.head_rows (512, now 256)'

# Another run that goes on from a checkpoint takes what that has.
train 0 fork 2 cpu --resume "$work/same/checkpoints/step-00000001"
recorded fork 512

# 0 is by the microbatch, and stays 0.
train 0 zero 1 cpu --set train.head_rows=0
train 0 zero 2 cpu
recorded zero 0

# A run from before there was such a key had 256.
sed -i '/head_rows/d' "$work/cpu/config.yaml"
train 2 cpu 2 cpu --set train.head_rows=512
says 'train.head_rows (256, now 512)'
train 0 cpu 2 cpu --set train.head_rows=256
recorded cpu 256

# Fewer where the GPU's memory is short of them, or ranks share it; the plan says so.
planned() { # planned MEMBER OPTION...
  "$muster" plan "$work/tiny.yaml" --set device.kernels=cuda --flops 1e9 --json "${@:2}" |
    sed -n "s/.*\"$1\": *\([0-9.e+]*\).*/\1/p"
}
need=$(awk -v bytes="$(planned device)" 'BEGIN {printf "%.0f", bytes}')
check 'the plan has 512 rows' [ "$(planned head_rows)" = 512 ]
check 'in just enough memory' [ "$(planned head_rows --memory "${need}B")" = 512 ]
check 'a byte less gives 256' [ "$(planned head_rows --memory "$((need - 1))B")" = 256 ]
MST_EMULATED_BYTES=$need created enough
has enough 512
MST_EMULATED_BYTES=$((need - 1)) created short
has short 256
created short
check 'nothing is chosen again before the first checkpoint' silent 'head_rows'
if has_mpirun; then
  n=2 MST_EMULATED_BYTES=$need created apart --set batch.transport=mpi
  has apart 512
  n=2 MST_EMULATED_GPUS=1 MST_EMULATED_BYTES=$need created shared --set batch.transport=mpi
  has shared 256
fi
expect 0 "$muster" plan "$work/tiny.yaml" --flops 1e9 --set device.kernels=cuda
check 'the plan names it' grep -q '^  logits .* 512 rows at a time, chosen (train.head_rows: auto)$' "$work/out"
expect 0 "$muster" plan "$work/tiny.yaml" --flops 1e9
check 'for a CPU, too' grep -q '^  logits .* 256 rows at a time, chosen (train.head_rows: auto)$' "$work/out"
finish
