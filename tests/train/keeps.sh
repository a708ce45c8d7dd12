#!/usr/bin/env bash
# What a run keeps: the newest, multiples, and the best by held-out loss, the same on any number of ranks and after interruptions.
#   keeps.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"
command -v jq >/dev/null || skip "jq is not installed"

# A model that learns a few documents by heart gets worse on others.
for i in $(seq 24); do
  printf '{"text": "%s"}\n' "$(printf 'document %d of %d: ' "$i" $((i * i)); echo "$i" | sha256sum | head -c 60)"
done >"$work/text.jsonl"
"$muster" data build "$work/text.jsonl" --heldout 0.3 -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'checkpoint: {every: 20, minutes: 0, keep: 1, keep_every: 60}'
sed -i 's/train: {/train: {eval_every: 10, eval_batches: 4, /; s/steps: 8/steps: 130/' "$work/tiny.yaml"
sed -i 's/peak: 0.003/peak: 0.02/' "$work/tiny.yaml"
names() { (cd "$1/checkpoints" && ls) | tr '\n' ' '; }

for n in 1 2; do expect 0 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/r$n"; done
best=$(jq -rs 'map(select(.event == "eval")) | min_by(.loss) | .step' "$work/r1/metrics.jsonl")
echo "best at step $best"
check 'the best is neither the newest nor a multiple' [ "$best" -lt 130 -a $((best % 20)) -ne 0 ]
expected=$(printf 'step-%08d\n' "$best" 60 120 130 | sort | tr '\n' ' ')
check "on one rank stay: $(names "$work/r1")" [ "$(names "$work/r1")" = "$expected" ]
check "on two ranks stay: $(names "$work/r2")" [ "$(names "$work/r2")" = "$expected" ]
for step in $best 130; do
  manifest=$work/r1/checkpoints/step-$(printf %08d "$step")/manifest.json
  check "the manifest of step $step says the held-out loss" [ "$(jq .heldout.loss "$manifest")" = \
    "$(jq -rs "map(select(.event == \"eval\" and .step == $step))[0].loss" "$work/r1/metrics.jsonl")" ]
done
expect 0 "$muster" inspect "$work/r1"
check 'inspect says the held-out loss' grep -qE '^held out       loss [0-9.]+, [0-9.]+ bits per byte, over ' "$work/out"
check 'inspect names the newest' grep -qE '^checkpoints +130 +[0-9.]+ +[0-9.]+  newest$' "$work/out"
check 'inspect names the best' grep -qE "^ +$best +[0-9.]+ +[0-9.]+  best$" "$work/out"
check 'inspect says that nobody trains' grep -q '^training here  nobody$' "$work/out"
# Ended in between, the run keeps the same.
for steps in 10 $((best - 20)) $((best + 10)) 130; do
  expect 0 "$muster" train "$work/tiny.yaml" --run "$work/r3" --set run.steps="$steps"
done
check "after interruptions stay: $(names "$work/r3")" [ "$(names "$work/r3")" = "$expected" ]
# Without the wish no evaluation makes a checkpoint.
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/r4" --set checkpoint.keep_best=0 --set checkpoint.keep=0 --set checkpoint.every=60
check "without keep_best: $(names "$work/r4")" [ "$(names "$work/r4")" = 'step-00000060 step-00000120 step-00000130 ' ]
expect 2 "$muster" train "$work/tiny.yaml" --run "$work/r5" --set checkpoint.keep_every=50
says 'checkpoint.keep_every: 50 is no multiple of checkpoint.every, 20'
finish
