#!/usr/bin/env bash
# Batch scripts without a Slurm: those of configs/slurm, and what 'muster submit' writes and refuses.
#   files.sh MUSTER SOURCE_FOLDER
set -euo pipefail
muster=$(readlink -f "$1") source=$(readlink -f "$2")
. "$source/tests/shell.sh"
printf 'The quick brown fox %d. ' $(seq 400) >"$work/text.txt"
"$muster" data build "$work/text.txt" -o "$work/tokens.h5" >/dev/null
tiny_config "$work/tiny.yaml"
cd "$work"

for script in "$source"/configs/slurm/*.sbatch; do
  check "syntax of $script" bash -n "$script"
  expect_any bash "$script"
  says "usage: sbatch"
  for line in --requeue --open-mode=append --signal=B:USR1@ --time= --nodes=; do
    check "$script has $line" grep -q "^#SBATCH $line" "$script"
  done
done

# the script, and that it is what is submitted
mkdir bin
cat >bin/sbatch <<'EOF'
#!/bin/sh
[ "$1" != --version ] || exit 0
cp "$2" submitted.sbatch
echo "$*" >arguments
echo '4711;cluster'
EOF
chmod +x bin/sbatch
expect 0 "$muster" submit tiny.yaml --nodes 2-4 --time 4:00:00 --partition p --account a --ranks-per-node 2 --run "r u'n" \
  --set run.steps=9 --dry-run -- --qos=long
cp out dry
check 'a dry run writes nothing' [ ! -e "r u'n" ]
check 'syntax' bash -n dry
for line in '--nodes=2-4' '--time=4:00:00' '--partition=p' '--account=a' '--qos=long' '--requeue' \
  '--open-mode=append' '--signal=B:USR1@120' '--job-name=tiny'; do
  check "the script has $line" grep -qE "^#SBATCH $line( |\$)" dry
done
check 'ranks on each node' grep -qE -- '--ntasks-per-node=2 |--ranks .*2 ' dry
check 'the program by its path' grep -qF "$(readlink -f "$muster") " dry
check 'the run folder as one word' grep -qF -- "--run '$work/r u'\\''n'" dry
expect 0 env PATH="$work/bin:$PATH" "$muster" submit tiny.yaml --nodes 2-4 --time 4:00:00 --partition p --account a \
  --ranks-per-node 2 --run "r u'n" --set run.steps=9 -- --qos=long
check 'what is submitted is what a dry run prints' cmp dry "r u'n/job.sbatch"
check 'and reaches sbatch' cmp dry submitted.sbatch
for line in 'submitted job 4711: ' "output   $work/r u'n/job-4711.out" 'squeue -j 4711' 'scancel --batch --signal=USR1 4711' 'scancel 4711'; do
  check "says $line" grep -qF -- "$line" out
done
check 'cores that the user chooses' [ "$("$muster" submit tiny.yaml --time 5 --dry-run -- --cpus-per-task=4 | grep -c exclusive)" = 0 ]

# what is wrong is said before anything is written
refused() { # refused WORDS COMMAND...
  local words=$1
  shift
  expect 2 env PATH="$work/bin:$PATH" "$muster" submit "$@" --run refused
  says "$words"
  check 'nothing is left' [ ! -e refused ]
}
for option in --ntasks=3 --ntasks-per-node=2 -n3; do
  expect 2 env PATH="$work/bin:$PATH" "$muster" submit tiny.yaml --time 5 --run refused -- $option
  says "'$option': the number of tasks follows from nodes and --ranks-per-node"
  check 'nothing is left' [ ! -e refused ]
done
refused '--time' tiny.yaml
for time in 0 0:00:00 x 1:2:3:4 1- 1-2:3:4:5 -5 '' 4h 12345678; do refused '--time: ' tiny.yaml "--time=$time"; done
for nodes in 0 4-2 2- x -1 2-4-6 1000000; do refused '--nodes: ' tiny.yaml --time 5 "--nodes=$nodes"; done
refused '--ranks-per-node' tiny.yaml --time 5 --ranks-per-node 0
refused 'unexpected word' tiny.yaml --time 5 word
refused 'control character' tiny.yaml --time 5 --partition $'a\nb'
refused 'run.stepz' tiny.yaml --time 5 --set run.stepz=1
refused 'nothing.yaml' nothing.yaml --time 5
for time in 5 5:30 1:00:00 2-3 2-3:30 2-03:30:59; do
  expect 0 "$muster" submit tiny.yaml --time $time --dry-run
done
expect 2 env PATH=/nowhere "$(readlink -f "$muster")" submit tiny.yaml --time 5 --run refused
says 'there is no sbatch here'
# shellcheck disable=SC2016
printf '#!/bin/sh\n[ "$1" != --version ] || exit 0\necho "no such partition" >&2\nexit 1\n' >bin/sbatch
expect 2 env PATH="$work/bin:$PATH" "$muster" submit tiny.yaml --time 5 --run told
says 'no such partition'
says 'sbatch refused the job, for the reason above'
# shellcheck disable=SC2016
printf '#!/bin/sh\n[ "$1" != --version ] || exit 0\necho "hello"\n' >bin/sbatch
expect 1 env PATH="$work/bin:$PATH" "$muster" submit tiny.yaml --time 5 --run told
says "said 'hello' in place of a job number"
finish
