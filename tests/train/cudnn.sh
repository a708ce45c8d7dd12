#!/usr/bin/env bash
# Attention by cuDNN: taken where its workspace fits, and only such of its algorithms as add in one order; recorded and replayed, the
# same on all ranks; muster's own kernel where it does not serve.
#   cudnn.sh MUSTER: on the emulated device, with the stand-in for cuDNN, whose version stands in the environment
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

printf 'It was the best of times, it was the worst of times. %.0s' 1 2 3 4 5 6 7 8 9 10 >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'watchdog: {seconds: 100}'
sed -i -e 's/n_layers: 2/n_layers: 1/' -e 's/precision: f32/precision: bf16/' -e 's/device: {/&kernels: cuda, /' "$work/tiny.yaml"
export MST_EMULATED_CUDNN=91900

# train CODE RANKS RUN STEPS [VARIABLE=VALUE|--set KEY=VALUE]...
train() {
  local code=$1 n=$2 run=$work/$3 steps=$4 got=0 options=() variables=()
  shift 4
  while [ $# -gt 0 ]; do
    if [ "$1" = --set ]; then options+=("$1" "$2") && shift 2; else variables+=("$1") && shift; fi
  done
  checks=$((checks + 1))
  (
    [ ${#variables[@]} -eq 0 ] || export "${variables[@]}"
    ranks "$n" "$muster" train "$work/tiny.yaml" --run "$run" --set run.steps="$steps" "${options[@]}" >"$work/out" 2>"$work/err"
  ) || got=$?
  [ "$got" = "$code" ] && return
  fail "exit code $got, not $code: train $run ${variables[*]} ${options[*]}"
  sed 's/^/    | /' "$work/err" >&2
}
digest() { "$muster" verify "$work/$1" | grep -o 'weights [0-9a-f]* *state [0-9a-f]*'; }
chosen() { grep '^attention ' "$work/$1/choices.txt" | sed 's/.* backward=\(.\) algorithm=/\1 /' | sort | tr '\n' ';'; }

# The fastest of the stand-in's engines, number 0, adds in no order.
train 0 1 first 4
want=$(digest first)
check 'both passes are chosen, of engines that add in one order' [ "$(chosen first)" = '0 1,24=8;1 1,24=8;' ]
check 'the class names the version' grep -q '^cuda emulated .* cudnn-9.19.0$' "$work/first/choices.txt"
check 'the checkpoint has the choices' grep -q 'attention sequences=2 seq_len=32 heads=4 kv_heads=2 head_dim=8 .*algorithm=1,24=8' \
  "$work/first/checkpoints/step-00000004/manifest.json"
train 0 1 second 4 MST_EMULATED_ALGORITHM=1
check 'another engine is another choice' [ "$(chosen second)" = '0 2,24=9;1 2,24=9;' ]
check 'with other bits' [ "$(digest second)" != "$want" ]

# A resume whose library would now prefer the other one; ranks; streams; graphs; what is computed again.
train 0 1 resumed 2
train 0 1 resumed 4 MST_EMULATED_ALGORITHM=1
check 'a resume replays' [ "$(digest resumed)" = "$want" ]
train 0 1 late 4 MST_EMULATED_STREAMS=lazy --set device.graphs=true
check 'the same bits by graphs and lazy streams' [ "$(digest late)" = "$want" ]
train 0 1 other 4 MST_EMULATED_STREAMS=others --set train.recompute=full
check 'the same bits computed again' [ "$(digest other)" = "$want" ]
if has_mpirun; then
  for n in 2 3; do
    train 0 "$n" "ranks-$n" 4 MST_EMULATED_ALGORITHM=rank
    check "the same bits on $n ranks, whatever theirs prefer" [ "$(digest "ranks-$n")" = "$want" ]
  done
fi

# Where it does not serve: no library, no budget, too small a budget, sequences that it refuses, documents, fp32.
train 0 1 without 4 MST_EMULATED_CUDNN=0
own=$(digest without)
check 'without it there is no word of it' [ "$(chosen without)" = '' ]
check 'the own kernel has other bits' [ "$own" != "$want" ]
train 0 1 none 4 --set device.attention_workspace=0
check 'attention_workspace 0: own bits' [ "$(digest none)" = "$own" ]
check 'and no class' grep -q '^cuda emulated .* cublas-[0-9.]*$' "$work/none/choices.txt"
train 0 1 small 1 --set device.attention_workspace=1 --set data.seq_len=256 --set batch.micro=4
check 'what needs more than it may is not taken' [ "$(chosen small)" = '0 1,24=8;1 own;' ]
train 0 1 refused 1 --set data.seq_len=49
check 'what the library refuses is our own' [ "$(chosen refused)" = '0 own;1 own;' ]
train 0 1 packed 1 --set data.packing=documents
check 'documents are our own' [ "$(chosen packed)" = '' ]
train 0 1 wide 1 --set train.precision=f32
check 'fp32 is our own' [ "$(chosen wide)" = '' ]

# The library has lost the recorded one; another version of it; none any more; damage.
train 0 1 lost 2 MST_EMULATED_ALGORITHM=1
cp -r "$work/lost" "$work/gone"
train 1 1 lost 4 MST_EMULATED_ALGORITHMS=1
says "the run's algorithms cannot be had here"
train 0 1 moved 2
train 0 1 moved 4 MST_EMULATED_CUDNN=91001
says 'they are chosen anew, and the bits differ from here on'
check 'the new class is recorded' grep -q '^cuda emulated .* cudnn-9.10.1$' "$work/moved/choices.txt"
train 0 1 gone 4 MST_EMULATED_CUDNN=0
says 'they are chosen anew, and the bits differ from here on'
for damage in 's/algorithm=1,24=8/algorithm=1,24=8,/' 's/algorithm=1,24=8/algorithm=/' 's/heads=4/heads=04/' 's/^attention s/attention  s/'; do
  rm -rf "$work/damaged"
  cp -r "$work/first" "$work/damaged"
  rm -r "$work/damaged/checkpoints"
  sed -i "$damage" "$work/damaged/choices.txt"
  train 1 1 damaged 4
  says 'attention: a recorded choice of an algorithm is damaged'
done

rm -rf "$work/damaged"
cp -r "$work/first" "$work/damaged"
rm -r "$work/damaged/checkpoints"
sed -i 's/algorithm=1,24=8/algorithm=0,24=7/' "$work/damaged/choices.txt"
train 1 1 damaged 4
says 'attention: cuDNN does not offer the algorithm that was chosen'
# The plan counts it.
expect 0 "$muster" plan "$work/tiny.yaml" --flops 1e9 --set batch.micro=64 --set data.seq_len=512
check 'the plan counts the workspace' grep -Eq 'scratch +136(\.[0-9]+)? MiB' "$work/out"
expect 0 "$muster" plan "$work/tiny.yaml" --flops 1e9 --set batch.micro=64 --set data.seq_len=512 --set device.attention_workspace=135
check 'and not what it may not take' grep -Eq 'scratch +32(\.[0-9]+)? MiB' "$work/out"
finish
