# Requests over io_uring, where the kernel has it: many at once, all operations, hanging stores, kill -9, a store behind sshfs.
. "$(dirname "$0")/lib.sh"
switch=/sys/module/fuse/parameters/enable_uring
[ -w $switch ] || { echo "this kernel has no FUSE over io_uring"; exit 77; }
before=$(cat $switch)
at_end() { echo "$before" >$switch; }
echo Y >$switch
disk a 2G
disk b 2G
hf create crm "$lab/a/s" "$lab/b/s" -q
hf mount crm "$mnt" -o suid,dev
wait_for sh -c "'$bin' events crm -H | grep 'over io_uring' >/dev/null" || die "requests do not come in over io_uring"

# More callers than a processor's queue has threads, each of them in an fsync, and large reads and writes beside them.
cat >"$lab/many" <<'P'
import os, sys
os.chdir(sys.argv[1])
n = sys.argv[2]
for i in range(20):
    with open(f"{n}.{i}", "wb+") as f:
        data = os.urandom(300000)
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        f.seek(0)
        assert f.read() == data
    os.rename(f"{n}.{i}", f"{n}.{i}.x")
P
callers=()
for n in $(seq 100); do
    python3 "$lab/many" "$mnt" "$n" &
    callers+=($!)
done
for p in "${callers[@]}"; do wait "$p" || die "a caller failed"; done
[ "$(ls "$mnt" | wc -l)" = 2000 ] || die "files are missing"
# Only threads of rings are bound to a processor: it was they who did it.
[ "$(nproc)" = 1 ] || [ "$(grep -lE '^Cpus_allowed_list:\s*[0-9]+$' /proc/"$(daemon_pid)"/task/*/status |
    xargs awk '/^voluntary_ctxt_switches/ { n += $2 } END { print n }')" -gt 10000 ] || die "requests came in elsewhere"
timeout -s KILL 0.5 dd if=/dev/zero of="$mnt/killed" bs=1M 2>/dev/null || true
rm "$mnt"/*
kill -KILL "$(daemon_pid)"
hf mount crm "$mnt" -o suid,dev
head -c 3000000 /dev/urandom >"$mnt/large"
hf umount crm
same
for test in posix hang killed lesser; do
    (trap - EXIT; bash "$(dirname "$0")/$test.sh") || die "$test fails over io_uring"
done
