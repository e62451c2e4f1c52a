# Keep daemons running: every file in a folder is one, restarted a second after it ends, with its output in a log,
# of which the last 20 to 40 MB stay.
#   supervise.sh DAEMONS PIDS LOGS        bash: it also buries whatever orphans it is given as PID 1
daemons=$1 pids=$2 logs=$3
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
for file in "$daemons"/*; do
    start "${file##*/}"
done
round=0
while :; do
    sleep 1
    round=$(((round + 1) % 60))
    for file in "$daemons"/*; do
        name=${file##*/}
        if ! kill -0 "$(cat "$pids/$name")" 2>/dev/null; then
            echo "$(date -u +%FT%TZ) $name had ended: started again"
            start "$name"
        fi
        [ $round -ne 0 ] || shorten "$logs/$name.log"
    done
done
