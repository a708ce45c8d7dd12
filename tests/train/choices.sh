#!/usr/bin/env bash
# Algorithms that the matrix library chooses: once, by rank 0, the same on all ranks and after a resume, whatever its heuristics
# prefer by then; refused where the library lacks them, chosen anew on another version, with a word.
#   choices.sh MUSTER: on the emulated device, whose stand-in for cuBLASLt takes its preferences from the environment
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

printf 'It was the best of times, it was the worst of times. %.0s' 1 2 3 4 5 6 7 8 >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml" 'watchdog: {seconds: 100}'
sed -i -e 's/n_layers: 2/n_layers: 1/' "$work/tiny.yaml"

# train CODE RANKS RUN STEPS [VARIABLE=VALUE...]
train() {
  local code=$1 n=$2 run=$work/$3 steps=$4
  shift 4
  checks=$((checks + 1))
  local got=0
  (
    [ $# -eq 0 ] || export "$@"
    ranks "$n" "$muster" train "$work/tiny.yaml" --run "$run" --set device.kernels=cuda --set run.steps="$steps" >"$work/out" 2>"$work/err"
  ) || got=$?
  [ "$got" = "$code" ] && return
  fail "exit code $got, not $code: train $run $*"
  sed 's/^/    | /' "$work/err" >&2
}
digest() { "$muster" verify "$work/$1" | grep -o 'weights [0-9a-f]* *state [0-9a-f]*'; }

train 0 1 first 4
want=$(digest first)
train 0 1 second 4 MST_EMULATED_ALGORITHM=1
check 'the two algorithms give other bits' [ "$want" != "$(digest second)" ]
check 'the file names the class' grep -q '^cuda emulated ' "$work/first/choices.txt"
check 'the file names algorithms' grep -q '^matmul m=.* algorithm=616e20616c' "$work/first/choices.txt"
check 'the checkpoint has them' grep -q '"choices": "cuda emulated .*algorithm=616e20616c' "$work/first/checkpoints/step-00000004/manifest.json"

# A resume whose library would now prefer the other one.
train 0 1 resumed 2
train 0 1 resumed 4 MST_EMULATED_ALGORITHM=1
check 'a resume replays' [ "$(digest resumed)" = "$want" ]
train 0 1 begun 2
rm "$work/begun/choices.txt"
train 0 1 begun 4 MST_EMULATED_ALGORITHM=1
check 'the checkpoint alone is enough' [ "$(digest begun)" = "$want" ]
# A start that did not reach a checkpoint has only the run folder.
train 0 1 folder 2
rm -r "$work/folder/checkpoints"
train 0 1 folder 4 MST_EMULATED_ALGORITHM=1
check 'the run folder alone is enough' [ "$(digest folder)" = "$want" ]

# Ranks whose libraries prefer different ones take rank 0's.
if has_mpirun; then
  for n in 2 3; do
    train 0 "$n" "ranks-$n" 4 MST_EMULATED_ALGORITHM=rank
    check "rank 0 chooses for $n ranks" [ "$(digest "ranks-$n")" = "$want" ]
  done
fi

# The library has lost the recorded one: nothing is trained with another.
train 0 1 lost 2 MST_EMULATED_ALGORITHM=1
train 1 1 lost 4 MST_EMULATED_ALGORITHMS=1
says "the run's algorithms cannot be had here"
says 'cuBLASLt does not offer the algorithm that was chosen for products of'

# Another version of it, or damage.
train 0 1 moved 2
train 0 1 moved 4 MST_EMULATED_ALGORITHM=1 MST_EMULATED_CUBLAS=120304
says 'they are chosen anew, and the bits differ from here on'
check 'the new class is recorded' grep -q '^cuda emulated .* cublas-12.3.4' "$work/moved/choices.txt"
check 'and so is what was chosen' grep -q 'algorithm=616e6f74686572' "$work/moved/choices.txt"
train 0 1 damaged 2
rm -r "$work/damaged/checkpoints"
sed -i 's/algorithm=6/algorithm=7g/' "$work/damaged/choices.txt"
train 1 1 damaged 4
says 'a recorded choice of an algorithm is damaged'
finish
