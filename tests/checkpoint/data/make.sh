#!/usr/bin/env bash
# Makes a checkpoint to be kept: make.sh MUSTER NAME [KEY=VALUE...] writes NAME.tar.gz and NAME.txt beside this script. A kept
# file is never made again: it shows that what an older muster wrote is read for ever. Those that are here were made by muster 0.1.0:
#   make.sh muster version-1
#   make.sh muster version-2 model.rope_factor=8 model.rope_original_seq_len=8
#   make.sh muster version-4 lora.rank=2
# In the archive: the checkpoint of step 12, written by two ranks; tokens.h5 and config.yaml, with which the run goes on; of adapters
# the run folder, with the model that they adapt. In the
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
lora: {alpha: 4}
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
checkpoint=step-00000012
if grep -q 'rank:' config.yaml; then # they adapt what a run without them gives
  checkpoint=run/checkpoints/step-00000012
  cp tokens.h5 config.yaml /tmp/kept
  ranks 2 "$muster" train /tmp/kept/config.yaml --run first --set lora.rank=0 >/dev/null 2>&1
  "$muster" pack first -o model.h5 --weights-only >/dev/null
  sed -i 's/^model: {/model: {init: model.h5, /' config.yaml
fi
cp *.h5 config.yaml /tmp/kept
ranks 2 "$muster" train /tmp/kept/config.yaml --run run >/dev/null 2>&1
if [ "$checkpoint" = step-00000012 ]; then
  mv run/checkpoints/step-00000012 . && rm -r run
else
  rm run/*.j* run/config.yaml
  sed -i 's|model.h5|run/base.h5|' config.yaml
fi
{
  "$muster" verify $checkpoint
  "$muster" eval $checkpoint tokens.h5 | grep '^loss'
  "$muster" train config.yaml --run on --resume $checkpoint --set run.steps=16 2>/dev/null
} >"$here/$name.txt"
tar --sort=name --mtime=2026-11-24 --owner=0 --group=0 --numeric-owner -cf - "${checkpoint%%/*}" tokens.h5 config.yaml | gzip -9n >"$here/$name.tar.gz"
