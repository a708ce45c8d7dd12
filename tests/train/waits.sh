#!/usr/bin/env bash
# How often the host waits for the GPU in a step, and how often so that the GPU runs out of work: no more often than was counted.
#   waits.sh MUSTER: on the emulated device, which counts, with the stand-in for NCCL in the LD_LIBRARY_PATH where there is one
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

printf 'It was the best of times, it was the worst of times. %.0s' 1 2 3 4 5 6 7 8 >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'watchdog: {seconds: 100}'
sed -i -e 's/n_layers: 2/n_layers: 1/' -e 's/seq_len: 32/seq_len: 8/' -e 's/micro: 2/micro: 1/' \
  -e 's/device: {/&kernels: cuda, /' -e 's/f32/bf16/' -e 's/leaf: 1, lanes: 4, rounds: 1/leaf: 4, lanes: 2, rounds: 2/' "$work/tiny.yaml"
export MST_EMULATED_STREAMS=lazy MST_EMULATED_GPUS=4 MST_EMULATED_COUNTS=$work/counts

# count RANKS STEPS OPTION...: sets `waits` of a run, and `all` of them that were for all that was queued; of all ranks together
count() {
  local n=$1 steps=$2
  shift 2
  rm -rf "$work/counts" "$work/run"
  expect 0 ranks "$n" "$muster" train "$work/tiny.yaml" --run "$work/run" --set run.steps="$steps" "$@"
  read -r waits all <<<"$(awk '{waits += $7; all += $9} END {print waits, all}' "$work/counts")"
}

# step WHAT RANKS WAITS ALL [OPTION...]: in the second step, of 16 microbatches, each rank waits so often at most
step() {
  local what=$1 n=$2 most=$3 most_all=$4 waits all first_waits first_all
  shift 4
  count "$n" 1 "$@"
  first_waits=$waits first_all=$all
  count "$n" 2 "$@"
  waits=$((waits - first_waits)) all=$((all - first_all))
  echo "$what, $n ranks: $waits waits in a step, $all of them for all that was queued"
  check "$what: the host waits" [ "$all" -gt 0 ]
  check "$what: $waits waits, $most for each rank at most" [ "$waits" -le $((n * most)) ]
  check "$what: $all waits for all, $most_all for each rank at most" [ "$all" -le $((n * most_all)) ]
}

# A microbatch waits for the one before the last, the step's end for the last one, and for the norms.
step plain 1 17 2
step 'a round a microbatch, graphs' 1 17 2 --set batch.leaf=1 --set batch.lanes=1 --set batch.rounds=16 --set device.graphs=true
step offload 1 20 5 --set optimizer.offload=true # a piece in each of three units
if has_mpirun; then
  step mpi 2 13 5 --set batch.transport=mpi
  grep -q nccl <<<"${LD_LIBRARY_PATH:-}" && step nccl 2 9 3 --set batch.transport=nccl
fi
finish
