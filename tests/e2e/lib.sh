# For tests that mount for real. Sourced first; gives each test a lab of its own: a folder with disk
# images, configuration and run folders, all gone afterwards, also when it fails.
set -euo pipefail
bin=$HOLDFAST_PREFIX/bin/holdfast
treecmp=$HOLDFAST_BUILD/treecmp
shm=/dev/shm
[ "$(df --output=avail -m /dev/shm | tail -1)" -gt 3000 ] || shm=/var/tmp
lab=$(mktemp -d $shm/holdfast-e2e-XXXXXX)
chmod 755 "$lab"
mnt=$lab/mnt
mkdir "$mnt" "$lab/etc" "$lab/state" "$lab/run" "$lab/asan"
export HOLDFAST_CONF_DIR=$lab/etc HOLDFAST_STATE_DIR=$lab/state HOLDFAST_RUN_DIR=$lab/run
export ASAN_OPTIONS=log_path=$lab/asan/log:detect_leaks=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:log_path=$lab/asan/ub
pids=()
at_end() { :; } # a test may have something of its own to undo

cleanup() {
    local rc=$? m
    set +e
    trap - EXIT
    at_end
    for pid in "${pids[@]}"; do disown "$pid"; kill -CONT "$pid"; kill -KILL "$pid"; done >/dev/null 2>&1
    [ $rc = 0 ] || tail -n 15 "$lab"/state/*.events 2>/dev/null
    for _ in 1 2 3; do # mounts in mounts: innermost first
        grep -F " $lab/" /proc/self/mountinfo | cut -d' ' -f5 | sort -r | while read -r m; do
            umount -c "$m" 2>/dev/null || umount -c -l "$m" 2>/dev/null
        done
    done
    losetup -l -n -O NAME,BACK-FILE | grep -F "$lab/" | cut -d' ' -f1 | while read -r m; do losetup -d "$m"; done
    if ls "$lab"/asan/* >/dev/null 2>&1; then
        echo "the sanitizers complain:"
        head -60 "$lab"/asan/*
        rc=1
    fi
    chattr -R -i "$mnt" 2>/dev/null
    rm -rf --one-file-system "$lab"
    exit $rc
}
trap cleanup EXIT
trap 'echo "FAILED at line $LINENO: $BASH_COMMAND"' ERR

# ended PID: it did, and cleanup is not to look for it
ended() { mapfile -t pids < <(printf '%s\n' "${pids[@]}" | grep -vx "$1"); }
die() { echo "FAILED at line ${BASH_LINENO[0]}: $*"; exit 1; }
hf() { "$bin" "$@"; }
# disk NAME [SIZE [mkfs...]]: a filesystem image at $lab/NAME
disk() {
    local name=$1 size=${2:-512M}
    shift; shift || true
    truncate -s "$size" "$lab/$name.img"
    "${@:-mkfs.xfs}" -q "$lab/$name.img" >/dev/null
    mkdir -p "$lab/$name"
    mount -o loop "$lab/$name.img" "$lab/$name"
    mkdir "$lab/$name/s"
}
# volume [OPTS]: two XFS stores a and b, created and mounted
volume() {
    disk a
    disk b
    hf create crm "$lab/a/s" "$lab/b/s" -q
    hf mount crm "$mnt" -o suid,dev"${1:+,$1}"
}
# refused CODE WORDS COMMAND...: it must fail with this code and say these words
refused() {
    local code=$1 words=$2 rc=0
    shift 2
    "$@" >"$lab/said" 2>&1 || rc=$?
    [ $rc = "$code" ] || { cat "$lab/said"; die "$* gave $rc, not $code"; }
    grep -qF -- "$words" "$lab/said" || { cat "$lab/said"; die "$* did not say \"$words\""; }
}
# nothing_in FOLDER: that folder of ours is empty, or not there, on a and b
nothing_in() { [ -z "$(ls -A "$lab/a/s/.holdfast/$1" "$lab/b/s/.holdfast/$1" 2>/dev/null | grep -v -e : -e '^$')" ]; }
# nothing_parked: no file without a name is kept there
nothing_parked() { [ -d "$lab/a/s/.holdfast/open" ] && [ -d "$lab/b/s/.holdfast/open" ] && nothing_in open; }
# same [OPTIONS]: unmounted, both stores are equal in everything
same() { "$treecmp" "$@" "$lab/a/s" "$lab/b/s" || die "the stores differ"; }
daemon_pid() { hf status crm --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])'; }
state_of() { hf status crm --json | python3 -c 'import json,sys
for s in json.load(sys.stdin)["stores"]:
    if s["label"] == sys.argv[1]: print(s["state"])' "$1"; }
# wait_for COMMAND...: until it succeeds, at most 20 s
wait_for() {
    for _ in $(seq 200); do "$@" && return 0; sleep 0.1; done
    die "waited in vain for: $*"
}
# lines FILE N: it has so many; a writer's acknowledgements
lines() { [ -f "$1" ] && [ "$(wc -l <"$1")" -ge "$2" ]; }
# power_cut WRITER MOUNT-OPTIONS: on the disks of a and b, under that process; and mounted again
power_cut() {
    local pid d
    xfs_io -x -c shutdown "$lab/a" &
    xfs_io -x -c shutdown "$lab/b"
    wait $! 2>/dev/null || true
    pid=$(daemon_pid)
    wait "$1" || true
    pids=()
    kill -KILL "$pid"
    for d in a b; do
        wait_for umount -qc "$lab/$d"
        mount -o loop "$lab/$d.img" "$lab/$d"
    done
    hf mount crm "$mnt" -o "$2"
}
# sshfs_store DISK: its folder s at $lab/net, through an sshfs whose server runs as "nobody"
sshfs_store() {
    chown 65534:65534 "$lab/$1/s"
    printf '#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups /usr/lib/openssh/sftp-server\n' >"$lab/ssh"
    chmod +x "$lab/ssh"
    mkdir -p "$lab/net"
    sshfs -o ssh_command="$lab/ssh",allow_other,dir_cache=no localhost:"$lab/$1/s" "$lab/net"
}
# online STORE, lost STORE: is it?
online() { [ "$(state_of "$1")" = ONLINE ]; }
lost() { [ "$(state_of "$1")" != ONLINE ]; }
# events_of STORE: what was noted about it
events_of() { hf events crm -H | grep -F "store \"$1\""; }
