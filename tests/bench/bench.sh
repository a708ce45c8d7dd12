#!/usr/bin/env bash
# Tokens per second of GPT-2 124M at batch 4 x 256 tokens, in bf16 and fp32, beside PyTorch's in the same run: the two take
# turns (A B A B ...), so that both meet the same machine; the median of the rounds counts. Only ratios of one run mean much.
#   bench.sh BUILD_FOLDER [ROUNDS]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
muster=$(realpath "$1/coordinator/muster")
rounds=${2:-5}
threads=$(nproc)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

batch=4 seq_len=256 steps=4 # the first step of a start warms up and is left out
tokens=$((batch * seq_len))

median() { sort -g | awk '{v[NR]=$1} END {print NR ? (NR % 2 ? v[(NR+1)/2] : (v[NR/2] + v[NR/2+1]) / 2) : 0}'; }
spread() { sort -g | awk 'NR==1 {low=$1} {high=$1} END {printf "%.0f..%.0f", low, high}'; }

prepare() {
  awk 'BEGIN {srand(1); for (i = 0; i < 20000; i++) printf "%d and %d make %d.\n", i, i % 977, i + i % 977}' >"$work/text.txt"
  "$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
  cat >"$work/gpt2.yaml" <<EOF
run: {name: bench, steps: $steps}
model: {family: gpt2, vocab_size: 50257, d_model: 768, n_layers: 12, n_heads: 12, d_ff: 3072, max_seq_len: 1024}
data: {sources: [tokens.h5], seq_len: $seq_len}
batch: {micro: $batch, leaf: 1, lanes: 1, rounds: 1}
schedule: {kind: constant, peak: 3.0e-4, warmup: 0}
checkpoint: {every: 0, minutes: 0}
device: {threads: $threads}
EOF
}

run_muster() { # run_muster f32|bf16: a line of tokens/s, measured peak in GFLOP/s, share of it
  rm -rf "$work/run"
  "$muster" train "$work/gpt2.yaml" --run "$work/run" --set train.precision="$1" >"$work/muster.log" 2>&1 || { cat "$work/muster.log" >&2; exit 1; }
  local seconds share
  seconds=$(jq -r 'select(.event == "step" and .step > 1) | .step_seconds' "$work/run/metrics.jsonl" | median)
  share=$(jq -r 'select(.event == "step" and .step > 1) | .peak_share' "$work/run/metrics.jsonl" | median)
  awk -v s="$seconds" -v t=$tokens -v p="$share" 'BEGIN {print t / s, p}'
}

run_torch() { # run_torch fp32|bf16: tokens/s; nothing when PyTorch is not there
  local line
  line=$(/usr/bin/python3 "$here/../oracle/bench_gpt2.py" "$1" $((steps - 1)) "$threads" $batch $seq_len) || return 0
  torch_version=${line%% *}
  tr ' ' '\n' <<<"$line" | tail -n +3 | median | awk -v t=$tokens '{print t / $1}'
}

prepare
torch_version=missing
echo "GPT-2 124M, batch $batch x $seq_len tokens, $threads threads, $rounds rounds; FLOPs per token: docs/model.md"
for ((round = 1; round <= rounds; round++)); do
  for precision in bf16 fp32; do
    run_muster "${precision/fp32/f32}" >>"$work/muster.$precision"
    run_torch "$precision" >>"$work/torch.$precision"
    printf 'round %d %s: muster %.0f tokens/s, PyTorch %s tokens/s\n' "$round" "$precision" \
      "$(tail -n 1 "$work/muster.$precision" | cut -d' ' -f1)" "$(tail -n 1 "$work/torch.$precision" | awk '{printf "%.0f", $1}')"
  done
done
/usr/bin/python3 -c 'import torch' 2>/dev/null && torch_version=$(/usr/bin/python3 -c 'import torch; print(torch.__version__)')

printf '\n%-10s %22s %14s %22s %8s\n' precision 'muster tokens/s' 'share of peak' "PyTorch $torch_version" ratio
for precision in bf16 fp32; do
  ours=$(cut -d' ' -f1 "$work/muster.$precision" | median)
  share=$(cut -d' ' -f2 "$work/muster.$precision" | median)
  theirs=$(median <"$work/torch.$precision")
  printf '%-10s %8.0f (%s) %13.2f %10.0f (%s) %8s\n' $precision "$ours" "$(cut -d' ' -f1 "$work/muster.$precision" | spread)" "$share" \
    "$theirs" "$(spread <"$work/torch.$precision")" "$(awk -v a="$ours" -v b="$theirs" 'BEGIN {if (b > 0) printf "%.2f", a / b; else print "-"}')"
done
