#!/usr/bin/env bash
# Training on a GPU: the losses are the CPU's within rounding, the bits are the same on 1, 2 and 3 ranks that share it, through a
# stop and a resume and after a kill, and a checkpoint of the CPU goes on there and back.
#   gpu.sh MUSTER [quick]: with quick, for the emulated device, fewer families and steps; after the first part its streams work as
#   late as they may, so that a wait which is missing changes the bits
set -euo pipefail
limit=600 # of one command: the emulated device is slow
muster=$1 families="llama gpt2 qwen2 qwen3 olmo2" steps=8 killed=200
if [ "${2:-}" = quick ]; then families="llama gpt2" steps=4 killed=16; fi
. "$(dirname "$0")/../shell.sh"

for _ in 1 2 3 4 5 6; do printf 'It was the best of times, it was the worst of times, it was the age of wisdom. '; done >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null

config() { # config FAMILY PRECISION
  cat >"$work/$1-$2.yaml" <<END
run: {name: gpu, steps: $steps, seed: 1}
model: {family: $1, d_model: 32, n_layers: 2, n_heads: 4, d_ff: 64}
data: {sources: [tokens.h5], seq_len: 32}
batch: {micro: 2, leaf: 1, lanes: 4, rounds: 1}
schedule: {kind: constant, peak: 0.005, warmup: 0}
train: {precision: $2}
checkpoint: {every: $((steps / 2))}
device: {threads: 1}
watchdog: {seconds: 600}
END
}

train() { # train NAME RANKS CONFIG [OPTION...]
  local run=$work/$1.run ranks=$2 config=$work/$3.yaml
  shift 3
  expect 0 ranks "$ranks" "$muster" train "$config" --run "$run" "$@"
}
# without jq, which a machine that is lent for its GPU may lack
losses() { sed -n 's/.*"event": *"step".*"loss": *\([^,}]*\).*/\1/p' "$work/$1.run/metrics.jsonl"; }
digest() { "$muster" verify "$work/$1.run" | grep -o 'weights [0-9a-f]* *state [0-9a-f]*'; }

config llama f32
if ! "$muster" train "$work/llama-f32.yaml" --run "$work/probe.run" --set device.kernels=cuda --set run.steps=1 >"$work/out" 2>"$work/err"; then
  grep -q 'cuda: ' "$work/err" && skip "$(grep -o 'cuda: .*' "$work/err" | head -n 1)"
  cat "$work/err" >&2
  exit 1
fi

close() { # close A B TOLERANCE: the losses of two runs, step by step, and that they fall
  paste <(losses "$1") <(losses "$2") | awk -v most="$3" -v steps="$steps" '
    {d = $1 - $2; if (d < 0) d = -d; if (!(d <= most)) bad = 1; if (d > worst) worst = d; if (NR == 1) first = $2; last = $2}
    END {printf "%d steps, largest difference %g, loss %g to %g\n", NR, worst, first, last; exit bad || NR != steps || !(last < first)}'
}

# fp32: 1e-4 of a loss near 5 is a few hundred roundings; bf16 has 2^-9 for each value that a loss is made of.
for family in $families; do
  config $family f32
  config $family bf16
  train "$family-cpu" 1 $family-f32
  train "$family-gpu" 1 $family-f32 --set device.kernels=cuda
  check "losses of $family in f32" close "$family-cpu" "$family-gpu" 1e-4
  train "$family-cpu16" 1 $family-bf16
  train "$family-gpu16" 1 $family-bf16 --set device.kernels=cuda
  check "losses of $family in bf16" close "$family-cpu16" "$family-gpu16" 0.03
done

want=$(digest llama-gpu16)
export MST_EMULATED_STREAMS=lazy
if has_mpirun; then
  for ranks in 2 3; do
    train "on-$ranks" $ranks llama-bf16 --set device.kernels=cuda
    check "the bits on $ranks ranks" [ "$(digest "on-$ranks")" = "$want" ]
  done
  train peer 2 llama-bf16 --set device.kernels=cuda --set batch.transport=peer
  check 'the bits of ranks that read each other'"'"'s memory' [ "$(digest peer)" = "$want" ]
fi

# Nor do graphs of kernels, which this GPU must be able to record.
silent() { ! grep -F "$1" "$work/err"; }
train graphs 1 llama-bf16 --set device.kernels=cuda --set device.graphs=true
check 'graphs are recorded' silent 'without graphs'
check 'the bits with graphs' [ "$(digest graphs)" = "$want" ]
if has_mpirun; then
  MST_EMULATED_STREAMS=others train graphs-2 2 llama-bf16 --set device.kernels=cuda --set device.graphs=true
  check 'the bits with graphs on 2 ranks' [ "$(digest graphs-2)" = "$want" ]
fi

# What makes a model fit changes no bits: recomputation, sharding, state in host memory; moments in bf16 are another rule, but one.
gpu="--set device.kernels=cuda"
less="--set train.recompute=full --set optimizer.offload=true"
train away 1 llama-bf16 $gpu $less
check 'the bits with state in host memory' [ "$(digest away)" = "$want" ]
train narrow 1 llama-bf16 $gpu --set optimizer.moments=bf16
check 'moments in bf16 are another rule' [ "$(digest narrow)" != "$want" ]
train narrow-away 1 llama-bf16 $gpu $less --set optimizer.moments=bf16
check 'moments in bf16 with state in host memory' [ "$(digest narrow-away)" = "$(digest narrow)" ]
if has_mpirun; then
  train shared-3 3 llama-bf16 $gpu $less --set batch.sharding=all
  check 'the bits with sharded weights' [ "$(digest shared-3)" = "$want" ]
  MST_EMULATED_STREAMS=others train shared-4 4 llama-bf16 $gpu --set batch.sharding=all --set train.recompute=selective
  check 'the bits with streamed gradients' [ "$(digest shared-4)" = "$want" ]
fi

train half 1 llama-bf16 --set device.kernels=cuda --set run.steps=$((steps / 2))
train half 1 llama-bf16 --set device.kernels=cuda
check 'the bits after a resume' [ "$(digest half)" = "$want" ]

# Killed at its first checkpoint, the run goes on from it.
kill_steps="--set device.kernels=cuda --set run.steps=$killed --set checkpoint.every=2 --set checkpoint.keep=2"
train whole 1 llama-bf16 $kill_steps
"$muster" train "$work/llama-bf16.yaml" --run "$work/hurt.run" $kill_steps >/dev/null 2>&1 &
victim=$!
for ((look = 0; look < 3000; look++)); do
  if grep -q '"event": *"checkpoint"' "$work/hurt.run/metrics.jsonl" 2>/dev/null; then break; fi
  sleep 0.01
done
check 'it was at work when it was killed' kill -KILL $victim
wait $victim 2>/dev/null || true
check 'it had not ended' [ "$(losses hurt | wc -l)" -lt "$killed" ]
train hurt 1 llama-bf16 $kill_steps
check 'it went on from a checkpoint' grep -qE '"event": *"resume","step": *[1-9]' "$work/hurt.run/metrics.jsonl"
check 'the bits after a kill' [ "$(digest hurt)" = "$(digest whole)" ]

train there 1 llama-f32 --set run.steps=$((steps / 2))
train there 1 llama-f32 --set device.kernels=cuda
check 'from the CPU to the GPU' close llama-cpu there 1e-4
train back 1 llama-f32 --set device.kernels=cuda --set run.steps=$((steps / 2))
train back 1 llama-f32
check 'from the GPU to the CPU' close llama-cpu back 1e-4

# Adapters of what was trained above: its weights are in the device's memory, once and frozen.
sed "s/model: .*/model: {init: llama-cpu.run}\nlora: {rank: 4}/; s/peak: 0.005/peak: 0.02/" "$work/llama-f32.yaml" >"$work/lora-f32.yaml"
train lora-cpu 1 lora-f32
train lora-gpu 1 lora-f32 --set device.kernels=cuda
check 'losses of adapters' close lora-cpu lora-gpu 1e-4
if has_mpirun; then
  train lora-on-2 2 lora-f32 --set device.kernels=cuda
  check 'the bits of adapters on 2 ranks' [ "$(digest lora-on-2)" = "$(digest lora-gpu)" ]
fi

expect 0 "$muster" generate "$work/lora-gpu.run" --prompt 'It was ' --tokens 2 --temperature 0
expect 0 "$muster" generate "$work/llama-gpu.run" --prompt 'It was ' --tokens 4 --temperature 0
finish
