#!/usr/bin/env bash
# muster doctor on four nodes of the Slurm lab: links of all pairs, and the one that is slow.
#   doctor_srun.sh MUSTER LAB.SH
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$1" "$folder/muster"
cat >"$folder/tiny.yaml" <<'CONFIG'
run: {name: tiny, steps: 8}
model: {family: llama, vocab_size: 256, d_model: 64, n_layers: 2, n_heads: 4, d_ff: 128}
data: {sources: [none.h5], seq_len: 64}
batch: {micro: 2, leaf: 4, lanes: 4, rounds: 1}
schedule: {kind: constant, peak: 0.003, warmup: 0}
CONFIG
cat >"$folder/inside.sh" <<'INSIDE'
export OMPI_MCA_mpi_yield_when_idle=1 # four nodes share this machine's cores
failed=0
doctor() { srun --mpi=pmix -n4 -N4 -K1 ./muster doctor "$@"; }
line() { grep -qE "^$1 +$2 +.*$3" out || { echo "failed: no line '$1 $2 ... $3' in"; cat out err; failed=1; }; }
begin=$SECONDS
doctor tiny.yaml --run /lab/run >out 2>err || { echo "failed: exit code $?"; cat out err; failed=1; }
echo "$((SECONDS - begin)) s for four nodes"
cat out
line ok ranks "4 on 4 nodes: n1, n2, n3, n4"
line ok "device class" ", on all ranks"
line ok "same folder" "all ranks see it"
line '(ok|warn)' links "[GM]b/s"
line ok time "clocks differ by at most"
line '(ok|warn)' step "exchange .* hidden, .* waited for"
[ "$(grep -cE '^ +n[123] .* / ' out)" = 3 ] || { echo "failed: no matrix of the pairs"; failed=1; }
[ -z "$(find /lab -name '.muster-doctor*')" ] || { echo "failed: it left something behind"; failed=1; }
# /tmp is each node's own
doctor tiny.yaml --run /tmp/run >out 2>err && { echo "failed: exit code 0 where the nodes share no folder"; failed=1; }
line FAIL "same folder" "rank 1 \(n2\) does not see what rank 0 wrote there, nor do others"
# the link of one node is slow
if tc qdisc add dev n3 root tbf rate 100mbit burst 64kb latency 400ms 2>err; then
    doctor tiny.yaml >out 2>err || { echo "failed: exit code $?"; cat out err; failed=1; }
    cat out
    line warn links "(n[124] to n3|n3 to n4) reaches .*, most pairs"
else
    echo "no slow link: $(cat err)"
fi
exit $failed
INSIDE
"$2" "$folder" salloc -Q -n4 -N4 bash inside.sh
