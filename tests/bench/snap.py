#!/usr/bin/python3
"""What snapshots cost, beside btrfs snapshots and beside copies.

    sudo tests/bench/snap.py [--prefix DIR] [--rounds N] [--files N]

Needs rsync and btrfs-progs. Two stores on XFS images in RAM; btrfs on an image in RAM. Times in ms or us, medians of the rounds. Shown,
never judged: figures on a busy machine scatter."""
import argparse, os, random, shutil, statistics, subprocess, tempfile, time

parser = argparse.ArgumentParser()
parser.add_argument("--prefix", default="/usr/local")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--files", type=int, default=10000)
args = parser.parse_args()
lab = tempfile.mkdtemp(prefix="holdfast-bench-", dir="/dev/shm")
binary = args.prefix + "/bin/holdfast"
for what in ("conf", "state", "run"):
    os.environ[f"HOLDFAST_{what.upper()}_DIR"] = f"{lab}/{what}"
    os.mkdir(f"{lab}/{what}")


def run(*words):
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def disk(name, mkfs):
    run("truncate", "-s", "3G", f"{lab}/{name}.img")
    run(mkfs, "-q", f"{lab}/{name}.img")
    os.mkdir(f"{lab}/{name}")
    run("mount", "-o", "loop", f"{lab}/{name}.img", f"{lab}/{name}")


def timed(fn):
    start = time.monotonic()
    fn()
    return time.monotonic() - start


def writes(path, sync, offsets):
    """us for each 4 KiB write at these offsets"""
    fd = os.open(path, os.O_RDWR)
    data = os.urandom(4096)
    def all_of_them():
        for at in offsets:
            os.pwrite(fd, data, at)
            if sync:
                os.fsync(fd)
    took = timed(all_of_them)
    os.close(fd)
    return took / len(offsets) * 1e6


def read_all(folder):
    for root, _, files in os.walk(folder):
        for f in files:
            with open(os.path.join(root, f), "rb") as file:
                while file.read(1 << 20):
                    pass


def walk(folder):
    for root, folders, files in os.walk(folder):
        for f in files:
            os.lstat(os.path.join(root, f))


def fill(folder):
    for i in range(args.files):
        if i % 100 == 0:
            os.mkdir(f"{folder}/{i // 100}")
        with open(f"{folder}/{i // 100}/{i}", "wb") as f:
            f.write(b"x" * 2000)
    with open(f"{folder}/big", "wb") as f:
        for _ in range(256):
            f.write(os.urandom(1 << 20))


class Holdfast:
    name = "holdfast, 2 copies"

    def up(self):
        for d in "ab":
            disk(d, "mkfs.xfs")
            os.mkdir(f"{lab}/{d}/s")
        os.mkdir(f"{lab}/mnt")
        run(binary, "create", "bench", f"{lab}/a/s", f"{lab}/b/s", "-q")
        run(binary, "mount", "bench", f"{lab}/mnt")
        self.folder = f"{lab}/mnt"

    def snapshot(self, name):
        run(binary, "snapshot", "create", f"bench@{name}", "-q")
        return f"{lab}/mnt/.holdfast/snapshots/{name}"

    def destroy(self, name):
        run(binary, "snapshot", "destroy", f"bench@{name}", "--yes")

    def restore(self, name):
        run(binary, "restore", f"bench@{name}", "/0", "--in-place", "--yes", "-q")

    def down(self):
        run(binary, "umount", "bench")


class Btrfs:
    name = "btrfs"

    def up(self):
        disk("btrfs", "mkfs.btrfs")
        run("btrfs", "subvolume", "create", f"{lab}/btrfs/v")
        self.folder = f"{lab}/btrfs/v"

    def snapshot(self, name):
        run("btrfs", "subvolume", "snapshot", "-r", self.folder, f"{lab}/btrfs/{name}")
        os.sync()
        return f"{lab}/btrfs/{name}"

    def destroy(self, name):
        run("btrfs", "subvolume", "delete", "-c", f"{lab}/btrfs/{name}")

    def restore(self, name):
        run("cp", "-a", "--reflink=auto", f"{lab}/btrfs/{name}/0", f"{self.folder}/0")

    def down(self):
        pass


class Copies:
    """rsync with hard links, as backups are made without snapshots"""
    name = "cp -al + rsync, XFS"

    def up(self):
        disk("xfs", "mkfs.xfs")
        self.folder = f"{lab}/xfs/v"
        os.mkdir(self.folder)
        self.last = None

    def snapshot(self, name):
        link = ["--link-dest", self.last] if self.last else []
        run("rsync", "-a", *link, self.folder + "/", f"{lab}/xfs/{name}/")
        os.sync()
        self.last = f"{lab}/xfs/{name}"
        return self.last

    def destroy(self, name):
        run("rm", "-rf", f"{lab}/xfs/{name}")

    def restore(self, name):
        run("rsync", "-a", "--delete", f"{lab}/xfs/{name}/0/", f"{self.folder}/0/")

    def down(self):
        pass


def measure(system, r):
    rows = {}
    big = system.folder + "/big"
    blocks = list(range(0, 256 << 20, 4096))
    random.seed(r)
    random.shuffle(blocks)
    rows["4k write, no snapshot (us)"] = writes(big, False, blocks[:20000])
    rows["4k write + fsync, no snapshot (us)"] = writes(big, True, blocks[:500])
    view = None
    def create():
        nonlocal view
        view = system.snapshot(f"s{r}")
    rows["create a snapshot (ms)"] = timed(create) * 1e3
    rows["4k write, first touch (us)"] = writes(big, False, blocks[:20000])
    rows["4k write, touched before (us)"] = writes(big, False, blocks[:20000])
    rows["4k write + fsync, first touch (us)"] = writes(big, True, blocks[20000:20500])
    walk(view)
    rows["walk live (ms)"] = timed(lambda: walk(system.folder)) * 1e3
    rows["walk the snapshot (ms)"] = timed(lambda: walk(view)) * 1e3
    run("sysctl", "-q", "vm.drop_caches=3")
    rows["read live (ms)"] = timed(lambda: read_all(system.folder)) * 1e3
    run("sysctl", "-q", "vm.drop_caches=3")
    rows["read the snapshot (ms)"] = timed(lambda: read_all(view)) * 1e3
    shutil.rmtree(f"{system.folder}/0")
    rows["restore 100 files (ms)"] = timed(lambda: system.restore(f"s{r}")) * 1e3
    rows["destroy (ms)"] = timed(lambda: system.destroy(f"s{r}")) * 1e3
    return rows


systems = [Holdfast(), Btrfs(), Copies()]
try:
    for s in systems:
        s.up()
        fill(s.folder)
    os.sync()
    results = [[] for _ in systems]
    for r in range(args.rounds):
        for i, s in enumerate(systems):
            results[i].append(measure(s, r))
    print(f"{'':38}" + "".join(f"{s.name:>22}" for s in systems))
    for row in results[0][0]:
        medians = [statistics.median(x[row] for x in rounds) for rounds in results]
        print(f"{row:38}" + "".join(f"{m:22.1f}" for m in medians))
finally:
    for s in systems:
        try:
            s.down()
        except (subprocess.CalledProcessError, OSError) as error:
            print(error)
    with open("/proc/self/mountinfo", encoding="utf8") as mounts:
        mine = [m.split()[4] for m in mounts if f" {lab}/" in m]
    for m in sorted(mine, reverse=True):
        subprocess.run(["umount", m], check=False)
    shutil.rmtree(lab)
