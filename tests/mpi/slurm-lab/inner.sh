#!/usr/bin/env bash
# Inside the lab's namespaces: configures and starts munge, slurmctld and four slurmd, then runs the command in /lab.
set -euo pipefail
export PATH=$PATH:/usr/sbin
nodes="1 2 3 4"

# A switch, this host (lab0) at 10.77.0.10, and a cable for each node.
hostname lab0
printf '127.0.0.1 localhost\n10.77.0.10 lab0\n' >/etc/hosts
for i in $nodes; do echo "10.77.0.$i n$i" >>/etc/hosts; done
ip link set lo up
ip link add switch type bridge
ip addr add 10.77.0.10/24 dev switch
ip link set switch up

mkdir -p /run/munge /var/log/munge /var/lib/munge /etc/munge /etc/slurm /var/spool/slurm/ctld /var/log/slurm
head -c 1024 /dev/urandom >/etc/munge/munge.key
chmod 400 /etc/munge/munge.key
chown -R munge:munge /etc/munge /run/munge /var/lib/munge /var/log/munge
su -s /bin/sh munge -c munged

# linuxproc, task/none, jobacct_gather/none: no cgroups to own. config_overrides: nodes may have more cores than the machine.
# cred_expire: a requeued job starts after 18 s, not after 125. %n: all nodes share one file system.
cat >/etc/slurm/slurm.conf <<'CONF'
ClusterName=lab
SlurmctldHost=lab0(10.77.0.10)
AuthType=auth/munge
AuthInfo=cred_expire=10
SlurmUser=root
SlurmdUser=root
StateSaveLocation=/var/spool/slurm/ctld
SlurmdSpoolDir=/var/spool/slurm/d.%n
SlurmdPidFile=/run/slurmd.%n.pid
SlurmctldPidFile=/run/slurmctld.pid
SlurmdLogFile=/var/log/slurm/slurmd.%n.log
SlurmctldLogFile=/var/log/slurm/slurmctld.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
SlurmdTimeout=10
ReturnToService=2
MpiDefault=none
SchedulerParameters=batch_sched_delay=0,sched_interval=2,requeue_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
InactiveLimit=0
NodeName=n[1-4] NodeAddr=10.77.0.[1-4] CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 OverSubscribe=NO
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF OverSubscribe=NO
CONF

slurmctld
# A node has what a machine of its own has: a name, an address, process numbers, /tmp and /dev/shm. node.sh N starts one; it dies
# when the process in /run/node.N.pid is killed, and can then be started again. That process only buries others, so that slurmd
# may die alone; slurmd.sh N starts it again.
cat >/run/node.sh <<'NODE'
i=$1
rm -rf "/var/spool/slurm/d.n$i" # killed steps leave a pmix.JOB.STEP there, in the way of the next of that number
unshare -m -p -f -u -n --mount-proc bash -euc '
    until ip link set eth0 up; do sleep 0.05; done
    ip link set lo up
    ip addr add "10.77.0.$1/24" dev eth0
    hostname "n$1"
    mount -t tmpfs tmpfs /tmp
    mount -t tmpfs tmpfs /dev/shm
    slurmd -D -N "n$1" &
    while true; do
        wait || true
        sleep 0.1
    done' node "$i" >>"/var/log/slurm/node.$i.log" 2>&1 &
unshare_pid=$!
until first=$(pgrep -P $unshare_pid); do sleep 0.02; done
echo "$first" >"/run/node.$i.pid"
ip link del "n$i" 2>/dev/null || true # of a former node with this name
ip link add "n$i" master switch type veth peer name eth0 netns "$first"
ip link set "n$i" up
NODE
cat >/run/slurmd.sh <<'SLURMD'
nsenter -t "$(cat "/run/node.$1.pid")" -m -p -n -u -r -w slurmd -D -N "n$1" >>"/var/log/slurm/node.$1.log" 2>&1 &
SLURMD
for i in $nodes; do bash -eu /run/node.sh "$i"; done
for _ in $(seq 60); do
    [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 4 ] && break
    sleep 0.5
done
if [ "$(sinfo -h -t idle -o %D)" != 4 ]; then
    echo "the lab's nodes did not come up:" >&2
    sinfo >&2
    tail -n 5 /var/log/slurm/*.log >&2
    exit 1
fi
cd /lab
"$@"
