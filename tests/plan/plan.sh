#!/usr/bin/env bash
# muster plan from outside: agrees with a run, units, exit codes, and its advice is true.
#   plan.sh MUSTER
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
configs=$(realpath "$(dirname "$0")/../../configs")
command -v jq >/dev/null || skip "no jq (Debian: apt-get install jq)"
cd "$work"
yes "A text that says little, many times over." | head -n 2000 >text.txt
expect 0 "$muster" data build text.txt -o tokens.h5
tiny_config tiny.yaml

plan() { "$muster" plan tiny.yaml --flops 1e9 --json "$@" 2>>"$work/err"; }
reported() { plan "$@" | jq .memory.first_reported; }
holds() { jq -e "$@" >/dev/null; }
trained() { # trained RANKS [OPTION...]: memory_bytes of rank 0
  rm -rf run
  ranks "$1" "$muster" train tiny.yaml --run run "${@:2}" >/dev/null 2>train.err || cat train.err >&2
  jq -r 'select(.event == "step") | .memory_bytes' run/metrics.jsonl | tail -n 1
}

# ---- a run reports what the plan said, to the byte ----
has_mpirun && counts="1 2 3" || counts=1
for n in $counts; do
  for options in "" "--set batch.wire=bf16 --set batch.rounds=2" "--set checkpoint.async=false --set train.precision=bf16"; do
    read -ra options <<<"$options"
    check "$n ranks ${options[*]}" [ "$(reported --ranks "$n" "${options[@]}")" = "$(trained "$n" "${options[@]}")" ]
  done
done

# ---- the same figures in words; what is measured, what is declared ----
expect 0 "$muster" plan tiny.yaml
check "measured here" grep -q 'measured here, of which' out
check "for the CPU, unless told" grep -qx 'device  *CPU (device.kernels: cpu)' out
expect 0 "$muster" plan tiny.yaml --flops 1e12 --set device.kernels=auto
check "what was left open" grep -q '^device  *CPU (device.kernels: auto); --set device.kernels=cuda plans for GPUs$' out
check "in JSON, too" [ "$(plan | jq -r .device) $(plan --set device.kernels=cuda | jq -r .device)" = "cpu gpu" ]
expect 0 "$muster" plan tiny.yaml --flops 1e12 --set device.kernels=cuda
check "for GPUs that are elsewhere" grep -qx 'device  *a GPU for each rank' out
if [ ! -e /dev/nvidiactl ]; then
  expect 2 "$muster" plan tiny.yaml --set device.kernels=cuda
  says 'muster: plan: device.kernels: cuda: '
  says 'or give --flops, to plan for what is not here'
fi
expect 0 "$muster" plan tiny.yaml --flops 450e9 --ranks 4 --nodes 2 --bandwidth 25Gb/s --latency 5us --disk 2GB/s --memory 1GiB
check "declared" grep -q '450 GFLOP/s a rank, declared' out
check "link" grep -q 'of a node: 25.0 Gb/s each way, 5.00 us a message' out
check "fits" grep -q '^verdict  *fits, with ' out
check "its vocabulary is the data's" [ "$(plan | jq .parameters)" = "$(plan --set model.vocab_size=258 --set 'data.sources=[gone.h5]' | jq .parameters)" ]

# ---- the configs to begin with say on which nodes they fit; the smallest fit everywhere ----
for config in "$configs"/*.yaml; do
  case $(basename "$config") in tiny-* | quickstart.yaml) continue ;; esac
  sed -n 's/^#   \(--ranks .*[0-9]GB\) *\([0-9.]*\) GiB$/\1|\2/p' "$config" >rows
  check "$config says it" [ "$(wc -l <rows)" -ge 3 ]
  while IFS='|' read -r options node; do
    read -ra options <<<"$options"
    expect 0 "$muster" plan "$config" --flops 1e12 --json "${options[@]}"
    check "$config ${options[*]}: $node GiB" holds ".memory.node / 1073741824 - $node | fabs <= 0.051" out
  done <rows
done

# ---- formulas that a person can do ----
check "twice the FLOP/s, half the time" [ "$(plan | jq .compute_seconds)" = "$(plan --flops 2e9 | jq '.compute_seconds * 2')" ]
check "ranks divide microbatches" [ "$(plan | jq .compute_seconds)" = "$(plan --ranks 4 | jq '.compute_seconds * 4')" ]
check "share, percent" [ "$(plan --utilisation 0.5)" = "$(plan --utilisation 50%)" ]
check "bits and bytes" [ "$(plan --ranks 2 --nodes 2 --bandwidth 8Gb/s)" = "$(plan --ranks 2 --nodes 2 --bandwidth 1GB/s)" ]
check "one node has no link" [ "$(plan --ranks 4 | jq '.exchange.gradient_seconds == 0')" = true ]
check "bf16 halves what is sent" [ "$(plan --ranks 2 --nodes 2 | jq .exchange.gradient_bytes)" = \
  "$(plan --ranks 2 --nodes 2 --set batch.wire=bf16 | jq '.exchange.gradient_bytes * 2')" ]
check "two rounds, twice" [ "$(plan --ranks 2 --nodes 2 | jq '.exchange.gradient_bytes * 2')" = \
  "$(plan --ranks 2 --nodes 2 --set batch.rounds=2 | jq .exchange.gradient_bytes)" ]
check "hidden and waited for are all" holds '.exchange | .hidden_seconds >= 0 and .exposed_seconds >= 0 and
  (.hidden_seconds + .exposed_seconds - .gradient_seconds | fabs) < 1e-9' <(plan --ranks 4 --nodes 4 --bandwidth 1Mb/s)
check "a slow link is waited for" holds '.exchange.exposed_seconds > 0.9 * .exchange.gradient_seconds' <(plan --ranks 4 --nodes 4 --bandwidth 1kb/s)
check "a fast link is hidden but for the last unit" holds '.exchange | .exposed_seconds < 0.6 * .gradient_seconds' <(plan --ranks 4 --nodes 4 --bandwidth 10Gb/s --latency 1ns)

# ---- it does not fit: says so, and what would help does ----
need=$(plan --ranks 2 | jq '.memory.node | floor')
expect 0 "$muster" plan tiny.yaml --flops 1e9 --ranks 2 --memory "$((need + 1))B"
expect 1 "$muster" plan tiny.yaml --flops 1e9 --ranks 2 --memory "$((need - 1))B"
says "muster: plan: tiny.yaml does not fit into --memory"
check "the verdict" grep -q '^verdict  *does not fit: a node needs ' out
"$muster" plan tiny.yaml --flops 1e9 --ranks 2 --memory "$((need - 1))B" --json 2>/dev/null >advice.json
check "there is advice" jq -e '.fits == false and (.try | length >= 3)' advice.json >/dev/null
while read -r change; do
  case $change in --*) read -ra words <<<"$change" ;; *) read -ra words <<<"--ranks 2 --set $change" ;; esac
  expect 0 "$muster" plan tiny.yaml --flops 1e9 --memory "$((need - 1))B" "${words[@]}"
done < <(jq -r '.try[].change | select(. != "--ranks 1")' advice.json)
expect 1 "$muster" plan tiny.yaml --flops 1e9 --memory 1MiB
check "nothing helps" grep -q 'no change of the batch makes it fit' out

# ---- 7B on 4 GPUs of 24 GB, 13B on 8: the advice is found, and it is true ----
large() { # large NAME GPUS [OPTION...]: does not fit as it is; with the first that is advised it does
  local name=$1 gpus=$2 advised
  shift 2
  "$muster" plan "$configs/olmo2-7b.yaml" --flops 100e12 --ranks "$gpus" --memory 24GB --set device.kernels=cuda "$@" --json 2>/dev/null >large.json
  check "$name does not fit $gpus GPUs as it is" holds '.fits == false' large.json
  read -ra advised <<<"--set $(jq -r '.try[0].change' large.json)"
  expect 0 "$muster" plan "$configs/olmo2-7b.yaml" --flops 100e12 --ranks "$gpus" --memory 24GB --set device.kernels=cuda "$@" "${advised[@]}"
  check "$name says what a GPU has to spare" grep -q '^verdict  *fits, with .* of a GPU to spare' out
  expect 0 "$muster" plan "$configs/olmo2-7b.yaml" --flops 100e12 --ranks "$gpus" --memory 24GB --set device.kernels=cuda "$@" "${advised[@]}" --json
  # of the rank that needs most of all, and of that which needs most of its GPU: shards differ by a few blocks
  check "$name: what is on the GPU and what is not are all" holds '.memory | . as $all | .weights + .gradients + .received + .masters + .moments + .activations +
    .workspaces + .saving + .other + .program + .scratch + .driver | . / ($all.device + $all.host) - 1 | fabs < 1e-3' out
}
large 7B 4
large 13B 8 --set model.d_model=5120 --set model.n_layers=40 --set model.n_heads=40 --set model.d_ff=13824

# ---- wrong words ----
expect 2 "$muster" plan tiny.yaml --memory 24
says "muster: plan: --memory: '24' is not a size with its unit"
expect 2 "$muster" plan tiny.yaml --bandwidth 25Gbps
says "plan: --bandwidth: '25Gbps' is not a bandwidth with its unit"
expect 2 "$muster" plan tiny.yaml --latency 20
says "is not a time with its unit"
expect 2 "$muster" plan tiny.yaml --flops fast
expect 2 "$muster" plan tiny.yaml --utilisation 0
expect 2 "$muster" plan tiny.yaml --ranks 0
expect 2 "$muster" plan tiny.yaml --ranks 1 --nodes 2 --flops 1e9
says "each node has at least one rank"
expect 2 "$muster" plan tiny.yaml --ranks 4 --nodes 2 --flops 1e9 --set batch.transport=shm
says "shm, which is for ranks of one node"
for transport in shm peer; do
  expect 2 "$muster" plan tiny.yaml --ranks 2 --flops 1e9 --set device.kernels=cuda --set batch.sharding=all --set "batch.transport=$transport"
  says "travel by mpi or nccl, not by batch.transport $transport"
done
expect 2 "$muster" plan tiny.yaml --set batch.lanes=3
expect 2 "$muster" plan missing.yaml
expect 2 "$muster" plan tiny.yaml --flops 1e9 --set 'data.sources=[gone.h5]'
says "model.vocab_size is not given"
finish
