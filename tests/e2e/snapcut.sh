# Power is lost on all stores under writers and snapshots: each snapshot that was reported settled is there, and whole
# or visibly broken; with snap-sync=strict none is broken. CYCLES=50 on demand.
. "$(dirname "$0")/lib.sh"
disk a
disk b
hf create crm "$lab/a/s" "$lab/b/s" -q
views=$mnt/.holdfast/snapshots
cat >"$lab/writer" <<'P'
import os, random, sys
os.chdir(sys.argv[1])
rnd = random.Random(int(sys.argv[2]))
try:
    while True:
        kind = rnd.randrange(8)
        name = f"{rnd.randrange(8)}/{rnd.randrange(20)}"
        if kind < 4:
            with open("database", "r+b") as f:
                f.seek(8192 * rnd.randrange(1024))
                f.write(os.urandom(8192))
                if rnd.randrange(4) == 0:
                    os.fdatasync(f.fileno())
        elif kind < 6:
            with open(name, "wb") as f:
                f.write(os.urandom(rnd.randrange(20000)))
                if rnd.randrange(3) == 0:
                    os.fsync(f.fileno())
        elif kind == 6 and os.path.exists(name):
            os.rename(name, f"{rnd.randrange(8)}/{rnd.randrange(20)}")
        elif os.path.exists(name):
            os.unlink(name)
except OSError:
    pass
P
sum() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 md5sum && find . -printf '%p %y %m %n %s %T@\n' | sort) || die "$1 cannot be read"; }
broken=0 whole=0
mkdir "$lab/sums"
for cycle in $(seq "${CYCLES:-4}"); do
    mode=$([ $((cycle % 2)) = 0 ] && echo strict || echo batch)
    hf mount crm "$mnt" -o suid,dev,snap-sync=$mode
    mkdir -p "$mnt/w"/{0..7}
    truncate -s 8M "$mnt/w/database"
    rm -f "$lab/sums"/*
    hf snapshot create crm@c$cycle.0 -q
    sum "$mnt/w" >"$lab/sums/c$cycle.0" # as the live tree is: nobody writes yet
    python3 "$lab/writer" "$mnt/w" $cycle &
    writer=$!
    pids=($writer)
    for i in 1 2 3; do
        sleep 0.$((RANDOM % 9))
        hf snapshot create crm@c$cycle.$i -q
        sum "$views/c$cycle.$i/w" >"$lab/sums/c$cycle.$i"
    done
    sleep 0.$((RANDOM % 9))
    power_cut $writer suid,dev,snap-sync=$mode
    for s in $(ls "$lab/sums"); do
        if [ -d "$views/$s" ]; then
            sum "$views/$s/w" | diff "$lab/sums/$s" - || die "snapshot $s is not what it was, and nobody says so"
            whole=$((whole + 1))
        elif [ -d "$views/$s.broken" ]; then
            [ $mode = batch ] || die "snapshot $s is broken in strict mode: $(hf snapshot list crm)"
            broken=$((broken + 1))
        else
            die "snapshot $s is gone"
        fi
    done
    wait_for online a
    wait_for online b
    for s in $(ls "$lab/sums"); do hf snapshot destroy crm@$s --yes -q; done
    hf umount crm
    same -H # blocks that were allocated and not yet written when the power went look like data
done
echo "$whole snapshots whole, $broken broken"
