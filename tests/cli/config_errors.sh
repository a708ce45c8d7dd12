#!/usr/bin/env bash
# muster train: --help-config is a config; what is wrong with one is said with its place, before anything is made.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
cd "$work"

expect 0 "$muster" train --help-config
check "nothing on stderr" [ ! -s err ]
cp out config.yaml
check "it names the keys" grep -q '^  d_model: 256$' config.yaml

# A valid config, but no data: the error is about the data, not about the config.
expect 1 "$muster" train config.yaml
check "the missing data is named" grep -q '^muster: .*tokens.h5' err
check "no run folder is left" [ ! -e runs ]

expect 2 "$muster" train no-such.yaml
says "muster: config no-such.yaml: No such file or directory"
mkdir folder
expect 2 "$muster" train folder
says "muster: config folder is not a regular file"

sed 's/^  d_model: 256/  d_modle: 256/; s/^  steps: 1000/  steps: 12.5/' config.yaml >wrong.yaml
line_of() { grep -n "$1" wrong.yaml | cut -d: -f1; }
errors_are() {
  says "wrong.yaml:$(line_of d_modle):3: error: model: unknown key 'd_modle'; did you mean 'd_model'?"
  says "wrong.yaml:$(line_of 12.5):10: error: run.steps: '12.5' is not a whole number in plain digits; expected a whole number from 1"
  says "wrong.yaml:$(line_of '^model:'):1: error: model.d_model: required, but missing; give it a whole number"
  says "config wrong.yaml: 3 errors; 'muster train --help-config' describes every key"
}
expect 2 "$muster" train wrong.yaml --run here
errors_are
check "nothing is left" [ ! -e here ] && check "nothing is left" [ ! -e runs ]

expect 2 "$muster" train config.yaml --set optimizer.bta1=0.5 --set=batch.lanes=6
says "--set optimizer.bta1=0.5: error: unknown key 'optimizer.bta1'; did you mean 'optimizer.beta1'?"
expect 2 "$muster" train config.yaml --set batch.lanes=6
says "--set batch.lanes=6: error: batch.lanes: 6 is not a power of two"

# Under a launcher the same, once.
if has_mpirun; then
  expect 2 ranks 4 "$muster" train wrong.yaml
  errors_are
  check "each error is said once" [ "$(grep -c 'unknown key' err) $(grep -c '^muster: ' err)" = "1 1" ]
  check "nothing is left" [ ! -e runs ]
fi
finish
