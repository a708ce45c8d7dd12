#!/usr/bin/env bash
# configs/quickstart.sh on a few headers: stopped while it trains and started again, done, done already; in a language whose
# numbers have a comma; with a file that a user cannot read; where there is nothing to learn from.
#   quickstart.sh MUSTER
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
configs=$(realpath "$(dirname "$0")/../../configs")
has_mpirun || skip "mpirun is not installed"
cd "$work"

prints() { check "stdout says '$1'" grep -qF -- "$1" "$work/out"; }
quickstart=(configs/quickstart.sh "$muster")

mkdir -p configs runs/quickstart-data/headers
cp "$configs"/quickstart.sh configs
# The same, smaller: it beats gzip on these few files within seconds.
sed -e 's/d_model: 128/d_model: 64/; s/n_layers: 4/n_layers: 2/; s/d_ff: 352/d_ff: 176/; s/warmup: 60/warmup: 10/; s/eval_every: 100/eval_every: 20/' \
  "$configs/quickstart.yaml" >configs/quickstart.yaml
find /usr/include -maxdepth 1 -name '*.h' -type f | sort | head -n 80 | xargs cp -t runs/quickstart-data/headers

mkdir locale
if localedef -i de_DE -f UTF-8 locale/de_DE.UTF-8 2>/dev/null; then
  { export LOCPATH=$work/locale LC_ALL=de_DE.UTF-8; } 2>/dev/null # this shell itself does not find it
fi

# A request to stop that comes before training listens is kept until it does.
"${quickstart[@]}" >out 2>err &
id=$!
until grep -q 'training on' out || ! kill -0 $id 2>/dev/null; do sleep 0.02; done
kill -TERM $id
code=0
wait $id || code=$?
check "stopped on request: $code" [ "$code" = 75 ]
says 'run ./run quickstart again to go on'
check "with a checkpoint" compgen -G 'runs/quickstart/checkpoints/step-*/manifest.json'

expect 0 "${quickstart[@]}"
prints 'held-out files: the model needs '
prints 'crossed at step '
check "a sample" [ -s runs/quickstart/samples/headers.txt ]
check "a report" [ -s runs/quickstart/report.html ]
crossed=$(grep '^crossed' out)
# Lines of the program, the sample, and the path of the program are as long as they are.
check "its own lines fit 80 columns" [ -z "$(grep -E '^==|^  |held-out files' out | grep -v 'export PATH' | awk 'length > 80')" ]

expect 0 "${quickstart[@]}"
prints 'the model in runs/quickstart needs less already: done'
check "done before: it does not train" [ "$(grep -c '^== training' out)" = 0 ]
check "the same crossing: $crossed" [ "$(grep '^crossed' out)" = "$crossed" ]

# Trained on without a target, it has crossed where it had.
step=$(ls runs/quickstart/checkpoints | sed -n 's/^step-0*//p' | tail -n 1)
expect 0 "$muster" train configs/quickstart.yaml --run runs/quickstart --set run.steps=$((step + 20))
expect 0 "${quickstart[@]}"
check "the crossing stays: $crossed" [ "$(grep '^crossed' out)" = "$crossed" ]

# Never below what gzip needs: the best checkpoint is what speaks.
rm -rf runs/quickstart
printf '1000 100 0.8000\n' >runs/quickstart-data/gzip.txt
sed -i 's/steps: 1500/steps: 40/' configs/quickstart.yaml
expect 0 "${quickstart[@]}"
prints 'not crossed at step 40'
says 'and the target of 0.8 bits per byte not reached; held-out loss was lowest at step '
prints "muster generate runs/quickstart/checkpoints/step-00000040 --prompt"
check "a sample of it" [ -s runs/quickstart/samples/headers.txt ]

# No headers at all: said, and nothing is left that would keep the next start from looking again.
rm -rf runs
mkdir bin
printf '#!/bin/sh\nexit 0\n' >bin/find
chmod +x bin/find
PATH=$work/bin:$PATH expect 1 "${quickstart[@]}"
says 'quickstart: there are only 0 C headers under /usr/include'
check "no corpus" [ ! -e runs/quickstart-data/headers ]
finish
