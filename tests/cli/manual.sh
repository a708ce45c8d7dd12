#!/usr/bin/env bash
# The man page: no warnings of whoever reads it, every command, option and variable in it; what cmake installs.
# $1 is the muster program, $2 the build folder.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
build=$(realpath "$2")
source=$(realpath "$(dirname "$0")/../..")
cd "$work"

expect 0 "$muster" --man
check "nothing on stderr" [ ! -s err ]
cp out muster.1
expect 0 "$muster" help --man
check "help --man is --man" cmp -s out muster.1
check "plain ASCII" [ "$(LC_ALL=C grep -c '[^ -~]' muster.1)" = 0 ]

readers=0
if command -v mandoc >/dev/null; then
  readers=$((readers + 1))
  check "mandoc -T lint: $(mandoc -T lint -W warning muster.1 | head -3)" mandoc -T lint -W warning muster.1
fi
if command -v groff >/dev/null; then
  readers=$((readers + 1))
  groff -man -ww -z -T utf8 muster.1 2>warnings
  check "groff -man -ww: $(head -3 warnings)" [ ! -s warnings ]
fi
[ "$readers" -gt 0 ] || [ "$failures" -gt 0 ] || skip "neither mandoc nor groff, to read the man page"

# ---- all that --help knows is in it ----
# plain: a page of man(7) as words, a line for each of its lines
plain() { sed -E 's/\\f[BIR]//g; s/\\e/\\/g; s/\\-/-/g; s/\\\(aq/'"'"'/g; s/\\\(ti/~/g; s/\\\(ha/^/g; s/\\\(ga/`/g' "$1"; }
plain muster.1 >plain.1
section() { sed -n "/^\.SS muster $1\$/,/^\.S[SH]/p" plain.1; }
mapfile -t commands < <(sed -n '/^commands:/,/^$/p' <("$muster" --help) | grep '^  [a-z]' | sed -E 's/^  ([a-z]+( [a-z]+)?)( |$).*/\1/')
check "the overview lists commands" [ "${#commands[@]}" -ge 8 ]
for command in "${commands[@]}"; do
  read -ra words <<<"$command"
  "$muster" "${words[@]}" --help >help
  section "$command" >entry
  check "$command has an entry" [ -s entry ]
  while read -r option; do
    check "$command: $option" grep -qE -- "^(-[a-zA-Z], )?$option( |\$)" entry
  done < <(sed -n '/^options:/,/^$/p' help | grep -oE '^  (-.,|   ) --[a-z0-9-]+' | grep -oE -- '--.*' | grep -v '^--help$')
  while read -r example; do
    check "$command: the example $example" grep -qF -- "$example" entry
  done < <(sed -nE '/^examples?:/,/^$/p' help | grep '^  ')
done
while read -r code; do
  check "exit code $code" grep -qx "$code" <(sed -n '/^\.SH EXIT STATUS/,/^\.SH FILES/p' plain.1)
done < <(sed -n '/^exit codes:/,/^$/p' <("$muster" --help) | grep -oE '^  [0-9]+' | tr -d ' ')

# Every variable that the sources read: in files that call getenv, the strings that look like one.
mapfile -t names < <(grep -rlE '\bgetenv\(' "$source"/{kernels,worker,coordinator} --include='*.c' |
  xargs grep -hv '^#define' | grep -oE '"(OMPI_MCA_[a-z_]+|[A-Z][A-Z_]{3,})"' | tr -d '"' | sort -u)
check "variables were found" [ "${#names[@]}" -ge 10 ]
for name in "${names[@]}"; do
  check "the variable $name" grep -qw -- "$name" <(sed -n '/^\.SH ENVIRONMENT/,/^\.SH EXAMPLES/p' plain.1)
done

# ---- what is installed ----
if [ ! -e "$build/coordinator/share/muster.1" ]; then
  [ "$failures" -gt 0 ] || skip "this build makes no man page to install"
  finish
  exit
fi
expect 0 cmake --install "$build" --prefix "$work/usr"
check "the program" [ -x usr/bin/muster ]
check "the man page" cmp usr/share/man/man1/muster.1 muster.1
for shell in bash:bash-completion/completions/muster zsh:zsh/site-functions/_muster fish:fish/vendor_completions.d/muster.fish; do
  expect 0 "$muster" completion "${shell%%:*}"
  check "${shell%%:*}'s script" cmp -s "usr/share/${shell#*:}" out
done
if command -v man >/dev/null; then
  MANPATH=$work/usr/share/man MANPAGER=cat MANWIDTH=80 LC_ALL=C man --warnings muster >page 2>warnings
  check "man shows it: $(head -3 warnings)" [ -s page -a ! -s warnings ]
  check "lines fit" [ "$(awk '{ if (length > m) m = length } END { print m }' page)" -le 100 ]
fi
finish
