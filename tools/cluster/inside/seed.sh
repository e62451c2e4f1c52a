#!/bin/sh
# In namespaces of its own: have the node's containerd take in an archive of images, into a store that lies ready.
#   seed.sh NODE-TREE WORK STORE ARCHIVE
set -eu
node=$1 work=$2 store=$3 archive=$4
tree=$work/tree
mkdir -p "$work/upper" "$work/overlay" "$tree" "$store"
mount -t overlay overlay -o "lowerdir=$node,upperdir=$work/upper,workdir=$work/overlay" "$tree"
mount -t proc proc "$tree/proc"
mount --bind /dev "$tree/dev"
mount -t tmpfs tmpfs "$tree/run"
mkdir -p "$tree/var/lib/containerd"
mount --bind "$store" "$tree/var/lib/containerd"
touch "$tree/run/images.tar"
mount --bind "$archive" "$tree/run/images.tar"
printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' >"$tree/run/seed.toml"

exec chroot "$tree" /bin/bash -eu -c '
    containerd --config /run/seed.toml &
    for try in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
    ctr --namespace k8s.io images import --snapshotter overlayfs /run/images.tar
    ctr --namespace k8s.io images list --quiet
    kill %1
    wait || true
'
