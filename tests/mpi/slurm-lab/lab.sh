#!/usr/bin/env bash
# A Slurm of four nodes (n1 to n4) on one machine, without systemd. Run as root:
#   lab.sh FOLDER COMMAND [ARG...]
# starts the cluster, runs COMMAND inside it in /lab, which is FOLDER, and ends with COMMAND's exit status. Everything else
# that COMMAND writes is lost, and no process survives. Exit status 77: this machine cannot do it, and why is said.
#
# The cluster lives in namespaces of its own (mounts, processes, network, host name, IPC) over an overlay of the root file
# system, so it neither sees nor changes a Slurm that may be installed and running here.
# Needs: apt-get install slurm-wlm slurmd slurmctld munge iproute2
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "$1" && pwd)
shift

skip() {
    echo "skipped: $1"
    exit 77
}

[ "$(id -u)" = 0 ] || skip "the Slurm lab needs root"
for program in srun slurmctld slurmd munged unshare ip; do
    PATH=$PATH:/usr/sbin command -v $program >/dev/null ||
        skip "no $program (Debian: apt-get install slurm-wlm slurmd slurmctld munge iproute2)"
done
unshare -m -p -f -n -u -i true 2>/dev/null || skip "the kernel refuses new namespaces (in a container: --privileged)"

work=$(mktemp -d)
trap 'umount -R "$work/root" "$work/layer" 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/layer" "$work/root"
mount -t tmpfs tmpfs "$work/layer" || skip "mounting is not allowed here"
mkdir "$work/layer/upper" "$work/layer/work" # an overlay wants these on a file system that is no overlay itself
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/layer/upper,workdir=$work/layer/work" "$work/root" ||
    skip "overlay file systems are not allowed here"

status=0
unshare -m -p -f -n -u -i --propagation private bash -euc '
    root=$1 folder=$2 inner=$3
    shift 3
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/run"
    mount -t tmpfs tmpfs "$root/tmp"
    mkdir -p "$root/lab"
    mount --bind "$folder" "$root/lab"
    cp "$inner" "$root/run/inner.sh"
    exec chroot "$root" bash /run/inner.sh "$@"
' lab "$work/root" "$folder" "$here/inner.sh" "$@" || status=$?
exit $status
