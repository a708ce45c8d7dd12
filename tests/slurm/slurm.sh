#!/usr/bin/env bash
# muster in a real Slurm of four nodes: see cases.sh.
#   slurm.sh MUSTER SOURCE_FOLDER [CASE...]     without a case: all of them
set -euo pipefail
muster=$(readlink -f "$1") source=$(readlink -f "$2")
shift 2
. "$source/tests/shell.sh"

mkdir "$work/lab" "$work/text"
for i in $(seq 60); do printf "The quick brown fox $i jumps over the lazy dog %d. " $(seq 60) >"$work/text/$i.txt"; done
"$muster" data build "$work/text" -o "$work/lab/tokens.h5" >/dev/null
cp "$muster" "$source"/configs/slurm/*.sbatch "$source"/tests/slurm/*.sh "$source"/tests/slurm/*.sbatch "$work/lab"
for script in srun-1node srun-nodes mpirun-nodes; do # as somebody writes it who does not know of --signal
  sed /--signal=/d "$work/lab/$script.sbatch" >"$work/lab/$script-nosignal.sbatch"
done
cat >"$work/lab/tiny.yaml" <<'EOF'
run: {name: tiny, steps: 200, seed: 3}
model: {family: llama, d_model: 64, n_layers: 2, n_heads: 4, n_kv_heads: 2, d_ff: 128}
data: {sources: [tokens.h5], seq_len: 64}
batch: {micro: 4, leaf: 1, lanes: 8, rounds: 1}
schedule: {kind: constant, peak: 0.003, warmup: 0}
train: {precision: f32}
device: {threads: 1}
checkpoint: {every: 10, minutes: 0}
watchdog: {seconds: 30}
EOF
status=0
"$source/tests/mpi/slurm-lab/lab.sh" "$work/lab" bash cases.sh "$@" || status=$?
exit $status
