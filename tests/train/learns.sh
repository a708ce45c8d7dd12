#!/usr/bin/env bash
# It learns: both families memorise a small text to a loss below 0.1, in fp32 and bf16, alone and on three ranks.
#   learns.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

text='It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness. '
for _ in 1 2 3 4 5 6; do printf '%s' "$text"; done >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null

learns() { # learns FAMILY PRECISION RANKS
  local config=$work/$1-$2.yaml run=$work/$1-$2.run loss
  cat >"$config" <<EOF
run: {name: learns, steps: 120, seed: 1}
model: {family: $1, d_model: 64, n_layers: 2, n_heads: 4, d_ff: 128}
data: {sources: [tokens.h5], seq_len: 64}
batch: {micro: 4, leaf: 1, lanes: 4, rounds: 1}
optimizer: {weight_decay: 0.0}
schedule: {kind: cosine, peak: 0.005, warmup: 10}
train: {precision: $2}
checkpoint: {every: 0}
EOF
  expect 0 ranks "$3" "$muster" train "$config" --run "$run" --set device.threads=1
  loss=$(jq -r 'select(.event == "step") | .loss' "$run/metrics.jsonl" | tail -n 1)
  echo "$1 $2 on $3 rank(s): loss $loss after 120 steps"
  check "loss of $1 $2 below 0.1" awk -v loss="$loss" 'BEGIN {exit !(loss != "" && loss + 0 < 0.1)}'
}

learns llama f32 1
learns gpt2 f32 3
learns llama bf16 3
learns gpt2 bf16 1

expect 0 "$muster" generate "$work/llama-f32.run" --prompt 'it was the worst ' --tokens 8 --temperature 0
check 'the text it learned comes back' grep -qF 'it was the worst of times' "$work/out"
finish
