#!/usr/bin/env bash
# muster doctor alone and on several ranks of this machine: what it finds, what it says, what it leaves behind (nothing).
#   doctor.sh MUSTER SHIM
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1") shim=$(realpath "$2")
cd "$work"
yes "A text that says little, many times over." | head -n 2000 >text.txt
expect 0 "$muster" data build text.txt -o tokens.h5
tiny_config tiny.yaml

# line LEVEL SUBJECT WORDS: the last output has such a line
line() { check "a line '$1 $2 ... $3'" grep -qE "^$1 +$2 +.*$3" "$work/out"; }
clean() { check "nothing is left behind" [ -z "$(find "$work" -name '.muster-doctor*')" ]; }

# ---- alone ----
expect 0 "$muster" doctor
for subject in ranks config muster MPI HDF5 'device class' cores 'open files' memory /dev/shm links; do line '(ok|warn)' "$subject" .; done
line ok 'GPU software' '(CUDA [0-9.]+ is built in; (no driver|the driver is for [0-9.]+); (cublas-|no libcublasLt)|built without CUDA$)'
check "no run folder is looked at" [ "$(grep -c 'run folder' out)" = 0 ]
check "the last line is the verdict" grep -qE '^(all well|fit to train): ' <(tail -n 1 out)
expect 0 "$muster" doctor tiny.yaml
line ok "run folder" "runs/tiny \("
line ok disk "a checkpoint takes"
line ok files "exclusive creation, (links, )?renaming, fsync and locks work"
line ok fsync "a checkpoint takes about"
line ok memory "the run needs [0-9.]+ MiB"
line ok step "computes about"
check "the run folder is not made" [ ! -e runs ]
clean
expect 0 "$muster" doctor --run "$work"
line ok disk "free"

# ---- what is wrong ----
expect 1 "$muster" doctor tiny.yaml --set batch.micro=65536 --set data.seq_len=1024
line FAIL memory "the run needs .* are available; 'muster plan' says"
says "muster: doctor: not fit to train: 1 check FAILed"
expect 1 "$muster" doctor --run /proc/none
line FAIL "run folder" "nothing can be written in /proc"
expect 1 bash -c 'ulimit -n 40; exec "$0" doctor' "$muster"
line FAIL "open files" "rank 0 .* may have 40 files open, and a job of this size may need 131"
expect 0 bash -c 'ulimit -c unlimited && exec "$0" doctor' "$muster"
line '(warn|ok)' "core dumps" '(ulimit -c 0|collector)'
expect 2 "$muster" doctor missing.yaml
expect 2 "$muster" doctor tiny.yaml --set batch.lanes=3
expect 2 "$muster" doctor tiny.yaml more.yaml
expect 2 "$muster" doctor --set run.steps=3
says "--set changes a config: name one, too"

# ---- several ranks ----
has_mpirun || { echo "mpirun is not here: one rank only"; finish; exit; }
# With adapters ranks that share memory share the model that these adapt, too.
if command -v jq >/dev/null; then
  expect 0 "$muster" train tiny.yaml --run adapted --set run.steps=1
  sed 's|model: .*|model: {init: adapted}\nlora: {rank: 2, targets: q_proj}|' tiny.yaml >lora.yaml
  expect 0 "$muster" plan lora.yaml --ranks 2 --flops 1e11 --json
  check "the frozen weights are planned for" [ "$(jq .memory.frozen out)" -gt 0 ]
  shared=$(jq '.memory | (.frozen + .weights + 2 * .gradients) / 1024' out)
  expect 0 ranks 2 "$muster" doctor lora.yaml --set batch.transport=shm
  line ok /dev/shm "the exchange takes $shared KiB"
  rm -r adapted
fi
for n in 2 4; do
  expect 0 ranks $n "$muster" doctor tiny.yaml
  line ok ranks "$n on 1 node"
  line ok "device class" ", on all ranks"
  line ok "same folder" "all ranks see it"
  line ok links "one node; between its ranks 0 and 1"
  line ok /dev/shm "the exchange takes"
  line ok step "nothing travels between nodes"
  clean
done

# A lower instruction-set level on one rank: another device class, named.
if [ "$("$muster" doctor tiny.yaml --set device.level=x86-64-v2 2>/dev/null | grep -c 'ok *device class  cpu x86-64-v2')" = 1 ]; then
  expect 1 "$tests/mpi/mpirun.sh" 2 "$muster" doctor tiny.yaml : -n 1 "$muster" doctor tiny.yaml --set device.level=x86-64-v2
  if [ "$("$muster" doctor | grep -c 'x86-64-v2')" = 0 ]; then
    line FAIL "device class" "rank 2 \(.*\) has 'cpu x86-64-v2 .*set device.level to the highest that all have"
    line warn config "rank 2 .* reads another config"
    expect 0 "$tests/mpi/mpirun.sh" 2 "$muster" doctor tiny.yaml --set batch.allow_mixed=true : \
      -n 1 "$muster" doctor tiny.yaml --set device.level=x86-64-v2 --set batch.allow_mixed=true
    line warn "device class" "rank 2 .* batch.allow_mixed lets them train together"
  fi
fi
expect 1 "$tests/mpi/mpirun.sh" 2 "$muster" doctor : -n 1 env LD_PRELOAD="$shim" "$muster" doctor
line FAIL HDF5 "rank 2 \(.*\) has '9.8.7'; most ranks have '[0-9.]+'; install the same HDF5"
expect 2 "$tests/mpi/mpirun.sh" 1 "$muster" doctor tiny.yaml : -n 1 "$muster" doctor gone.yaml
says "gone.yaml"

# A rank that hangs is named, and the job ends.
begin=$SECONDS hung=0
timeout 120 "$tests/mpi/mpirun.sh" 2 "$muster" doctor tiny.yaml --set watchdog.seconds=3 : \
  -n 1 env DOCTOR_SHIM=hang LD_PRELOAD="$shim" "$muster" doctor tiny.yaml --set watchdog.seconds=3 >out 2>err || hung=$?
check "it fails: $hung" [ "$hung" != 0 ] && check "and by itself: $hung" [ "$hung" != 124 ]
says "rank 2 "
says "in phase gather"
check "within 3 + 10 s and the start: $((SECONDS - begin))" [ $((SECONDS - begin)) -le 25 ]

# A rank that sees another folder: a mount of its own.
if [ "$(id -u)" = 0 ] && unshare -m mount -t tmpfs tmpfs /mnt 2>/dev/null; then
  mkdir shared
  cat >apart.sh <<'APART'
mount -t tmpfs -o size=64k tmpfs "$1/shared" && shift && exec "$@"
APART
  expect 1 "$tests/mpi/mpirun.sh" 1 "$muster" doctor --run "$work/shared" : -n 1 unshare -m bash apart.sh "$work" "$muster" doctor --run "$work/shared"
  line FAIL "same folder" "rank 1 \(.*\) does not see what rank 0 wrote there"
  expect 1 unshare -m bash apart.sh "$work" "$muster" doctor tiny.yaml --run "$work/shared/run"
  line FAIL disk "a checkpoint takes .*, and two have to fit"
  line warn "run folder" "tmpfs.*it is memory"
  line FAIL fsync "cannot write there: No space left"
  clean
else
  echo "mounts are not allowed here: a folder that ranks do not share was not tried"
fi
finish
