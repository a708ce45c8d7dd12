#!/usr/bin/env bash
# Makes a checkpoint to be kept: make.sh MUSTER NAME [KEY=VALUE...] writes NAME.tar.gz and NAME.txt beside this script. A kept
# file is never made again: it shows that what an older muster wrote is read for ever. Those that are here were made by muster 0.1.0:
#   make.sh muster version-1
#   make.sh muster version-2 model.rope_factor=8 model.rope_original_seq_len=8
# In the archive: the checkpoint of step 12, written by two ranks; tokens.h5 and config.yaml, with which the run goes on. In the
# text: what 'muster verify' and 'muster eval' said of it, and the digests four steps later. device.kernels=ref, so that they are the
# same on every machine.
set -euo pipefail
muster=$1 name=$2 here=$(cd "$(dirname "$0")" && pwd)
shift 2
. "$here/../../shell.sh"
cd "$work"

for ((i = 0; i < 300; i++)); do echo "{\"text\": \"$i times $((i % 7)) is $((i * (i % 7))), says the book of sums on page $((i * i % 97)).\"}"; done >text.jsonl
"$muster" tokenizer train text.jsonl --vocab 560 -o tokenizer.json >/dev/null
"$muster" data build text.jsonl -t tokenizer.json --heldout 0.1 -o tokens.h5 >/dev/null
cat >config.yaml <<YAML
run: {name: kept, steps: 12, seed: 3}
model: {family: llama, d_model: 12, n_layers: 1, n_heads: 2, n_kv_heads: 1, d_ff: 20, tie_embeddings: true}
data: {sources: [tokens.h5], seq_len: 32}
batch: {micro: 4, leaf: 1, lanes: 2, rounds: 1}
schedule: {kind: constant, peak: 0.02, warmup: 0}
train: {precision: f32, eval_every: 0}
device: {kernels: ref, threads: 1}
YAML
for setting in "$@"; do
  section=${setting%%.*} key=${setting#*.}
  sed -i "s/^$section: {\(.*\)}$/$section: {\1, ${key/=/: }}/" config.yaml
done
mkdir /tmp/kept && trap 'rm -rf /tmp/kept "$work"' EXIT # a checkpoint's config has whole paths
cp tokens.h5 config.yaml /tmp/kept
ranks 2 "$muster" train /tmp/kept/config.yaml --run run >/dev/null 2>&1
mv run/checkpoints/step-00000012 .
{
  "$muster" verify step-00000012
  "$muster" eval step-00000012 tokens.h5 | grep '^loss'
  "$muster" train config.yaml --run on --resume step-00000012 --set run.steps=16 2>/dev/null
} >"$here/$name.txt"
tar --sort=name --mtime=2026-11-24 --owner=0 --group=0 --numeric-owner -cf - step-00000012 tokens.h5 config.yaml | gzip -9n >"$here/$name.tar.gz"
