# A store that gets full within a write takes a part of it. Cached pages are never acknowledged for that: they
# reach the others (on-full=drop), or fsync says that they did not.
. "$(dirname "$0")/lib.sh"
cat >"$lab/fill" <<'P'
import os, sys
def fill(disk):
    fd, last = (os.open(f"{disk}/ballast{n}", os.O_CREAT | os.O_RDWR) for n in range(2))
    size = 0
    for step in (64 << 20, 1 << 20, 64 << 10, 4096):
        try:
            while True:
                os.posix_fallocate(fd, size, step)
                size += step
        except OSError:
            pass
    try: # a write gets blocks that fallocate does not
        while True:
            os.write(last, b"x" * 4096)
            os.fsync(last)
    except OSError:
        pass
    return fd, size
fd, size = fill(sys.argv[1])
os.ftruncate(fd, size - (2 << 20))
os.fsync(fd)
fill(sys.argv[2])
P
cat >"$lab/write" <<'P'
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
data = b"N" * (1 << 20)
try:
    if sys.argv[2] == "mmap":
        pages = mmap.mmap(fd, len(data))
        pages[:] = data
        pages.flush()
    else:
        os.pwrite(fd, data, 0)
    os.fsync(fd)
    print("durable")
except OSError as e:
    print(e.strerror)
P
# filled POLICY HOW OPTIONS WORDS
filled() {
    disk a 400M
    disk b 400M
    hf create crm "$lab/a/s" "$lab/b/s" -q
    hf mount crm "$mnt" -o suid,dev,on-full="$1$3"
    echo old >"$mnt/f" # what the full store can take is this block
    truncate -s 1M "$mnt/f"
    python3 "$lab/fill" "$lab/a" "$lab/b"
    [ "$(python3 "$lab/write" "$mnt/f" "$2")" = "$4" ] || die "on-full=$1, $2: fsync did not say \"$4\""
    if [ "$4" = durable ]; then
        [ "$(tr -dc N <"$lab/a/s/f" | wc -c)" = 1048576 ] || die "on-full=$1, $2: not all of it is there"
        ! online b || die "b was not dropped"
    fi
    rm "$lab"/[ab]/ballast*
    [ "$4" != durable ] || hf store online crm b --wait -q
    hf umount crm
    same -H # what was taken back are zeros
    hf dissolve crm --keep a --yes -q
    umount "$lab/a" "$lab/b"
    rm "$lab/a.img" "$lab/b.img"
}
for how in mmap write; do
    filled fail $how "$([ $how = mmap ] || echo ,cache=writeback)" "No space left on device"
    filled drop $how "$([ $how = mmap ] || echo ,cache=writeback)" durable
done
