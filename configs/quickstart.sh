#!/usr/bin/env bash
# From nothing to a trained model: a tokenizer and a small model of the C headers of this machine, trained until it
# predicts held-out files better than gzip -9 compresses them. Run again, it goes on where it was, or says that it is done.
#   configs/quickstart.sh MUSTER      (./run quickstart builds muster first)
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C # numbers with a point
muster=$1
data=runs/quickstart-data run=runs/quickstart
corpus=$data/headers
split=(--glob '*.h' --heldout 0.05 --seed 1)
ranks=2
[ "$(nproc)" -ge 2 ] || ranks=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

say() { printf '\n== %s\n' "$*"; }
fail() { echo "quickstart: $*" >&2; exit 1; }

# What an evaluation of all held-out files found, first below gzip's bits per byte, else last; fails where none was below.
summary() { # summary GZIP HELDOUT_BYTES
  [ -e "$run/metrics.jsonl" ] || return 1
  awk -v gzip="$1" -v all="$2" '
    function field(name,   at) { at = index($0, "\"" name "\":"); return at ? substr($0, at + length(name) + 3) + 0 : 0 }
    /"event":"step"/ && !crossed { seconds += field("step_seconds") }
    /"event":"eval"/ && !crossed {
      bits = field("bits_per_byte"); step = field("step")
      crossed = bits < gzip && field("bytes") > 0.9 * all
      if (!best || bits < best) { best = bits; best_step = step }
    }
    END {
      printf "held-out files: the model needs %.4f bits per byte, gzip -9 needs %.4f\n", bits, gzip
      printf "%s at step %d, after %.0f seconds of training steps\n", crossed ? "crossed" : "not crossed", step, seconds
      if (!crossed && best_step < step)
        printf "It was best at step %d, with %.4f, and has learned its few files by heart since: install more -dev packages,\nremove %s and begin again.\n", best_step, best, "runs/quickstart*"
      exit !crossed
    }' "$run/metrics.jsonl"
}

# Of the checkpoint with the lowest held-out loss, as in its name.
best_step() { "$muster" inspect "$run" | awk '/ best$/ { printf "%08d", $1 == "checkpoints" ? $2 : $1 }'; }

mkdir -p "$data"
# A copy, so that an upgrade of the system in the middle changes nothing. C++ headers are left out, and what cannot be read.
if [ ! -e "$corpus" ]; then
  say "the C headers under /usr/include"
  rm -rf "$corpus.part"
  mkdir -p "$corpus.part"
  { find /usr/include -name '*.h' -type f -readable -print0 2>/dev/null || true; } |
    xargs -0r sh -c 'grep -LZE "$0" "$@" || [ $? = 1 ]' \
      '^[[:space:]]*(template[[:space:]]*<|namespace[[:space:]]+[[:alnum:]_:]*[[:space:]]*([{]|$)|class[[:space:]]+[[:alnum:]_ ]+[[:space:]]*[:{;])' |
    xargs -0r cp --parents -t "$corpus.part"
  files=$(find "$corpus.part" -type f | wc -l)
  [ "$files" -ge 100 ] || fail "there are only $files C headers under /usr/include, too few to learn from; install libc6-dev and other -dev packages"
  mv "$corpus.part" "$corpus"
  echo "$files files, $(du -sm --apparent-size "$corpus" | cut -f1) MB, in $corpus"
fi
if [ ! -e "$data/tokenizer.json" ]; then
  say "a tokenizer of 4096 tokens: identical files once, 5% of the files held out"
  "$muster" tokenizer train "$corpus" "${split[@]}" --vocab 4096 -o "$data/tokenizer.json"
fi
if [ ! -e "$data/tokens.h5" ] || [ ! -e "$data/heldout.txt" ]; then
  say "the headers as tokens"
  "$muster" data build "$corpus" "${split[@]}" --tokenizer "$data/tokenizer.json" --heldout-list "$data/heldout.txt" -o "$data/tokens.h5"
fi
if [ ! -e "$data/gzip.txt" ]; then
  say "what gzip -9 makes of the held-out files"
  while IFS= read -r file; do
    printf '%d %d\n' "$(wc -c <"$file")" "$(gzip -9 -n -c "$file" | wc -c)"
  done <"$data/heldout.txt" | awk '{ bytes += $1; packed += $2 } END { printf "%d %d %.4f\n", bytes, packed, 8 * packed / bytes }' >"$data/gzip.part"
  mv "$data/gzip.part" "$data/gzip.txt"
fi
read -r bytes packed gzip <"$data/gzip.txt"
echo "$(wc -l <"$data/heldout.txt") held-out files, $bytes bytes: gzip -9 needs $packed, $gzip bits per byte"

# Starts of a training that listens for signals, so far.
starts() { grep -cs '"event":"start"' "$run/metrics.jsonl" || true; }

stop_training() {
  interrupted=1
  [ -n "$job" ] || return 0 # it comes as soon as there is one
  until [ "$(starts)" != "$starts_before" ] || ! kill -0 "$job" 2>/dev/null; do sleep 0.1; done
  kill -USR1 "$job" 2>/dev/null || true
}

if summary "$gzip" "$bytes" >/dev/null; then
  echo "the model in $run needs less already: done"
else
  interrupted='' job=''
  trap stop_training INT TERM HUP
  say "training on $ranks ranks until held-out files cost less than $gzip bits per byte"
  train=("$muster" train configs/quickstart.yaml --run "$run" --set "train.target_bits_per_byte=$gzip")
  [ "$ranks" = 1 ] || train=(mpirun -n "$ranks" --bind-to none "${train[@]}")
  starts_before=$(starts)
  # In a process group of its own: Ctrl-C would make mpirun kill its ranks, SIGUSR1 lets them save and stop.
  set -m
  "${train[@]}" </dev/null &
  job=$!
  set +m
  [ -z "$interrupted" ] || stop_training
  while :; do
    interrupted='' code=0
    wait "$job" || code=$?
    [ -n "$interrupted" ] || break
  done
  trap - INT TERM HUP
  if [ "$code" != 0 ]; then
    echo "stopped before the target was reached; run ./run quickstart again to go on" >&2
    exit "$code"
  fi
fi

say "what it learned"
crossed=1 model=$run
if ! summary "$gzip" "$bytes"; then
  crossed='' model=$run/checkpoints/step-$(best_step)
fi
echo
mkdir -p "$run/samples"
"$muster" generate "$model" --prompt '#ifndef ' --tokens 120 --temperature 0.7 --seed 1 >"$run/samples/headers.txt"
cat "$run/samples/headers.txt"

"$muster" report "$run" -o "$run/report.html" >/dev/null

# Both fit 80 columns: a path and what it is; a command, and what for on a line below.
row() { printf '  %-35s  %s\n' "$1" "$2"; }
try() { printf '  %s\n      %s\n' "$1" "$2"; }

say "where everything lies"
row "$data/headers/" "the C headers that it was made from"
row "$data/tokenizer.json" "the tokenizer, in Hugging Face's format"
row "$data/tokens.h5" "the headers as tokens, for h5dump, too"
row "$data/heldout.txt" "the files that the model never saw"
row "$run/" "config, metrics.jsonl, checkpoints"
row "$run/report.html" "what the run did, for a browser"

say "what to try next, after: export PATH=$(realpath "$(dirname "$muster")"):\$PATH"
if [ -n "$crossed" ]; then
  try "muster train configs/quickstart.yaml --run $run" "without a target: on to step 1500, for better text"
fi
try "muster generate $model --prompt 'static inline int '" "more text; --help lists the options"
try "muster eval $model" "loss, perplexity, bits per byte on the held-out files"
try "muster verify $run" "every byte of the newest checkpoint"
try "muster train --help-config" "every key of a config, to make your own"
try "./run test" "builds and runs all tests"
