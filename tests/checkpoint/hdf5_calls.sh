#!/bin/sh
# hdf5_calls.sh MUSTER: the program asks HDF5 to create files, never to open or to read one: a malicious file could have it
# execute code, and muster reads by pread what it needs. Looked up in what the program takes from shared libraries.
muster=$1
command -v nm >/dev/null || { echo "skipped: no nm (Debian: apt-get install binutils)"; exit 77; }
calls=$(nm -D --undefined-only "$muster" | sed -n 's/.* \(H5[A-Z]*[a-z][A-Za-z0-9_]*\).*/\1/p')
case $calls in
*H5Fcreate*) ;;
*) echo "skipped: HDF5 is not a shared library here"; exit 77 ;;
esac
# H5open starts the library; H5check_version compares its version.
forbidden=$(echo "$calls" | grep -v -x -e H5open -e H5check_version | grep -i -e open -e read -e mount -e external -e import)
if [ -n "$forbidden" ]; then
    echo "failed: $muster calls" $forbidden
    exit 1
fi
echo "hdf5_calls.sh: $(echo "$calls" | wc -l) functions of HDF5, none opens or reads"
