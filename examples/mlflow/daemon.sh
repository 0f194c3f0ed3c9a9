# Sourced by the scripts beside it, which set "directory": daemons that outlive whoever starts them, one for each name.
# The number in run/NAME.pid is that of the daemon and of its process group.

# The living processes of a daemon, by number.
members() {
    [ -s "$directory/run/$1.pid" ] || return 0
    group=$(cat "$directory/run/$1.pid")
    ps -A -o pid= -o pgid= -o stat= | while read -r pid of state; do
        [ "$of" = "$group" ] || continue
        case $state in Z*) continue ;; esac
        # After a restart of the machine the number may be another's.
        case $(readlink "/proc/$pid/cwd") in "$directory" | "$directory"/*) echo "$pid" ;; esac
    done
}

# Start NAME PROGRAM ARGUMENT…, unless it runs, in a session of its own and with an environment that holds nothing of
# the caller's: a drill ends whatever bears its mark.
launch() {
    name=$1
    shift
    [ -z "$(members "$name")" ] || return 0
    mkdir -p "$directory/run" "$directory/log" "$directory/tmp"
    rm -f "$directory/run/$name.pid"
    (
        cd "$directory"
        exec setsid env -i PATH="$PATH" HOME="$directory" TMPDIR="$directory/tmp" LC_ALL=C.UTF-8 \
            sh -c 'echo $$ > "$0.new" && mv "$0.new" "$0" && exec "$@"' "run/$name.pid" "$@"
    ) < /dev/null >> "$directory/log/$name.log" 2>&1 &
    until [ -s "$directory/run/$name.pid" ]; do sleep 0.01; done
}

# End NAME by a SIGNAL, and return once none of its processes is left.
halt() {
    while left=$(members "$1") && [ -n "$left" ]; do
        # shellcheck disable=SC2086 - one word for each process
        kill -s "$2" $left 2> /dev/null || true
        sleep 0.05
    done
    rm -f "$directory/run/$1.pid"
}

# End everything of the demonstration. PostgreSQL is asked, so that it takes its shared memory with it.
halt_all() {
    halt tracking KILL
    halt objects KILL
    halt postgresql QUIT
}
