#!/usr/bin/env bash
# Whole documents as samples: the same digests on any number of ranks and past a resume within an epoch; the same loss packed and
# alone; epochs.
#   packs.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"
command -v jq >/dev/null || skip "no jq (Debian: apt-get install jq)"
cd "$work"

for i in $(seq 150); do
  printf '{"text": "document %d says %s"}\n' "$i" "$(printf 'word%d ' $(seq $((i % 13))))"
done >lines.jsonl
"$muster" data build lines.jsonl -o tokens.h5 --heldout 0.2 --seed 1 >/dev/null
tiny_config tiny.yaml 'checkpoint: {every: 0, minutes: 0}'
sed -i 's/steps: 8, //; s/run: {/run: {epochs: 2, /; s/seq_len: 32/seq_len: 64, packing: documents/' tiny.yaml
digests() { grep '^weights' out; }
steps() { jq -r 'select(.event == "step") | .step' "$1/metrics.jsonl" | tail -n 1; }

# ---- ranks, and a resume within an epoch ----
expect 0 "$muster" train tiny.yaml --run one
says ' of whose places are taken'
says 'longer than a sequence (data.seq_len): '
whole=$(digests)
cp err announced
all=$(steps one)
samples=$(sed -n 's/.* documents in \([0-9]*\) sequences.*/\1/p' err)
check "two epochs of $samples samples are $all steps of 8" [ "$all" = $(((2 * samples + 7) / 8)) ]
check 'the config of the run says the steps' grep -q "^  steps: $all\$" one/config.yaml
check 'and no epochs' grep -q '^  epochs: 0$' one/config.yaml
if has_mpirun; then
  for n in 2 3; do
    expect 0 ranks "$n" "$muster" train tiny.yaml --run "ranks$n"
    check "$n ranks" [ "$(digests)" = "$whole" ]
  done
fi
expect 0 "$muster" train tiny.yaml --run two --set run.epochs=0 --set run.steps=2
expect 0 "$muster" train tiny.yaml --run two
says 'resumed from'
says "run.steps changes from 2 to $all"
check 'a resume within an epoch' [ "$(digests)" = "$whole" ]
expect 2 "$muster" train tiny.yaml --run two --set data.packing=stream
says 'data.packing (documents, now stream)'

# ---- one step over all documents: the same loss and gradient packed and alone; the stream's are others ----
one_step() { # one_step PACKING SAMPLES: sets `found` to loss and gradient norm
  expect 0 "$muster" train tiny.yaml --run "step-$1" --set "data.packing=$1" --set run.epochs=1 --set batch.micro=1 --set batch.lanes=1 \
    --set "batch.leaf=$2"
  check "$1: one step" [ "$(steps "step-$1")" = 1 ]
  found=$(jq -r 'select(.event == "step") | "\(.loss) \(.grad_norm)"' "step-$1/metrics.jsonl")
}
agree() { awk -v bound="$1" '{ for (i = 1; i <= 2; i++) { e = $i / $(i + 2) - 1; if (!(e * e <= bound * bound)) exit 1 } }'; }
documents=$(sed -n 's/.*: \([0-9]*\) documents in .*/\1/p; s/^\([0-9]*\) documents in .*/\1/p' announced)
one_step documents "$samples"
packed=$found
one_step single "$documents"
single=$found
check "packed $packed, alone $single" agree 1e-5 <<<"$packed $single"
expect 0 "$muster" eval step-single --split train
expect 0 "$muster" eval step-documents --split train

# ---- what it is ----
expect 0 "$muster" data show tiny.yaml --step 1
check 'the documents of a sequence' grep -qE '^sequence 0: sample 0, .*tokens.h5, epoch 0, [0-9]+ documents?, [0-9]+ of 64 targets count$' out
check 'each for itself' [ "$(grep -c '^  document [0-9]* says' out)" = \
  "$(sed -n 's/^sequence .* \([0-9]*\) documents*, .*/\1/p' out | awk '{ sum += $1 } END { print sum }')" ]
check 'places' grep -qE '^  places 0 to [0-9]+$' out
expect 2 "$muster" data show tiny.yaml --step $((all + 1))

# ---- plan knows the steps where the data is there ----
expect 0 "$muster" plan tiny.yaml --flops 1e9 --json
check 'plan' [ "$(jq .steps out)" = "$all" ]
expect 0 "$muster" plan tiny.yaml --flops 1e9 --set 'data.sources=[gone.h5]' --set model.vocab_size=258
check 'plan without the data' grep -q 'after 2 passes over the data' out

# ---- of conversations, documents without a target: what the assistant wrote is cut off ----
for n in 1 40; do
  printf '{"messages": [{"role": "user", "content": "%0*d"}, {"role": "assistant", "content": "yes, %d"}]}\n' "$n" 7 "$n"
done >chats.jsonl
chat() { "$muster" data build "$1.jsonl" --chat-template chatml -t tok.json --heldout 0 -o "$1.h5" >/dev/null; }
"$muster" tokenizer train lines.jsonl --vocab 270 --special '<|im_start|>' --special '<|im_end|>' --heldout 0 -o tok.json >/dev/null
chat chats
for packing in documents single; do
  chats=(--set 'data.sources=[chats.h5]' --set data.packing=$packing --set batch.micro=1 --set batch.lanes=1 --set batch.leaf=1)
  expect 0 "$muster" train tiny.yaml --run "chats-$packing" "${chats[@]}" --set data.seq_len=30
  says 'note: 1 of 2 documents have no target of the loss within data.seq_len'
  expect 2 "$muster" train tiny.yaml --run "cut-$packing" "${chats[@]}" --set data.seq_len=4
  says 'data.seq_len: 4 cuts off all that counts in the loss: none of the 2 documents has a target before it'
done
has_mpirun && expect 2 ranks 2 "$muster" train tiny.yaml --run cut-ranks "${chats[@]}" --set data.seq_len=4
tail -n 1 chats.jsonl >long.jsonl
chat long
expect 2 "$muster" eval chats-single long.h5 --split train
says 'is a target of the loss: all are masked, or cut off at data.seq_len (30)'

# ---- wrong words ----
expect 2 "$muster" train tiny.yaml --run wrong --set run.steps=5
says 'run.epochs: 2 passes, but run.steps is given too, 5; leave out one of them'
expect 2 "$muster" train tiny.yaml --run wrong --set run.epochs=0
says 'run.steps: required, but missing'
expect 2 "$muster" train tiny.yaml --run wrong --set schedule.warmup=1000
says "run.epochs: these are $all steps, but the schedule has 1000 of warm-up"
sed 's/, warmup: 0/, warmup_ratio: 0.5/' tiny.yaml >warm.yaml
expect 0 "$muster" train warm.yaml --run warm
check 'half of the steps are warm-up' grep -q "^  warmup: $(((all + 1) / 2))\$" warm/config.yaml
finish
