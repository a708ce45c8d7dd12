#!/usr/bin/env bash
# muster without a word: what it says where one stands, and that the commands that it names work.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
PATH=$(dirname "$muster"):$PATH

# next WORDS: what it says now begins with these words
next() {
  expect 0 "$muster"
  check "nothing on stderr" [ ! -s "$work/err" ]
  check "it begins with '$1', not '$(head -1 "$work/out")'" grep -qF -- "$1" <(head -1 "$work/out")
  check "its lines fit a terminal of 80 columns" [ -z "$(grep -vE '^  |/' "$work/out" | awk 'length > 80')" ]
  check "it names the help" [ "$(tail -1 "$work/out")" = "'muster --help' lists all commands." ]
}
# commands: those that it named
commands() { grep '^  ' "$work/out" | sed 's/^  //'; }
# names COMMAND...: it named these commands, and no other
names() { check "it names: $*; not: $(commands | tr '\n' ';')" [ "$(commands)" = "$(printf '%s\n' "$@")" ]; }

# ---- nothing, then what its commands make ----
mkdir "$work/a b" "$work/a b/TEXTS"
cd "$work/a b" || exit 1
for i in $(seq 300); do echo "a text, and its number is $i"; done | split -l 1 - TEXTS/ --additional-suffix=.txt
next "There is nothing of muster's here yet."
names "muster data build TEXTS/ -o tokens.h5" "muster train --help-config >config.yaml" "muster train config.yaml"
commands >begin
check "the first two of its commands" sh -e -c "{
$(head -2 begin)
} >/dev/null"
check "they made a config and its tokens" [ -s config.yaml -a -s tokens.h5 ]
next "The config config.yaml and its token files are there."
names "muster train config.yaml"

# ---- what is there in part ----
mv config.yaml kept
next "There is no config here yet."
names "muster train --help-config >config.yaml" "muster train config.yaml"
mv tokens.h5 mine.h5
next "There is no config here yet."
check "the other name is said" grep -q 'write mine.h5 for tokens.h5' "$work/out"
rm mine.h5
next "There is nothing of muster's here yet."
printf '\x89HDF' >other.h5
next "There is nothing of muster's here yet."
mv kept config.yaml
next "The config config.yaml is there, but not its token file tokens.h5."
names "muster data build TEXTS/ -o tokens.h5" "muster train config.yaml"
sed -i 's/^  d_model:/  d_modle:/' config.yaml
next "The config config.yaml is not right yet."
names "muster train config.yaml"
mkdir configs
mv config.yaml configs/-odd.yaml
next "The config configs/-odd.yaml is not right yet."
mv configs/-odd.yaml -- '-it'"'"'s odd.yaml'
next "The config -it's odd.yaml is not right yet."
names "muster train ./'-it'\\''s odd.yaml'"
rm -- -it*
printf 'services:\n  model: x\n' >compose.yaml
mkfifo pipe.yaml
head -c 100000 /dev/urandom >noise.yaml
touch "$(printf 'bad\033[31m.yaml')"
next "There is nothing of muster's here yet."
rm -f -- *.yaml

# ---- runs ----
"$muster" data build TEXTS -o "$work/tokens.h5" --heldout 0.1 >/dev/null
tiny_config tiny.yaml 'checkpoint: {every: 4}'
tiny_config large.yaml
sed -i 's/d_model: 32/d_model: 64/; s/name: tiny/name: large/' large.yaml
touch -d '1 hour ago' tiny.yaml
next "The config large.yaml and its token files are there." # the newer one
expect 0 "$muster" train tiny.yaml
tail -1 "$work/out" >digest
next "The run runs/tiny has done all of its 8 steps."
check "generate" grep -qF '  muster generate runs/tiny --prompt "The "' "$work/out"
check "verify" grep -qxF '  muster verify runs/tiny' "$work/out"
check "report, where there is one" [ "$(grep -c 'muster report runs/tiny' "$work/out")" = \
  "$("$muster" --help | grep -c '^  report ')" ]
commands >todo
while read -r line; do check "works: $line" sh -c "$line >/dev/null"; done <todo

rm -r runs/tiny/checkpoints/step-00000008
next "The run runs/tiny has done 4 of its 8 steps."
names "muster train runs/tiny/config.yaml --run runs/tiny"
check "goes on" sh -c "$(commands) >again 2>/dev/null"
check "to the same end" cmp -s again digest
(cd runs/tiny && next "The run . has done all of its 8 steps." && echo "$checks $failures" >"$work/inside")
read -r checks failures <"$work/inside"

# A run that was killed, or is at work: its metrics have no stop at their end.
rm -r runs/tiny/checkpoints/step-00000008
sed -i '$d' runs/tiny/metrics.jsonl
next "The run runs/tiny (8 steps) seems to be at work"
touch -d '5 minutes ago' runs/tiny/metrics.jsonl
next "The run runs/tiny has done 4 of its 8 steps."
mkdir runs/broken runs/empty
echo '{' >runs/broken/run.json # the newest, but without a config that can be read
next "The config large.yaml and its token files are there."
rm -r runs/broken
mv runs/tiny/checkpoints "$work/gone"
next "The run runs/tiny (8 steps) has no checkpoint yet."
names "muster train runs/tiny/config.yaml --run runs/tiny"

# A run that reached its target is done before its last step; a source tree has a command of its own.
mv "$work/gone" runs/tiny/checkpoints
echo '{"event":"stop","step":4,"time":"2026-01-01T00:00:00.000Z","reason":"done"}' >>runs/tiny/metrics.jsonl
next "The run runs/tiny has reached its target after 4 steps."
echo '{"event":"stop","step":4,"time":"2026-01-01T00:00:00.000Z","reason":"signal"}' >>runs/tiny/metrics.jsonl
next "The run runs/tiny has done 4 of its 8 steps."
mkdir -p tree/configs
cp tiny.yaml tree/configs
touch tree/run tree/configs/quickstart.sh
chmod +x tree/run tree/configs/quickstart.sh
sed -i "s,$work/tokens.h5,no.h5," tree/configs/tiny.yaml
(
  cd tree || exit 1
  next "This is muster's source tree."
  names "./run quickstart" "muster data build TEXTS/ -o tokens.h5" "muster train --help-config >config.yaml" "muster train config.yaml"
  "$muster" data build ../TEXTS -o configs/no.h5 >/dev/null
  next "The config configs/tiny.yaml and its token files are there."
  echo "$checks $failures" >"$work/inside"
)
read -r checks failures <"$work/inside"

# ---- it never fails, and only the first rank speaks ----
expect 0 env OMPI_COMM_WORLD_RANK=1 "$muster"
check "the second rank is silent" [ ! -s "$work/out" ]
mkdir "$work/deleted"
expect 0 sh -c "cd '$work/deleted' && rmdir '$work/deleted' && '$muster'"
if [ "$(id -u)" != 0 ]; then # root may read everything
  chmod 000 runs
  next "The config large.yaml"
  chmod 755 runs
fi
finish
