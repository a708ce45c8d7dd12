#!/usr/bin/env bash
# What the plan says that a rank needs is what its process has had in memory at most, within 5 %, on 1 to 4 ranks and with what
# makes a model fit. The process itself, with its libraries, is measured by a small model on as many ranks.
#   high_water.sh MUSTER
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
command -v jq >/dev/null || skip "no jq (Debian: apt-get install jq)"
has_mpirun || skip "no mpirun"
cd "$work"
yes "A text that says little, many times over." | head -n 4000 >text.txt
expect 0 "$muster" data build text.txt -o tokens.h5
tiny_config tiny.yaml
sed -i 's/precision: f32/precision: bf16/; s/steps: 8/steps: 1/' tiny.yaml
sed 's/d_model: 32, n_layers: 2/d_model: 512, n_layers: 6/; s/d_ff: 64/d_ff: 1408/; s/seq_len: 32/seq_len: 256/' tiny.yaml >large.yaml

resident() { # resident NAME RANKS [OPTION...]: peak of rank 0's process less what it reports, and what it reports
  rm -rf "$1-$2.run"
  expect 0 ranks "$2" "$muster" train "$1.yaml" --run "$1-$2.run" "${@:3}" >&2
  jq -r 'select(.event == "step") | "\(.peak_rss_bytes - .memory_bytes) \(.memory_bytes)"' "$1-$2.run/metrics.jsonl" | tail -n 1
}

row() { # row RANKS OPTION...
  local n=$1 program rest reported planned
  shift
  read -r program _ <<<"$(resident tiny "$n" "$@")"
  read -r rest reported <<<"$(resident large "$n" "$@")"
  [ -n "$program" ] && [ -n "$reported" ] || { fail "$n ranks, $*: nothing was measured"; return; }
  planned=$("$muster" plan large.yaml --flops 1e9 --json --ranks "$n" "$@" | jq .memory.first_reported)
  awk -v n="$n" -v planned="$planned" -v program="$program" -v peak=$((rest + reported)) -v options="$*" 'BEGIN {
    off = (planned + program) / peak - 1
    printf "%d ranks, %s: planned %.1f MiB and %.1f of the program, measured %.1f: %+.1f %%\n", n, options, planned / 1048576,
      program / 1048576, peak / 1048576, 100 * off
    exit !(off <= 0.05 && off >= -0.05)}'
  check "$n ranks, $*" [ $? -eq 0 ]
}

row 1 --set train.recompute=none
row 1 --set train.recompute=full --set optimizer.moments=bf16
row 2 --set batch.transport=mpi --set checkpoint.async=false
row 3 --set batch.sharding=all --set train.recompute=selective
row 4 --set batch.sharding=all --set train.recompute=full --set checkpoint.async=false
finish
