#!/usr/bin/env bash
# Ranks with a GPU each over NCCL: the bits of every other way, and failures that end in time and say where.
#   nccl.sh MUSTER: on emulated devices, with the stand-in for NCCL in the LD_LIBRARY_PATH; their streams work at once, or as late as
#   they may in one of two orders, so that a wait which is missing changes the bits
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"
has_mpirun || skip 'there is no mpirun'
export MST_EMULATED_GPUS=4

printf 'It was the best of times, it was the worst of times. %.0s' 1 2 3 4 5 6 7 8 >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'watchdog: {seconds: 100}'
sed -i -e 's/n_layers: 2/n_layers: 1/' -e 's/device: {/&kernels: cuda, /' "$work/tiny.yaml"
digest() { "$muster" verify "$work/$1" | grep -o 'weights [0-9a-f]* *state [0-9a-f]*'; }

expect 0 "$muster" train "$work/tiny.yaml" --run "$work/alone" --set run.steps=3
want=$(digest alone)
order=('' '' lazy others '') # of streams, by the number of ranks
for n in 2 3 4; do
  MST_EMULATED_STREAMS=${order[n]} expect 0 ranks "$n" "$muster" train "$work/tiny.yaml" --run "$work/nccl-$n" --set run.steps=3
  check "auto is nccl on $n ranks" grep -q '"transport": *"nccl"' "$work/nccl-$n/metrics.jsonl"
  check "the bits on $n ranks" [ "$(digest "nccl-$n")" = "$want" ]
done
MST_EMULATED_STREAMS=lazy expect 0 ranks 3 "$muster" train "$work/tiny.yaml" --run "$work/graphs-3" --set run.steps=3 \
  --set device.graphs=true
check 'the bits with graphs' [ "$(digest graphs-3)" = "$want" ]
MST_EMULATED_STREAMS=lazy expect 0 ranks 3 "$muster" train "$work/tiny.yaml" --run "$work/peer-3" --set run.steps=3 \
  --set batch.transport=peer
check 'the bits over peer' [ "$(digest peer-3)" = "$want" ]
for n in 2 3; do # sharded weights, and partial sums
  MST_EMULATED_STREAMS=${order[n]} expect 0 ranks "$n" "$muster" train "$work/tiny.yaml" --run "$work/sharded-$n" \
    --set run.steps=3 --set batch.sharding=all
  check "auto is nccl for sharded weights on $n ranks" grep -q '"transport": *"nccl"' "$work/sharded-$n/metrics.jsonl"
  check "the bits of sharded weights on $n ranks" [ "$(digest "sharded-$n")" = "$want" ]
done

# A rank makes a context on its own GPU alone: to train, and when the doctor looks; without a config on none.
opened() { [ "$(sort "$work/contexts" 2>/dev/null | tr '\n' ' ')" = "$1" ] && rm -f "$work/contexts"; }
export MST_EMULATED_CONTEXTS=$work/contexts
expect 0 ranks 2 "$muster" train "$work/tiny.yaml" --run "$work/contexts-2" --set run.steps=1
check 'contexts of training' opened '0 1 '
expect 0 ranks 2 "$muster" doctor "$work/tiny.yaml"
check 'contexts of the doctor' opened '0 1 '
expect 0 ranks 2 "$muster" doctor
check 'contexts of the doctor without a config' [ ! -e "$work/contexts" ]
check 'it sees the GPUs all the same' grep -qE '^ok +GPUs +.*4: cuda emulated' "$work/out"
unset MST_EMULATED_CONTEXTS

# More lanes than ranks, rounds, a bf16 wire; ranks that have no lane; a resume on another number of ranks, over MPI.
other() { # other RANKS RUN STEPS [OPTION...]
  local n=$1 run=$2 steps=$3
  shift 3
  expect 0 ranks "$n" "$muster" train "$work/tiny.yaml" --run "$work/$run" --set batch.lanes=2 --set batch.rounds=2 \
    --set batch.wire=bf16 --set train.precision=bf16 --set run.steps="$steps" "$@"
}
other 1 other-1 2
export MST_EMULATED_STREAMS=lazy
other 3 other-3 1 --set batch.transport=nccl
other 2 other-3 2 --set batch.transport=mpi
check 'the bits of rounds and a bf16 wire' [ "$(digest other-3)" = "$(digest other-1)" ]
MST_EMULATED_STREAMS=others
other 3 other-sharded 1 --set batch.transport=nccl --set batch.sharding=all --set train.recompute=full
other 2 other-sharded 2 --set batch.transport=nccl --set batch.sharding=all
check 'the bits of streamed gradients, rounds and a bf16 wire' [ "$(digest other-sharded)" = "$(digest other-1)" ]
unset MST_EMULATED_STREAMS

# NCCL wants a GPU for each rank.
MST_EMULATED_GPUS=2 expect 2 ranks 3 "$muster" train "$work/tiny.yaml" --run "$work/few" --set batch.transport=nccl
says 'ranks 0 and 2 share GPU 0000:01:00.0 of host'
MST_EMULATED_GPUS=2 expect 0 ranks 3 "$muster" train "$work/tiny.yaml" --run "$work/few" --set run.steps=1
check 'auto is mpi where ranks share a GPU' grep -q '"transport": *"mpi"' "$work/few/metrics.jsonl"
expect 2 ranks 2 "$muster" train "$work/tiny.yaml" --run "$work/cpu" --set device.kernels=cpu --set batch.transport=nccl
says 'transports nccl and peer are for GPUs'

# hurt FAULT WORDS...: 3 ranks with a fault of NCCL on rank 1; the job ends within the watchdog's time and 10 s more
options=()
hurt() {
  local fault=$1 begin=$SECONDS
  shift
  rm -rf "$work/hurt"
  checks=$((checks + 1))
  MST_EMULATED_NCCL=$fault ranks 3 "$muster" train "$work/tiny.yaml" --run "$work/hurt" --set watchdog.seconds=10 \
    --set run.steps=50 "${options[@]}" >"$work/out" 2>"$work/err" && fail "$fault: exit code 0"
  check "$fault ends in time" [ $((SECONDS - begin)) -lt 40 ]
  for words in "$@"; do
    checks=$((checks + 1))
    grep -qE -- "$words" "$work/err" || { fail "$fault: stderr does not say '$words'"; sed 's/^/    | /' "$work/err" >&2; }
  done
}
host='\(host [^ )]+\)'
# Groups of this model: 3 units published at first, then 3 sums and 3 units published a step.
hurt loses:1:5 "rank [02]: NCCL on host [^ ]+, phase exchange, unit 1: nothing came for 5 s; it needs rank [0-9] $host"
hurt loses:1:7 "rank [02]: .*NCCL on host [^ ]+, phase publish, unit 0: nothing came for 5 s; it needs rank [0-9] $host"
hurt fails:1:5 "rank 1: backward pass of .*: NCCL on host [^ ]+, phase exchange, unit [12]: remote process exited or there was a network error; it needs (rank 0 $host, )?rank 2 $host: the test asked for it"
hurt dies:1:5 "rank 1 \(host [^ ]+, process [0-9]+, cuda emulated, 1 thread\) died at step 0 in phase [a-z]+.*: ending the job"
# With streamed gradients: 9 groups of the passes that choose algorithms, then in each pass units 0, 1, 2, 0 (for the head) and 1 are
# gathered and the sums of units 2, 1 and 0 follow.
options=(--set batch.sharding=all --set batch.lanes=2)
export MST_EMULATED_STREAMS=lazy
hurt loses:1:11 "rank [02]: .*NCCL on host [^ ]+, phase gather, unit 1: nothing came for 5 s; it needs rank [0-9] $host"
hurt loses:1:15 "rank [02]: .*NCCL on host [^ ]+, phase exchange, unit [12]: nothing came for 5 s; it needs rank [0-9] $host"
hurt fails:1:15 "rank 1: .*NCCL on host [^ ]+, phase [a-z]+, unit [12]: remote process exited or there was a network error; it needs .*rank 2 $host: the test asked for it"
hurt dies:1:11 "rank 1 \(host [^ ]+, process [0-9]+, cuda emulated, 1 thread\) died at step 0 in phase [a-z]+.*: ending the job"
finish
