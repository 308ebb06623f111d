# Many writers, snapshots taken and destroyed in random order among them: each shows the same tree at any
# time, and none breaks. SECONDS_=n for longer, WRITERS=n for more.
. "$(dirname "$0")/lib.sh"
volume
cat >"$lab/writer" <<'P'
import os, random, sys
top, seed = sys.argv[1], int(sys.argv[2])
random.seed(seed)
os.makedirs(f"{top}/w{seed}", exist_ok=True)
os.chdir(top)
def name():
    return random.choice([f"w{seed}/{random.randrange(30)}", f"shared/{random.randrange(20)}", f"w{seed}/d{random.randrange(4)}/{random.randrange(9)}"])
def write(path):
    with open(path, "r+b" if os.path.exists(path) else "wb") as f:
        f.seek(random.randrange(60000))
        f.write(os.urandom(random.randrange(20000)))
        if random.randrange(9) == 0:
            f.truncate(random.randrange(50000))
def swap(a, b):
    os.rename(a, a + ".tmp")
    os.rename(a + ".tmp", b)
ops = [lambda: write(name()), lambda: write(name()), lambda: os.rename(name(), name()), lambda: os.unlink(name()),
       lambda: os.link(name(), name()), lambda: os.mkdir(f"w{seed}/d{random.randrange(4)}"), lambda: swap(name(), name()),
       lambda: os.rename(f"w{seed}/d{random.randrange(4)}", f"w{seed}/d{random.randrange(4)}"),
       lambda: os.rename(f"w{seed}/d{random.randrange(4)}", f"shared/d{random.randrange(4)}"),
       lambda: os.chmod(name(), random.choice([0o600, 0o644])), lambda: os.rmdir(f"shared/d{random.randrange(4)}")]
while not os.path.exists(sys.argv[3]):
    try:
        random.choice(ops)()
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, OSError) as e:
        if isinstance(e, OSError) and e.errno not in (1, 2, 17, 18, 20, 21, 22, 39, 116):
            raise
P
cat >"$lab/sum" <<'P'
import hashlib, os, sys
os.chdir(sys.argv[1])
def fail(error):
    raise error
for root, folders, files in os.walk(".", onerror=fail):
    folders.sort()
    s = os.lstat(root)
    print(f"{root} {s.st_mode:o} {s.st_mtime_ns}")
    for f in sorted(files):
        p = os.path.join(root, f)
        s = os.lstat(p)
        with open(p, "rb") as file:
            print(f"{p} {s.st_mode:o} {s.st_size} {s.st_mtime_ns} {s.st_nlink} {hashlib.sha1(file.read()).hexdigest()}")
P
sum() { python3 "$lab/sum" "$mnt/.holdfast/snapshots/$1" || die "snapshot $1 cannot be read"; }
# check SNAPSHOT WHEN: it shows what it showed at first.
check() { sum "$1" | diff "$lab/sums/$1" - || die "snapshot $1 changed $2"; }
mkdir "$lab/sums"
mkdir "$mnt/shared"
writers=()
for i in $(seq "${WRITERS:-2}"); do
    python3 "$lab/writer" "$mnt" $i "$lab/stop" &
    writers+=($!)
    pids+=($!)
done
RANDOM=7
end=$((SECONDS + ${SECONDS_:-12}))
n=0
while [ $SECONDS -lt $end ]; do
    s=s$((n++))
    hf snapshot create crm@$s -q
    sum "$s" >"$lab/sums/$s"
    for s in $(ls "$lab/sums"); do
        [ $((RANDOM % 4)) = 0 ] || continue
        check "$s" "under load"
        if [ $((RANDOM % 2)) = 0 ]; then
            hf snapshot destroy crm@$s --yes
            rm "$lab/sums/$s"
        fi
    done
done
touch "$lab/stop"
for pid in "${writers[@]}"; do wait "$pid" || die "a writer failed"; done
! hf snapshot list crm -H | grep BROKEN || die "broken"
for s in $(ls "$lab/sums"); do check "$s" "at last"; done
[ $n -gt 2 ] || die "only $n snapshots"
hf umount "$mnt"
same
hf mount crm "$mnt"
for s in $(ls "$lab/sums"); do check "$s" "by a remount"; done
hf umount "$mnt"
