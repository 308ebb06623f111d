# What happens beside each other: replacing a file that others read, removing one that is just being
# closed, setting times while a close is under way, listing a folder that changes.
. "$(dirname "$0")/lib.sh"
volume
python3 - "$mnt" <<'P' || die "see above"
import ctypes, os, sys, threading, time
top = sys.argv[1]
os.chdir(top)
stop = time.monotonic() + 3
bad = []

def writer():
    n = 0
    while time.monotonic() < stop:
        n += 1
        with open("t0", "w") as f:
            f.write(f"{n:06d}" * 100)
        os.rename("t0", "target")

def reader():
    while time.monotonic() < stop:
        try:
            with open("target") as f:
                data = f.read()
            if len(data) != 600 or data != data[:6] * 100:
                bad.append("mixed content")
            os.stat("target")
            os.listxattr("target")
        except OSError as e:
            bad.append(str(e))

with open("target", "w") as f:
    f.write("000000" * 100)
threads = [threading.Thread(target=t) for t in (writer, reader, reader)]
for t in threads:
    t.start()
for t in threads:
    t.join()
for i in range(1500):
    fd = os.open("short", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x" * 5000)
    os.close(fd)
    os.unlink("short")
os.mkdir("times")
for i in range(1500):
    with open(f"times/{i}", "w") as f:
        f.write("x")
    os.utime(f"times/{i}", (1, 1234567890 + i))
# Folders that change places: XFS gives them a new mtime, on each store another one.
libc = ctypes.CDLL(None, use_errno=True)
for i in range(400):
    os.makedirs(f"left/{i}")
    os.makedirs(f"right/{i}")
for i in range(400):
    if libc.renameat2(-100, f"left/{i}".encode(), -100, f"right/{i}".encode(), 2):
        bad.append("exchange")
# A long folder that others read and change meanwhile: what is not touched is listed once.
os.mkdir("long")
for i in range(3000):
    open(f"long/{i}", "w").close()

def listing(fd, size=2000):
    "The names one call gives."
    buf, at, names = ctypes.create_string_buffer(size), 0, []
    n = libc.syscall(217, fd, buf, size)  # getdents64
    while at < n:
        length = int.from_bytes(buf.raw[at + 16:at + 18], sys.byteorder)
        names.append(buf.raw[at + 19:at + length].split(b"\0")[0].decode())
        at += length
    if n < 0:
        bad.append("listing: " + os.strerror(ctypes.get_errno()))
    return names

def rest(fd, names):
    while more := listing(fd, 32768):
        names += more
    if sorted(names, key=str) != sorted([".", ".."] + [str(i) for i in range(3000)]):
        bad.append(f"{len(names)} names, {len(set(names))} different ones")

def begin():
    return os.open("long", os.O_RDONLY | os.O_DIRECTORY)

for i in range(2):  # what the kernel may have kept of it
    os.listdir("long")
first, second = begin(), begin()
names = listing(first)
os.mkdir("long/new")
os.rmdir("long/new")
listing(second)
rest(first, names)
third = begin()
os.posix_fadvise(third, 4096, 0, os.POSIX_FADV_DONTNEED)  # as reclaim does
rest(third, [])
fourth = begin()
names = listing(second := begin())
os.lseek(fourth, os.lseek(second, 0, os.SEEK_CUR), os.SEEK_SET)  # goes on where another one was
rest(fourth, names)
if bad:
    print(len(bad), "times:", sorted(set(bad)))
    sys.exit(1)
P
wait_for nothing_parked
hf umount crm
nothing_parked || die "removed files are kept"
same
