# What must be refused, each with a message that says what to do.
. "$(dirname "$0")/lib.sh"
disk a
disk b
mkdir "$lab/a/other" "$lab/a/full" "$lab/a/s/inside"
rmdir "$lab/a/s/inside"
touch "$lab/a/full/file"
refused 2 "at least two stores" hf create crm "$lab/a/s"
refused 2 "not a volume name" hf create 1crm "$lab/a/s" "$lab/b/s"
refused 1 "create the folder first" hf create crm "$lab/a/s" "$lab/nowhere"
refused 5 "is not empty" hf create crm "$lab/a/full" "$lab/b/s"
refused 5 "one folder, or one lies in the other" hf create crm "$lab/a/s" "$lab/a/s"
refused 5 "one folder, or one lies in the other" hf create crm "$lab/a" "$lab/a/s"
refused 2 "unknown mount option" hf create crm "$lab/a/s" "$lab/b/s" -o frobnicate
refused 2 "did you mean \"status\"" hf statsu
refused 2 "usage" hf mount
refused 1 "there is no volume" hf mount crm "$mnt"
hf create crm "$lab/a/s" "$lab/b/s" -q
refused 5 "there is a volume" hf create crm "$lab/a/s" "$lab/b/s"
refused 5 "already a store of volume" hf create crm2 "$lab/a/s" "$lab/b/s"
refused 2 "say where" hf mount crm
refused 5 "lies in the store" hf mount crm "$lab/a/s/.holdfast"
refused 5 "lies below the mount point" hf mount crm "$lab"
hf mount crm "$mnt"
refused 1 "already mounted" hf mount crm "$mnt"
mkdir "$lab/mnt2"
refused 1 "is mounted" hf mount crm "$lab/mnt2"
refused 1 "is mounted" hf mount "$lab/a/s:$lab/b/s" "$lab/mnt2"
HOLDFAST_RUN_DIR=$lab/run2 refused 1 "in use by another" hf mount "$lab/a/s:$lab/b/s" "$lab/mnt2"
refused 5 "needs --yes" hf dissolve crm --keep a
refused 1 "is mounted" hf dissolve crm --keep a --yes
hf umount crm

# The bare folder below a mount that is missing.
umount "$lab/b"
mkdir "$lab/b/s"
refused 5 "is not a Holdfast store" hf mount crm "$mnt"
rmdir "$lab/b/s"
refused 5 "is its disk mounted" hf mount crm "$mnt"
mount -o loop "$lab/b.img" "$lab/b"
# A store of another volume at its place.
disk c
disk d
hf create other "$lab/c/s" "$lab/d/s" -q
sed -i "s|$lab/b/s|$lab/c/s|" "$lab/etc/crm.conf"
refused 5 "a store of another volume" hf mount crm "$mnt"
sed -i "s|$lab/c/s|$lab/b/s|" "$lab/etc/crm.conf"
# A copy of a store beside it.
cp -a "$lab/b/s" "$lab/b/copy"
printf '\n[store c]\npath = %s\n' "$lab/b/copy" >>"$lab/etc/crm.conf"
refused 5 "the same store, or copies" hf mount crm "$mnt"
# Damaged superblocks.
sed -i '/store c/,$d' "$lab/etc/crm.conf"
printf x | dd of="$lab/b/s/.holdfast/super.0" bs=1 seek=100 conv=notrunc status=none
hf mount crm "$mnt" # one whole slot is enough, if it is the newer one or the difference is told
hf umount crm || true
printf x | dd of="$lab/b/s/.holdfast/super.0" bs=1 seek=100 conv=notrunc status=none
printf x | dd of="$lab/b/s/.holdfast/super.1" bs=1 seek=100 conv=notrunc status=none
refused 5 "superblocks" hf mount crm "$mnt"
hf mount crm "$mnt" -o degraded
hf status crm --test >/dev/null && die "degraded is not healthy"
hf umount crm
