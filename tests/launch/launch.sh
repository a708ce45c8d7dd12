# For the tests of muster launch: tests/shell.sh, a run to launch, and launchers that record how they were called.
. "$(dirname "${BASH_SOURCE[0]}")/../shell.sh"
command -v jq >/dev/null || skip "no jq (Debian: apt-get install jq)"
cd "$work"
unset "${!SLURM_@}" "${!PMI_@}" "${!PMIX_@}" "${!OMPI_MCA_@}"
printf 'The quick brown fox jumps over the lazy dog %d. ' $(seq 400) >text.txt
"$muster" data build text.txt -o tokens.h5 >out 2>&1

# stand_in NAME LINES: a program of that name, first in PATH, which appends its arguments to calls.NAME, a line a call
mkdir bin
stand_in() {
  printf '#!/bin/bash\nprintf "%%s\\n" "$*" >>%s/calls.%s\n%s\n' "$work" "$1" "$2" >"bin/$1"
  chmod +x "bin/$1"
}
PATH=$work/bin:$PATH

calls() { wc -l <"calls.$1" 2>/dev/null || echo 0; }
# planned WORDS: the command that --dry-run printed has them
planned() {
  checks=$((checks + 1))
  tail -n 1 out | grep -qF -- "$1" || fail "not in the command: $1, but: $(tail -n 1 out)"
}
