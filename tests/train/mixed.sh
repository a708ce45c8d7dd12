#!/usr/bin/env bash
# Ranks of different device classes: refused by name, or, where the config allows it, announced and recorded.
#   mixed.sh MUSTER
set -euo pipefail
muster=$1
. "$(dirname "$0")/../shell.sh"
has_mpirun || skip "no mpirun (Debian: apt-get install openmpi-bin)"
seq -f 'The quick brown fox jumps over %g lazy dogs.' 600 >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null 2>&1
tiny_config "$work/tiny.yaml"

# The second rank's oneDNN is told to keep to AVX2, as it would on another processor.
expect_two_classes() { # CODE OPTION...
  local code=$1
  shift
  expect "$code" "$tests/mpi/mpirun.sh" 1 "$muster" train "$work/tiny.yaml" --run "$work/run" "$@" : \
    -n 1 env DNNL_MAX_CPU_ISA=AVX2 "$muster" train "$work/tiny.yaml" --run "$work/run" "$@"
}
"$muster" train "$work/tiny.yaml" --run "$work/here" >/dev/null 2>"$work/err"
DNNL_MAX_CPU_ISA=AVX2 "$muster" train "$work/tiny.yaml" --run "$work/there" >/dev/null 2>"$work/err"
class_of() { sed -n 's/.*"event":"start".*"device_class":"\([^"]*\)".*/\1/p' "$1/metrics.jsonl" | tail -n 1; }
here=$(class_of "$work/here") there=$(class_of "$work/there")
[ "$here" != "$there" ] || skip "this processor has no more than AVX2"

expect_two_classes 2
says "the ranks' device classes differ: rank 0 on "
says "is '$there'"
says 'batch.allow_mixed'
expect_two_classes 0 --set batch.allow_mixed=true
says 'warning: ranks of different device classes train together (batch.allow_mixed)'
check 'the class is recorded' [ "$(class_of "$work/run")" = "mixed: $here, $there" ]
expect 0 "$muster" inspect "$work/run"
check 'in the checkpoint, too' grep -qF "mixed: $here, $there" "$work/out"
expect 0 "$muster" train "$work/tiny.yaml" --run "$work/run" --set run.steps=10
says "mixed: $here, $there"
finish
