#!/usr/bin/env bash
# Every command: its help with an example, what it says of words it does not know, its exit codes.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
cd "$work"

# prints WORDS: the last expected command printed this on stdout
prints() { check "stdout says '$1'" grep -qF -- "$1" "$work/out"; }

# ---- muster itself ----
expect 0 "$muster" --help
prints "usage: muster COMMAND"
cp out overview
expect 0 "$muster" -h
check "-h is --help" cmp -s out overview
expect 0 "$muster" --version
check "the version" grep -qE '^muster [0-9]+\.[0-9]+\.[0-9]+$' out
expect 2 "$muster" trian
says "muster: unknown command 'trian'; did you mean 'muster train'?"
expect 2 "$muster" data
says "muster: data: say what to do: 'muster data build'"
for words in 'data --help' 'data -h' 'help data'; do
  read -ra words <<<"$words"
  expect 0 "$muster" "${words[@]}"
  prints "usage: muster data COMMAND"
  prints "  data build        turn text into"
  prints "  data show         print the text"
done
expect 2 "$muster" xyzzy --help
expect 2 "$muster" data bild
says "muster: unknown command 'data bild'; did you mean 'muster data build'?"
expect 2 "$muster" dta build
says "did you mean 'muster data build'?"
expect 2 "$muster" xyzzy
says "muster: unknown command 'xyzzy'; 'muster --help' lists the commands"
if [ -w /dev/full ]; then
  expect 1 sh -c '"$0" --help >/dev/full' "$muster"
  says "muster: cannot write to standard output: No space left on device"
fi

# ---- every command that the overview lists ----
mapfile -t commands < <(sed -n '/^commands:/,/^$/p' overview | grep '^  [a-z]' | sed -E 's/^  ([a-z]+( [a-z]+)?)( |$).*/\1/')
check "the overview lists commands" [ "${#commands[@]}" -ge 7 ]
for command in "${commands[@]}"; do
  read -ra words <<<"$command"
  expect 0 "$muster" "${words[@]}" --help
  check "$command --help: nothing on stderr" [ ! -s err ]
  prints "muster $command: "
  prints "usage: muster $command"
  prints "  -h, --help"
  check "$command --help: an example with the command" grep -qE "^  .*muster $command" <(sed -nE '/^examples?:/,$p' out)
  check "$command --help: lines fit" [ "$(awk '{ if (length > m) m = length } END { print m }' out)" -le 100 ]
  check "$command --help: in this order" [ "$(grep -oE '^(usage|operands|options|examples?|see also):' out | tr -d 's\n')" = \
    "uage:$(grep -q '^operands:' out && echo operand:)option:example:ee alo:" ]
  check "$command --help: no trailing space" [ "$(grep -c ' $' out)" = 0 ]
  cp out help
  expect 0 "$muster" help "${words[@]}"
  check "help $command is $command --help" cmp -s out help
  expect 2 "$muster" "${words[@]}" --no-such-option
  says "muster: $command: unknown option '--no-such-option'; see 'muster $command --help'"
  expect 2 "$muster" "${words[@]}" -%
  says "muster: $command: unknown option '-%'; see 'muster $command --help'"
  expect 2 "$muster" "${words[@]}" --halp
  says "did you mean '--help'?"
  expect 2 "$muster" "${words[@]}" a b c d e f --nothing-of-it
  check "$command: one line, that begins with muster:" [ "$(grep -c '^muster: ' err) $(wc -l <err)" = "1 1" ]
done

# ---- options, on commands that have them ----
expect 2 "$muster" train
says "muster: train: CONFIG.yaml is missing"
expect 2 "$muster" train a.yaml b.yaml
says "muster: train: unexpected word 'b.yaml'"
expect 2 "$muster" train a.yaml --st x=1
says "muster: train: unknown option '--st'; did you mean '--set'?"
expect 2 "$muster" train a.yaml --set
says "muster: train: --set needs a value: --set KEY=VALUE"
expect 2 "$muster" train --help-config=yes
says "muster: train: --help-config takes no value, but 'yes' was given"
expect 2 "$muster" verify
says "muster: verify: CKPT is missing"
expect 2 "$muster" data build x
says "muster: data build: --output FILE.h5 is missing"
expect 2 "$muster" data build x -o
says "muster: data build: --output needs a value"
expect 2 "$muster" data build -o x.h5
says "muster: data build: INPUT is missing"
expect 2 "$muster" data build x -o x.h5 --heldout 0.7
says "muster: data build: --heldout: expected a number from 0 to 0.5, found '0.7'"
expect 2 "$muster" data build x -o x.h5 --heldout=nan
expect 2 "$muster" data build x -ox.h5 --seed -1
says "muster: data build: --seed: expected a whole number from 0"
expect 2 "$muster" data build -- --seed -o
says "muster: data build: --output FILE.h5 is missing"

# ---- names of files and folders that are empty: $variable was not set ----
touch text.txt
while IFS='|' read -r words name; do
  read -ra words <<<"$words"
  expect 2 "$muster" "${words[@]}" ''
  says "muster: ${words[0]}$name is empty; see 'muster ${words[0]}"
done <<'EOF'
train|: CONFIG.yaml
train a.yaml --run|: --run DIR
train a.yaml --resume|: --resume auto|never|CKPT
launch|: CONFIG.yaml
launch a.yaml --hostfile|: --hostfile FILE
submit --time 1:00:00|: CONFIG.yaml
plan|: CONFIG.yaml
doctor|: CONFIG.yaml
verify|: CKPT
inspect|: CKPT
eval|: CKPT
eval a.h5|: FILE
eval a.h5 b.h5 c.h5|: FILE
generate --prompt x|: CKPT
generate a.h5 --prompt-file|: --prompt-file FILE
pack -o b.h5|: CKPT
export a.h5 -o|: --output DIR
import -o b.h5|: DIR
report|: RUN
data build -o x.h5| build: INPUT
data build text.txt -o x.h5 --tokenizer| build: --tokenizer bytes|FILE.json
data build text.txt -o| build: --output FILE.h5
data show| show: CONFIG.yaml
tokenizer train --vocab 300 -o t.json| train: INPUT
EOF

# ---- the first rank of a launcher speaks for all ----
expect 2 env OMPI_COMM_WORLD_RANK=1 "$muster" train
check "the second rank is silent" [ ! -s err ]
expect 0 env SLURM_PROCID=3 "$muster" --help
check "the fourth rank is silent" [ ! -s out ]
finish
