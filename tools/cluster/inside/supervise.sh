# Keep daemons running: every file in a folder is one, restarted a second after it ends, with its output in a log.
#   supervise.sh DAEMONS PIDS LOGS        bash: it also buries whatever orphans it is given as PID 1
daemons=$1 pids=$2 logs=$3
largest=20000000

start() {
    log=$logs/$1.log
    if [ -e "$log" ] && [ "$(stat -c %s "$log")" -gt $largest ]; then
        mv "$log" "$log.old"
    fi
    # Should the supervisor die, so do they: setpriv asks the kernel for that.
    setpriv --pdeathsig KILL sh "$daemons/$1" >>"$log" 2>&1 </dev/null &
    echo $! >"$pids/$1"
}

rm -f "$pids"/*
for file in "$daemons"/*; do
    start "${file##*/}"
done
while :; do
    sleep 1
    for file in "$daemons"/*; do
        name=${file##*/}
        if ! kill -0 "$(cat "$pids/$name")" 2>/dev/null; then
            echo "$(date -u +%FT%TZ) $name had ended: started again"
            start "$name"
        fi
    done
done
