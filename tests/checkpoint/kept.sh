#!/usr/bin/env bash
# What an older muster wrote is read for ever (data/make.sh says how it was made); what a newer one writes is refused by its version.
#   kept.sh MUSTER
set -euo pipefail
muster=$1 data=$(cd "$(dirname "$0")" && pwd)/data
. "$(dirname "$0")/../shell.sh"

# line N FILE: what was said when the file was made
line() { sed -n "$1p" "$data/$2.txt"; }

# version NAME: the version that the checkpoint of this name has
version() { sed -n 's/^"version": \([0-9]*\),$/\1/p' "$work/$1/$checkpoint/manifest.json"; }

# seal MANIFEST: sets its last line right, as its writer would
seal() {
  head -n -2 "$1" >"$work/text"
  printf '"manifest_sha256": "%s"\n}\n' "$(sha256sum <"$work/text" | cut -d' ' -f1)" >>"$work/text"
  mv "$work/text" "$1"
}

for name in version-1 version-2 version-4; do
  checkpoint=step-00000012
  [ $name != version-4 ] || checkpoint=run/checkpoints/step-00000012 # of adapters: beside it stands what they adapt
  mkdir "$work/$name"
  tar -xzf "$data/$name.tar.gz" -C "$work/$name"
  cd "$work/$name"
  check "$name: its version" [ "$(version $name)" = "${name#version-}" ]
  expect 0 "$muster" verify $checkpoint
  check "$name: the digests that were recorded" [ "$(cat "$work/out")" = "$(line 1 $name)" ]
  expect 0 "$muster" eval $checkpoint tokens.h5
  check "$name: the loss that was recorded" grep -qxF -- "$(line 2 $name)" "$work/out"
  expect 0 "$muster" generate $checkpoint --prompt '12 times ' --tokens 20
  check "$name: text" grep -q '^12 times .' "$work/out"
  expect 0 "$muster" train config.yaml --run on --resume $checkpoint --set run.steps=16
  check "$name: four steps on" [ "$(cat "$work/out")" = "$(line 3 $name)" ]
done

newer=$work/version-2/step-00000012
sed -i 's/^"version": 2,$/"version": 99,/' "$newer/manifest.json"
seal "$newer/manifest.json"
for command in verify inspect generate; do
  expect 1 "$muster" $command "$newer"
  says 'version: 99 is not one that this muster reads (1 to '
done
finish
