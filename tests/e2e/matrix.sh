# Each fault meets each class of operation, with two stores and with three: the application sees no
# error that healthy stores would not give, nothing is lost, and the stores are equal afterwards.
# In CI three operations for each fault and number of stores, in turn; MATRIX=full: all of them.
. "$(dirname "$0")/lib.sh"
faults=(dead readonly nospace hang slow killed vanished reconnect)
ops=(create write fsync read rename unlink truncate setattr xattr readdir mmap statfs)
cat >"$lab/op.py" <<'P'
import mmap, os, subprocess, sys, time
mnt, op, inject = sys.argv[1:]
os.chdir(mnt)
d = f"{op}.{time.monotonic_ns()}"
os.mkdir(d)
os.chdir(d)
for name in ("f", "g"):
    with open(name, "wb") as f:
        f.write(b"0123456789" * 2000)
        f.flush()
        os.fsync(f.fileno())
fd = os.open("f", os.O_RDWR)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
if op == "fsync":
    os.pwrite(fd, b"unsynced", 5)
if op == "mmap":
    m = mmap.mmap(fd, 20000)
def xattr():
    os.setxattr("f", "user.k", b"v")
    assert os.getxattr("f", "user.k") == b"v"
def mapped():
    m[3:6] = b"map"
    m.flush()
def read():
    assert os.pread(fd, 20, 10000) == b"0123456789" * 2
def names():
    assert sorted(os.listdir(".")) == ["f", "g"]
def unlink():
    os.unlink("f")
    assert os.pread(fd, 4, 0) == b"0123"
run = {
    "create": lambda: os.close(os.open("new", os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    "write": lambda: os.pwrite(fd, b"overwritten", 4093),
    "fsync": lambda: os.fsync(fd),
    "read": read,
    "rename": lambda: os.rename("f", "g"),
    "unlink": unlink,
    "truncate": lambda: os.ftruncate(fd, 5000),
    "setattr": lambda: os.chmod("f", 0o640),
    "xattr": xattr,
    "readdir": names,
    "mmap": mapped,
    "statfs": lambda: os.statvfs("."),
}[op]
subprocess.run(["bash", "-c", inject], check=True)
start = time.monotonic()
try:
    run()
    print(f"{op} {time.monotonic() - start:.3f} ok")
except OSError as e:
    print(f"{op} {time.monotonic() - start:.3f} {os.strerror(e.errno)}")
P

# bindfs_on N: store N, through a FUSE filesystem of its own
bindfs_on() {
    bindfs -f "$lab/d$1/s" "$lab/s$1" &
    bind[$1]=$!
    pids+=($!)
    wait_for mountpoint -q "$lab/s$1"
}
sshfs_on() {
    sshfs -o ssh_command="$lab/ssh",reconnect,dir_cache=no localhost:"$lab/d$1/s" "$lab/s$1"
    server[$1]=$(cat "$lab/server")
}
remount() { # the victim's disk, once the daemon has let go of it
    wait_for umount -qc "$lab/d1" 2>/dev/null
    mount -o loop "$lab/d1.img" "$lab/d1"
}
not_faulted() { online a || die "$fault: the store is $(state_of a)"; }
# What is below a missing mount is not the store.
bare() { [ -z "$(ls -A "$lab/s1")" ] || die "something was written below the missing mount"; }
printf '#!/bin/sh\necho $$ >%s\nexec /usr/lib/openssh/sftp-server\n' "$lab/server" >"$lab/ssh"
chmod 755 "$lab/ssh"
mkdir "$lab/s1" "$lab/s2" "$lab/s3"
declare -A bind server
combinations=0

# one OPERATION: the fault meets it first; then it is mended, and the stores become equal
one() {
    local op=$1 inject before after said
    case $fault in
    dead) inject="xfs_io -x -c shutdown $lab/d1" after="remount; back" ;;
    readonly) inject="mount -o remount,abort $lab/d1" after="remount; back" ;;
    nospace) inject="cd $lab/d1; fallocate -l \$(df --output=avail -B1 . | tail -1) fill || true; dd if=/dev/zero of=fill2 bs=512 status=none || true" \
        after="rm -f $lab/d1/fill $lab/d1/fill2; not_faulted" ;;
    hang) inject="kill -STOP ${bind[1]}" after="kill -CONT ${bind[1]}; back" ;;
    slow) inject="(while kill -STOP ${bind[1]}; do sleep 0.2; kill -CONT ${bind[1]}; sleep 0.1; [ ! -e $lab/fast ] || exit 0; done) >/dev/null 2>&1 &" \
        after="touch $lab/fast; sleep 0.3; not_faulted; rm $lab/fast" ;;
    killed) inject="kill -KILL ${bind[1]}" after="wait_for umount -q $lab/s1; bare; bindfs_on 1; back" ;;
    vanished) inject="umount -l $lab/s1" after="wait_for lost a; bare; bindfs_on 1; back" ;;
    reconnect) inject="kill -KILL ${server[1]}" after="back; server[1]=\$(cat $lab/server)" ;;
    esac
    said=$(python3 "$lab/op.py" "$mnt" "$op" "$inject" 2>"$lab/err") || { cat "$lab/err"; die "$fault, $n stores: $op"; }
    case "$fault $said" in
    "nospace"*" No space left on device" | *" ok" | "reconnect xattr"*"Operation not supported") ;;
    *) die "$fault, $n stores: $said" ;;
    esac
    echo "$fault, $n stores: $said"
    eval "$after"
    combinations=$((combinations + 1))
}
# back: the store comes back, if it was lost
back() {
    online a || hf store online crm a --wait -q
    wait_for online a
}

for n in 2 3; do
    for index in "${!faults[@]}"; do
        fault=${faults[$index]}
        [ -z "${FAULT:-}" ] || [ "$FAULT" = "$fault" ] || continue
        mkfs=mkfs.xfs
        [ $fault != readonly ] || mkfs=mkfs.ext4
        for i in $(seq $n); do
            rm -f "$lab/d$i.img"
            disk "d$i" 400M $mkfs
            case $fault in
            hang | slow | killed | vanished) bindfs_on "$i"; stores[i]=$lab/s$i times= ;;
            reconnect) sshfs_on "$i"; stores[i]=$lab/s$i times=-t ;; # it keeps seconds
            *) stores[i]=$lab/d$i/s times= ;;
            esac
        done
        hf create crm "${stores[@]:1:n}" -q 2>/dev/null
        limit=2s # that of a store which does nothing; a slow one is never to be lost
        [ $fault != slow ] || limit=60s
        hf mount crm "$mnt" -o suid,dev,store-timeout=$limit
        for k in $(if [ "${MATRIX:-}" = full ]; then seq 0 11; else for j in 0 1 2; do echo $(((index * 3 + n * 5 + j * 4) % 12)); done; fi); do
            one "${ops[$k]}"
        done
        hf umount crm
        hf mount crm "$mnt" -o suid,dev # what is there is there after a remount, too
        hf status crm --test >/dev/null || die "$fault, $n stores: not healthy"
        hf umount crm
        for i in $(seq 2 $n); do
            "$treecmp" -H $times "$lab/d1/s" "$lab/d$i/s" || die "$fault, $n stores: the stores differ"
        done
        rm -rf "$lab/etc" "$lab/state" "$lab/run"
        mkdir "$lab/etc" "$lab/state" "$lab/run"
        for i in $(seq $n); do
            mountpoint -q "$lab/s$i" && umount "$lab/s$i"
            umount "$lab/d$i"
        done
        rmdir "$lab"/d?
    done
done
echo "$combinations combinations"
