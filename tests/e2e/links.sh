# A file with several names is written while a store catches up, and loses the name under which the journal
# knows it: its bytes are found by its other names.
. "$(dirname "$0")/lib.sh"
volume
echo one >"$mnt/c"
ln "$mnt/c" "$mnt/d"
head -c 30000000 /dev/urandom >"$mnt/big"
hf umount crm
hf mount crm "$mnt" -o suid,dev
[ "$mnt/c" -ef "$mnt/d" ] || die "two files"
hf store offline crm b -q
dd if=/dev/urandom of="$mnt/big" bs=1M count=30 conv=notrunc status=none
hf resync crm --limit 5M -q
hf store online crm b -q
syncing() { [ "$(state_of b)" = SYNCING ]; }
wait_for syncing
sleep 0.5 # its names are equal by then, or will be: either must do
python3 - "$mnt" <<'P'
import os, sys
os.chdir(sys.argv[1])
fd = os.open("d", os.O_RDWR)
os.pwrite(fd, b"x" * 70000, 19185)
os.close(fd)
os.unlink("d")
os.symlink("x", "d")
P
hf resync crm --limit 0 -q
hf store online crm b --wait -q
hf umount crm
same
