# Power is lost under writers, on all stores: nothing that was fsynced is lost, one store serves at
# once, and the stores are equal again without help. CYCLES=50 on demand.
. "$(dirname "$0")/lib.sh"
volume
lost=0
for cycle in $(seq "${CYCLES:-6}"); do
    rm -f "$lab/acked"
    python3 - "$mnt" "$lab/acked" "$cycle" <<'P' &
import hashlib, os, random, sys
mnt, log, cycle = sys.argv[1:]
rnd = random.Random(int(cycle))
out = open(log, "w")
os.chdir(mnt)
os.mkdir(f"c{cycle}")
os.chdir(f"c{cycle}")
def sync_folder():
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)
big = os.open("database", os.O_CREAT | os.O_RDWR)
os.ftruncate(big, 8 << 20)
os.fsync(big)
sync_folder()
n = 0
try:
    while True:
        n += 1
        if rnd.randrange(3):
            page = rnd.randrange(1024)
            os.pwrite(big, b"%08d" % n * 1024, page * 8192)
            os.fdatasync(big)
            out.write(f"page {page} {n}\n")
        else:
            with open("new", "w") as f:
                f.write(str(n))
                f.flush()
                os.fsync(f.fileno())
            k = rnd.randrange(20)
            os.rename("new", f"s{k}")
            sync_folder()
            out.write(f"file {k} {n}\n")
        out.flush()
        with open(f"unsynced{n}", "w") as f:
            f.write("x" * 5000)
except OSError:
    pass
P
    writer=$!
    pids=($writer)
    wait_for lines "$lab/acked" 40
    sleep 0.$((RANDOM % 9))
    power_cut $writer suid,dev
    python3 - "$mnt/c$cycle" "$lab/acked" <<'P' || die "cycle $cycle lost something that was synced"
import os, sys
top, log = sys.argv[1:]
pages, files = {}, {}
for line in open(log).read().splitlines():
    kind, k, n = line.split()
    (pages if kind == "page" else files)[k] = int(n)
assert len(pages) + len(files) > 5, (pages, files)
fd = os.open(f"{top}/database", os.O_RDONLY)
for page, n in pages.items():
    have = os.pread(fd, 8, int(page) * 8192)
    assert int(have or 0) >= n, (page, n, have)
for k, n in files.items():
    assert int(open(f"{top}/s{k}").read()) >= n, (k, n)
P
    left=$(find "$mnt/c$cycle" -name 'unsynced*' -size 5000c -exec grep -l xxx {} + | wc -l)
    asked=$(grep -c . "$lab/acked")
    [ "$left" -lt "$((asked - 1))" ] && lost=$((lost + 1))
    wait_for online a
    wait_for online b
    echo "cycle $cycle: $asked synced changes there, $left of $asked unsynced files left"
    hf umount crm
    same -H # blocks that were allocated and not yet written when the power went look like data
    hf mount crm "$mnt" -o suid,dev
done
[ $lost -gt 0 ] || die "no unsynced write was lost: these were no power cuts"
hf umount crm
