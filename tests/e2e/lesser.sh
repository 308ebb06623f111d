# A store that cannot hold owners, devices, xattrs, ACLs, link groups and nanoseconds: sshfs, whose
# server runs as "nobody". What it lacks is kept aside on it, so that the volume comes back
# whole from it alone, also after kill -9.
. "$(dirname "$0")/lib.sh"
disk a
disk far
disk b
sshfs_store far
hf create crm "$lab/a/s" far="$lab/net" >"$lab/said" 2>&1
grep -q 'has no owners.*kept in its side file' "$lab/said" || { cat "$lab/said"; die "create did not say what the store lacks"; }
hf mount crm "$mnt" -o suid,dev

as() { local uid=$1; shift; setpriv --reuid="$uid" --regid="$uid" --clear-groups "$@"; }
cat >"$lab/fill" <<'P'
import os, socket, sys
top, seed = sys.argv[1], sys.argv[2]
os.umask(0o027)
os.chdir(top)
os.makedirs(f"{seed}/deep/er")
for i in range(20):
    with open(f"{seed}/deep/er/f{i}", "w") as f:
        f.write(seed * i)
    os.utime(f"{seed}/deep/er/f{i}", ns=(10**18 + i, 10**18 + 123456789 + i))
    if i % 3 == 0:
        os.setxattr(f"{seed}/deep/er/f{i}", "user.tag", b"t%d" % i)
    if i % 4 == 0:
        os.link(f"{seed}/deep/er/f{i}", f"{seed}/deep/l{i}")
os.symlink("/nowhere", f"{seed}/sym")
os.mkfifo(f"{seed}/fifo")
socket.socket(socket.AF_UNIX).bind(f"{seed}/sock")
with open(f"{seed}/sparse", "wb") as f:
    f.truncate(10 << 20)
    f.seek(5 << 20)
    f.write(b"x")
os.rename(f"{seed}/deep", f"{seed}/moved")
os.rename(f"{seed}/moved/er/f1", f"{seed}/moved/er/f2")
os.remove(f"{seed}/moved/er/f4")
os.removexattr(f"{seed}/moved/er/f3", "user.tag")
os.chmod(f"{seed}/moved/er/f5", 0o604)
P
fill() { # as root and as two users, below a folder with a default ACL and a setgid bit
    mkdir -p "$mnt/$1"
    chmod 2777 "$mnt/$1"
    setfacl -d -m u::rwx,u:33:rwx,g::r-x,m::rwx,o::--- "$mnt/$1"
    setfacl -m u:33:rwx "$mnt/$1"
    for who in 0 33 2000; do as $who /usr/bin/python3 "$lab/fill" "$mnt/$1" "u$who"; done
    mknod "$mnt/$1/null" c 1 3
    mknod "$mnt/$1/disk" b 7 200
    cp /bin/true "$mnt/$1/capable"
    setcap cap_net_raw+ep "$mnt/$1/capable"
    cp /bin/true "$mnt/$1/written"
    setcap cap_net_raw+ep "$mnt/$1/written"
    echo >>"$mnt/$1/written"
    setfattr -n trusted.t -v 1 "$mnt/$1/capable"
    chown -h 77:78 "$mnt/$1/u0/sym" "$mnt/$1/u0/moved/l0"
}
fill one
[ "$(stat -c %u "$lab/far/s/one/u33/sparse")" = 65534 ] || die "the far server is not a user of its own: nothing is tested"
kill -KILL "$(daemon_pid)"
hf mount crm "$mnt" -o suid,dev
fill two
[ -z "$(getcap "$mnt/two/written")" ] || die "a written file kept its capability"

# An attribute of each kind, read from the lesser store alone.
hf store offline crm a -q
fill three
[ "$(stat -c %u:%g:%F "$mnt/two/null" "$mnt/two/u33/sparse" | tr '\n' ' ')" = "0:0:character special file 33:0:regular file " ] ||
    { stat -c %u:%g:%F "$mnt/two/null" "$mnt/two/u33/sparse"; die "owner or device is not there"; }
getcap "$mnt/two/capable" | grep -q net_raw || die "the capability is not there"
[ "$(find "$mnt/two" -type c -o -type p -o -type s | wc -l)" = 7 ] || die "types in listings are wrong"
hf store online crm a --wait -q
hf umount crm
umount "$lab/net"
cp -a --reflink=never "$lab/a/s" "$lab/kept"

# The first store burns. What the far one has is all there is.
umount "$lab/a"
sshfs_store far
hf mount crm "$mnt" -o suid,dev,degraded
hf store add crm b="$lab/b/s" --wait -q
hf verify crm -q || die "the new copy differs from the far one"
hf store remove crm a --yes -q
hf umount crm
"$treecmp" "$lab/kept" "$lab/b/s" || die "the volume did not come back whole"
umount "$lab/net"

# A full disk behind sshfs is an I/O error: the store is lost, nobody notices, and it comes back.
mkdir "$lab/b/t"
disk small 60M mkfs.ext4
sshfs_store small
hf create tight "$lab/b/t" small="$lab/net" -q 2>/dev/null
hf mount tight "$mnt" -o suid,dev
for i in $(seq 220); do head -c 300000 /dev/zero >"$mnt/f$i" || die "the application noticed"; done
hf status tight | grep -q 'store "small"\|Store "small"' || { hf status tight; die "small is not full?"; }
rm "$mnt"/f*
echo small >"$mnt/g"
chown 7:8 "$mnt/g"
hf store online tight small --wait -q
hf verify tight -q || die "the stores differ"
hf umount tight
umount "$lab/net"

# Its side file is damaged: alone it is refused, and told what to do. Beside a whole store it is begun anew.
# On the far store two names are one file whose content is then another: written in place, both would change.
b_links="$lab/b/s/one/u0/moved"
rm "$b_links/l0" && cp -p "$b_links/er/f0" "$b_links/l0" && echo other >>"$b_links/l0"
printf X | dd of="$lab/far/s/.holdfast/side" bs=1 seek=200 conv=notrunc status=none
sshfs_store far
! hf mount crm "$mnt" -o suid,dev >"$lab/said" 2>&1 || die "a store with a damaged side file was taken for whole"
grep -q "side, which keeps what this filesystem cannot hold, is missing or damaged.*-o degraded" "$lab/said" ||
    { cat "$lab/said"; die "damage is not told"; }
hf mount crm "$mnt" -o suid,dev,degraded
wait_for online far
hf events crm | grep 'store "far": its side file.*begun anew' >/dev/null || die "nobody says that it was begun anew"
hf verify crm -q || die "what was begun anew is not the same"
hf store offline crm b -q
"$treecmp" -H "$lab/b/s" "$mnt" || die "the far store alone is not the volume"
