#!/usr/bin/env bash
# muster verify and muster inspect, as a user runs them.
#   commands.sh MUSTER CHECKPOINT_RANKS
set -euo pipefail
muster=$1 writer=$2
. "$(dirname "$0")/../shell.sh"

"$writer" save "$work" >/dev/null
mkdir -p "$work/run"
mv "$work/w1" "$work/run/checkpoints"
ckpt=$work/run/checkpoints/step-00001000
shard=$(basename "$ckpt"/shard-*.h5)

expect 0 "$muster" verify "$ckpt"
line=$(cat "$work/out")
check 'one line, as promised' grep -qEx 'weights [0-9a-f]{64}  state [0-9a-f]{64}' "$work/out"
check 'only one line' [ "$(wc -l <"$work/out")" = 1 ]
expect 0 "$muster" verify "$work/run"
check 'a run folder means its newest checkpoint' [ "$(cat "$work/out")" = "$line" ]
expect 0 "$muster" verify "$ckpt/" --threads 1
check 'the same with one thread' [ "$(cat "$work/out")" = "$line" ]

expect 0 "$muster" inspect "$ckpt" --tensors
weights=${line#weights }
for words in 'llama' 'parameters     ' '8,192,000 tokens' "${weights%%  *}" 'test-run' 'cpu, any' \
  'model.layers.10.mlp.weight' '[64, 64]' 'all there'; do
  check "inspect says '$words'" grep -qF -- "$words" "$work/out"
done
expect 0 "$muster" inspect "$ckpt" --config
check 'the config alone' grep -qF 'name: "tést"' "$work/out"

expect 2 "$muster" verify
expect 2 "$muster" verify "$ckpt" --thread 1
expect 1 "$muster" verify "$work/nowhere"
says 'nowhere'
mkdir "$work/empty"
expect 1 "$muster" verify "$work/empty"
says 'manifest.json'

printf 'x' | dd of="$ckpt/$shard" bs=1 seek=100000 conv=notrunc status=none
expect 1 "$muster" verify "$ckpt"
says "$shard"
says ' of model.' # the tensor
check 'nothing on stdout' [ ! -s "$work/out" ]
expect 0 "$muster" inspect "$ckpt" # sizes are still right
truncate -s -1 "$ckpt/$shard"
expect 1 "$muster" inspect "$ckpt"
says "$shard"
rm "$ckpt/$shard"
mv "$ckpt/tokenizer.json" "$ckpt/elsewhere"
expect 1 "$muster" inspect "$ckpt"
says 'missing'
for name in tokenizer.json "$shard"; do check "inspect names every file that is missing: $name" grep -q "$name is missing" "$work/out"; done
mv "$ckpt/elsewhere" "$ckpt/tokenizer.json"
expect 1 "$muster" verify "$ckpt"
says "$shard"
finish
