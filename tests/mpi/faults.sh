#!/usr/bin/env bash
#   faults.sh MUSTER FOLDER [--faults N] [--seed N] [--seconds N]
# hurts `muster train` under mpirun in every way that ends a rank or keeps it from going on. After each: how long until somebody
# said so, and until all was over; whom the message names; the exit status; and that the same command then reaches the digest of
# the undisturbed run. FOLDER has the helpers of the build.
# --seconds is watchdog.seconds: on a machine that is very busy ranks may get no processor for the 3 s that it is otherwise.
# Without --faults each kind once; with it, N of them in turn, each on a rank and at a step by chance.
# A cut network needs root and namespaces of its own; without them it is left out, and that is said.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$1 helpers=$2
shift 2
faults=0 seed=$RANDOM seconds=3
while [ $# -gt 0 ]; do
  case $1 in
    --faults) faults=$2 ;;
    --seed) seed=$2 ;;
    --seconds) seconds=$2 ;;
    *) echo "faults.sh: no option '$1'" >&2; exit 2 ;;
  esac
  shift 2
done
RANDOM=$seed
command -v mpirun >/dev/null || skip "no mpirun (Debian: apt-get install openmpi-bin)"
[[ $(mpirun --version 2>&1) == *"Open MPI"* ]] || skip "this mpirun is not Open MPI's"

ranks=3
bound=$((seconds + 10))
steps=160
largest_notice=0 largest_end=0 done_faults=0
network=muster$$
run=$work/run
mark=$work/mark
export MUSTER_FAULTS=$$ # marks our processes
# What a killed mpirun leaves behind, and what others may clear away, lies here.
shared=$(mktemp -d /dev/shm/faults-XXXXXX)
export OMPI_MCA_btl_vader_backing_directory=$shared
mkdir "$work/tmp"
export TMPDIR=$work/tmp

clean_up() {
  processes | xargs -r kill -9 2>/dev/null
  local space
  for space in a b switch; do ip netns del "$network$space" 2>/dev/null; done
  rm -rf "$work" "$shared"
}
trap clean_up EXIT
trap 'exit 143' TERM INT

now() { echo "$EPOCHREALTIME"; }
since() { awk -v from="$1" -v to="${2:-$(now)}" 'BEGIN { printf "%.1f", to - from }'; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'; }

# The processes of this test's jobs that are ranks, or one rank's. By their environment: nodes number processes their own way. It
# starts no process itself: on a busy machine that would take as long as what is measured.
processes() { # [RANK]
  local path name word marked found words
  for path in /proc/[0-9]*; do
    { read -r name <"$path/comm" && [ "$name" = "${muster##*/}" ] && mapfile -d '' words <"$path/environ"; } 2>/dev/null || continue
    marked='' found=''
    for word in "${words[@]}"; do
      [ "$word" != "MUSTER_FAULTS=$MUSTER_FAULTS" ] || marked=1
      [ "$word" != "OMPI_COMM_WORLD_RANK=${1-}" ] || found=1
    done
    if [ -n "$marked" ] && { [ -z "${1-}" ] || [ -n "$found" ]; }; then echo "${path#/proc/}"; fi
  done
}

recorded_steps() { cat "$run/metrics.jsonl" 2>/dev/null | grep -c '"event":"step"' || true; }

# until_true SECONDS COMMAND...: waits for a condition
until_true() {
  local from limit=$1
  from=$(now)
  shift
  until "$@"; do
    less "$(since "$from")" "$limit" || return 1
    sleep 0.05
  done
}

job_is_gone() { ! kill -0 "$job" 2>/dev/null; }
has_steps() { [ "$(recorded_steps)" -ge "$1" ] || job_is_gone; }
all_are_gone() { job_is_gone && [ -z "$(processes)" ]; }
said() { grep -Eq "$1" "$work/err" || job_is_gone; }

# Starts the training in the background, its messages with the time before each line.
start() { # [LAUNCHER WORD...]
  : >"$work/err"
  "$@" "$muster" train "$work/tiny.yaml" --run "$run" >"$work/out" 2> >(while IFS= read -r line; do
    printf '%s %s\n' "$EPOCHREALTIME" "$line"
  done >>"$work/err") &
  job=$!
}

on_one_node=(mpirun --oversubscribe --bind-to none --mca btl "self,vader" -n $ranks)

# ---- what is done to a rank ----

by_signal() { # RANK SIGNAL
  local ids
  ids=$(processes "$1")
  struck=$(now)
  kill "-$2" $ids || fail "$what: rank $1 is not there"
}

by_mark() {
  struck=$(now)
  : >"$mark"
}

# ---- what must come of it ----

# Waits for the end; checks time, status and message; then starts again, to the end.
expect_end() { # CULPRIT_PATTERN STATUS_PATTERN
  local status notice_time end_time spoken
  until_true $((bound + 10)) all_are_gone
  end_time=$(since "$struck")
  checks=$((checks + 4))
  all_are_gone || fail "$what: still there after $end_time s: $(processes | xargs), launcher $job"
  processes | xargs -r kill -9 2>/dev/null
  kill -9 "$job" 2>/dev/null
  wait "$job" 2>/dev/null
  status=$?
  less "$end_time" $bound || fail "$what: over after $end_time s; the bound is $bound s"
  [[ $status =~ ^($2)$ ]] || fail "$what: status $status"
  spoken=$(grep -E " muster: $1" "$work/err" | head -1)
  notice_time=$(since "$struck" "${spoken%% *}")
  if [ -z "$spoken" ]; then
    fail "$what: no message like 'muster: $1'"
    sed 's/^/    | /' "$work/err" >&2
    notice_time=-
  fi
  less "$largest_notice" "$notice_time" && largest_notice=$notice_time
  less "$largest_end" "$end_time" && largest_end=$end_time
  done_faults=$((done_faults + 1))
  printf '%-34s noticed %4s s, over %4s s, status %3d: %s\n' "$what" "$notice_time" "$end_time" "$status" \
    "${spoken#* muster: }"
}

expect_same() {
  checks=$((checks + 2))
  rm -f "$mark"
  timeout 120 "${on_one_node[@]}" "$muster" train "$work/tiny.yaml" --run "$run" >"$work/out" 2>"$work/err.again" ||
    fail "$what: the restart failed: $(tail -3 "$work/err.again")"
  [ "$(cat "$work/out")" = "$digest" ] || fail "$what: the restart reached $(cat "$work/out")"
  rm -rf "$run"
}

# ---- the kinds ----

begin() { # KIND [LAUNCHER WORD...]
  local from=$((5 + RANDOM % 60))
  victim=${fixed_victim:-$((RANDOM % ranks))}
  what="$1, rank $victim"
  shift
  rm -rf "$run" "$mark"
  start "$@"
  until_true 60 has_steps $from
  ! job_is_gone || fail "$what: the job ended before anything was done: $(tail -3 "$work/err")"
}

who() { echo "rank $victim \\(host [^ ]+, process [0-9]+, cpu [^ ]+, 1 thread\\) $1"; }

hurt_kill() {
  begin "kill -9" "${on_one_node[@]}"
  by_signal "$victim" KILL
  expect_end "$(who 'died at step [0-9]+ in phase .*: ending the job')" '[1-9][0-9]*'
  expect_same
}

hurt_stop() {
  begin "SIGSTOP" "${on_one_node[@]}"
  by_signal "$victim" STOP
  expect_end "$(who 'gave no sign of life for [0-9.]+ s .*: ending the job')" '[1-9][0-9]*'
  checks=$((checks + 1))
  grep -Eq " muster: warning: $(who ".* the job ends at $seconds s")" "$work/err" || fail "$what: no warning before the end"
  expect_same
}

hurt_by_shim() { # KIND WORDS
  begin "$2" "${on_one_node[@]}" env "LD_PRELOAD=$helpers/libfaults_shim.so" "FAULT_KIND=$1" "FAULT_MARK=$mark" \
    "FAULT_RANK=${fixed_victim:=$((RANDOM % ranks))}"
  by_mark
  expect_end "$(who 'died at step [0-9]+ in phase .*: ending the job')" '[1-9][0-9]*'
  expect_same
  fixed_victim=$given_victim
}

hurt_exit() { hurt_by_shim exit "exit(7)"; }
hurt_segfault() { hurt_by_shim segfault "segfault"; }
hurt_abort() { hurt_by_shim abort "out of memory in a library"; }

# From the first agreement on: the program itself finds that there is no memory, and all ranks end by that.
hurt_starve() {
  what="out of memory at the start, rank ${fixed_victim:=$((RANDOM % ranks))}"
  rm -rf "$run"
  : >"$mark"
  struck=$(now)
  start "${on_one_node[@]}" env "LD_PRELOAD=$helpers/libfaults_shim.so" FAULT_KIND=starve "FAULT_MARK=$mark" \
    "FAULT_RANK=$fixed_victim"
  expect_end "rank $fixed_victim: .*(memory|thread)" 1
  expect_same
  fixed_victim=$given_victim
}

# Slow is not dead: it is named, and the run goes on to the same digest.
hurt_slow() {
  local limp status spoken
  begin "slow" "${on_one_node[@]}"
  struck=$(now)
  "$helpers/limp" $(processes "$victim") 15 &
  limp=$!
  until_true 60 said " note: rank $victim .* is slow"
  spoken=$(grep -E " note: rank $victim \(host [^ ]+\) is slow: [0-9.]+ ms per microbatch, the others' median is [0-9.]+ ms" \
    "$work/err" | head -1)
  kill $limp
  wait $limp
  wait "$job"
  status=$?
  checks=$((checks + 4))
  [ -n "$spoken" ] || fail "$what: it is not named: $(cat "$work/err")"
  [ $status = 0 ] || fail "$what: status $status"
  [ "$(cat "$work/out")" = "$digest" ] || fail "$what: it reached $(cat "$work/out")"
  grep -q "\"event\":\"straggler\".*\"rank\":$victim," "$run/metrics.jsonl" || fail "$what: not in metrics.jsonl"
  printf '%-34s named after %s s, went on, status %d: %s\n' "$what" "$(since "$struck" "${spoken%% *}")" $status \
    "${spoken#* note: }"
  rm -rf "$run"
}

# ---- two nodes, and the cable between them ----

# Two network namespaces, each with a cable to a switch in a third. The second node has processes of its own, too.
make_nodes() {
  local space number=1
  [ "$(id -u)" = 0 ] && command -v ip >/dev/null || return 1
  for space in switch a b; do ip netns add $network$space 2>/dev/null || return 1; done
  ip -n ${network}switch link add switch type bridge && ip -n ${network}switch link set switch up || return 1
  for space in a b; do
    ip -n ${network}switch link add port$space type veth peer name eth0 netns $network$space || return 1
    ip -n ${network}switch link set port$space master switch up
    ip -n $network$space link set lo up
    ip -n $network$space link set eth0 up
    ip -n $network$space addr add 10.78.0.$number/24 dev eth0
    number=2
  done
  mkdir -p "$work/tmp.b"
  cat >"$work/agent.sh" <<AGENT
#!/usr/bin/env bash
# Instead of ssh: starts Open MPI's daemon on the second node.
shift
exec ip netns exec ${network}b unshare -m -p -f -u --kill-child --mount-proc bash -c '
  hostname node-b
  mount -t tmpfs tmpfs /dev/shm && mkdir -p "$shared"
  export TMPDIR="$work/tmp.b"
  eval "\$@"
  exit \$?' agent "\$@"
AGENT
  chmod +x "$work/agent.sh"
  unshare -m -p -f -u --kill-child --mount-proc true 2>/dev/null
}

# Four ranks, two on each node; the switch forgets the second node's cable, so that packets are lost without a word.
hurt_cut() {
  fixed_victim=2 begin "network cut" ip netns exec ${network}a mpirun --leave-session-attached --oversubscribe --bind-to none \
    --mca plm_rsh_agent "$work/agent.sh" --mca btl tcp,self,vader --mca btl_tcp_if_include eth0 \
    -x MUSTER_FAULTS -x OMPI_MCA_btl_vader_backing_directory -H 10.78.0.1:2,10.78.0.2:2 -n 4
  struck=$(now)
  ip -n ${network}switch link set portb nomaster
  expect_end "rank [23] \\(host node-b, process [0-9]+, cpu [^ ]+, 1 thread\\) gave no sign of life for [0-9.]+ s .*: ending the job" '[1-9][0-9]*'
  ip -n ${network}switch link set portb master switch
  expect_same
}

# ---- the whole ----

"$muster" data build "$(dirname "$0")/../../docs" --glob '*.md' --heldout 0.2 -o "$work/tokens.h5" 2>"$work/err" ||
  fail "no data: $(cat "$work/err")"
cat >"$work/tiny.yaml" <<CONFIG
run: {name: faults, steps: $steps, seed: 3}
model: {family: llama, d_model: 128, n_layers: 2, n_heads: 4, n_kv_heads: 2, d_ff: 256}
data: {sources: [$work/tokens.h5], seq_len: 128}
batch: {micro: 4, leaf: 1, lanes: 4, rounds: 1}
schedule: {kind: constant, peak: 0.003, warmup: 0}
train: {precision: f32}
checkpoint: {every: 40}
device: {threads: 1}
watchdog: {seconds: $seconds}
CONFIG
digest=$("$muster" train "$work/tiny.yaml" --run "$run" 2>"$work/err") || fail "the undisturbed run: $(cat "$work/err")"
[[ $digest == weights\ * ]] || fail "the undisturbed run printed '$digest'"
rm -rf "$run"

kinds=(kill stop exit segfault abort starve)
nodes=yes
make_nodes || nodes=
if [ -n "$nodes" ]; then kinds+=(cut); else echo "left out: a cut network needs root, ip (iproute2) and namespaces"; fi
echo "repeat with: --seed $seed; $ranks ranks, watchdog.seconds $seconds"
if [ "$faults" = 0 ]; then
  given_victim=
  fixed_victim=
  for kind in "${kinds[@]}" slow; do "hurt_$kind"; done
else
  given_victim='' fixed_victim=''
  while [ $done_faults -lt "$faults" ]; do "hurt_${kinds[done_faults % ${#kinds[@]}]}"; done
  hurt_slow
fi
echo "$done_faults faults: the largest time to notice was $largest_notice s, to the end of all $largest_end s; the bound is $bound s"
finish
