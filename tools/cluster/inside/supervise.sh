# Keep daemons running: every file in a folder is one, restarted a second after it ends, with its output in a log,
# of which the last 20 to 40 MB stay. Whoever asks the API server waits until it is ready: a dozen programs that start
# and give up again and again would keep it from getting there on a slow machine.
#   supervise.sh DAEMONS PIDS LOGS KUBECTL KUBECONFIG        bash: it also buries whatever orphans it is given as PID 1
daemons=$1 pids=$2 logs=$3 kubectl=$4 kubeconfig=$5
largest=20000000

start() {
    # Should the supervisor die, so do they: setpriv asks the kernel for that.
    setpriv --pdeathsig KILL sh "$daemons/$1" >>"$logs/$1.log" 2>&1 </dev/null &
    echo $! >"$pids/$1"
}

shorten() {
    # Daemons append, so a log that is emptied under them goes on from its beginning.
    if [ -e "$1" ] && [ "$(stat -c %s "$1")" -gt $largest ]; then
        cp "$1" "$1.old" && : >"$1"
    fi
}

rm -f "$pids"/*
ready='' round=0
while :; do
    if [ -z "$ready" ] && "$kubectl" "--kubeconfig=$kubeconfig" --request-timeout=5s get --raw /readyz >/dev/null 2>&1; then
        ready=yes
    fi
    for file in "$daemons"/*; do
        name=${file##*/}
        case $name in
        etcd | kube-apiserver | containerd) ;;
        *) [ -n "$ready" ] || continue ;;
        esac
        if [ ! -e "$pids/$name" ]; then
            start "$name"
        elif ! kill -0 "$(cat "$pids/$name")" 2>/dev/null; then
            echo "$(date -u +%FT%TZ) $name had ended: started again"
            start "$name"
        fi
        [ $round -ne 59 ] || shorten "$logs/$name.log"
    done
    sleep 1
    round=$(((round + 1) % 60))
done
