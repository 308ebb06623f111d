# cache=writeback: what the kernel still keeps is read, found and, at the latest at umount, on both stores.
. "$(dirname "$0")/lib.sh"
volume cache=writeback
python3 - "$mnt/f" <<'P' || die "see above"
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
os.pwrite(fd, b"data", 10 << 20)
assert os.lseek(fd, 0, os.SEEK_DATA) <= 10 << 20, "unwritten data looks like a hole"
assert os.pread(fd, 4, 10 << 20) == b"data"
P
cp --sparse=always "$mnt/f" "$mnt/copy"
cmp "$mnt/f" "$mnt/copy" || die "a copy lost data"
tar cf - -C /usr/include linux | tar xf - -C "$mnt"
hf umount crm
diff -r /usr/include/linux "$lab/b/s/linux" || die "the tree differs"
cmp "$lab/a/s/f" "$lab/b/s/copy" || die "the copy on the other store differs"
same
