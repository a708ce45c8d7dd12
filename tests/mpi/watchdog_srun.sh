#!/usr/bin/env bash
# watchdog_srun.sh CHECK_WATCHDOG SOURCE_FOLDER: the watchdog's test inside the Slurm lab, one rank on each of four nodes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$1" "$2/watchdog.sh" "$folder"
"$2/slurm-lab/lab.sh" "$folder" ./watchdog.sh "/lab/${1##*/}" srun --mpi=pmix -n4 -N4
