#!/usr/bin/env bash
# muster import, muster export and model.init, with the models that tests/unit/data/hf keeps. Usage: convert.sh MUSTER
set -u
. "$(dirname "$0")/../shell.sh"
muster=$1
models=$tests/unit/data/hf
cd "$work" || exit 1

# ---- in, and out again ----

cp -r "$models/llama_9_3_tied" model
printf '{"x": "\xe6\xbc\xa2"}' >model/tokenizer_config.json
printf '\0\1binary' >model/spiece.model
expect 0 "$muster" import model -o model.h5
says "there is no tokenizer.json"
imported=$(grep -o 'weights [0-9a-f]*' out)
expect 0 "$muster" verify model.h5
check "verify prints the digest of import" grep -qF "$imported" out
expect 0 "$muster" inspect model.h5
check "inspect knows the model" grep -q 'llama, 2 layers, d_model 36, 9 heads (3 for keys and values)' out
expect 0 "$muster" import model -o again.h5
check "the same model gives the same file" cmp model.h5 again.h5
expect 0 "$muster" export model.h5 -o back
for file in model.safetensors config.json tokenizer_config.json spiece.model expected.bin; do
  [ "$file" = expected.bin ] && continue # .bin: another format's weights, which are not carried
  check "$file comes back" cmp "model/$file" "back/$file"
done
check "there is a card" grep -q '^library_name: transformers' back/README.md
check "nothing else is there" [ "$(ls -A back | wc -l)" = 5 ]
expect 0 "$muster" import back -o third.h5
check "a second round gives the same weights" grep -qF "$imported" out

expect 0 "$muster" import "$models/qwen2_9_3" -o parts.h5
expect 0 "$muster" export parts.h5 -o parts --shard-size 9kB
check "several files have an index" [ -e parts/model.safetensors.index.json ]
check "of which none is larger" [ -z "$(find parts -name 'model-*' -size +10000c)" ]
digest=$(grep -o 'weights [0-9a-f]*' <("$muster" verify parts.h5))
expect 0 "$muster" import parts -o parts2.h5
check "read back, they are the same" grep -qF "$digest" out

# Weights that are not finite are taken, named, and come back.
cp -r "$models/llama_9_3_tied" nan
printf '\0\0\300\177' | dd of=nan/model.safetensors bs=1 seek=$(($(wc -c <nan/model.safetensors) - 4)) conv=notrunc 2>/dev/null
expect 0 "$muster" import nan -o nan.h5
says "warning: tensor "
says " holds nan at element "
expect 0 "$muster" export nan.h5 -o nan-back
check "a NaN comes back" cmp nan/model.safetensors nan-back/model.safetensors

# ---- what is refused, and what stays ----

expect 2 "$muster" export model.h5 -o back
says "is there already"
expect 2 "$muster" import model -o back
expect 2 "$muster" export model.h5 -o x --dtype f8
expect 2 "$muster" export model.h5 -o x --shard-size 3
expect 1 "$muster" import nowhere -o x.h5
says "nowhere/config.json"
sed 's/"attention_bias": false/"attention_bias": true/' "$models/llama_9_3_tied/config.json" >model/config.json
expect 1 "$muster" import model -o x.h5
says "attention_bias is true"
cp "$models/llama_9_3_tied/config.json" model/config.json
head -c 5000 "$models/llama_9_3_tied/model.safetensors" >model/model.safetensors
expect 1 "$muster" import model -o x.h5
says "not in the file"
cp "$models/llama_9_3_tied/model.safetensors" model/
printf x >not-a-checkpoint.h5
expect 2 "$muster" import model -o not-a-checkpoint.h5
check "a file of another kind stays" [ "$(cat not-a-checkpoint.h5)" = x ]
expect 1 "$muster" export not-a-checkpoint.h5 -o x
check "nothing is left of what failed" [ -z "$(ls -Ad x x.* .x* 2>/dev/null)" ]

# ---- a run that begins with it ----

tr -dc 'a-z \n' </dev/urandom 2>/dev/null | head -c 20000 >text.txt
expect 0 "$muster" data build text.txt --heldout 0 -o tokens.h5
cat >train.yaml <<EOF
run: {steps: 3, seed: 3}
model: {d_model: 24, n_layers: 2, n_heads: 3, d_ff: 40, tie_embeddings: false}
data: {sources: [$work/tokens.h5], seq_len: 16}
batch: {micro: 2, lanes: 4}
schedule: {peak: 0.003}
train: {precision: f32}
device: {threads: 1}
EOF
expect 0 "$muster" train train.yaml --run runs/first
expect 0 "$muster" export runs/first -o hf
check "the card has the losses" grep -q '^| 3 | ' hf/README.md
expect 0 "$muster" verify runs/first
first=$(grep -o 'weights [0-9a-f]*' out)

sed 's/^model:.*/model: {init: hf}/' train.yaml >next.yaml
printf 'Apache\n' >hf/LICENSE
expect 0 "$muster" train next.yaml --run runs/one
says "began with the weights of $work/hf: ${first#weights }"
digests=$(cat out)
check "the run says what it began with" grep -q "${first#weights }" runs/one/run.json
if has_mpirun; then
  expect 0 ranks 3 "$muster" train next.yaml --run runs/three
  check "three ranks give the same" [ "$(cat out)" = "$digests" ]
fi
expect 0 "$muster" train next.yaml --set model.init=runs/first --run runs/checkpoint
check "so does the checkpoint itself" [ "$(cat out)" = "$digests" ]
expect 0 "$muster" import hf -o hf.h5
expect 0 "$muster" train next.yaml --set model.init=hf.h5 --run runs/packed
check "and the imported one" [ "$(cat out)" = "$digests" ]
expect 0 "$muster" train next.yaml --run runs/one --set run.steps=5
says "resumed from"
expect 0 "$muster" export runs/one -o after
check "what came with the model comes back after training and a resume" cmp hf/LICENSE after/LICENSE
check "the description, too" cmp hf/config.json after/config.json

cp -r runs/one runs/hurt
printf X | dd of=runs/hurt/checkpoints/step-00000005/huggingface.tar bs=1 seek=600 conv=notrunc 2>/dev/null
expect 0 "$muster" train next.yaml --run runs/hurt --set run.steps=6
says "resumed from runs/hurt/checkpoints/step-00000005"
says "checkpoints from here on will be without it"

expect 2 "$muster" train next.yaml --run runs/other --resume hf.h5
says "set model.init to it"
expect 2 "$muster" train next.yaml --set model.init=nowhere --run runs/none
says "model.init"
expect 2 "$muster" train next.yaml --set model.init=hf --set model.d_ff=41 --run runs/none
says "another model"
check "a start that is refused leaves no checkpoint" [ -z "$(ls -A runs/none/checkpoints 2>/dev/null)" ]

# A run without a checkpoint that begins again has to find the same weights.
expect 0 "$muster" train next.yaml --run runs/moved
rm -r runs/moved/checkpoints/step-*
cp after/model.safetensors hf/
expect 2 "$muster" train next.yaml --run runs/moved
says "holds other weights"

finish
