# kill -9 of the daemon under random writers, again and again: nothing acknowledged is lost, synced or
# not; the next mount makes equal what was under way and copies nothing else. CYCLES=200 on demand.
. "$(dirname "$0")/lib.sh"
volume
for cycle in $(seq "${CYCLES:-12}"); do
    rm -f "$lab/acked"
    python3 - "$mnt" "$lab/acked" "$cycle" <<'P' &
import hashlib, os, random, sys
mnt, log, cycle = sys.argv[1:]
rnd = random.Random(int(cycle))
out = open(log, "w")
os.chdir(mnt)
os.mkdir(f"c{cycle}")
os.chdir(f"c{cycle}")
files = {}
def note(word, name):
    what = hashlib.sha1(files[name]).hexdigest() if name in files else "gone"
    out.write(f"{word} {name} {what}\n")
    out.flush()
try:
    while True:
        k = f"f{rnd.randrange(30)}"
        data = rnd.randbytes(rnd.choice((8, 600, 70000)))
        op = rnd.choice((0, 1, 2, 3, 3, 3, 4, 5))
        note("begin", k)
        if op < 3:
            off = rnd.randrange(200) * 512
            with open(k, "r+b" if k in files else "w+b") as f:
                f.seek(off)
                f.write(data)
                if op == 1:
                    f.flush()
                    os.fsync(f.fileno())
            old = files.get(k, b"").ljust(off, b"\0")
            files[k] = old[:off] + data + old[off + len(data):]
        elif op == 3:
            with open("new", "wb") as f:
                f.write(data)
            os.rename("new", k)
            files[k] = data
        elif op == 4 and k in files:
            os.unlink(k)
            del files[k]
        elif op == 5 and k in files:
            os.truncate(k, len(files[k]) // 2)
            files[k] = files[k][: len(files[k]) // 2]
        note("ack", k)
except OSError:
    pass
P
    writer=$!
    pids=($writer)
    wait_for lines "$lab/acked" 100
    sleep 0.$((RANDOM % 5))
    kill -KILL "$(daemon_pid)"
    wait $writer || true
    pids=()
    start=$(date +%s%N)
    hf mount crm "$mnt" -o suid,dev
    took=$((($(date +%s%N) - start) / 1000000))
    python3 - "$mnt/c$cycle" "$lab/acked" <<'P' || die "cycle $cycle lost something"
import hashlib, os, sys
top, log = sys.argv[1:]
last = {}
for line in open(log).read().splitlines():
    word, name, what = line.split()
    last[name] = what if word == "ack" else None  # None: it was under way
assert len(last) > 10, len(last)
for name, what in last.items():
    p = f"{top}/{name}"
    have = hashlib.sha1(open(p, "rb").read()).hexdigest() if os.path.exists(p) else "gone"
    assert what in (None, have), f"{name}: acknowledged {what}, there is {have}"
P
    copied=$(hf events crm -H --since 20s | grep -o 'under way: .*' | tail -1 | grep -o '[0-9]* bytes' | cut -d' ' -f1)
    [ "${copied:-0}" -le 1100000 ] || die "recovery copied $copied bytes"
    nothing_in catchup || die "cycle $cycle: the recovery left something behind"
    hf umount crm
    same
    hf mount crm "$mnt" -o suid,dev
    echo "cycle $cycle: mounted in $took ms, ${copied:-0} bytes copied"
done
# The times of a folder in which the last change before the kill was, and nothing else since a checkpoint.
mkdir -p "$mnt/d/e"
hf store offline crm b -q # ... which a store that comes back makes
echo x >"$mnt/x"
hf store online crm b --wait -q
touch "$mnt/d/e/f"
mv "$mnt/d/e/f" "$mnt/d/f"
kill -KILL "$(daemon_pid)"
touch -d 2020-01-01 "$lab/b/s/d" "$lab/b/s/d/e" # as if b's clock had been another one
hf mount crm "$mnt" -o suid,dev
hf umount crm
same
