#!/usr/bin/env bash
# The CUDA bodies by nvcc 12.4: they compile without a warning, for sm_80, sm_90 and with PTX, and the
# runtime of CUDA 12 has the functions that they call. What this older compiler spills is printed, not refused. The header of cuBLASLt is that of 12.4, too.
#   cuda12.sh CC NVCC_OPTION...
set -u
. "$(dirname "$0")/../shell.sh"
cc=$1
shift
toolkit=${MUSTER_CUDA12:-$HOME/.cache/muster/cuda12}
[ -e "$toolkit/complete" ] || skip "CUDA 12.4 is not in $toolkit; './run test' brings it there on Debian"
cd "$(dirname "$0")/../../kernels" || exit 1
check "it is 12.4" grep -q 'release 12\.4' <("$toolkit/bin/nvcc" --version)

options=()
for option; do
  [[ $option == *warn-on-spills* || $option == --Werror=* ]] || options+=("$option") # what is said is looked at below
done
bodies=(cuda/*.cu) libraries=(cuda/*.c)
includes=(-Icuda -Iinclude)
nvcc=("$toolkit/bin/nvcc" -ccbin "$cc" -std=c++17 -gencode arch=compute_80,code=sm_80
  -gencode 'arch=compute_90,code=[sm_90,compute_90]' "${options[@]}" -Xptxas=--warn-on-spills "${includes[@]}")
printf '%s\n' "${bodies[@]}" | # two at a time
  xargs -P 2 -I FILE sh -c 'to=$1/$(basename "$2").o from=$2; shift 2; exec "$@" -c "$from" -o "$to"' sh "$work" FILE "${nvcc[@]}" >"$work/log" 2>&1
cat "$work/log"
check "nothing else is said" [ -z "$(grep -v '^ptxas warning : Registers are spilled' "$work/log")" ]
for file in "${bodies[@]}"; do check "$file" [ -s "$work/$(basename "$file").o" ]; done
for file in "${libraries[@]}"; do
  expect 0 "$cc" -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror "${includes[@]}" -isystem "$toolkit/include" -c "$file" \
    -o "$work/$(basename "$file").o"
done

names() { grep -oE '\b(__)?cuda[A-Za-z0-9_]+' | sort -u; }
nm -u "$work"/*.o | names >"$work/called"
nm -D --defined-only "$toolkit"/lib64/libcudart.so.12 | names >"$work/there"
check "they call the runtime" grep -qx cudaMalloc "$work/called"
check "CUDA 12's runtime has it all: $(comm -23 "$work/called" "$work/there" | tr '\n' ' ')" [ -z "$(comm -23 "$work/called" "$work/there")" ]
finish
