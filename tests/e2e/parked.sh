# A file that is open and has no name any more lives on a new store, too, and on one that was compared as a
# whole: it is written and read there.
. "$(dirname "$0")/lib.sh"
volume
disk c
cat >"$lab/holder" <<'P'
import os, sys
os.chdir(sys.argv[1])
def whole(fd):
    return os.pread(fd, 1 << 20, 0)
fd = os.open("f", os.O_CREAT | os.O_RDWR, 0o644)
idle = os.open("g", os.O_CREAT | os.O_RDWR, 0o644)
for x in (fd, idle):
    os.pwrite(x, b"A" * 300000, 0)
os.unlink("f")
os.unlink("g")
print("held", flush=True)
for line in sys.stdin:
    os.pwrite(fd, b"B", 7)
    os.fsync(fd)
    assert whole(fd) == b"A" * 7 + b"B" + b"A" * 299992, "other bytes"
    assert whole(idle) == b"A" * 300000, "other bytes of the one that nobody wrote"
    print("right", flush=True)
P
coproc holder { exec python3 "$lab/holder" "$mnt"; }
pid=$holder_PID in=${holder[1]}
pids+=("$pid")
read -r word <&"${holder[0]}"
[ "$word" = held ] || die "no holder"
# right: the holder can write and read its files
right() {
    local word
    echo "go" >&"$in"
    read -r -t 20 word <&"${holder[0]}" && [ "$word" = right ] || die "the open files, $1"
}
right "with both"
hf replace crm b "$lab/c/s" --wait -q
right "after a replacement"
hf store offline crm a -q
right "on the new store alone"
hf store online crm a --wait -q
label=$(hf store list crm -H | awk -F'\t' '$1 != "a" { print $1 }')
hf store offline crm "$label" -q
right "on the old store alone"
hf store online crm "$label" --wait -q
eval "exec $in>&-"
wait "$pid" || die "the holder failed"
ended "$pid"
wait_for sh -c "! ls '$lab'/a/s/.holdfast/open/* '$lab'/c/s/.holdfast/open/* 2>/dev/null | grep ."
hf umount crm
"$treecmp" "$lab/a/s" "$lab/c/s" || die "the stores differ"
