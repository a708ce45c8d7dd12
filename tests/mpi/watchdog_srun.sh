#!/usr/bin/env bash
# watchdog_srun.sh CHECK_WATCHDOG SOURCE_FOLDER: the watchdog's test inside the Slurm lab, one rank on each of four nodes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$1" "$2/watchdog.sh" "$folder"
cat >"$folder/inside.sh" <<'INSIDE'
export OMPI_MCA_mpi_yield_when_idle=1 # four nodes share this machine's cores
failed=0
# Without PMIx each task would take itself for the whole job: they must refuse.
if srun --mpi=none -n2 -N2 "$1" 3 /lab peace >none.out 2>none.err || ! grep -q 'srun --mpi=pmix' none.err; then
    echo "failed: srun --mpi=none was not refused:"
    cat none.out none.err
    failed=1
fi
# --overlap: a step does not wait for what is left of the one before.
./watchdog.sh "$1" srun --mpi=pmix --overlap -n4 -N4 || failed=1
# -K1, as many sites set it in slurm.conf: srun kills all when one ends ill, and yet it is said who that was.
./watchdog.sh "$1" srun --mpi=pmix --overlap -K1 -n4 -N4 || failed=1
exit $failed
INSIDE
"$2/slurm-lab/lab.sh" "$folder" salloc -Q -n4 -N4 bash inside.sh "/lab/${1##*/}"
