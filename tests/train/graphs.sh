#!/usr/bin/env bash
# Graphs of kernels (device.graphs): the bits of launches one by one, that there are fewer launches, and what is said where they fail.
#   graphs.sh MUSTER: on the emulated device, which counts; its streams work at once, or as late as they may
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

printf 'It was the best of times, it was the worst of times. %.0s' 1 2 3 4 5 6 7 8 >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'watchdog: {seconds: 100}'
sed -i -e 's/steps: 8/steps: 2/' -e 's/n_layers: 2/n_layers: 1/' -e 's/seq_len: 32/seq_len: 16/' -e 's/device: {/&kernels: cuda, /' -e 's/leaf: 1/leaf: 2/' -e 's/f32/bf16/' "$work/tiny.yaml"
export MST_EMULATED_COUNTS=$work/counts

train() { # train RUN RANKS [OPTION...]: of $config
  local run=$work/$1 n=$2
  shift 2
  rm -f "$work/counts"
  expect 0 ranks "$n" "$muster" train "$work/$config.yaml" --run "$run" "$@"
}
config=tiny
digest() { "$muster" verify "$work/$1" | grep -o 'weights [0-9a-f]* *state [0-9a-f]*'; }
alone() { awk '{sum += $1} END {print sum + 0}' "$work/counts"; } # pieces of work that were launched one by one
graphs() { awk '{sum += $3} END {print sum + 0}' "$work/counts"; }
inside() { awk '{sum += $6} END {print sum + 0}' "$work/counts"; } # of graphs, at all their launches
on='--set device.graphs=true'
same() { check "the bits: $1" [ "$(digest "$1")" = "$want" ]; }
used() { check "$1: graphs were launched on $2 ranks: $(tr '\n' ';' <"$work/counts")" [ "$(awk '$3 > 0' "$work/counts" | wc -l)" = "$2" ]; }

train plain 1
want=$(digest plain) before=$(alone)
check 'without graphs there are none' [ "$(graphs)" = 0 ]

# 16 microbatches of 5 stretches; each is met twice before it is replayed, and a lane's sums stand in one of a few places.
train one 1 $on
same one
used one 1
check "the same work: $(alone) and $(inside) of $before" [ $(($(alone) + $(inside))) = "$before" ]
check "most of it by graphs: $(inside) of $before" [ "$(inside)" -gt $((before * 6 / 10)) ]
check "few launches: $(($(alone) + $(graphs))) of $before" [ $(($(alone) + $(graphs))) -lt $((before * 45 / 100)) ]

# Evaluations in between, and other passes.
export MST_EMULATED_STREAMS=lazy
train held 1 $on --set train.eval_every=1 --set train.recompute=full --set optimizer.offload=true
same held
used held 1
if has_mpirun; then
  train two 2 $on
  same two
  used two 2
  MST_EMULATED_STREAMS=others train shared 2 $on --set batch.sharding=all
  same shared
  used shared 2
fi

sed "s|model: .*|model: {init: $work/plain}\nlora: {rank: 4}|" "$work/tiny.yaml" >"$work/lora.yaml"
config=lora
MST_EMULATED_STREAMS='' train adapters 1
whole=$want want=$(digest adapters)
train adapters-graphs 1 $on
same adapters-graphs
used adapters-graphs 1
config=tiny want=$whole

# A device that cannot: training goes on as before, with one word.
MST_EMULATED_GRAPHS=instantiate train fails 1 $on
same fails
says 'note: kernels are launched one by one, without graphs (device.graphs): '
check 'it is said once' [ "$(grep -c 'device.graphs' "$work/err")" = 1 ]
check 'there are no graphs' [ "$(graphs)" = 0 ]

# On the CPU the key means nothing.
train cpu 1 --set device.kernels=cpu
want=$(digest cpu)
train cpu-graphs 1 --set device.kernels=cpu $on
same cpu-graphs
finish
