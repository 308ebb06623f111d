# Snapshots as an admin uses them: made in use, looked at, ruined files brought back, held, pruned and
# destroyed; after kill -9, and from one store alone.
. "$(dirname "$0")/lib.sh"
volume
views=$mnt/.holdfast/snapshots
# seen NAME TREE: the snapshot shows exactly that tree
seen() { "$treecmp" "$views/$1" "$2" || die "snapshot $1 is not as it was"; }
used() { du -s --apparent-size -B1 "$lab/a/s/.holdfast/snap" | cut -f1; }
reaped() { [ -z "$(ls "$lab/a/s/.holdfast/snap/kept")" ] && ! ls "$lab/a/s/.holdfast/snap/"*.log >/dev/null 2>&1; }
crash() { # as kill -9 does, and mounted again
    local pid
    pid=$(daemon_pid)
    kill -KILL "$pid"
    wait_for bash -c "! kill -0 $pid 2>/dev/null"
    hf mount crm "$mnt" -o suid,dev
}
# A tree with everything in it.
mkdir -p "$mnt/crm/upload/2026" "$mnt/crm/empty" "$mnt/crm/deep/er/still"
for i in $(seq 40); do head -c $((i * 3000)) /dev/urandom >"$mnt/crm/upload/2026/doc-$i"; done
head -c 3000000 /dev/urandom >"$mnt/crm/big"
truncate -s 50M "$mnt/crm/sparse"
printf end | dd of="$mnt/crm/sparse" bs=1 seek=30000000 conv=notrunc status=none
ln "$mnt/crm/big" "$mnt/crm/deep/big-too"
ln -s ../big "$mnt/crm/deep/link"
mknod "$mnt/crm/null" c 1 3
mkfifo "$mnt/crm/pipe"
echo secret >"$mnt/crm/deep/er/still/mine"
chown -R 33:33 "$mnt/crm/upload"
chmod 0600 "$mnt/crm/deep/er/still/mine"
setfattr -n user.k -v value "$mnt/crm/big"
setfacl -m u:33:r "$mnt/crm/deep/er/still/mine"
cp -a "$mnt" "$lab/ref"
taken=$(du -s -B1 "$mnt/crm" | cut -f1)
hf snapshot create crm@one | grep -q 'crm@one: cut in' || die "create"
[ -z "$(ls -A "$mnt" | grep holdfast)" ] || die "our folder is listed"
seen one "$lab/ref"
refused 1 'there is a snapshot "one" already' hf snapshot create crm@one
refused 2 'is no name for a snapshot' hf snapshot create crm@-x
# A file that is open while it goes; then: everything is rewritten, renamed, moved, removed.
exec 5<>"$mnt/crm/upload/2026/doc-7"
rm "$mnt/crm/upload/2026/doc-7"
printf overwritten >&5
hf snapshot create crm@two -q
printf again >&5
mkdir "$lab/ref2"
cp -a "$views/two/." "$lab/ref2/"
find "$mnt/crm" -type f | while read -r f; do
    dd if=/dev/urandom of="$f" bs=5000 count=1 conv=notrunc status=none
    mv "$f" "$f.locked"
done
mv "$mnt/crm/deep" "$mnt/crm/renamed"
rm -r "$mnt/crm/upload"
rmdir "$mnt/crm/empty"
chmod 700 "$mnt/crm"
setfattr -x user.k "$mnt/crm/big.locked"
truncate -s 10 "$mnt/crm/sparse.locked"
: >"$mnt/crm/renamed/er/still/mine.locked"
echo new >"$mnt/new"
mkdir "$mnt/crm/deep" && echo other >"$mnt/crm/deep/link"
seen one "$lab/ref"
seen two "$lab/ref2"
hf diff crm@one | sort >"$lab/diff"
grep -q '^+  /new$' "$lab/diff" && grep -q '^R  /crm/big -> /crm/big.locked$' "$lab/diff" &&
    grep -q '^-  /crm/empty$' "$lab/diff" || { cat "$lab/diff"; die "diff"; }
hf diff crm@one crm@two | grep -qx -- '-  /crm/upload/2026/doc-7' || die "diff of two"
# Read only, with the permissions of that time.
refused 1 "Read-only" touch "$views/one/crm/x"
refused 1 "Read-only" rm "$views/one/crm/big"
refused 1 "Permission denied" setpriv --reuid 34 --regid 34 --clear-groups cat "$views/one/crm/deep/er/still/mine"
[ "$(setpriv --reuid 33 --regid 33 --clear-groups cat "$views/one/crm/deep/er/still/mine")" = secret ] || die "ACL of that time"
# Programs: tar, rsync with links, many at a time.
mkdir "$lab/tarred"
keep=(--acls --xattrs '--xattrs-include=*' -S)
tar -C "$views/one" --format=posix "${keep[@]}" -cf - . | tar -C "$lab/tarred" "${keep[@]}" -xf -
"$treecmp" "$lab/tarred" "$lab/ref" || die "tar"
readers=()
for _ in $(seq 8); do
    find "$views/one" -type f -exec cat {} + | md5sum >>"$lab/sums" &
    readers+=($!)
done
wait "${readers[@]}"
[ "$(sort -u "$lab/sums" | wc -l)" = 1 ] || die "readers saw different bytes"
hf verify crm@one | grep -q ' 0 files cannot be' || die "verify"
# The daemon dies: nothing of it is lost, and what comes next is kept, too.
exec 5>&-
crash
seen one "$lab/ref"
seen two "$lab/ref2"
echo more >>"$mnt/crm/renamed/big-too.locked"
rm "$mnt/new"
seen one "$lab/ref"
# One store alone has all of it.
hf umount "$mnt"
same
mv "$lab/a/s" "$lab/a/away"
hf mount crm "$mnt" -o suid,dev,degraded
seen one "$lab/ref"
echo alone >"$mnt/crm/alone"
rm "$mnt/crm/big.locked"
hf snapshot create crm@alone -q
echo changed >"$mnt/crm/alone"
hf umount "$mnt"
mv "$lab/a/away" "$lab/a/s"
hf mount crm "$mnt" -o suid,dev
wait_for online a
hf store offline crm b
seen one "$lab/ref"
[ "$(cat "$views/alone/crm/alone")" = alone ] || die "what it missed was not brought"
hf store online crm b --wait >/dev/null
# Back: to another folder, one file in place, everything in place.
hf restore crm@one /crm/big /crm/deep --to "$lab/back"
cmp "$lab/back/big" "$lab/ref/crm/big"
[ "$(readlink "$lab/back/deep/link")" = ../big ] || die "restore --to"
refused 1 "No such file" hf restore crm@one crm/upload/2026/doc-7 --in-place --yes -q
refused 1 "No such file" hf restore crm@one crm/nothing --in-place --yes -q
refused 2 "has no .." hf restore crm@one crm/../x --in-place --yes -q
hf restore crm@one /crm/upload --in-place --yes -q
diff -r "$mnt/crm/upload" "$lab/ref/crm/upload"
ln "$mnt/crm/alone" "$mnt/crm/alone2" && rm "$mnt/crm/alone2"
hf restore crm@one --in-place --yes >"$lab/restored"
"$treecmp" "$mnt" "$lab/ref" || die "restore in place"
[ "$mnt/crm/big" -ef "$mnt/crm/deep/big-too" ] || die "links are links no more"
# A little ruin, its time forged: that is put back, and nothing else is touched.
touch -r "$mnt/crm/upload/2026/doc-9" "$lab/time"
ino=$(stat -c %i "$mnt/crm/sparse")
printf RUINED | dd of="$mnt/crm/upload/2026/doc-9" bs=1 seek=5000 conv=notrunc status=none
touch -r "$lab/time" "$mnt/crm/upload/2026/doc-9"
hf diff crm@one -v >"$lab/diff"
[ "$(cat "$lab/diff")" = "M  /crm/upload/2026/doc-9  (1 of 7 blocks)" ] || { cat "$lab/diff"; die "diff -v"; }
hf restore crm@one --in-place --yes | grep '^1 names put back, 0 removed' || die "more was put back than was ruined"
"$treecmp" "$mnt" "$lab/ref" || die "restored again"
[ "$(stat -c %i "$mnt/crm/sparse")" = "$ino" ] || die "a file that was whole was made anew"
# A path in any spelling, twice, and within another; a folder that was renamed, with one of a file's names in it.
mv "$mnt/crm/deep" "$mnt/crm/deeper"
rm "$mnt/crm/upload/2026/doc-1"
hf restore crm@one crm/ ./crm//upload/ /crm/upload --in-place --yes | grep -q '^2 names put back, 1 removed' || die "overlapping paths"
"$treecmp" "$mnt" "$lab/ref" || die "restored by paths"
[ "$mnt/crm/big" -ef "$mnt/crm/deep/big-too" ] || die "a link across a renamed folder is none any more"
# It fails in the middle (a mount in the way): all is as it was.
chmod 711 "$mnt/crm/upload/2026"
echo ruined >"$mnt/crm/upload/2026/doc-2"
rm "$mnt/crm/upload/2026/doc-3" "$mnt/crm/null"
echo new >"$mnt/crm/upload/new"
rm -r "$mnt/crm/deep/er/still"
mkdir "$lab/before"
cp -a "$mnt/." "$lab/before/"
mount -t tmpfs none "$mnt/crm/deep/er"
refused 1 "all is as it was" hf restore crm@one --in-place --yes
umount "$mnt/crm/deep/er"
"$treecmp" "$mnt" "$lab/before" || die "a restore that failed left something"
[ -z "$(ls -A "$mnt" | grep restore)" ] || die "a restore that failed left its stage"
hf restore crm@one --in-place --yes -q
"$treecmp" "$mnt" "$lab/ref" || die "restored after the failure"
safety=$(grep -o "before-restore-[0-9-]*" "$lab/restored" | head -1)
[ "$(cat "$views/$safety/crm/renamed/er/still/mine.locked")" = "" ] && [ -e "$views/$safety/crm/alone" ] || die "safety snapshot"
# Names, holds, and space that comes back.
hf snapshot hold crm@one
refused 1 'is held' hf snapshot destroy crm@one --yes
refused 1 'needs --yes' bash -c "$bin snapshot destroy crm@two </dev/null; [ \$? = 5 ] && exit 1"
hf snapshot rename crm@two 2nd
seen 2nd "$lab/ref2"
hf snapshot list crm | grep -q 'crm@one .* - *yes .* whole' || die "list"
[ "$(hf snapshot list crm -v -H -p | grep crm@one | cut -f4)" = "$taken" ] ||
    die "it refers to $taken bytes: $(hf snapshot list crm -v -p)"
refused 2 "is a number" hf prune crm --keep-last -1 --yes
refused 2 "is a number" hf prune crm --keep-daily x --yes
refused 2 "are no tags" hf snapshot create crm@x --tag "a b"
refused 2 "takes 90s" hf prune crm --keep-within soon --yes
hf snapshot create crm@scheduled --auto -q
sleep 2.1
hf snapshot create crm@tagged --tag release,2026 -q
hf prune crm --auto --keep-within 1s -n -H | grep -q 'scheduled.*within' || die "the newest is not one that is looked at"
hf snapshot destroy crm@scheduled --yes
hf snapshot list crm | grep -q 'crm@tagged .* manual,release,2026 *whole' || die "tags: $(hf snapshot list crm)"
hf prune crm --keep-tag 2026 -n -H >"$lab/said"
grep -q "tagged.*tag" "$lab/said" && grep -q "2nd.*would be" "$lab/said" || { cat "$lab/said"; die "kept by tag"; }
all_kept() { hf prune crm "$1" "$2" -n -H >"$lab/said" && [ "$(grep -c "$3" "$lab/said")" = "$(hf snapshot list crm -H | wc -l)" ]; }
all_kept --keep-within 8w within || { cat "$lab/said"; die "kept within eight weeks"; }
refused 2 "takes one tag" hf prune crm --keep-tag "" --yes
refused 2 "takes one tag" hf prune crm --keep-tag release,2026 --yes
all_kept --keep-tag manual tag || { cat "$lab/said"; die "all were made by hand"; }
hf prune crm --keep-tag 202 -n -H | grep -q "tagged.*would be" || die "a part of a tag is none"
hf snapshot destroy crm@tagged --yes
hf prune crm --keep-last 1 --yes >"$lab/said"
[ "$(hf snapshot list crm -H | wc -l)" = 2 ] || { cat "$lab/said"; die "prune"; }
grep -q 'one .* hold' "$lab/said" || die "why kept"
seen one "$lab/ref"
[ "$(used)" -gt 1000000 ] || die "nothing is kept?"
hf snapshot release crm@one
for s in $(hf snapshot list crm -H | cut -f1); do hf snapshot destroy "$s" --yes; done
wait_for reaped
[ -z "$(ls -A "$views")" ] || die "still shown"
# Held still while it is cut; and thawed also when that fails.
hf snapshot create crm@frozen -q --freeze "echo x >$lab/frozen; echo frozen; cat; rm $lab/frozen"
[ ! -e "$lab/frozen" ] || die "not thawed"
refused 1 'ended without saying "frozen"' hf snapshot create crm@never --freeze "exit 1"
refused 1 'ended without saying "frozen"' hf snapshot create crm@never --freeze "echo cannot be frozen"
refused 1 'nothing was held still' hf snapshot create crm@ended --freeze "(sleep 1; echo frozen) &"
refused 1 'there is a snapshot' hf snapshot create crm@frozen --freeze "echo x >$lab/frozen; echo frozen; cat; rm $lab/frozen"
[ ! -e "$lab/frozen" ] || die "not thawed after a failure"
hf umount "$mnt"
same
# Room that snapshots may not take; and what is kept on the disks before each change.
hf mount crm "$mnt" -o suid,dev,snap-reserve=1T
refused 1 'less than snap-reserve' hf snapshot create crm@late
[ -e "$views/frozen/crm" ] || die "broken though nothing had to be kept"
echo more >"$mnt/more"
broken() { hf snapshot list crm -H | grep -q 'frozen.*BROKEN.*snap-reserve'; }
wait_for broken
[ "$(cat "$mnt/more")" = more ] || die "the change did not go on"
[ -e "$views/frozen.broken/crm" ] || die "what it has is not there"
hf umount "$mnt"
hf mount crm "$mnt" -o suid,dev,snap-sync=strict
hf snapshot create crm@strict -q
echo less >"$mnt/more"
rm "$mnt/crm/big"
[ "$(cat "$views/strict/more")" = more ] && cmp "$views/strict/crm/big" "$lab/ref/crm/big" || die "strict"
hf umount "$mnt"
same
# kill -9 right after renames of files to which a store gave their numbers that does not any more: snapshots
# stay whole.
hf mount crm "$mnt" -o suid,dev
hf store offline crm a -q
mkdir "$mnt/old"
echo one >"$mnt/old/one"
echo two >"$mnt/old/two"
hf store online crm a --wait -q
hf snapshot create crm@numbers -q
mkdir "$mnt/new"
mv "$mnt/old/one" "$mnt/new/one"
mv "$mnt/new/one" "$mnt/old/two" # the first told was over; of this one nothing is told any more
echo three >"$mnt/new/one"
pid=$(daemon_pid)
kill -KILL "$pid"
wait_for sh -c "! kill -0 $pid 2>/dev/null"
hf mount crm "$mnt" -o suid,dev
! hf snapshot list crm -H | grep 'numbers.*BROKEN' || die "broken by a kill"
[ "$(cat "$views/numbers/old/one" "$views/numbers/old/two" "$mnt/old/two" "$mnt/new/one")" = "one
two
one
three" ] || die "after the kill"
hf umount "$mnt"
same
