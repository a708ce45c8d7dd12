#!/usr/bin/env bash
# What makes a model fit: moments in bf16 have the same bits on any number of ranks and through a stop and a resume; shared
# weights and recomputation change no bits, in evaluations too, and take less memory; none of it may be swapped where it defines a run.
#   fits.sh MUSTER
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
command -v jq >/dev/null || skip "no jq (Debian: apt-get install jq)"
cd "$work"
mkdir text
for i in {1..60}; do
  for j in {1..15}; do echo "Line $j of text $i, $((i * j * j % 97)) words long, ends here."; done >"text/$i.txt"
done
expect 0 "$muster" data build text --glob '*.txt' --heldout 0.2 -o tokens.h5
tiny_config tiny.yaml "checkpoint: {every: 4}"
sed -i 's/precision: f32/precision: bf16, eval_every: 3, eval_batches: 5/' tiny.yaml

train() { # train NAME RANKS [OPTION...]
  expect 0 ranks "$2" "$muster" train tiny.yaml --run "$1.run" "${@:3}"
  cp err "$1.err"
}
digest() { "$muster" verify "$1.run" | grep -o 'weights [0-9a-f]* *state [0-9a-f]*'; }
evaluations() { jq -c 'select(.event == "eval") | [.step, .loss]' "$1.run/metrics.jsonl"; }
bytes() { jq -r 'select(.event == "step") | .memory_bytes' "$1.run/metrics.jsonl" | tail -n 1; }
same() { [ -n "$(digest "$1")" ] && [ "$(digest "$1")" = "$(digest "$2")" ] && [ "$(evaluations "$1")" = "$(evaluations "$2")" ]; }

train plain 1
check "it is evaluated" [ "$(evaluations plain | wc -l)" -ge 2 ]
train narrow 1 --set optimizer.moments=bf16
check "it has digests" [ -n "$(digest narrow)" ]
check "moments in bf16 are another rule" [ "$(digest narrow)" != "$(digest plain)" ]
train narrow-half 1 --set optimizer.moments=bf16 --set checkpoint.async=false --set run.steps=4 --set schedule.kind=constant
train narrow-half 1 --set optimizer.moments=bf16
check "moments in bf16 after a resume" [ "$(digest narrow-half)" = "$(digest narrow)" ]
check "they take less" [ "$(bytes narrow)" -lt "$(bytes plain)" ]
expect 2 "$muster" train tiny.yaml --run narrow.run --set run.steps=9
says "optimizer.moments (bf16, now f32)"

train again 1 --set train.recompute=full
check "recomputation" same again plain
check "it takes less" [ "$(bytes again)" -lt "$(bytes plain)" ]
if has_mpirun; then
  train narrow-3 3 --set optimizer.moments=bf16
  check "moments in bf16 on 3 ranks" same narrow-3 narrow
  for n in 2 3 4; do # 4 lanes: gradients are streamed on 4 ranks
    train "shared-$n" "$n" --set batch.sharding=all --set train.recompute=selective
    check "shared weights on $n ranks" same "shared-$n" plain
  done
  wide="--set model.d_model=256 --set model.n_layers=8 --set run.steps=1 --set checkpoint.async=false"
  train whole 4 $wide --set batch.transport=mpi
  train streamed 4 $wide --set batch.sharding=all
  check "streamed gradients take less" [ "$(bytes streamed)" -lt $(($(bytes whole) * 3 / 4)) ]
  # a gradient that is not finite: all ranks look for its microbatch together
  for n in 1 3 4; do
    expect 1 ranks $n "$muster" train tiny.yaml --run "wild-$n.run" --set batch.sharding=all --set optimizer.weight_decay=10 \
      --set schedule.peak=10 --set run.steps=30
    grep -o 'step [0-9]*: loss or gradient of [a-z]* [0-9]*' err >"wild-$n"
  done
  check "a step and a microbatch are named" [ -s wild-1 ]
  check "the same step and microbatch are named" cmp wild-1 wild-3
  check "the same step and microbatch are named where gradients are streamed" cmp wild-1 wild-4
  expect 2 ranks 2 "$muster" train tiny.yaml --run refused.run --set batch.sharding=all --set batch.transport=shm
  says "batch.sharding"
fi
finish
