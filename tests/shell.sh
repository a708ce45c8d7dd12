# For test scripts: checks that print what they saw, a folder of their own, mpirun on any machine.
# Usage: . "$(dirname "$0")/../shell.sh"; ...; finish

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
checks=0 failures=0

fail() {
  failures=$((failures + 1))
  echo "failed: $*" >&2
}

# check WHAT COMMAND...: the command succeeds
check() {
  local what=$1
  shift
  checks=$((checks + 1))
  "$@" || fail "$what: $*"
}

# expect CODE COMMAND...: the command ends with this exit code; its output goes to $work/out and $work/err
expect() {
  local want=$1 got=0
  shift
  checks=$((checks + 1))
  if [ "$1" = ranks ]; then
    shift
    ranks "$@" >"$work/out" 2>"$work/err" || got=$?
  else
    timeout --foreground "${limit:-120}" "$@" >"$work/out" 2>"$work/err" || got=$?
  fi
  [ "$got" = "$want" ] && return
  fail "exit code $got, not $want: $*"
  sed 's/^/    | /' "$work/err" >&2
}

# expect_any COMMAND...: the command may end as it likes, but not by a signal or in time-out
expect_any() {
  local got=0
  checks=$((checks + 1))
  timeout --foreground "${limit:-120}" "$@" >"$work/out" 2>"$work/err" || got=$?
  [ "$got" -lt 124 ] || fail "exit code $got: $*"
}

# says WORDS: the last expected command said this on stderr
says() {
  checks=$((checks + 1))
  grep -qF -- "$1" "$work/err" && return
  fail "stderr does not say '$1' but:"
  sed 's/^/    | /' "$work/err" >&2
}

# The launcher of the MPI that the program was built with is there.
has_mpirun() { command -v "${MUSTER_MPIRUN:-mpirun}" >/dev/null; }

# ranks N COMMAND...: N ranks on this machine; without mpirun for one
ranks() {
  local n=$1
  shift
  if [ "$n" = 1 ]; then
    timeout --foreground "${limit:-120}" "$@"
  else
    timeout --foreground "${limit:-120}" "$tests/mpi/mpirun.sh" "$n" "$@"
  fi
}

skip() {
  echo "skipped: $*"
  exit 77
}

finish() {
  echo "$(basename "$0"): $checks checks, $failures failed"
  [ "$checks" -gt 0 ] && [ "$failures" -eq 0 ]
}

# tiny_config FILE [YAML_LINE...]: a small model on $work/tokens.h5; lines are appended
tiny_config() {
  local file=$1
  shift
  cat >"$file" <<EOF
run: {name: tiny, steps: 8, seed: 3}
model: {family: llama, d_model: 32, n_layers: 2, n_heads: 4, n_kv_heads: 2, d_ff: 64}
data: {sources: [$work/tokens.h5], seq_len: 32}
batch: {micro: 2, leaf: 1, lanes: 4, rounds: 1}
schedule: {kind: constant, peak: 0.003, warmup: 0}
train: {precision: f32}
device: {threads: 1}
EOF
  [ $# -eq 0 ] || printf '%s\n' "$@" >>"$file"
}
