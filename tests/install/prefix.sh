#!/usr/bin/env bash
# cmake --install with a prefix and DESTDIR, without a network: what lies where, that it runs there, and its modulefile.
#   prefix.sh MUSTER BUILD_FOLDER
set -u
. "$(dirname "$0")/../shell.sh"
. "$(dirname "$0")/away.sh"
muster=$(realpath "$1") build=$(realpath "$2")
source=$(realpath "$(dirname "$0")/../..")
[ -e "$build/coordinator/share/muster.1" ] || skip "this build makes no documents to install"
cd "$work"

offline=()
if unshare -n true 2>/dev/null; then offline=(unshare -n); else echo "namespaces are not allowed here: the network is there"; fi
DESTDIR=$work/stage expect 0 "${offline[@]}" cmake --install "$build" --prefix /opt/muster
root=stage/opt/muster
check "nothing lies beside the prefix" [ "$(find stage -type f -not -path "$root/*" | wc -l)" = 0 ]
for file in bin/muster share/man/man1/muster.1 share/doc/muster/{LICENSE,README.md,docs/gpu.md} share/muster/configs/tiny-llama.yaml \
  share/muster/configs/slurm/srun-nodes.sbatch share/muster/configs/apptainer/muster.def share/modulefiles/muster/0.1.0; do
  check "$file" [ -s "$root/$file" ]
done
check "all of the docs" diff -r "$source/docs" $root/share/doc/muster/docs
check "the script can be started" [ -x $root/share/muster/configs/quickstart.sh ]
check "no data of the tree" [ -z "$(find $root -name '*.h5')" ]
check "the program looks for nothing in the build folder" [ "$(readelf -d $root/bin/muster | grep -cF "$build")" = 0 ]
check "the modulefile names the prefix, not where it was staged" grep -qxF 'set root "/opt/muster"' $root/share/modulefiles/muster/0.1.0

text_and_config
expect 0 "$muster" train tiny.yaml --run here
want=$(tail -n 1 out)
expect 0 $root/bin/muster train tiny.yaml --run there
check "it trains, to the same digest" [ "$(tail -n 1 out)" = "$want" ]

expect 0 cmake --install "$build" --prefix "$work/usr"
module_loads "$work/usr"
finish
