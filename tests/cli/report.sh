#!/usr/bin/env bash
# muster report: what it refuses, what it passes over and says, that its output appears whole or not at all, and the CSV of a
# run that was killed and went on.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
cd "$work" || exit 1
yes 'The quick brown fox jumps over the lazy dog.' | head -n 2000 >text.txt

# csv COLUMN FILE: a column by its name, without the header
csv() { awk -F, -v want="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == want) column = i; next } { print $column }' "$2"; }
same() { check "$1" [ "$2" = "$3" ]; }

# ---- no run, no report ----
mkdir empty
for folder in empty missing text.txt ''; do expect 2 "$muster" report "$folder"; done
expect 2 "$muster" report empty -o page.html
says "'empty' is no run folder: it has no run.json"
check "nothing was written" [ ! -e page.html ]
expect 2 "$muster" report
expect 2 "$muster" report empty --format pdf
says "'pdf' is none of html, csv, tensorboard"

# ---- a run that was killed and went on ----
expect 0 "$muster" data build text.txt -o tokens.h5
tiny_config c.yaml 'checkpoint: {every: 3, keep: 1}'
expect 0 "$muster" train c.yaml --set run.steps=7 --run run
head -c -20 run/metrics.jsonl >cut && grep -v '"event":"stop"' cut >run/metrics.jsonl # as a kill in a write leaves it
printf '{"event":"step","step":8,"time":"2026-' >>run/metrics.jsonl
cp -r run going
expect 0 "$muster" report going -o going.html
says "note: going/metrics.jsonl: the last line, "
says "is cut short; passed over"
check "a run that has not said its end" grep -qE 'Going|No end recorded' going.html
rm -r run/checkpoints/step-*
expect 0 "$muster" train c.yaml --run run
expect 0 "$muster" report run --format csv -o run.csv
says "is damaged, 1 of "
same "each step once" "$(csv step run.csv | tr '\n' ' ')" "1 2 3 4 5 6 7 8 "
if command -v jq >/dev/null; then
  grep -av '2026-$' run/metrics.jsonl | jq -rR 'fromjson? | select(.event == "step") | [.step, .loss] | @csv' |
    tac | sort -t, -k1,1n -s -u >expected
  same "the later one counts, to the last bit" "$(paste -d, <(csv step run.csv) <(csv loss run.csv))" "$(cat expected)"
fi
expect 0 "$muster" report run
check "the default is in the run folder" [ -s run/report.html ]
check "the run began again" grep -q 'class="restarts"' run/report.html

# ---- where to ----
expect 0 "$muster" report run -o -
check "the page on standard output" grep -q '</html>' out
check "nothing else on it" [ "$(head -c 15 out)" = '<!DOCTYPE html>' ]
expect 2 "$muster" report run -o empty
says "cannot write the report to empty: it is a folder"
expect 2 "$muster" report run -o new/
says "it is a folder"
expect 1 "$muster" report run -o nowhere/page.html
says "No such file or directory"
for file in run.json config.yaml metrics.jsonl; do
  cp "run/$file" before
  expect 2 "$muster" report run -o "run/$file"
  says "belongs to the run"
  check "$file is untouched" cmp -s before "run/$file"
done
ln -s run/metrics.jsonl alias
expect 2 "$muster" report run --format csv -o alias
says "is no regular file"
mkdir -p run/checkpoints/step-00000001
echo '{}' >run/checkpoints/step-00000001/manifest.json
expect 2 "$muster" report run -o run/checkpoints/step-00000001/manifest.json
says "belongs to the run"
mkfifo pipe
expect 2 "$muster" report run -o pipe
says "is no regular file"
if [ -w /dev/full ]; then
  expect 1 sh -c '"$0" report run -o - >/dev/full' "$muster"
  says "No space left on device"
fi
echo old >page.html
expect 1 sh -c 'ulimit -f 1; trap "" XFSZ; exec "$0" report run -o page.html' "$muster"
says "page.html"
check "what stood there stays" [ "$(cat page.html)" = old ]
expect 0 "$muster" report run -o page.html
check "no temporary file is left" [ -z "$(find . -name '*.tmp-*')" ]

# ---- TensorBoard ----
expect 2 "$muster" report run --format tensorboard -o -
says "go into a folder"
expect 2 "$muster" report run --format tensorboard -o page.html
says "it is no folder"
expect 0 "$muster" report run --format tensorboard -o events
expect 0 "$muster" report run --format tensorboard -o events
same "one event file, also after two reports" "$(find events -type f | wc -l)" 1

# ---- damage ----
cp -r run hurt
echo 'model: [' >hurt/config.yaml
for manifest in hurt/checkpoints/*/manifest.json; do : >"$manifest"; done
expect 0 "$muster" report hurt -o hurt.html
says "note: "
check "the folder's name serves" grep -q '<h1>hurt</h1>' hurt.html
check "the checkpoint is named" grep -q 'damaged, or another one' hurt.html
rm hurt/metrics.jsonl hurt/config.yaml
expect 0 "$muster" report hurt -o hurt.html
says "has no metrics.jsonl yet"
echo '{"version": 2}' >hurt/run.json
expect 1 "$muster" report hurt -o hurt.html
says "made by a newer muster?"
head -c 3000000 /dev/urandom >hurt/metrics.jsonl
printf '{"version": 1, "run_id": 5, "device_class": null}' >hurt/run.json
mkfifo hurt/config.yaml
mkdir hurt/samples && mkfifo hurt/samples/a.txt
for format in html csv; do expect 0 "$muster" report hurt --format $format -o hurt.out; done
finish
