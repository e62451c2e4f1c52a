#!/bin/sh
# In a mount namespace of its own: lay an empty layer over the base tree, and install the packages of a hashed list in it.
#   install.sh BASE WORK UV UV-CACHE REQUIREMENTS CA-BUNDLE      the layer is WORK/layer afterwards
set -eu
base=$1 work=$2 uv=$3 cache=$4 list=$5 authorities=$6
tree=$work/tree
mkdir -p "$work/layer" "$work/overlay" "$tree"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$work/layer,workdir=$work/overlay" "$tree"
mount -t proc proc "$tree/proc"
mount --bind /dev "$tree/dev"
mkdir "$tree/build"
mount -t tmpfs tmpfs "$tree/build"
touch "$tree/build/uv" "$tree/build/authorities.crt"
mkdir "$tree/build/cache"
mount --bind "$uv" "$tree/build/uv"
mount --bind "$cache" "$tree/build/cache"
mount --bind "$authorities" "$tree/build/authorities.crt"
mount --bind /etc/resolv.conf "$tree/etc/resolv.conf"
cp "$list" "$tree/build/requirements.txt"

# Ray's processes run as this user, who may not write where the packages are: hence compiled now.
echo 'ray:x:1000:1000::/srv/ray:/bin/bash' >>"$tree/etc/passwd"
echo 'ray:x:1000:' >>"$tree/etc/group"
mkdir "$tree/srv/ray"
chown 1000:1000 "$tree/srv/ray"
env -u VIRTUAL_ENV -u UV_PROJECT_ENVIRONMENT SSL_CERT_FILE=/build/authorities.crt UV_CACHE_DIR=/build/cache HOME=/build \
    chroot "$tree" /build/uv pip install --quiet --system --break-system-packages --python /usr/bin/python3 \
    --link-mode copy --compile-bytecode --no-build --require-hashes --requirement /build/requirements.txt

umount "$tree/build/cache" "$tree/build/uv" "$tree/build/authorities.crt" "$tree/build"
rmdir "$tree/build"
umount "$tree/etc/resolv.conf" "$tree/dev" "$tree/proc" "$tree"
rm -rf "$work/layer/root" "$work/layer/tmp"
