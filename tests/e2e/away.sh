# Stores that go and come back, again and again, while names and files change at random, before, while they
# are away and while they catch up: the mount shows what a plain folder shows that had the same done to it,
# and the stores are equal. SEEDS="1 2 3 ..." ROUNDS=n HOWS="offline kill" for more, or for some.
. "$(dirname "$0")/lib.sh"
cat >"$lab/away" <<'P'
import ctypes, errno, os, random, subprocess, sys, time
lab, mnt, ref, seed, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
binary, treecmp = sys.argv[6:8]
HOWS = os.environ.get("HOWS", "offline offline shutdown kill").split()
rng = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
told, held = [], []
FOLDERS = ["", "d0", "d1", "d2", "d0/e0", "d1/e1", "d0/e0/g"]


def die(words):
    print("\n".join(told[-60:]))
    sys.exit(f"seed {seed}, after {len(told)} steps: {words}")


def hf(*words):
    told.append("holdfast " + " ".join(words))
    done = subprocess.run([binary, *words], capture_output=True, text=True)
    if done.returncode:
        die(f"{told[-1]}: {done.stderr}")
    return done.stdout


def state(store):
    lines = [l.split() for l in hf("status", "crm").splitlines()]
    return [l[1] for l in lines if l and l[0] == store][0]


def wait_for(what, limit=60):
    until = time.monotonic() + limit
    while not what():
        if time.monotonic() > until:
            die("waited in vain")
        time.sleep(0.05)


def path():
    return os.path.join(rng.choice(FOLDERS), rng.choice("abcdefgh"))


def anything():
    return rng.choice([path(), path(), rng.choice(FOLDERS[1:])])


def join(top, name):
    return os.path.join(top, name)


def opened(top, name, flags):
    return os.open(join(top, name), flags | os.O_NOFOLLOW, 0o644)


def with_fd(top, name, flags, do):
    fd = opened(top, name, flags)
    try:
        do(fd)
    finally:
        os.close(fd)


def exchange(top, a, b):
    if libc.renameat2(-100, join(top, a).encode(), -100, join(top, b).encode(), 2):
        raise OSError(ctypes.get_errno(), "exchange")


def both(words, do):
    """The same on both, with the same outcome."""
    told.append(words)
    out = []
    for side, top in enumerate((mnt, ref)):
        try:
            do(side, top)
            out.append(0)
        except OSError as e:
            out.append(e.errno)
    told[-1] += " -> " + errno.errorcode.get(out[0], "done")
    if out[0] != out[1]:
        die(f"{words}: {errno.errorcode.get(out[0], out[0])}, and on a plain folder {errno.errorcode.get(out[1], out[1])}")


def step():
    kind = rng.choice("create create write write write truncate mkdir mkdir rmdir rename rename rename link link "
                      "unlink unlink symlink chmod xattr exchange hold heldwrite heldread drop fsync".split())
    a, b, data, at = anything(), anything(), rng.randbytes(rng.choice([1, 100, 5000, 70000])), rng.randrange(100000)
    words = f"{kind} {a} {b} {at} {len(data)}"
    if kind == "create":
        both(words, lambda s, t: with_fd(t, a, os.O_CREAT | os.O_RDWR, lambda fd: os.pwrite(fd, data, 0)))
    elif kind == "write":
        both(words, lambda s, t: with_fd(t, a, os.O_RDWR, lambda fd: os.pwrite(fd, data, at)))
    elif kind == "truncate":
        both(words, lambda s, t: with_fd(t, a, os.O_RDWR, lambda fd: os.ftruncate(fd, at)))
    elif kind == "fsync":
        both(words, lambda s, t: with_fd(t, a, os.O_RDONLY, os.fsync))
    elif kind == "mkdir":
        a = rng.choice(FOLDERS[1:])
        both(f"mkdir {a}", lambda s, t: os.mkdir(join(t, a)))
    elif kind == "rmdir":
        both(words, lambda s, t: os.rmdir(join(t, a)))
    elif kind == "rename":
        both(words, lambda s, t: os.rename(join(t, a), join(t, b)))
    elif kind == "exchange":
        both(words, lambda s, t: exchange(t, a, b))
    elif kind == "link":
        both(words, lambda s, t: os.link(join(t, a), join(t, b), follow_symlinks=False))
    elif kind == "unlink":
        both(words, lambda s, t: os.unlink(join(t, a)))
    elif kind == "symlink":
        both(words, lambda s, t: os.symlink("to " + b, join(t, a)))
    elif kind == "chmod":
        both(words, lambda s, t: with_fd(t, a, os.O_RDONLY, lambda fd: os.fchmod(fd, 0o700 | at % 64)))
    elif kind == "xattr":
        both(words, lambda s, t: with_fd(t, a, os.O_RDONLY, lambda fd: os.setxattr(fd, "user.k", data[:50])))
    elif kind == "hold":
        pair = [-1, -1]
        both(words, lambda s, t: pair.__setitem__(s, opened(t, a, os.O_RDWR)))
        if pair[0] >= 0:
            held.append(pair)
    elif held and kind == "heldwrite":
        pair = rng.choice(held)
        both(words, lambda s, t: os.pwrite(pair[s], data, at))
    elif held and kind == "heldread":
        pair, seen = rng.choice(held), [None, None]
        both(words, lambda s, t: seen.__setitem__(s, os.pread(pair[s], 200000, 0)))
        if seen[0] != seen[1]:
            die(f"{words}: other bytes")
    elif held and kind == "drop":
        pair = held.pop(rng.randrange(len(held)))
        both(words, lambda s, t: os.close(pair[s]))


def drop_all():
    while held:
        pair = held.pop()
        both("close", lambda s, t: os.close(pair[s]))


def names(top):
    """What is one file: by number, all its names."""
    found = {}
    for root, folders, files in os.walk(top):
        for f in files + [d for d in folders if os.path.islink(join(root, d))]:
            p = join(root, f)
            found.setdefault(os.lstat(p).st_ino, []).append(os.path.relpath(p, top))
    return sorted(sorted(n) for n in found.values())


def same(words, a, b, *options):
    done = subprocess.run([treecmp, "-H", *options, a, b], capture_output=True, text=True)
    if done.returncode:
        die(f"{words}: {done.stdout}")


def check(words):
    told.append("check: " + words)
    here, there = names(mnt), names(ref)
    if here != there:
        die(f"{words}: one file: {[n for n in here if n not in there]}, on a plain folder {[n for n in there if n not in here]}")
    same(words, mnt, ref, "-t")


def many():
    for _ in range(rng.randrange(5, 60)):
        step()


def mount():
    hf("mount", "crm", mnt, "-o", "suid,dev")


def stores_equal(words):
    drop_all()
    hf("umount", "crm")
    same(words, f"{lab}/a/s", f"{lab}/b/s")
    mount()
    check(words + ", mounted again")


def go_away(how, store):
    disk = f"{lab}/{store}"
    if how == "offline":
        hf("store", "offline", "crm", store, "-q")
    else:
        subprocess.run(["xfs_io", "-x", "-c", "shutdown", disk], check=True)
    many()
    if how == "shutdown":
        wait_for(lambda: state(store) != "ONLINE" or (step() or False))
        many()
        wait_for(lambda: subprocess.run(["umount", "-c", disk], capture_output=True).returncode == 0)
        subprocess.run(["mount", "-o", "loop", disk + ".img", disk], check=True)


def come_back(store):
    slow = rng.randrange(2) == 0  # so that more happens in between
    if slow:
        hf("resync", "crm", "--limit", rng.choice(["100K", "300K", "1M"]), "-q")
    hf("store", "online", "crm", store, "-q")
    many()
    if slow:
        for _ in range(3):
            time.sleep(rng.random() / 4)
            many()
        hf("resync", "crm", "--limit", "0", "-q")
    hf("store", "online", "crm", store, "--wait", "-q")
    many()


def kill():
    drop_all()
    pid = int([l for l in hf("status", "crm", "--json").replace(",", "\n").splitlines() if '"pid"' in l][0].split(":")[1])
    os.kill(pid, 9)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}") or open(f"/proc/{pid}/stat").read().split()[2] == "Z")
    mount()
    wait_for(lambda: state("a") == state("b") == "ONLINE")


snapshots = 0
many()
for r in range(rounds):
    store = rng.choice("ab")
    if rng.randrange(3) == 0:
        snapshots += 1
        hf("snapshot", "create", f"crm@s{snapshots}", "-q")
    how = rng.choice(HOWS)
    told.append(f"--- round {r}: {how} {store}")
    if how == "kill":
        kill()
    else:
        go_away(how, store)
        check("one is away")
        come_back(store)
    check("both are there")
    if rng.randrange(2) == 0:
        stores_equal(f"round {r}")
stores_equal("at the end")
P
for seed in ${SEEDS:-1 2}; do
    for d in a b ref; do disk $d 400M; done
    hf create crm "$lab/a/s" "$lab/b/s" -q
    hf mount crm "$mnt" -o suid,dev
    python3 "$lab/away" "$lab" "$mnt" "$lab/ref/s" $seed "${ROUNDS:-4}" "$bin" "$treecmp" || die "seed $seed"
    hf umount crm
    hf dissolve crm --keep a --yes >/dev/null
    for d in a b ref; do umount "$lab/$d" && rm "$lab/$d.img"; done
done
