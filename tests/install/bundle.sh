#!/usr/bin/env bash
# The bundle: made, unpacked in a root folder that has glibc and a shell and nothing else, and run there by a user without
# rights: the digests of this build, on one rank and on two. Then what else is in it.
#   bundle.sh MUSTER BUILD_FOLDER
set -u
. "$(dirname "$0")/../shell.sh"
. "$(dirname "$0")/away.sh"
muster=$(realpath "$1") build=$(realpath "$2")
source=$(realpath "$(dirname "$0")/../..")
command -v patchelf >/dev/null || skip "no patchelf (Debian: apt-get install patchelf)"
command -v dpkg-query >/dev/null || skip "bundles are made on Debian and Ubuntu"
[ -e "$build/coordinator/share/muster.1" ] || skip "this build makes no documents to install"
[ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null || skip "a root folder of its own takes root and mounts"
"${MUSTER_MPIRUN:-mpirun}" --version 2>&1 | grep -qE '\((Open MPI|OpenRTE)\) 4' || skip "a bundle brings Open MPI 4, which this build has not"
cd "$work"

limit=300 expect 0 cmake --build "$build" --target bundle
check "its size is said" grep -q 'bytes, for glibc' out err
tar=$(compgen -G "$build/muster-*.tar.gz" | head -n 1)
name=$(basename "$tar" .tar.gz)
check "at most 60 MB" [ "$(stat -c %s "$tar")" -le 60000000 ]
check "one folder, of nobody in particular" [ -z "$(tar -tvzf "$tar" | awk -v name="$name/" '$2 != "0/0" || index($6, name) != 1')" ]

# ---- a root folder ----
bare=$work/bare home=$work/bare/home/user
mkdir -p bare/{bin,proc,dev,sys,tmp,etc,lib64} "$home"
chmod 1777 bare/tmp
echo 'user:x:65534:65534::/home/user:/bin/sh' >bare/etc/passwd
dpkg-query -L libc6 | grep -E '\.so(\.[0-9]+)*$' | while read -r library; do
  mkdir -p "bare/$(dirname "$library")"
  cp -L "$library" "bare/$library"
done
cp -L /lib64/ld-linux-x86-64.so.2 bare/lib64
for program in dash readlink dirname env; do cp "$(command -v $program)" bare/bin; done
mv bare/bin/dash bare/bin/sh
# away COMMAND...: run in there, with nothing of this environment
cat >away <<'AWAY'
cd "$1" && shift
for folder in /proc /dev /sys; do mount --rbind $folder ."$folder"; done
exec chroot --userspec=65534:65534 . /bin/env -i PATH=/bin HOME=/home/user sh -c 'cd && exec "$@"' sh "$@"
AWAY
away() { expect "$1" unshare -m bash "$work/away" "$bare" "${@:2}"; }
prints() { check "stdout says '$1'" grep -qE -- "$1" "$work/out"; }

text_and_config
cp "$source/configs/quickstart.yaml" tokens.h5 "$muster" "$home"
sed 's|sources: .*tokens.h5|sources: [tokens.h5|' tiny.yaml >"$home/tiny.yaml"
tar -xzf "$tar" -C "$home"
chown -R 65534:65534 "$home"
away 127 ./muster --version
says 'error while loading shared libraries'
bundle=/home/user/$name
away 0 "$bundle/bin/muster" --version

# ---- it trains there as here ----
few=(--set run.steps=3 --set run.seed=1 --set 'data.sources=[tokens.h5]' --set data.seq_len=128 --set schedule.warmup=0 --set device.threads=1
  --set train.eval_every=0)
expect 0 "$muster" train "$home/quickstart.yaml" "${few[@]}" --set "data.sources=[$work/tokens.h5]" --run here
want=$(tail -n 1 out)
check "a digest: $want" grep -q '^weights [0-9a-f]\{64\}  state [0-9a-f]\{64\}$' <<<"$want"
away 0 "$bundle/bin/muster" train quickstart.yaml "${few[@]}" --run one
check "one rank, the same digest" [ "$(tail -n 1 out)" = "$want" ]
away 0 "$bundle/bin/mpirun" --oversubscribe --bind-to none -n 2 "$bundle/bin/muster" train quickstart.yaml "${few[@]}" --run two
check "two ranks, the same digest" [ "$(tail -n 1 out)" = "$want" ]
check "two ranks it was: $(cat err)" grep -q '"ranks": *2' "$home/two/metrics.jsonl"
check "the MPI misses nothing: $(cat err)" [ "$(grep -cE "Sorry|pmix|mca" err)" = 0 ]

# Moved, with an MPI and libraries of the machine in the way; launch finds the mpirun that belongs to it.
mv "$home/$name" "$home/moved"
mkdir "$home/others"
touch "$home/others/libhdf5_serial.so.103" "$home/others/libmpi.so.40" "$home/others/mpirun"
chmod +x "$home/others/mpirun"
away 0 env OPAL_PREFIX=/none LD_LIBRARY_PATH=/home/user/others PATH=/home/user/others:/bin \
  ./moved/bin/muster launch quickstart.yaml --ranks 2 "${few[@]}" --run moved/run
check "launched: the same digest" [ "$(tail -n 1 out)" = "$want" ]

# ---- without a GPU ----
away 0 ./moved/bin/muster doctor tiny.yaml
prints '^ok +GPU software +'
if grep -q 'CUDA .* is built in; ' out; then
  prints 'GPU software +CUDA [0-9.]+ is built in; no driver; no libcublasLt.so.[0-9]+: load the CUDA module, or add its folder to LD_LIBRARY_PATH'
  away 2 ./moved/bin/muster train tiny.yaml --run gpu --set device.kernels=cuda
  says 'cuda: no NVIDIA driver here'
fi
away 0 ./moved/bin/muster train tiny.yaml --run auto --set device.kernels=auto
away 0 ./moved/libexec/check_kernels --table cpu --level x86-64-v2 --op matmul

# ./run test-gpu on a machine where the tree and this file were carried, and nothing was built.
mkdir -p carried/build/release
cp -r "$source/run" "$source/tests" carried
cp "$tar" carried/build/release
if [ -e /dev/nvidia0 ]; then
  echo "a GPU is here, which ./run test-gpu would test at length: it was not tried from the bundle"
else
  expect 0 carried/run test-gpu
  prints 'no GPU|nothing passed'
  check "the bundle was unpacked for it" [ -x carried/build/bundle/bin/muster ]
fi

# ---- what else is in it ----
cd "$home/moved" || exit 1
module_loads "$home/moved"
for package in libopenmpi3 libdnnl2 libssl3 libstdc++6; do check "the licence of $package" [ -s "share/doc/muster/licences/$package" ]; done
check "the licence of muster" [ -s share/doc/muster/LICENSE ]
check "README.md: the glibc that it needs" grep -qE 'glibc [0-9]+\.[0-9]+ or newer' README.md
check "README.md: sources" grep -qE '^openmpi [0-9]' README.md

# The recipe of Apptainer, with the root folder as its base: what it copies, sets and runs.
recipe=share/muster/configs/apptainer/muster.def
section() { sed -n "/^%$1\$/,/^%/{/^%/d;p}" $recipe; }
read -r from to < <(section files)
mkdir -p "$bare$to"
cp -r "$from/." "$bare$to"
away 0 sh -c "$(section environment; section test)"
prints '^muster [0-9]'
away 0 sh -c "$(section environment; section runscript)" sh train tiny.yaml --run image
away 0 sh -c "$(section environment)"'; exec mpirun --oversubscribe --bind-to none -n 2 muster train quickstart.yaml "$@"' sh "${few[@]}" --run image2
check "ranks in it: the same digest" [ "$(tail -n 1 "$work/out")" = "$want" ]
finish
