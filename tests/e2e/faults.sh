# A disk that dies under load, a full store, a read-only one, a killed FUSE store.
. "$(dirname "$0")/lib.sh"
volume
( i=0; while [ ! -e "$lab/stop" ]; do i=$((i + 1)); echo "$i" >"$mnt/f$((i % 50))" || { echo "$i" >"$lab/error"; break; }; done ) &
writer=$!
pids+=($writer)
sleep 0.5
xfs_io -x -c shutdown "$lab/b" # the disk is gone
wait_for bash -c '[ "$('"$bin"' status crm --json | grep -c FAULTED)" -gt 0 ]'
sleep 0.3
touch "$lab/stop"
wait $writer || true
[ ! -e "$lab/error" ] || die "the application saw an error at write $(cat "$lab/error")"
rc=0
hf status crm --test >/dev/null || rc=$?
[ $rc = 1 ] || die "degraded gives 1, not $rc"
hf status crm | grep -q 'DEGRADED' || die "status"
hf umount crm
umount -c "$lab/b"
refused 5 "is missing" hf mount crm "$mnt"
mount -o loop "$lab/b.img" "$lab/b"
hf mount crm "$mnt"
wait_for online b
hf umount crm
same

# The other order: the preferred store dies, reads and writes go on.
hf mount crm "$mnt"
exec 5<"$mnt/f1"
xfs_io -x -c shutdown "$lab/a"
cat <&5 >/dev/null
exec 5<&-
echo more >"$mnt/more"
[ "$(cat "$mnt/more")" = more ] || die "read after failover"
[ "$(state_of a)" = FAULTED ] || die "a is FAULTED"
hf umount crm
umount -c "$lab/a"
mount -o loop "$lab/a.img" "$lab/a"
hf mount crm "$mnt"
[ "$(cat "$mnt/more")" = more ] || die "the stale store serves"
wait_for online a
[ "$(cat "$mnt/more")" = more ] || die "the catch-up went the wrong way"

hf umount crm
same

# A store that turns read-only (ext4 after an error on its disk) is a lost store.
disk ext 300M mkfs.ext4
mkdir "$lab/a/s3"
hf create ro "$lab/a/s3" "$lab/ext/s" -q
hf mount ro "$mnt"
echo one >"$mnt/one"
mount -o remount,abort "$lab/ext" 2>/dev/null || true
echo two >"$mnt/two"
hf status ro --json | grep FAULTED >/dev/null || die "the read-only store is FAULTED"
[ "$(cat "$mnt/one" "$mnt/two" | tr -d '\n')" = onetwo ] || die "reads"
hf umount ro

# A store that is full, and calls that are half done when they fail there.
disk tight 320M
mkdir "$lab/a/s4"
hf create tight "$lab/tight/s" "$lab/a/s4" -q
hf mount tight "$mnt"
python3 - "$mnt" <<'P' || die "see above"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
fd = os.open(sys.argv[1] + "/frag", os.O_CREAT | os.O_RDWR)
for i in range(400):
    os.pwrite(fd, b"d" * 4096, i * 131072)
os.fsync(fd)
big = os.open(sys.argv[1] + "/big", os.O_CREAT | os.O_RDWR)
for chunk in (1 << 20, 1 << 16, 4096):
    try:
        while True:
            os.write(big, b"x" * chunk)
    except OSError:
        pass
os.fsync(big)
assert libc.fallocate(fd, 0x10, 0, 400 * 131072) == -1, "it fitted"
P
! hf status tight --json | grep FAULTED >/dev/null || die "a full store was ejected"
hf umount tight
"$treecmp" -H "$lab/tight/s" "$lab/a/s4" || die "tight: the stores differ"
rm -rf "$lab/a/s4"

# A store that is full: the error is the application's, both stays equal, nobody is ejected.
disk small 300M
hf create full "$lab/small/s" "$lab/a/s2" -q 2>/dev/null || { mkdir "$lab/a/s2"; hf create full "$lab/small/s" "$lab/a/s2" -q; }
hf mount full "$mnt"
! dd if=/dev/zero of="$mnt/big" bs=1M count=400 status=none 2>/dev/null || die "it fitted"
! hf status full --json | grep FAULTED >/dev/null || die "a full store was ejected"
hf umount full
"$treecmp" "$lab/small/s" "$lab/a/s2" || die "full: the stores differ"

# A FUSE store that is killed.
mkdir "$lab/far" "$lab/a/behind" "$lab/b/near"
bindfs -f "$lab/a/behind" "$lab/far" & 
bind=$!
pids+=($bind)
wait_for mountpoint -q "$lab/far"
hf create remote "$lab/b/near" "$lab/far" -q
hf mount remote "$mnt"
echo one >"$mnt/one"
kill -KILL $bind
echo two >"$mnt/two"
[ "$(cat "$mnt/one")" = one ] || die "read"
hf status remote --json | grep FAULTED >/dev/null || die "the killed store is FAULTED"
wait_for umount -q "$lab/far"

# It comes back as another instance of the mount; meanwhile its bare folder is not taken for it.
sleep 3
hf status remote --json | grep FAULTED >/dev/null || die "the bare folder was taken for the store"
[ -z "$(ls -A "$lab/far")" ] || die "something was written below the missing mount"
bindfs -f "$lab/a/behind" "$lab/far" &
bind=$!
pids+=($bind)
wait_for mountpoint -q "$lab/far"
hf store online remote b --wait -q
hf umount remote
umount "$lab/far"
"$treecmp" "$lab/b/near" "$lab/a/behind" || die "remote: the stores differ"

# sshfs: its server dies with writes in its memory that were acknowledged and never synced.
printf '#!/bin/sh\necho $$ >%s\nexec /usr/lib/openssh/sftp-server\n' "$lab/server" >"$lab/ssh"
chmod +x "$lab/ssh"
mkdir "$lab/a/local" "$lab/b/remote" "$lab/net"
sshfs -o ssh_command="$lab/ssh" localhost:"$lab/b/remote" "$lab/net"
hf create ssh "$lab/a/local" net="$lab/net" -q 2>/dev/null
hf mount ssh "$mnt" -o store-timeout=2s
mkdir "$mnt/d"
for i in $(seq 50); do echo "$i" >"$mnt/d/f$i"; done
server=$(cat "$lab/server")
kill -STOP "$server"
echo new >"$mnt/d/f1"
mv "$mnt/d/f2" "$mnt/d/g2"
kill -KILL "$server"
hf status ssh --json | grep FAULTED >/dev/null || die "the dead sshfs is FAULTED"
umount -l "$lab/net" 2>/dev/null || true
sshfs -o ssh_command="$lab/ssh" localhost:"$lab/b/remote" "$lab/net"
hf store online ssh net --wait -q
hf umount ssh
umount "$lab/net"
(cd "$lab/a/local" && find d -type f -exec sha1sum {} + | sort) >"$lab/one"
(cd "$lab/b/remote" && find d -type f -exec sha1sum {} + | sort) >"$lab/two"
cmp "$lab/one" "$lab/two" || die "ssh: the stores differ"

# A split brain: each store was changed without the other. What only the loser has is put aside.
hf create twice "$lab/a/local2" "$lab/b/remote2" -q 2>/dev/null || { mkdir "$lab/a/local2" "$lab/b/remote2"; hf create twice "$lab/a/local2" "$lab/b/remote2" -q; }
hf mount twice "$mnt"
echo base >"$mnt/base"
hf umount twice
for side in a/local2 b/remote2; do
    mv "$lab/$side" "$lab/$side.away"
    rm -f "$lab"/state/*.witness
    hf mount twice "$mnt" -o degraded --force
    echo "$side" >"$mnt/mine"
    echo x >"$mnt/only-${side%/*}"
    hf umount twice
    mv "$lab/$side.away" "$lab/$side"
done
refused 5 "split brain" hf mount twice "$mnt"
refused 5 "--yes" hf resolve twice --keep a
hf resolve twice --keep a --yes
hf mount twice "$mnt"
[ "$(cat "$mnt/mine")" = b/remote2 ] || die "the wrong side was kept: $(cat "$mnt/mine")"
hf umount twice
"$treecmp" "$lab/a/local2" "$lab/b/remote2" || die "twice: the stores differ"
find "$lab/b/remote2/.holdfast/lost" -name only-a | grep -q . || die "the loser's own file is lost"
grep -qr a/local2 "$lab/b/remote2/.holdfast/lost" || die "the loser's own version is lost"
refused 5 "nothing is to be resolved" hf resolve twice --keep a --yes
