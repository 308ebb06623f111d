# Two machines that reach the same remote stores: never two writers. The second machine is a mount
# namespace with a machine id, folders and sshfs mounts of its own.
. "$(dirname "$0")/lib.sh"
disk far
mkdir "$lab/far/x" "$lab/far/y"
printf '#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n' >"$lab/ssh"
chmod 755 "$lab/ssh"
# machine N COMMAND...: on machine 1 or 2
machine() {
    local n=$1
    shift
    nsenter --mount="/proc/${ns[$n]}/ns/mnt" env HOLDFAST_CONF_DIR="$lab/etc$n" \
        HOLDFAST_STATE_DIR="$lab/state$n" HOLDFAST_RUN_DIR="$lab/run$n" "$@"
}
ns=()
for n in 1 2; do
    mkdir "$lab/etc$n" "$lab/state$n" "$lab/run$n" "$lab/x$n" "$lab/y$n" "$lab/mnt$n"
    printf '%032x\n' "$n" >"$lab/machine-id$n"
    touch "$lab/machine-id"
    unshare --mount --propagation private sleep 600 &
    ns[n]=$!
    pids+=($!)
    wait_for test -e "/proc/${ns[$n]}/ns/mnt"
    wait_for sh -c "! [ /proc/${ns[$n]}/ns/mnt -ef /proc/self/ns/mnt ]"
    wait_for grep -qx sleep "/proc/${ns[$n]}/comm" # it has made its mounts private by then
    machine $n mount --bind "$lab/machine-id$n" /etc/machine-id
    for s in x y; do
        machine $n sshfs -o ssh_command="$lab/ssh",dir_cache=no,direct_io localhost:"$lab/far/$s" "$lab/$s$n"
    done
done
machine 1 "$bin" create far "$lab/x1" "$lab/y1" -q
machine 1 "$bin" mount far "$lab/mnt1"
machine 1 sh -c "echo one > $lab/mnt1/f"
machine 2 "$bin" import "$lab/x2" "$lab/y2" -q

# In use: refused, and left alone.
refused 1 "is in use" machine 2 "$bin" mount far "$lab/mnt2"
machine 1 sh -c "echo two > $lab/mnt1/f"
[ "$(machine 1 cat "$lab/mnt1/f")" = two ] || die "the first machine was disturbed"
machine 1 "$bin" status far --test >/dev/null || die "the first machine's volume is not healthy"

# The first machine stands still: the second takes over, and the first finds that out.
pid=$(machine 1 "$bin" status far --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])')
kill -STOP "$pid"
pids+=("$pid")
machine 2 "$bin" mount far "$lab/mnt2"
wait_for sh -c "HOLDFAST_RUN_DIR=$lab/run2 HOLDFAST_STATE_DIR=$lab/state2 HOLDFAST_CONF_DIR=$lab/etc2 $bin status far --test >/dev/null"
machine 2 sh -c "echo three > $lab/mnt2/f"
kill -CONT "$pid"
taken() { machine 1 "$bin" status far --json | grep -q STOPPED; }
wait_for taken
if machine 1 sh -c "echo lost > $lab/mnt1/f" 2>/dev/null; then die "the first machine still writes"; fi
machine 1 "$bin" umount far || true
[ "$(machine 2 cat "$lab/mnt2/f")" = three ] || die "the second machine's data is gone"
machine 2 "$bin" status far --test >/dev/null || die "the second machine's volume is not healthy"
machine 2 "$bin" umount far
"$treecmp" -H -t "$lab/far/x" "$lab/far/y" || die "the stores differ"
machine 1 "$bin" mount far "$lab/mnt1"
[ "$(machine 1 cat "$lab/mnt1/f")" = three ] || die "the first machine has something else"
machine 1 "$bin" umount far
