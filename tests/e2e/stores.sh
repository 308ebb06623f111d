# Stores are added, replaced and removed while applications write; verify finds what differs, says who
# is wrong if that can be known, and repairs.
. "$(dirname "$0")/lib.sh"
volume
disk c
disk d
writer() { # changes files until "$lab/enough" is there; its errors are the test's
    exec python3 - "$mnt" "$lab/enough" "$1" <<'P'
import os, random, sys
mnt, enough, seed = sys.argv[1:]
rnd = random.Random(int(seed))
os.makedirs(f"{mnt}/w{seed}", exist_ok=True)
os.chdir(f"{mnt}/w{seed}")
n = 0
while not os.path.exists(enough):
    n += 1
    name = f"f{rnd.randrange(60)}"
    what = rnd.randrange(6)
    try:
        if what == 0:
            os.rename(name, f"f{rnd.randrange(60)}")
        elif what == 1:
            os.unlink(name)
        else:
            with open(name, "r+b" if os.path.exists(name) and what < 4 else "wb") as f:
                f.seek(rnd.randrange(40) * 4096)
                f.write(os.urandom(rnd.randrange(1, 9000)))
                if what == 5:
                    f.flush()
                    os.fsync(f.fileno())
    except FileNotFoundError:
        pass
P
}
writers() { rm -f "$lab/enough"; writer 1 & w1=$!; writer 2 & w2=$!; pids=($w1 $w2); }
writers_end() { touch "$lab/enough"; wait $w1 || die "writer 1"; wait $w2 || die "writer 2"; pids=(); }
# equal STORE...: unmounted, all are equal to the first
equal() { local first=$1; shift; for s in "$@"; do "$treecmp" "$lab/$first/s" "$lab/$s/s" || die "$first and $s differ"; done; }
mkdir "$mnt/tree"
tar -C /usr/include -c linux stdio.h | tar -C "$mnt/tree" -x
mkfifo "$mnt/fifo"
ln "$mnt/tree/stdio.h" "$mnt/link"

# What status --json says of a store is what it is.
hf status crm --json | python3 -c '
import json, os, sys
for s in json.load(sys.stdin)["stores"]:
    fs = os.statvfs(s["path"])
    assert s["total_bytes"] == fs.f_blocks * fs.f_frsize, s
    assert abs(s["free_bytes"] - fs.f_bavail * fs.f_frsize) < 64 << 20 and s["stuck_calls"] == 0, s
    assert (s["passive"], s["silent"], s["since"] > 1e9) == (False, False, True), s' || die "status --json"

# A third store, under load.
writers
refused 5 "lies in the other" hf store add crm "$lab/a/s/tree"
refused 5 "one folder" hf store add crm "$lab/b/s"
mkdir "$lab/c/full"
touch "$lab/c/full/mine"
refused 5 "not empty" hf store add crm "$lab/c/full"
refused 2 "labelled" hf store add crm b="$lab/c/s"
hf store add crm "$lab/c/s" --wait -q
[ "$(hf store list crm -H | cut -f1 | tr '\n' ' ')" = "a b c " ] || die "the list"
grep -q "$lab/c/s" "$lab/etc/crm.conf" || die "the configuration does not name c"
writers_end
hf verify crm -q || die "verify finds a difference after add"
hf umount crm
equal a b c
hf mount crm "$mnt" -o suid,dev

# One is replaced while all are well; the new one serves, the old one is a plain folder.
writers
hf replace crm b "$lab/d/s" --wait -q
[ "$(hf store list crm -H | cut -f1 | tr '\n' ' ')" = "a c d " ] || die "the list after replace"
writers_end
plain() { [ ! -e "$lab/b/s/.holdfast" ]; }
wait_for plain
hf umount crm
equal a c d
hf mount crm "$mnt" -o suid,dev

# A dead one is replaced by a new disk that is mounted at its place.
xfs_io -x -c shutdown "$lab/c"
echo x >"$mnt/x"
wait_for lost c
wait_for umount -qc "$lab/c" 2>/dev/null
rm "$lab/c.img"
disk c
writers
hf replace crm c "$lab/c/s" --wait -q
writers_end
[ "$(hf store list crm -H | cut -f1 | wc -l)" = 3 ] || die "the list after the second replace"
hf verify crm -q || die "verify after replace"

# kill -9 in the middle: it goes on at the next mount, and the old one stays until then.
hf store add crm b2="$lab/b/fresh" -q 2>/dev/null && die "a folder that is not there"
mkdir "$lab/b/fresh"
dd if=/dev/urandom of="$mnt/big" bs=1M count=60 status=none
hf resync crm --limit 20M
hf replace crm a n="$lab/b/fresh" -q
hf resync crm n --limit 5M
sleep 0.5
kill -KILL "$(daemon_pid)"
hf mount crm "$mnt" -o suid,dev
hf resync crm --wait -q
gone() { ! hf store list crm -H | cut -f1 | grep -qx a; }
wait_for gone
grep -q "$lab/a/s" "$lab/etc/crm.conf" && die "the configuration still names a"
hf status crm --test >/dev/null || die "not healthy"

# A catch-up stands still while it is paused.
hf store offline crm d -q
dd if=/dev/urandom of="$mnt/big" bs=1M count=30 status=none
hf resync crm d --pause
hf store online crm d -q
paused() { hf status crm --json | python3 -c 'import json,sys
sys.exit(not any(s["label"] == "d" and s["state"] == "SYNCING" and s["catchup"]["paused"] for s in json.load(sys.stdin)["stores"]))'; }
wait_for paused
sleep 1
paused || die "a paused catch-up went on"
hf resync crm d --resume
hf resync crm --wait -q
hf status crm --test >/dev/null || die "not healthy after the pause"

# Removing: never the last one.
refused 5 "Without a terminal" sh -c "$bin store remove crm d -q && $bin store remove crm n"
hf store list crm -H | cut -f1 | grep -qx d && die "d is still there"
plain() { [ ! -e "$lab/d/s/.holdfast" ]; }
wait_for plain
hf store remove crm n --yes -q
last=$(hf store list crm -H | cut -f1)
refused 5 "cannot do without" hf store remove crm "$last" --yes
hf umount crm
hf dissolve crm --keep "$last" --yes >/dev/null

# verify: with two stores nobody can know who is right; with three it is known, and repaired.
for s in a b c; do rm -rf "$lab/$s/v"; mkdir "$lab/$s/v"; done
hf create v "$lab/a/v" "$lab/b/v" -q
hf mount v "$mnt"
dd if=/dev/urandom of="$mnt/file" bs=1M count=3 status=none
echo gone >"$mnt/gone"
mkdir "$mnt/dir"
sum=$(sha1sum <"$mnt/file")
# rot STORE: a block changes behind our back, its times do not
rot() { touch -r "$lab/$1/v/file" "$lab/time"; printf ROT | dd of="$lab/$1/v/file" bs=1 seek=70000 conv=notrunc status=none; touch -r "$lab/time" "$lab/$1/v/file"; }
sleep 1.2 # the times of the root are equal
rot b
rc=0
hf verify v >"$lab/said" || rc=$?
[ $rc = 3 ] || { cat "$lab/said"; die "verify gave $rc"; }
hf events v -H | grep "bytes at 69632: nobody can know which copy is right: /file" >/dev/null || die "verify does not name the block"
hf verify v --repair >/dev/null || [ $? = 3 ] || die "verify --repair"
[ "$(state_of_v() { hf status v --json | grep -c '"ONLINE"'; }; state_of_v)" = 2 ] || die "a store was blamed without proof"
hf verify v --repair --store b >/dev/null || [ $? = 3 ] || die "verify --repair --store"
hf verify v -q || die "not repaired"
[ "$(sha1sum <"$lab/b/v/file")" = "$sum" ] || die "the wrong copy was kept"
hf store add v "$lab/c/v" --wait -q
rot a # the one that serves
rm "$lab/b/v/gone"
chmod 700 "$lab/c/v/dir"
echo extra >"$lab/c/v/dir/extra"
rc=0
hf verify v --repair >"$lab/said" || rc=$?
[ $rc = 3 ] || { cat "$lab/said"; die "verify of three gave $rc"; }
for told in 'bytes at 69632: the copy on store "a" is wrong: /file' 'missing on a store: the copy on store "b" is wrong: /gone' 'mode: the copy on store "c" is wrong: /dir'; do
    hf events v -H | grep -qF -- "$told" || { hf events v -H | tail; die "not told: $told"; }
done
hf verify v -q || die "not all were repaired"
for s in a b c; do
    [ "$(sha1sum <"$lab/$s/v/file") $(cat "$lab/$s/v/gone") $(stat -c %a "$lab/$s/v/dir")" = "$sum gone 755" ] || die "$s was repaired to something else"
    [ ! -e "$lab/$s/v/dir/extra" ] || die "what only one store had is still there"
done
[ "$(cat "$lab"/c/v/.holdfast/lost/verify-*)" = extra ] || die "what only one store had was thrown away"
# Before a store is full, it is said.
fallocate -l $(($(df --output=avail -B1 "$lab/b" | tail -1) - (16 << 20))) "$lab/b/fill"
said() { hf events v -H | grep -q "store \"b\" has . % of its space left"; }
wait_for said
hf status v | grep -q "nearly full" || die "status does not say that b is nearly full"
rm "$lab/b/fill"
hf umount v
for s in b c; do "$treecmp" "$lab/a/v" "$lab/$s/v" || die "v: the stores differ"; done
# A store that is being caught up is taken out, and whoever waits for it is told.
hf mount v "$mnt"
hf store offline v c -q
head -c 30000000 /dev/urandom >"$mnt/big"
hf resync v --limit 1M -q
hf store online v c --wait -q 2>"$lab/told" &
waiter=$!
pids+=($waiter)
state_of_c() { hf store list v -H | awk -F'\t' '$1 == "c" { print $2 }'; }
syncing() { [ "$(state_of_c)" = SYNCING ]; }
wait_for syncing
sleep 0.5 # the waiter has seen it, too
hf store offline v c --wait -q
[ "$(state_of_c)" = OFFLINE ] || die "it is $(state_of_c)"
rc=0
wait $waiter || rc=$?
ended $waiter
[ $rc = 1 ] && grep -qF 'store "c" was taken out meanwhile' "$lab/told" || { cat "$lab/told"; die "the waiter ended with $rc"; }
hf resync v --limit 0 -q
hf store online v c --wait -q
hf umount v
for s in b c; do "$treecmp" "$lab/a/v" "$lab/$s/v" || die "v: the stores differ"; done
