# Second half of PID 1, in the node's own tree: drop the machine's, wait for the link, supervise.
#   network.sh ADDRESS/BITS
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
cd /
umount -l /.machine
rmdir /.machine
mount --make-rshared /
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
# Built into some kernels, a module in others, which the machine has loaded for us.
for family in iptables ip6tables; do
    echo 1 >"/proc/sys/net/bridge/bridge-nf-call-$family" || echo "no bridge-nf-call-$family: hairpin traffic may fail"
done
until ip -4 address show dev eth0 2>/dev/null | grep -q "inet $1 "; do sleep 0.05; done
exec /bin/bash /stackyard/settings/supervise.sh /stackyard/settings/daemons /stackyard/pids /stackyard/log \
    /stackyard/bin/kubernetes/kubectl /stackyard/credentials/admin.kubeconfig
