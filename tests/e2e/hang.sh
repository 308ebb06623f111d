# A store that stops answering delays a request by the time-out, once; later ones not at all. It is
# thawed after its catch-up would have begun, and again later: nothing old lands.
. "$(dirname "$0")/lib.sh"
disk a
disk b
mkdir "$lab/near" "$lab/far"
bindfs -f "$lab/b/s" "$lab/far" &
far=$!
pids+=($far)
wait_for mountpoint -q "$lab/far"
hf create crm near="$lab/a/s" far="$lab/far" -q
hf mount crm "$mnt" -o suid,dev,store-timeout=2s
# slowest OPERATION: with the far store hung, this operation takes at most the time-out and a second
# (twice that on a machine that has other things to do), and does not fail; the next ones take no time.
slowest() {
    echo base >"$mnt/f.$1"
    mkdir "$mnt/d.$1"
    python3 - "$mnt" "$1" $far <<'P' || die "$1"
import mmap, os, signal, sys, time
mnt, op, far = sys.argv[1:]
os.chdir(mnt)
f, d = f"f.{op}", f"d.{op}"
fd = os.open(f, os.O_RDWR) if op in ("write", "fsync", "truncate", "mmap") else -1
ops = {
    "create": lambda: os.close(os.open(d + "/new", os.O_CREAT | os.O_WRONLY)),
    "write": lambda: os.pwrite(fd, b"new!", 0),
    "fsync": lambda: (os.pwrite(fd, b"new!", 0), os.fsync(fd)),
    "rename": lambda: os.rename(f, d + "/moved"),
    "unlink": lambda: os.unlink(f),
    "truncate": lambda: os.ftruncate(fd, 1),
    "setattr": lambda: os.chmod(f, 0o600),
    "xattr": lambda: os.setxattr(f, "user.k", b"v"),
    "mkdir": lambda: os.mkdir(d + "/sub"),
    "mmap": lambda: (lambda m: (m.__setitem__(0, 90), m.flush()))(mmap.mmap(fd, 4)),
}
os.kill(int(far), signal.SIGSTOP)
start = time.monotonic()
ops[op]()
first = time.monotonic() - start
start = time.monotonic()
for i in range(50):
    with open(f"after.{i}", "w") as g:
        g.write(op)
later = time.monotonic() - start
print(f"{op}: {first:.2f} s, then {later:.2f} s for 50 files")
assert first < 6, "too long"
assert later < 1.0, "later ones wait, too"
P
    [ "$(state_of far)" = FAULTED ] || die "$1: far is $(state_of far)"
    hf status crm | grep -q "stopped answering" || die "status does not say why"
    kill -CONT $far
    hf store online crm far --wait -q # it would come by itself, but less and less often
}
for op in create write fsync rename unlink truncate setattr xattr mkdir mmap; do slowest $op; done

# Hung again while its catch-up runs, and thawed after the next one ended.
dd if=/dev/urandom of="$mnt/big" bs=1M count=30 status=none
kill -STOP $far
echo x >"$mnt/x"
dd if=/dev/urandom of="$mnt/big" bs=1M count=30 conv=notrunc status=none
kill -CONT $far
hf resync crm --limit 5M -q
hf store online crm far
syncing() { [ "$(state_of far)" = SYNCING ]; }
wait_for syncing
kill -STOP $far
sleep 1
dd if=/dev/urandom of="$mnt/big" bs=1M count=30 conv=notrunc status=none
sleep 3
hf resync crm --limit 0 -q
kill -CONT $far
hf store online crm far --wait -q

at_end() { fsfreeze -u "$lab/a" 2>/dev/null; }
# Both at once: one of them is waited for, and nobody gets an error.
kill -STOP $far
fsfreeze -f "$lab/a"
(echo both >"$mnt/both" && head -c 300000 /dev/urandom >>"$mnt/big") &
caller=$!
sleep 6
kill -CONT $far
fsfreeze -u "$lab/a"
wait $caller || die "both stores hung, and the application was told"
[ "$(cat "$mnt/both")" = both ] || die "what was written while both hung is not there"
for s in near far; do online $s || hf store online crm $s --wait -q; done
hf umount crm
umount "$lab/far"
same
