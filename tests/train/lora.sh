#!/usr/bin/env bash
# Adapters on a frozen model: the same bits on any number of ranks and threads and after a kill, resumed without the model that they
# began with; used, exported, merged; what is refused.
#   lora.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"
command -v jq >/dev/null || skip "jq is not installed"
has_mpirun || skip "no mpirun"

for i in $(seq 40); do
  printf '{"text": "%s"}\n' "$(printf 'document %d of %d: ' "$i" $((i * i)); echo "$i" | sha256sum | head -c 60)"
done >"$work/text.jsonl"
"$muster" data build "$work/text.jsonl" --heldout 0.2 -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml"
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/first"
expect 0 "$muster" export "$work/first" -o "$work/model"
base=$("$muster" verify "$work/first" | grep -o '^weights [0-9a-f]*')
tiny_config "$work/lora.yaml" 'checkpoint: {every: 4, minutes: 0}'
sed -i "s|model: .*|model: {init: $work/model}\nlora: {rank: 4, targets: [q_proj, v_proj, down_proj]}|; s/steps: 8/steps: 12/" "$work/lora.yaml"
sed -i 's/peak: 0.003/peak: 0.02/' "$work/lora.yaml"
digests() { grep -o '^weights [0-9a-f]*  state [0-9a-f]*$' "$work/out"; }

# ---- the same bits, whoever computes ----
expect 0 "$muster" train "$work/lora.yaml" --run "$work/r1"
says 'adapters of rank 4: '
same=$(digests)
check 'the run ends with digests' [ -n "$same" ]
check 'adapters are all that is trained' [ "$(jq '[.tensors[].name | test("lora_[AB]")] | all and length == 12' \
  "$work/r1/checkpoints/step-00000012/manifest.json")" = true ]
check 'the manifest names the base' [ "weights $(jq -r .base "$work/r1/checkpoints/step-00000012/manifest.json")" = "$base" ]
check 'the base stands in the run folder' [ "$("$muster" verify "$work/r1/base.h5" | grep -o '^weights [0-9a-f]*')" = "$base" ]
check 'the loss falls' [ "$(jq -s '[.[] | select(.event == "step") | .loss] | .[0] > .[11]' "$work/r1/metrics.jsonl")" = true ]
for n in 2 3; do
  expect 0 ranks $n "$muster" train "$work/lora.yaml" --run "$work/r$n" --set device.threads=$n
  check "$n ranks x $n threads: other digests" [ "$(digests)" = "$same" ]
done
expect 0 ranks 3 "$muster" train "$work/lora.yaml" --run "$work/mpi" --set batch.transport=mpi
check 'over mpi: other digests' [ "$(digests)" = "$same" ]
for recompute in selective full; do
  expect 0 ranks 2 "$muster" train "$work/lora.yaml" --run "$work/$recompute" --set train.recompute=$recompute
  check "$recompute recomputation: other digests" [ "$(digests)" = "$same" ]
done
# A checkpoint is as good a beginning as the folder.
expect 0 ranks 2 "$muster" train "$work/lora.yaml" --run "$work/fromckpt" --set model.init="$work/first"
check 'from a checkpoint: other digests' [ "$(digests)" = "$same" ]

# ---- killed, and resumed without the model that it began with: the config in the run folder says all of it ----
cp -r "$work/model" "$work/gone"
sed "s|$work/model|$work/gone|" "$work/lora.yaml" >"$work/gone.yaml"
"$muster" train "$work/gone.yaml" --run "$work/killed" --set run.steps=2000 --set checkpoint.keep=0 >"$work/out" 2>"$work/err" &
victim=$!
for _ in $(seq 600); do
  [ -e "$work/killed/checkpoints/step-00000008" ] && break
  sleep 0.05
done
check 'it comes to step 8 within 30 s' [ -e "$work/killed/checkpoints/step-00000008" ]
kill -9 $victim || true
wait $victim 2>/dev/null || true
for path in "$work"/killed/checkpoints/step-*; do
  [ "$((10#${path##*-}))" -le 8 ] || rm -r "$path"
done
rm -r "$work/gone"
resume() { expect "$1" ranks 2 "$muster" train "$work/killed/config.yaml" --run "$work/killed" --set run.steps="$2"; }
resume 0 12
says 'resumed from '
check 'killed and resumed on two ranks: other digests' [ "$(digests)" = "$same" ]

# ---- what is lost or damaged is said ----
mv "$work/killed/base.h5" "$work/kept.h5"
resume 1 14
says "model.init: $work/gone does not exist"
expect 1 "$muster" eval "$work/killed"
says 'holds adapters of a model with the weights '
cp "$work/kept.h5" "$work/killed/base.h5"
printf 'x' | dd of="$work/killed/base.h5" bs=1 seek=$(($(stat -c %s "$work/kept.h5") / 2)) conv=notrunc status=none
resume 1 14
says 'base.h5'
expect 1 "$muster" eval "$work/killed"
cp "$work/kept.h5" "$work/killed/base.h5"
resume 0 14
# Another model under the same name is not taken for the one that the run began with.
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/second" --set run.seed=4
expect 0 "$muster" export "$work/second" -o "$work/model2"
expect 2 "$muster" train "$work/lora.yaml" --run "$work/other" --set model.init="$work/model2" --resume "$work/r1/checkpoints/step-00000012"
says 'holds adapters of another model'

# ---- used and exported ----
expect 0 "$muster" eval "$work/r1" --json
unmerged=$(jq .loss "$work/out")
expect 0 "$muster" eval "$work/first" --json
check 'the adapters change the loss' [ "$(jq .loss "$work/out")" != "$unmerged" ]
expect 0 "$muster" generate "$work/r1" --prompt document --tokens 12 --temperature 0
cp "$work/out" "$work/said"
expect 0 "$muster" export "$work/r1" -o "$work/merged"
expect 0 "$muster" import "$work/merged" -o "$work/merged.h5"
expect 0 "$muster" generate "$work/merged.h5" --prompt document --tokens 12 --temperature 0
check 'merged, it writes something else' cmp -s "$work/out" "$work/said"
expect 0 "$muster" eval "$work/merged.h5" "$work/tokens.h5" --json
check "merged $(jq .loss "$work/out") and unmerged $unmerged differ" \
  [ "$(jq "(.loss / $unmerged - 1) | fabs < 1e-6" "$work/out")" = true ]
printf '{"question": "document 1 of", "choices": [" 1: 4355", " 9: 0000"], "answer": 0}\n' >"$work/choices.jsonl"
losses() { rm -f "$work/details.jsonl"; expect 0 "$muster" eval "$1" --choices "$work/choices.jsonl" --details "$work/details.jsonl" && jq -c '[.. | numbers]' "$work/details.jsonl"; }
ours=$(losses "$work/r1") merged=$(losses "$work/merged.h5") before=$(losses "$work/first")
check "choices: $ours, merged $merged" [ "$(jq -n "[$ours, $merged] | transpose | map(.[0] - .[1] | fabs < 1e-4) | all")" = true ]
check "choices: adapters change nothing of $before" [ "$ours" != "$before" ]
expect 0 "$muster" export "$work/r1" -o "$work/adapter" --adapter --base org/name
check 'three files' [ "$(ls "$work/adapter" | tr '\n' ' ')" = 'README.md adapter_config.json adapter_model.safetensors ' ]
check 'adapter_config.json' [ "$(jq -c '[.r, .lora_alpha, .target_modules, .base_model_name_or_path, .use_rslora]' \
  "$work/adapter/adapter_config.json")" = '[4,8,["q_proj","v_proj","down_proj"],"org/name",false]' ]
# A run that begins with these adapters and learns next to nothing is where that one ended.
expect 0 "$muster" train "$work/lora.yaml" --run "$work/again" --set lora.init="$work/adapter" --set run.steps=1 \
  --set schedule.peak=1e-30 --set optimizer.weight_decay=0
check 'adapters come back as they were' [ "$(digests | cut -c1-72)" = "$(echo "$same" | cut -c1-72)" ]
expect 0 "$muster" inspect "$work/r1"
check 'inspect names the base' grep -q "^adapters .*$base$" "$work/out"
check 'inspect lists the base' grep -q '^base .*base\.h5' "$work/out"
expect 0 "$muster" verify "$work/r1"
cp -r "$work/r1" "$work/damaged"
printf 'x' | dd of="$work/damaged/base.h5" bs=1 seek=$(($(stat -c %s "$work/kept.h5") / 2)) conv=notrunc status=none
expect 1 "$muster" verify "$work/damaged"
says 'base.h5'
check 'no digests of a damaged base' [ ! -s "$work/out" ]
expect 0 "$muster" inspect "$work/damaged" # its size is still right
truncate -s -1 "$work/damaged/base.h5"
expect 1 "$muster" inspect "$work/damaged"
says 'base.h5'
rm "$work/damaged/base.h5"
for command in verify inspect; do
  expect 1 "$muster" "$command" "$work/damaged"
  says 'has to stand in the run folder as base.h5'
done
# The model's own config would make something else of the adapters.
expect 0 "$muster" train "$work/lora.yaml" --run "$work/changed_model" --set run.steps=1 --set model.rope_theta=20000 \
  --set model.n_heads=2 --set model.n_kv_heads=1 --set model.head_dim=16
expect 2 "$muster" export "$work/changed_model" -o "$work/alone" --adapter
says "model's n_heads, n_kv_heads, head_dim, rope_theta;"
check 'nothing is left of it' [ ! -e "$work/alone" ]
expect 0 "$muster" export "$work/changed_model" -o "$work/whole"
check 'merged, it is exported with its config' \
  [ "$(jq '.num_attention_heads == 2 and .rope_theta == 20000' "$work/whole/config.json")" = true ]

# ---- what is not finite is said, with its place ----
spoil() { # spoil FOLDER FILE: the last element becomes a NaN
  cp -r "$work/$1" "$work/$1-nan"
  printf '\0\0\300\177' | dd of="$work/$1-nan/$2" bs=1 seek=$(($(stat -c %s "$work/$1/$2") - 4)) conv=notrunc status=none
}
spoil model model.safetensors
spoil adapter adapter_model.safetensors
said_nan() {
  expect 1 "$@"
  check 'once' [ "$(grep -cE '^warning: tensor .* holds nan at element [0-9]+$' "$work/err")" = 1 ]
}
said_nan "$muster" train "$work/lora.yaml" --run "$work/nan-base" --set model.init="$work/model-nan"
said_nan "$muster" train "$work/lora.yaml" --run "$work/nan-all" --set model.init="$work/model-nan" --set lora.rank=0
said_nan ranks 2 "$muster" train "$work/lora.yaml" --run "$work/nan-ranks" --set model.init="$work/model-nan" --set lora.rank=0
said_nan "$muster" train "$work/lora.yaml" --run "$work/nan-lora" --set lora.init="$work/adapter-nan"

# ---- memory ----
memory() { "$muster" plan "$work/lora.yaml" --ranks 2 --flops 1e11 --json "$@" | jq ".memory.$field"; }
field=frozen
check 'the frozen weights are planned for' [ "$(memory)" -gt 0 -a "$(memory --set lora.rank=0)" = 0 ]
for field in masters moments gradients saving; do
  check "$field: less with adapters" [ "$(memory)" -lt "$(memory --set lora.rank=0)" ]
done

# ---- what is refused ----
refused() {
  expect 2 "$muster" train "$work/lora.yaml" --run "$work/refused" "${@:2}"
  says "$1"
}
refused 'lora.dropout: 0.1: muster trains without dropout' --set lora.dropout=0.1
refused "lora.targets: 'c_attn' is no projection" --set lora.targets=c_attn
refused 'lora.rank: adapters need a model' --set model.init=null --set model.d_model=32 --set model.n_layers=2 --set model.n_heads=4
refused 'lora.init: these adapters would not be used' --set lora.rank=0 --set lora.init="$work/adapter"
refused 'lora.alpha: adapters that are multiplied by 0' --set lora.alpha=0
refused 'batch.sharding: adapters are small' --set batch.sharding=all
for other in model.n_layers=3 model.family=qwen2 model.tie_embeddings=false; do
  refused "$work/model is another model than the config's: " --set $other
done
refused 'r is 4, lora.rank is 8' --set lora.rank=8 --set lora.init="$work/adapter"
refused 'other targets than lora.targets' --set lora.targets=all-linear --set lora.init="$work/adapter"
refused 'is of no projection that lora.targets names' --set lora.targets=q_proj --set lora.init="$work/adapter"
cp "$work/adapter/adapter_config.json" "$work/plain.json"
peft() { # peft FILTER: the adapters with another adapter_config.json
  jq "$1" "$work/plain.json" >"$work/adapter/adapter_config.json"
}
for filter in '.use_dora = true' '.alora_invocation_tokens = [1, 2]' '.layer_replication = [[0, 2]]' '.kasa_config = {"beta": 1}' \
  '.init_lora_weights = "pissa_niter_4"' '.init_lora_weights = "loftq"' '.init_lora_weights = {}'; do
  peft "$filter"
  expect 1 "$muster" train "$work/lora.yaml" --run "$work/special" --set lora.init="$work/adapter"
  field=${filter#.}
  says "adapter_config.json: ${field%% *} is "
done
for value in null false '"gaussian"'; do
  peft ".alora_invocation_tokens = null | .layer_replication = null | .init_lora_weights = $value"
  expect 0 "$muster" train "$work/lora.yaml" --run "$work/ordinary" --set lora.init="$work/adapter" --set run.steps=1
  rm -r "$work/ordinary"
done

# ---- the adapters that a run began with are those that it begins with again ----
peft .
begin() { expect "$1" "$muster" train "$work/lora.yaml" --run "$work/begun" --set run.steps=1 "${@:2}"; }
begin 0 --set lora.init="$work/adapter"
check 'run.json: init_adapters' [ "$(jq -r .init_adapters "$work/begun/run.json")" = "$(echo "$same" | cut -c9-72)" ]
rm -r "$work/begun/checkpoints"
begin 0 --set lora.init="$work/adapter"
rm -r "$work/begun/checkpoints"
begin 2
says 'lora.init: the adapters '
expect 0 "$muster" export "$work/r2/checkpoints/step-00000008" -o "$work/earlier" --adapter
begin 2 --set lora.init="$work/earlier"
says 'are others than this run began with'

# ---- a run folder that somebody forged ----
seal() { # seal MANIFEST: its digests follow again from what it says
  local state text
  state=$(jq -j '"muster state 1\nweights \(.weights)\nexp_avg \(.exp_avg)\nexp_avg_sq \(.exp_avg_sq)\nstep \(.step)\nupdates \(.updates)\n",
    "samples \(.samples)\ndata \(.data)\nbase \(.base)\n"' "$1" | sha256sum | cut -c1-64)
  text=$(sed "s/\"state\": \"[0-9a-f]*\"/\"state\": \"$state\"/" "$1")
  text=${text%\"manifest_sha256\"*}
  printf '%s"manifest_sha256": "%s"\n}\n' "$text" "$(printf %s "$text" | sha256sum | cut -c1-64)" >"$1"
}
forge() { # forge SED_SCRIPT: a copy of the run whose manifest is another
  rm -rf "$work/forged"
  cp -r "$work/r1" "$work/forged"
  sed -i "$1" "$work/forged/checkpoints/step-00000012/manifest.json"
  seal "$work/forged/checkpoints/step-00000012/manifest.json"
}
forge ''
expect 0 "$muster" export "$work/forged" -o "$work/unforged"
check 'sealed again, it is what it was' cmp -s "$work/unforged/model.safetensors" "$work/merged/model.safetensors"
for shape in 'd_model: 32/d_model: 16' 'd_model: 32/d_model: 48' 'd_ff: 64/d_ff: 32' 'n_layers: 2/n_layers: 1'; do
  sed "s/$shape/; s/steps: 8/steps: 1/" "$work/tiny.yaml" >"$work/shape.yaml"
  rm -rf "$work/shape" "$work/shape-model" "$work/shape.h5"
  expect 0 "$muster" train "$work/shape.yaml" --run "$work/shape"
  expect 0 "$muster" pack "$work/shape" --weights-only -o "$work/shape.h5"
  forge "s/${base#weights }/$("$muster" verify "$work/shape.h5" | grep -o '^weights [0-9a-f]*' | cut -d' ' -f2)/"
  cp "$work/shape.h5" "$work/forged/base.h5"
  expect 1 "$muster" export "$work/forged" -o "$work/forged-model"
  says 'of another model'
done
forge 's/rank: 4/rank: 0/'
for command in "export $work/forged -o $work/forged-model" "export $work/forged -o $work/forged-model --adapter" "eval $work/forged"; do
  # shellcheck disable=SC2086
  expect 1 "$muster" $command
  says 'holds adapters, but lora.rank is 0 in its config'
done
expect 2 "$muster" pack "$work/r1" -o "$work/packed.h5"
says 'holds adapters, which are nothing without the model'
expect 2 "$muster" train "$work/tiny.yaml" --run "$work/none" --set model.init="$work/r1"
says 'holds adapters, and no model'
expect 2 "$muster" plan "$work/tiny.yaml" --flops 1e11 --set model.init="$work/r1"
says 'holds adapters, and no model'
expect 2 "$muster" export "$work/r1" -o "$work/alone" --adapter --shard-size 1KB
says '--shard-size is for a model'
expect 2 "$muster" export "$work/r1" -o "$work/alone" --adapter --base ''
says '--base is empty'
expect 2 "$muster" export "$work/first" -o "$work/alone" --adapter
says 'holds a model, and no adapters'
expect 2 "$muster" train "$work/lora.yaml" --run "$work/r1" --set lora.rank=5
says 'lora.rank (4, now 5)'
finish
