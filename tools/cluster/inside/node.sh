#!/bin/sh
# PID 1 of the node: lays its own file system, control groups and network around itself, then supervises. Everything of
# the node lives below it, so one kill -9 of it ends all.
#   node.sh FOLDER TREE HOSTNAME ADDRESS/BITS CGROUPS MODULE=FOLDER...
# Started by `unshare --mount --net --pid --ipc --uts`. CGROUPS: folders made for us, one a hierarchy, with commas.
set -eu

if [ "${STACKYARD_CGROUP_NAMESPACE-}" != made ]; then
    # Enter our control groups first: the namespace's roots are the groups that its maker was in.
    for group in $(echo "$5" | tr , ' '); do
        echo $$ >"$group/cgroup.procs"
    done
    export STACKYARD_CGROUP_NAMESPACE=made
    exec unshare --cgroup sh "$0" "$@"
fi
unset STACKYARD_CGROUP_NAMESPACE
folder=$1 tree=$2 hostname=$3 address=$4
shift 5

mount --make-rprivate /
hostname "$hostname" 2>/dev/null || echo "$hostname" >/proc/sys/kernel/hostname
root=$folder/root/tree
mkdir -p "$folder/root/upper" "$folder/root/overlay" "$root"
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$folder/root/upper,workdir=$folder/root/overlay" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --bind /dev "$root/dev"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/run/containerd" "$root/run/lock"

# kubelet sets these for the whole machine unless it finds them set. It finds what we show it.
mkdir "$root/run/kernel"
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    shown=$root/run/kernel/$(echo "${setting%=*}" | tr / .)
    echo "${setting#*=}" >"$shown"
    mount --bind "$shown" "$root/proc/sys/${setting%=*}"
done

mount -t tmpfs -o mode=0755 tmpfs "$root/sys/fs/cgroup"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    umount "$root/sys/fs/cgroup"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    # A group whose children have controllers may hold no process itself.
    mkdir -p "$root/sys/fs/cgroup/daemons"
    echo $$ >"$root/sys/fs/cgroup/daemons/cgroup.procs"
    for controller in $(cat "$root/sys/fs/cgroup/cgroup.controllers"); do
        echo "+$controller" >"$root/sys/fs/cgroup/cgroup.subtree_control" || echo "no controller $controller"
    done
else
    for controllers in $(awk -F: '$2 != "" { print $2 }' /proc/self/cgroup); do
        place=$root/sys/fs/cgroup/${controllers#name=}
        mkdir -p "$place"
        mount -t cgroup -o "$(echo "$controllers" | sed 's/^name=/none,name=/')" cgroup "$place"
    done
fi

mkdir -p "$root/stackyard/bin" "$root/var/lib/kubelet" "$root/var/lib/containerd" "$root/var/log"
for pair in settings:etc credentials:credentials data:data log:log pids:pids; do
    mkdir -p "$root/stackyard/${pair%:*}"
    mount --bind "$folder/${pair#*:}" "$root/stackyard/${pair%:*}"
done
mount --bind "$folder/log" "$root/var/log"
mount --bind "$folder/data/kubelet" "$root/var/lib/kubelet"
mount --bind "$folder/data/containerd" "$root/var/lib/containerd"
for module in "$@"; do
    mkdir -p "$root/stackyard/bin/${module%%=*}"
    mount --bind "${module#*=}" "$root/stackyard/bin/${module%%=*}"
    mount -o remount,bind,ro "$root/stackyard/bin/${module%%=*}"
done
cp "$folder/etc/hosts" "$folder/etc/resolv.conf" "$root/etc/"
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"

# From here on only the node's own tree is there.
mkdir -p "$root/.machine"
cd "$root"
pivot_root . .machine
exec /usr/sbin/chroot . /bin/sh -eu /stackyard/settings/network.sh "$address"
