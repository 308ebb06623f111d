# A volume from create to umount, and what the commands say about it.
. "$(dirname "$0")/lib.sh"
volume
[ "$(findmnt -no FSTYPE,SOURCE "$mnt" | tr -s ' ')" = "fuse.holdfast crm" ] || die "mount table"
hf status crm --test >/dev/null || die "healthy"
hf status crm | grep -q 'HEALTHY' || die "status"
[ "$(hf list -H | cut -f1,2)" = "$(printf 'crm\tHEALTHY')" ] || die "list"
hf list --json | python3 -c 'import json,sys; assert json.load(sys.stdin)["schema"] == 1'
(hf doctor crm --json || [ $? = 3 ]) | python3 -c 'import json,sys; assert json.load(sys.stdin)["checks"]'

echo hello >"$mnt/a"
mkdir "$mnt/d"
ln "$mnt/a" "$mnt/d/b"
[ "$(stat -c %h "$mnt/a")" = 2 ] || die "links"
mv "$mnt/d" "$mnt/e"
[ "$(cat "$mnt/e/b")" = hello ] || die "content"
[ -z "$(find "$mnt" -name ".holdfast*")" ] && [ ! -e "$mnt/.holdfast/super.0" ] || die "our folder shows"
# An open file without a name goes on, and its last close leaves nothing.
exec 5<>"$mnt/open"
rm "$mnt/open"
echo late >&5
[ "$(ls "$lab/b/s/.holdfast/open" | wc -l)" = 1 ] || die "parked"
exec 5>&-
wait_for nothing_parked
refused 1 "cannot unmount" bash -c "cd $mnt && $bin umount crm"
hf umount "$mnt"
! hf status crm --test >/dev/null || die "status --test of an unmounted volume"
same
# The same bytes with a clean superblock, and again.
hf mount crm "$mnt"
[ "$(cat "$mnt/a")" = hello ] || die "after remount"
# A clean SIGTERM: the mount goes, the daemon leaves.
pid=$(daemon_pid)
kill -TERM "$pid"
wait_for bash -c "! kill -0 $pid 2>/dev/null"
! mountpoint -q "$mnt" || die "still mounted"
same
# By stores, without a configuration; and known again by import.
mv "$lab/etc/crm.conf" "$lab/crm.conf.kept"
hf mount "$lab/a/s:$lab/b/s" "$mnt"
hf umount "$mnt"
hf import "$lab/b/s" "$lab/a/s" >/dev/null
grep -q "$(grep '^id' "$lab/crm.conf.kept")" "$lab/etc/crm.conf" || die "import"
hf dissolve crm --keep a --yes >/dev/null
[ ! -e "$lab/a/s/.holdfast" ] && [ ! -e "$lab/b/s/.holdfast" ] && [ "$(cat "$lab/a/s/a")" = hello ] || die "dissolve"
