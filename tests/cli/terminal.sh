#!/usr/bin/env bash
# Colours: there on a terminal, and nowhere else; plain text is the same with and without them.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
cd "$work"
command -v script >/dev/null || skip "no script, to give a program a terminal"
unset NO_COLOR
export LC_ALL=C.UTF-8
escape=$(printf '\033')

# terminal COMMAND: the shell command on a terminal of 72 columns; what it shows goes to $work/screen
terminal() {
  TERM=${term-xterm} timeout 120 script -qec "stty cols 72; $1" /dev/null </dev/null | tr -d '\r' >screen
}
colored() { check "colours: $1" grep -q "$escape" screen; }
plain() {
  check "no escapes: $1: $(grep "$escape" screen | head -2 | cat -v)" [ "$(grep -c "$escape" screen)" = 0 ]
  check "something is there: $1" [ -s screen ]
}
# has STYLE TEXT: the text in this style, which ends after it
has() { check "the screen shows $2 in $1: $(head -3 screen | cat -v)" grep -qF "$escape[$1m$2$escape[0m" screen; }
strip() { sed "s/$escape\[[0-9;]*m//g" "$1"; }

# ---- errors ----
terminal "'$muster' trian"
has '1;31' 'muster:'
strip screen >text
"$muster" trian 2>piped
check "the same words as when piped" cmp -s text piped
cp piped screen && plain "piped"
"$muster" train --help-config | sed 's/^  d_model:/  d_modle:/' >wrong.yaml
terminal "'$muster' train wrong.yaml"
has '1;31' 'error:'
has '1;31' 'muster:'
terminal "'$muster' train wrong.yaml 2>file; cat file"
plain "standard error in a file"

# ---- help and guidance ----
for words in --help 'train --help' 'help data' ''; do
  terminal "'$muster' $words"
  colored "muster $words"
  check "muster $words fits 72 columns" [ "$(strip screen | grep -v '^  [a-z# ]*muster ' | awk '{ if (length > m) m = length } END { print m }')" -le 90 ]
  terminal "NO_COLOR=1 '$muster' $words"
  plain "NO_COLOR=1 muster $words"
  terminal "NO_COLOR= '$muster' $words"
  colored "NO_COLOR empty, muster $words"
  term=dumb terminal "'$muster' $words"
  plain "TERM=dumb muster $words"
  terminal "env -u TERM '$muster' $words"
  plain "no TERM, muster $words"
  terminal "'$muster' $words | cat"
  plain "muster $words | cat"
  "$muster" $words >screen
  plain "muster $words, in a file"
done
terminal "'$muster' train --help"
has 1 'usage:'
check "the help is as wide as the terminal" [ "$(strip screen | awk '{ if (length > m) m = length } END { print m }')" -le 72 ]
terminal "'$muster' --man; '$muster' completion bash; '$muster' train --help-config; '$muster' --version"
plain "what programs read"

# ---- a run ----
for i in $(seq 300); do echo "{\"text\": \"a text, and its number is $i\"}"; done >text.jsonl
"$muster" data build text.jsonl -o tokens.h5 --heldout 0.1 >/dev/null
tiny_config config.yaml
"$muster" train config.yaml 2>screen >digest
plain "a run, piped"
rm -r runs/tiny/checkpoints
terminal "'$muster' train config.yaml"
check "a green bar" grep -qF "$escape[32m█" screen
check "the live line" grep -q "$escape\[K" screen
strip screen | tail -1 >last
check "the same digest" cmp -s last digest
rm -r runs/tiny/checkpoints
terminal "NO_COLOR=1 '$muster' train config.yaml"
check "NO_COLOR: no colours" [ "$(grep -c "$escape\[[0-9;]*m" screen)" = 0 ]
check "NO_COLOR: a live line all the same" grep -q "$escape\[K" screen
term=dumb terminal "'$muster' train config.yaml --set schedule.peak=0.002"
plain "a run on a dumb terminal"
terminal "'$muster' train config.yaml --set schedule.peak=0.001"
has 33 'note:'
rm -r runs/tiny/checkpoints

# ---- under mpirun, whose ranks see a terminal even when what they print goes into a file ----
if has_mpirun; then
  ranks 2 "$muster" --help >screen
  plain "mpirun muster --help"
  check "once" [ "$(grep -c '^usage:' screen)" = 1 ]
  terminal "'$tests/mpi/mpirun.sh' 2 '$muster' train config.yaml"
  plain "mpirun muster train on a terminal"
fi
finish
