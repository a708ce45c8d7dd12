#!/usr/bin/env bash
# A run ends when its held-out text costs less than a target: with exit code 0, a checkpoint, and the same answer when it is started again.
#   target.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"
command -v jq >/dev/null || skip "jq is not installed"

for i in $(seq 200); do printf '{"text": "The quick brown fox number %d jumps over the lazy dog."}\n' "$i"; done >"$work/text.jsonl"
"$muster" data build "$work/text.jsonl" --heldout 0.2 -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'checkpoint: {every: 0, minutes: 0}'
sed -i 's/train: {/train: {eval_every: 10, eval_batches: 2, target_bits_per_byte: 4.5, /; s/steps: 8/steps: 2000/' "$work/tiny.yaml"

field() { jq -rs "map(select(.event == \"$2\"))$3" "$1/metrics.jsonl"; }

for n in 1 2; do
  expect 0 ranks $n "$muster" train "$work/tiny.yaml" --run "$work/r$n"
  says 'below the target of 4.5 bits per byte: done'
  cp "$work/out" "$work/digests$n"
  step=$(field "$work/r$n" eval '[-1].step')
  check "it ends early, at step $step" [ "$step" -lt 2000 ]
  check 'a checkpoint of that step' [ -e "$work/r$n/checkpoints/step-$(printf %08d "$step")/manifest.json" ]
  # What a part promised was looked at on the whole: the last evaluation covers all that is held out.
  check 'the last evaluation is of the whole' [ "$(field "$work/r$n" eval '[-1].valid_tokens')" -gt "$(field "$work/r$n" eval '[-2].valid_tokens')" ]
  check 'it is below the target' [ "$(field "$work/r$n" eval '[-1].bits_per_byte < 4.5')" = true ]
  check 'bits per byte follow from the loss' \
    [ "$(field "$work/r$n" eval '[-1] | (.bits_per_byte * .bytes * 0.6931471805599453 / .valid_tokens / .loss - 1) | fabs < 1e-12')" = true ]
  check 'the end is recorded' [ "$(field "$work/r$n" stop '[-1].reason')" = done ]
done
check 'the same digests on two ranks' cmp -s "$work/digests1" "$work/digests2"

# Started again it finds that it is done, and says its digests again.
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/r2"
says 'below the target of 4.5 bits per byte: done'
check 'the same digests again' cmp -s "$work/digests1" "$work/out"
# Interruptions do not change where it ends: stopped between evaluations, it goes on to the next one.
"$muster" train "$work/tiny.yaml" --run "$work/r4" >"$work/out" 2>"$work/err" &
job=$!
for _ in $(seq 600); do
  [ "$(grep -c loss_bits "$work/r4/metrics.jsonl" 2>/dev/null || true)" -ge 3 ] 2>/dev/null && break
  sleep 0.02
done
kill -s USR1 $job
wait $job || true
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/r4"
check 'the same digests after an interruption' cmp -s "$work/digests1" "$work/out"
# Nothing held out: nothing to reach.
"$muster" data build "$work/text.jsonl" --heldout 0 -o "$work/all.h5" >/dev/null
expect 2 "$muster" train "$work/tiny.yaml" --run "$work/r5" --set "data.sources=[$work/all.h5]"
says 'train.target_bits_per_byte: the data has less than a microbatch of held-out text'
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/r6" --set "data.sources=[$work/all.h5]" --set train.target_bits_per_byte=0 --set run.steps=10
says 'note: nothing is evaluated'
# A few random texts are learned by heart: said once, with the best evaluation, and at the end that the target was not reached.
for i in $(seq 16); do printf '{"text": "%s"}\n' "$(printf '%d' "$i" | sha256sum | cut -c1-64)"; done >"$work/few.jsonl"
"$muster" data build "$work/few.jsonl" --heldout 0.3 -o "$work/few.h5" >/dev/null
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/r7" --set "data.sources=[$work/few.h5]" --set run.steps=140 --set train.eval_every=20 \
  --set model.d_model=64 --set model.d_ff=128 --set schedule.peak=0.01 --set train.target_bits_per_byte=3 \
  --set checkpoint.async=false # or the best one may still be on its way when it is named
best=$(field "$work/r7" eval ' | min_by(.loss) | .step')
says "warning: held-out loss was lowest at step $best: "
says 'is there); 3 evaluations running are more than 1% above. The model learns its training text by heart'
says 'warning: the last step is done, and the target of 3 bits per byte not reached; held-out loss was lowest at step '"$best: "
check 'said once' [ "$(grep -c 'by heart' "$work/err")" = 1 ]
check 'the best checkpoint is there' [ -e "$work/r7/checkpoints/step-$(printf %08d "$best")/manifest.json" ]
# A harder target goes on.
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/r2" --set train.target_bits_per_byte=4
check 'it has gone on' [ "$(field "$work/r2" eval '[-1].step')" -gt "$step" ]
expect 2 "$muster" train "$work/tiny.yaml" --run "$work/r3" --set train.eval_every=0
says 'train.target_bits_per_byte: 4.5 can never be found reached'
finish
