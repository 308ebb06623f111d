# mount(8) and umount(8): fstab, remount, options passed on, waiting for the flush. In a mount namespace
# of its own, where /usr/sbin has our helpers.
. "$(dirname "$0")/lib.sh"
disk a
disk b
hf create crm "$lab/a/s" "$lab/b/s" -q --mount "$mnt"
[ -z "$(lsattr -d "$mnt" 2>/dev/null)" ] || lsattr -d "$mnt" | cut -d' ' -f1 | grep -q i || die "the bare mount point is not immutable"
mkdir "$lab/up" "$lab/work" "$lab/fstab.d"
echo "crm $mnt holdfast _netdev,nofail,noauto,user,relatime,x-systemd.requires-mounts-for=$lab/a 0 0" >"$lab/fstab"
export lab mnt
unshare -m --propagation slave bash -euc '
mount -t tmpfs none "$lab/work"
mkdir "$lab/work/up" "$lab/work/w"
mount -t overlay -o "lowerdir=/usr/sbin,upperdir=$lab/work/up,workdir=$lab/work/w" none /usr/sbin
cp -a "$HOLDFAST_PREFIX"/sbin/* /usr/sbin/
mount -T "$lab/fstab" "$mnt"
findmnt -no OPTIONS "$mnt" | grep -q nosuid
echo x >"$mnt/x"
mount -o remount,ro "$mnt"
! touch "$mnt/y" 2>/dev/null
mount -o remount,rw "$mnt"
touch "$mnt/y"
[ "$("$HOLDFAST_PREFIX/bin/holdfast" list -H | cut -f2)" = HEALTHY ]
umount "$mnt"
mount -t fuse.holdfast crm "$mnt" -o noatime,noexec
findmnt -no OPTIONS "$mnt" | grep -q noexec
umount "$mnt"
rc=0; mount -t holdfast nowhere "$mnt" 2>/dev/null || rc=$?
[ $rc = 32 ]
rc=0; mount -t holdfast crm "$mnt" -o frobnicate 2>/dev/null || rc=$?
[ $rc = 1 ]
' || die "in the namespace"
# umount returned when the daemon had left: the superblocks are clean, and the stores equal.
same
