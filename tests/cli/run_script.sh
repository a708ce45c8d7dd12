#!/usr/bin/env bash
# The script ./run, which is the first thing a user meets: what it lists is there, what it does not know it refuses.
set -u
. "$(dirname "$0")/../shell.sh"
run=$(realpath "$(dirname "$0")/../../run")
cd "$work"

check "bash can read it" bash -n "$run"
expect 0 "$run" help
cp out help
for word in help -h --help ''; do
  expect 0 "$run" $word
  check "'$word' gives the same help" cmp -s out help
done
for command in quickstart build bundle test lint torture bench; do
  check "the help names $command" grep -q "^\./run $command " help
done
expect 2 "$run" biuld
says "run: unknown command 'biuld'; './run help' lists them"
expect 2 "$run" build no-such-preset
says "no-such-preset"
expect 2 "$run" test --quik
says "--quik"
finish
