#!/usr/bin/env bash
# muster import and export, ended at any moment: what has the output's name is whole, and after a signal that can be caught nothing
# else is left. Usage: convert_interrupts.sh MUSTER
set -u
. "$(dirname "$0")/../shell.sh"
muster=$1
cd "$work" || exit 1

# 11 million parameters: enough to take a few tenths of a second
head -c 3000 "$muster" | base64 >text.txt
expect 0 "$muster" data build text.txt --heldout 0 -o tokens.h5
cat >large.yaml <<EOF
run: {steps: 1}
model: {d_model: 384, n_layers: 6, n_heads: 6}
data: {sources: [$work/tokens.h5], seq_len: 16}
batch: {micro: 1, lanes: 1}
schedule: {peak: 0.003}
train: {precision: f32}
EOF
expect 0 "$muster" train large.yaml --run run
expect 0 "$muster" pack run -o one.h5 --weights-only
rm -r run
begin=$(date +%s%N)
expect 0 "$muster" export one.h5 -o whole --shard-size 8MB
took=$((($(date +%s%N) - begin) / 1000000))
expect 0 "$muster" import whole -o whole.h5
sum=$(cd whole && cat -- * | sha256sum)

# end_at SIGNAL MILLISECONDS COMMAND...: starts it, and signals it then
end_at() {
  local signal=$1 after=$2 pid
  shift 2
  "$@" >/dev/null 2>&1 &
  pid=$!
  sleep "$(printf '%d.%03d' $((after / 1000)) $((after % 1000)))"
  kill -"$signal" "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
}

finished=0 ended=0
for signal in INT TERM HUP KILL; do
  for part in 5 20 40 60 75 90 100; do
    mkdir trial && cd trial || exit 1
    end_at "$signal" $((took * part / 100)) "$muster" export ../one.h5 -o whole --shard-size 8MB
    if [ -e whole ]; then
      finished=$((finished + 1))
      check "$signal at $part%: a folder with the name is whole" [ "$(cd whole && cat -- * | sha256sum)" = "$sum" ]
    else
      ended=$((ended + 1))
    fi
    [ "$signal" = KILL ] || check "$signal at $part%: nothing else is left: $(ls -A)" [ -z "$(ls -A | grep -v '^whole$')" ]
    # Killed at once, it leaves its hidden folder, in which config.json comes last.
    for left in .whole.*/config.json; do
      [ ! -e "$left" ] || check "$signal at $part%: what has a config.json is whole" [ "$(cd "${left%/*}" && cat -- * | sha256sum)" = "$sum" ]
    done
    end_at "$signal" $((took * part / 100)) "$muster" import ../whole -o one.h5
    [ ! -e one.h5 ] || check "$signal at $part%: a file with the name is whole" cmp -s one.h5 ../whole.h5
    [ "$signal" = KILL ] || check "$signal at $part%: import leaves nothing: $(ls -A)" [ -z "$(ls -A | grep -v '^whole$\|^one.h5$')" ]
    cd .. && rm -rf trial
  done
done
echo "an export takes $took ms; $ended were ended, $finished were not"
check "some were ended in their midst" [ "$ended" -gt 4 ]
finish
