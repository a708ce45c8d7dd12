#!/usr/bin/env bash
# NCCL on one GPU: it refuses two ranks there, unless NCCL_HOSTID makes it believe that they stand on different hosts. Then they
# talk through sockets, slowly; the bits have to be those of one rank.
#   nccl_one_gpu.sh MUSTER
set -euo pipefail
muster=$1
limit=100
. "$(dirname "$0")/../shell.sh"
has_mpirun || skip 'there is no mpirun'
printf 'It was the best of times, it was the worst of times. %.0s' 1 2 3 4 5 6 7 8 >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'watchdog: {seconds: 40}'
sed -i -e 's/n_layers: 2/n_layers: 1/' -e 's/device: {/&kernels: cuda, /' -e 's/precision: f32/precision: bf16/' "$work/tiny.yaml"
digest() { "$muster" verify "$work/$1" | grep -o 'weights [0-9a-f]* *state [0-9a-f]*'; }
# its rank, as Open MPI and MPICH tell it, for the name of its host; sockets on any interface, also where only lo is up
cat >"$work/apart" <<'END'
#!/bin/sh
export NCCL_HOSTID=host-${OMPI_COMM_WORLD_RANK:-$PMI_RANK} NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-^none} NCCL_DEBUG=WARN
exec "$@"
END
chmod +x "$work/apart"

expect 0 "$muster" train "$work/tiny.yaml" --run "$work/alone" --set run.steps=3
for n in 2 3; do
  code=0
  ranks "$n" "$work/apart" "$muster" train "$work/tiny.yaml" --run "$work/nccl-$n" --set run.steps=3 \
    --set batch.transport=nccl >"$work/out" 2>"$work/err" || code=$?
  refusal=$(grep -hE 'libnccl.so|nccl.h|Duplicate GPU' "$work/err" "$work/out" | head -n 1 || true)
  if [ "$code" != 0 ] && [ -n "$refusal" ]; then skip "NCCL does not do this here: $refusal"; fi
  [ "$code" = 0 ] || sed 's/^/    | /' "$work/err" >&2
  check "$n ranks end" [ "$code" = 0 ]
  check "$n ranks over nccl" grep -q '"transport": *"nccl"' "$work/nccl-$n/metrics.jsonl"
  check "the bits of $n ranks" [ "$(digest "nccl-$n")" = "$(digest alone)" ]
  expect 0 ranks "$n" "$work/apart" "$muster" train "$work/tiny.yaml" --run "$work/sharded-$n" --set run.steps=3 \
    --set batch.transport=nccl --set batch.sharding=all
  check "the bits of $n ranks with sharded weights" [ "$(digest "sharded-$n")" = "$(digest alone)" ]
done
finish
