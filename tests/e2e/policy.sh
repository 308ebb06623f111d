# What an admin may ask for: a full store is dropped, a slow one is taken out, a passive one that
# falls too far behind slows writers down. And a full disk still takes the log of what is removed.
. "$(dirname "$0")/lib.sh"
disk a 600M
disk b 330M mkfs.ext4
in_state() { [ "$(state_of "$1")" = "$2" ]; }
told() { grep -qF "$1" "$lab/state/crm.events"; }

# on-full=drop: the volume goes on without the store that has no room, which comes back later.
hf create crm "$lab/a/s" "$lab/b/s" -q
hf mount crm "$mnt" -o suid,dev,on-full=drop
touch "$mnt/x" # ext4 has no room for such an xattr, ever: nobody may eject a store with it
setfattr -n user.large -v "$(head -c 8000 /dev/zero | tr '\0' x)" "$mnt/x" 2>/dev/null && die "ext4 took it"
in_state b ONLINE || die "an xattr ejected a store"
dd if=/dev/zero of="$mnt/large" bs=1M count=340 status=none || die "on-full=drop: the write failed"
! in_state b ONLINE || die "b was not dropped"
wait_for told "is FAULTED: write: No space left"
dd if=/dev/zero of="$mnt/larger" bs=1M count=240 status=none 2>"$lab/said" && die "the last store dropped itself"
grep -q "No space left" "$lab/said" || die "the last store's answer: $(cat "$lab/said")"
in_state a ONLINE || die "a is $(state_of a)"
rm "$mnt/large" "$mnt/larger"
hf store online crm b --wait -q
hf umount crm
same

# The log has room on a full disk: files can be removed, and a store that is away is caught up by it.
hf mount crm "$mnt" -o suid,dev
mkdir "$mnt/many"
(cd "$mnt/many" && seq -f %0200.0f 7000 | xargs touch)
hf store offline crm b -q
dd if=/dev/zero of="$mnt/fill" bs=1M status=none 2>/dev/null && die "the disk is not full"
dd if=/dev/zero of="$mnt/fill2" bs=4k status=none 2>/dev/null && die "the disk is not full"
python3 - "$mnt/many" <<'P'
import errno, os, sys
for name in os.listdir(sys.argv[1]):
    try: # frees nothing; XFS itself may have no room for it
        os.rename(f"{sys.argv[1]}/{name}", f"{sys.argv[1]}/1{name[1:]}")
    except OSError as e:
        assert e.errno == errno.ENOSPC
P
! told "journal cannot be written" || die "the journal had no room"
rm "$mnt/fill" "$mnt/fill2"
hf store online crm b --wait -q
hf umount crm
same

# A store that is slower than allowed goes OFFLINE, and stays so until it is asked for.
mkdir "$lab/slow"
bindfs -f "$lab/b/s" "$lab/slow" &
bind=$!
pids=($bind)
wait_for mountpoint -q "$lab/slow"
sed -i "s|$lab/b/s|$lab/slow|" "$lab/etc/crm.conf"
hf mount crm "$mnt" -o suid,dev,slow-store=0.1ms
(while [ ! -e "$lab/fast" ]; do kill -STOP $bind; sleep 0.2; kill -CONT $bind; sleep 0.02; done) &
brake=$!
(while [ ! -e "$lab/fast" ]; do echo x >>"$mnt/f"; done) &
writer=$!
pids=($bind $brake $writer)
wait_for in_state b OFFLINE
touch "$lab/fast"
wait $brake $writer
pids=($bind)
kill -CONT $bind
wait_for told "too slow: a change takes it"
in_state a ONLINE || die "a is $(state_of a)"
hf store online crm b --wait -q
hf umount crm
same

# A passive store that hangs: the lag is shown, and writers are slowed down until it follows again.
hf mount crm "$mnt" -o suid,dev,passive-lag=2M,passive-lag=3600s,passive-policy=slow,store-timeout=120s
hf store set crm b passive -q
wait_for in_state b PASSIVE
hf status crm | grep -q "follows" || die "status does not say that it follows"
echo x >"$mnt/g"
wait_for test -e "$lab/b/s/g"
kill -STOP $bind
dd if=/dev/urandom of="$mnt/h" bs=64k count=100 status=none
wait_for told "more than passive-lag allows: writers are slowed down"
[ "$(hf status crm --json | python3 -c 'import json,sys; print([s["lag_bytes"] for s in json.load(sys.stdin)["stores"] if s["label"] == "b"][0] > 2 << 20)')" = True ] ||
    die "the lag is not shown"
echo y >"$mnt/g"
kill -CONT $bind
wait_for told "is within passive-lag again"
hf umount crm
