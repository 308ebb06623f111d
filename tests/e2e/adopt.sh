# Files that are there already become the volume; and are given back.
. "$(dirname "$0")/lib.sh"
disk a
disk b
cp -a /usr/include/linux "$lab/a/s/tree"
ln "$lab/a/s/tree/fuse.h" "$lab/a/s/hard"
ln -s nowhere "$lab/a/s/soft"
mkfifo "$lab/a/s/fifo"
truncate -s 100M "$lab/a/s/sparse"
echo end >>"$lab/a/s/sparse"
chown -R 33:33 "$lab/a/s/tree"
setfacl -m u:33:r "$lab/a/s/hard"
setfattr -n user.k -v v "$lab/a/s/hard"
hf create crm "$lab/a/s" "$lab/b/s" --adopt "$lab/a/s" -q
same
hf mount crm "$mnt"
"$treecmp" "$lab/a/s" "$mnt" || die "the mount differs from its store"
hf umount crm
hf dissolve crm --keep b --yes >/dev/null

# A folder that is taken over keeps its place.
mkdir "$lab/srv"
cp -a "$lab/a/s/tree" "$lab/srv/live"
mkdir "$lab/b/s2"
hf create live "$lab/b/s2" --take-over "$lab/srv/live" -q
[ -d "$lab/srv/live.store/linux" ] || [ -f "$lab/srv/live.store/fuse.h" ] || die "take-over"
hf mount live
[ "$(stat -c %u "$lab/srv/live/fuse.h")" = 33 ] || die "owner"
hf umount live
hf dissolve live --keep "$lab/srv/live.store" --yes >/dev/null
[ -f "$lab/srv/live/fuse.h" ] && [ ! -e "$lab/srv/live.store" ] || die "dissolve gives the folder back"

# A create that is cut off leaves empty folders empty, and can be repeated.
mkdir "$lab/b/s3" "$lab/a/big"
head -c 200M /dev/zero >"$lab/a/big/f"
"$bin" create cut "$lab/a/big" "$lab/b/s3" --adopt "$lab/a/big" -q &
pids+=($!)
sleep 0.05
kill -KILL $! 2>/dev/null || true
wait $! 2>/dev/null || true
[ -e "$lab/etc/cut.conf" ] || hf create cut "$lab/a/big" "$lab/b/s3" --adopt "$lab/a/big" -q
"$treecmp" "$lab/a/big" "$lab/b/s3" || die "cut: the stores differ"
