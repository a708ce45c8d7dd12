#!/usr/bin/env bash
# The plan's bytes of a GPU beside those in use after steps, with the driver's as this run found them: within 3 %.
#   plan.sh MUSTER [quick]: with quick, for the emulated device, a small model
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"
printf 'It was the best of times, it was the worst of times. %.0s' {1..800} >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
model="vocab_size: 50304, d_model: 768, n_layers: 12, n_heads: 12, d_ff: 3072, max_seq_len: 1024" micro=16 length=1024
if [ "${2:-}" = quick ]; then
  model="vocab_size: 4096, d_model: 64, n_layers: 2, n_heads: 2, d_ff: 128, max_seq_len: 32" micro=2 length=32
fi
cat >"$work/plan.yaml" <<END
run: {name: plan, steps: 2, seed: 1}
model: {family: gpt2, $model}
data: {sources: [tokens.h5], seq_len: $length}
batch: {micro: $micro, leaf: 1, lanes: 1, rounds: 1}
schedule: {kind: constant, peak: 0.001, warmup: 0}
train: {precision: bf16}
device: {kernels: cuda, threads: 1}
END
expect 0 "$muster" train "$work/plan.yaml" --run "$work/run"
cudnn=512 # MiB: the key's default; without cuDNN nothing of it is used
grep -q ' cudnn-' "$work/run/choices.txt" || cudnn=0
expect 0 "$muster" plan "$work/plan.yaml" --flops 1e12 --json --set device.attention_workspace=$cudnn
# without jq, which a machine that is lent for its GPU may lack
field() { sed -n "s/.*\"$1\": *\([0-9.e+]*\).*/\1/p" "$2"; } # field NAME FILE: the last of a line
events() { grep "\"event\": *\"$1\"" "$work/run/metrics.jsonl" >"$work/$1" || true; }
events start
events step
before=$(field gpu_bytes "$work/start" | tail -n 1) used=$(field gpu_bytes "$work/step" | sort -n | tail -n 1)
planned=$(field device "$work/out") estimate=$(field driver "$work/out")
checks=$((checks + 1))
awk -v planned="$planned" -v estimate="$estimate" -v before="${before:-0}" -v used="$used" 'BEGIN {
  own = planned - estimate
  off = used > 0 ? (own + before) / used - 1 : 1
  printf "in use %.1f MiB, %.1f before; planned %.1f and %.1f of the driver (an estimate): with what was found %+.2f %%\n",
    used / 1048576, before / 1048576, own / 1048576, estimate / 1048576, 100 * off
  exit !(off <= 0.03 && off >= -0.03)}' || fail 'the plan is off'
finish
