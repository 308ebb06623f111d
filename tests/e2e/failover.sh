# A store dies under load and comes back while the volume is in use: nobody notices, its disk can be
# unmounted meanwhile, and its catch-up copies what changed and nothing else.
. "$(dirname "$0")/lib.sh"
volume
catchup_of() { events_of b | grep -o 'is caught up: .*' | tail -1; }

# A tree with everything, made while both stores are there.
mkdir -p "$mnt/tree/sub"
python3 - "$mnt" <<'P'
import os, sys
os.chdir(sys.argv[1])
for i in range(400):
    os.makedirs(f"tree/d{i % 20}", exist_ok=True)
    with open(f"tree/d{i % 20}/f{i}", "wb") as f:
        f.write(os.urandom(20000))
with open("big", "wb") as f:
    f.write(os.urandom(40 << 20))
P
hf umount crm # all of it is stable now
hf mount crm "$mnt" -o suid,dev
xfs_io -x -c shutdown "$lab/b"
echo x >"$mnt/trigger"
[ "$(state_of b)" = FAULTED ] || die "b is lost"
wait_for umount -qc "$lab/b" # let go of, though the volume is in use
python3 - "$mnt" <<'P' || die "changes while b is away"
import os, sys
os.chdir(sys.argv[1])
os.rename("tree", "moved")
fd = os.open("big", os.O_RDWR)
for i in range(64):
    os.pwrite(fd, b"changed!" * 512, i * 655360)
os.close(fd)
for i in range(0, 400, 10):
    os.unlink(f"moved/d{i % 20}/f{i}")
for i in range(1, 400, 40):
    os.link(f"moved/d{i % 20}/f{i}", f"moved/link{i}")
os.rename("moved/d3", "moved/sub/d3")
os.mkdir("moved/d3")
with open("moved/d3/new", "w") as f:
    f.write("new")
os.rename("moved/d4/f4", "moved/d5/f4")
os.chmod("moved/d6", 0o700)
os.setxattr("moved/d7/f7", "user.k", b"v")
os.truncate("moved/d8/f8", 5)
with open("moved/sparse", "wb") as f:
    f.truncate(1 << 30)
open_gone = os.open("moved/d9/f9", os.O_RDONLY)
P
mount -o loop "$lab/b.img" "$lab/b"
wait_for online b
catchup_of
copied=$(catchup_of | grep -o '[0-9]* bytes' | cut -d' ' -f1)
[ "$copied" -le $((64 * 4096 * 12 / 10 + 65536)) ] || die "the catch-up copied $copied bytes"
hf umount crm
same

# Writers at full speed while it comes back; both stores in turn.
hf mount crm "$mnt" -o suid,dev
for victim in b a b; do
    rm -f "$lab/stop"
    for w in 1 2; do
        python3 - "$mnt" "$lab/stop" "$w" <<'P' &
import os, random, sys
mnt, stop, w = sys.argv[1:]
rnd = random.Random(int(w))
os.makedirs(f"{mnt}/w{w}", exist_ok=True)
os.chdir(f"{mnt}/w{w}")
n = 0
while not os.path.exists(stop):
    n += 1
    k = rnd.randrange(40)
    op = rnd.randrange(6)
    try:
        if op < 3:
            with open(f"f{k}", "ab") as f:
                f.write(os.urandom(5000))
            if os.path.getsize(f"f{k}") > 200000:
                os.truncate(f"f{k}", 1000)
        elif op == 3:
            os.rename(f"f{k}", f"f{rnd.randrange(40)}")
        elif op == 4:
            os.makedirs(f"d{k}/e", exist_ok=True)
            os.rename(f"d{k}", f"d{rnd.randrange(40)}")
        else:
            os.unlink(f"f{k}")
    except FileNotFoundError:
        pass
    except OSError as e:
        if e.errno not in (39, 17):
            raise
P
        pids+=($!)
    done
    sleep 0.5
    xfs_io -x -c shutdown "$lab/$victim"
    wait_for lost "$victim"
    sleep 0.5
    wait_for umount -qc "$lab/$victim"
    mount -o loop "$lab/$victim.img" "$lab/$victim"
    wait_for online "$victim"
    touch "$lab/stop"
    for p in "${pids[@]}"; do wait "$p" || die "a writer saw an error"; done
    pids=()
done
hf umount crm
same

# It stays away over a remount, and over one that was killed.
hf mount crm "$mnt"
xfs_io -x -c shutdown "$lab/b"
echo one >"$mnt/one"
kill -KILL "$(daemon_pid)"
wait_for umount -qc "$lab/b"
refused 5 "is missing" hf mount crm "$mnt"
hf mount crm "$mnt" -o degraded
echo two >"$mnt/two"
hf umount crm
mount -o loop "$lab/b.img" "$lab/b"
hf mount crm "$mnt"
wait_for online b
hf umount crm
same
hf mount crm "$mnt"

# Taken out by hand, and brought back by hand only.
hf store offline crm b
[ "$(state_of b)" = OFFLINE ] || die "offline"
wait_for umount "$lab/b"
mount -o loop "$lab/b.img" "$lab/b"
refused 5 "cannot do without it" hf store offline crm a
echo three >"$mnt/three"
sleep 3
[ "$(state_of b)" = OFFLINE ] || die "it came back by itself"
hf store online crm b --wait
[ "$(state_of b)" = ONLINE ] || die "online"
hf umount crm
same

# Made a moment ago, with two names, and then either store is away for a moment: they stay two names of one
# file, on the store that is compared with one that was never asked about it, too.
hf mount crm "$mnt" -o suid,dev
for victim in a b; do
    mkdir "$mnt/just-$victim"
    echo new >"$mnt/just-$victim/one"
    ln "$mnt/just-$victim/one" "$mnt/two-$victim"
    hf store offline crm "$victim"
    hf store online crm "$victim" --wait
done
hf umount crm
same

# Files with two names, through a catch-up: known before, moved into a new folder, linked and renamed, next to
# a refused rmdir, touched for the first time while the catch-up runs. Neither are they torn apart, nor copied.
hf mount crm "$mnt" -o suid,dev
mkdir "$mnt/names" "$mnt/names/full"
for i in $(seq 60); do echo "$i" >"$mnt/names/a$i"; ln "$mnt/names/a$i" "$mnt/names/full/b$i"; done
head -c 20000000 /dev/urandom >"$mnt/names/big"
hf umount crm
for victim in a b; do
    hf mount crm "$mnt" -o suid,dev
    exec 7<"$mnt/names/a5"
    mkdir "$mnt/names/new-$victim"
    mv "$mnt/names/a1" "$mnt/names/big" "$mnt/names/new-$victim/"
    rmdir "$mnt/names/full" 2>/dev/null || true
    hf store offline crm "$victim"
    ln "$mnt/names/full/b2" "$mnt/names/c2-$victim"
    echo "$victim" >"$mnt/names/f-$victim"
    ln "$mnt/names/f-$victim" "$mnt/names/g-$victim"
    mv "$mnt/names/f-$victim" "$mnt/names/h-$victim"
    hf store online crm "$victim"
    for i in $(seq 10 60); do echo "$victim" >>"$mnt/names/a$i"; done
    wait_for online "$victim"
    [ "$(events_of "$victim" | grep -o '[0-9]* bytes copied' | tail -1 | cut -d' ' -f1)" -lt 1000000 ] || die "what moved was copied"
    echo "by the other name" >"$mnt/names/full/b5"
    [ "$(cat "$mnt/names/a5")" = "by the other name" ] && [ "$mnt/names/a5" -ef "$mnt/names/full/b5" ] || die "two files in the mount"
    mv "$mnt/names/new-$victim/a1" "$mnt/names/new-$victim/big" "$mnt/names/"
    exec 7<&-
    hf umount crm
    same
done

# What was renamed and made anew while a store was away (logrotate): the old file is still itself. And
# what is ours stays ours, whatever happens in it meanwhile.
hf mount crm "$mnt" -o suid,dev
head -c 300000 /dev/urandom >"$mnt/log"
hf umount crm
hf mount crm "$mnt" -o suid,dev
hf store offline crm b
mv "$mnt/log" "$mnt/log.1"
head -c 200000 /dev/urandom >"$mnt/log"
wait_for umount -qc "$lab/b"
mount -o loop "$lab/b.img" "$lab/b"
echo kept >"$lab/b/s/.holdfast/lost/mine"
for i in $(seq 3000); do head -c 9000 /dev/zero | tr '\0' "$((i % 10))" >"$mnt/x$i"; done
hf store online crm b
for i in $(seq 300); do
    echo "$i" >"$mnt/new"
    mv "$mnt/new" "$mnt/f"
done
wait_for online b
[ "$(cat "$lab/b/s/.holdfast/lost/mine")" = kept ] || die "our own folder was overwritten"
! cmp -s "$lab/a/s/.holdfast/super.0" "$lab/b/s/.holdfast/super.0" || die "the superblock was copied"
hf umount crm
same
