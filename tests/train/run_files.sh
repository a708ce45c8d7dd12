#!/usr/bin/env bash
# The small files of a run folder, damaged or with something else in their place: a start names the file, says what helps, and
# loses nothing.
#   run_files.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"

printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 400) >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml"
train() { expect "$1" ranks "${ranks:-1}" "$muster" train "$work/tiny.yaml" --run "$run"; }

# ---- no plain file in its place: nothing waits for a pipe's reader or writes into it ----
run=$work/whole
train 0
result=$(cat "$work/out")
for kind in mkfifo mkdir; do
  for file in metrics.jsonl run.json config.yaml lease-1.json; do
    run=$work/$kind
    rm -rf "$run"
    cp -r "$work/whole" "$run"
    rm -f "$run/$file"
    $kind "$run/$file"
    limit=20 train 1
    says "$run/$file"
    check "$file is still there" [ ! -f "$run/$file" ]
    check 'one line says it' [ "$(grep -c '^muster: ' "$work/err")" = 1 ]
  done
done
for n in 1 3; do
  run=$work/new$n
  mkdir "$run"
  mkfifo "$run/metrics.jsonl"
  limit=20 ranks=$n train 1
  says "metrics $run/metrics.jsonl: it is no regular file; move it away"
  rm "$run/metrics.jsonl"
  ranks=$n train 0
  check 'it trains once the pipe is away' [ "$(cat "$work/out")" = "$result" ]
done

# ---- damage: with checkpoints the run goes on where it was, without any it begins anew ----
id=$(jq -r .run_id "$work/whole/run.json")
damages=('' '{' '[]' '{"version": 1}' '{"version": "one"}')
for damage in "${damages[@]}"; do
  run=$work/damaged
  rm -rf "$run"
  cp -r "$work/whole" "$run"
  printf %s "$damage" >"$run/run.json"
  train 1
  says "$run/run.json"
  says "; move it away and start again: what it said stands in the run's checkpoints, too"
  check 'it stays as it was' [ "$(cat "$run/run.json")" = "$damage" ]
  mv "$run/run.json" "$run/run.json.damaged"
  train 0
  says "resumed from $run/checkpoints/step-00000008"
  check "the result: '$damage'" [ "$(cat "$work/out")" = "$result" ]
  check 'the same run' [ "$(jq -r .run_id "$run/run.json")" = "$id" ]
done
printf '{"version": 2}' >"$run/run.json"
train 1
says "made by a newer muster?"
check 'which is no damage' [ "$(grep -c 'move it away' "$work/err")" = 0 ]

for damage in '' 'run: {steps: 8' '- 1' $'run: {}\nno: where\n'; do
  run=$work/damaged
  rm -rf "$run"
  cp -r "$work/whole" "$run"
  printf %s "$damage" >"$run/config.yaml"
  train 2
  says "$run/config.yaml"
  says "; move it away and start again: what it said stands in the run's checkpoints, too"
  mv "$run/config.yaml" "$run/config.yaml.damaged"
  train 0
  check "the result: '$damage'" [ "$(cat "$work/out")" = "$result" ]
  check 'the config is recorded again' cmp -s "$run/config.yaml" "$work/whole/config.yaml"
done
head -c 100 /dev/zero >"$run/config.yaml"
train 1
says "config.yaml holds a zero byte; move it away"

# A run that was killed before its first checkpoint.
for n in 1 3; do
  run=$work/early$n
  cp -r "$work/whole" "$run"
  rm -rf "$run/checkpoints"
  cp -r "$run" "$run-config"
  : >"$run/run.json"
  ranks=$n train 1
  says "; move it away and start again: the run has no checkpoint, and begins anew"
  mv "$run/run.json" "$run/run.json.damaged"
  ranks=$n train 0
  check 'the result from the beginning' [ "$(cat "$work/out")" = "$result" ]

  run=$run-config
  echo 'train: {head_rows' >"$run/config.yaml"
  ranks=$n train 0
  says "note: $run/config.yaml is damaged: train.head_rows, which it recorded, is chosen anew"
  check 'the result from the beginning' [ "$(cat "$work/out")" = "$result" ]
  check 'the config is recorded again' cmp -s "$run/config.yaml" "$work/whole/config.yaml"
done
finish
