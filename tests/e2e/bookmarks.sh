# A bookmark: it says what changed since, as exactly as the snapshot that it was, and keeps none of that.
. "$(dirname "$0")/lib.sh"
volume
views=$mnt/.holdfast/snapshots
kept_bytes() { du -s --apparent-size -B1 "$lab/a/s/.holdfast/snap" | cut -f1; }
# Names of files that have others, too (aN), may be there: by them such a file is known.
none_kept() { ! ls "$lab/a/s/.holdfast/snap/kept" "$lab/b/s/.holdfast/snap/kept" | grep -q '^[0-9]'; }
emptied() { [ "$(kept_bytes)" -lt 300000 ] && none_kept; }
# differs WANT SNAPSHOT...: diff says just that
differs() {
    local want=$1
    shift
    hf diff "$@" -v | sort >"$lab/got"
    diff "$want" "$lab/got" || die "diff $*"
}
mkdir -p "$mnt/d/sub" "$mnt/old/in"
head -c 8000000 /dev/urandom >"$mnt/d/big"
head -c 3000000 /dev/urandom >"$mnt/d/removed"
for i in $(seq 30); do echo "$i" >"$mnt/d/sub/$i"; done
echo one >"$mnt/old/in/file"
echo two >"$mnt/linked"
ln "$mnt/linked" "$mnt/d/linked-too"
ln -s target "$mnt/symlink"
echo forged >"$mnt/forged"
touch -r "$mnt/forged" "$lab/time"
hf snapshot create crm@mark -q
for block in 3 700 701; do printf X | dd of="$mnt/d/big" bs=4096 seek=$block conv=notrunc status=none; done
rm "$mnt/d/removed" "$mnt/d/sub/7" "$mnt/symlink"
mv "$mnt/d/sub/8" "$mnt/eight"
mv "$mnt/old" "$mnt/new"
chmod 600 "$mnt/d/sub/9"
echo more >>"$mnt/d/linked-too"
echo FORGED >"$mnt/forged"
touch -r "$lab/time" "$mnt/forged"
echo new >"$mnt/d/new"
hf diff crm@mark -v | sort >"$lab/want"
grep -q '^M  /d/big  (3 of 1954 blocks)$' "$lab/want" && grep -q '^M  /forged' "$lab/want" &&
    grep -q '^M  /linked ' "$lab/want" && grep -q '^R  /old -> /new$' "$lab/want" || { cat "$lab/want"; die "diff"; }
# It becomes a bookmark: asked for, and not when it is held.
refused 5 "needs --yes" hf snapshot bookmark crm@mark </dev/null
hf snapshot hold crm@mark
refused 1 "is held" hf snapshot bookmark crm@mark --yes
hf snapshot release crm@mark
hf snapshot bookmark crm@mark --yes
hf snapshot list crm -H | cut -f1,7 | grep -qx $'crm@mark\tbookmark' || die "list"
differs "$lab/want" crm@mark
hf snapshot create crm@later -q
wait_for emptied
differs "$lab/want" crm@mark
differs "$lab/want" crm@mark crm@later
# What it has, and what it says that it has not.
[ "$(cat "$views/mark.bookmark/d/sub/1")" = 1 ] && [ "$(cat "$views/mark.bookmark/old/in/file")" = one ] || die "what did not change"
[ "$(stat -c '%s %a' "$views/mark.bookmark/d/removed")" = "3000000 644" ] || die "attributes"
[ "$(stat -c %a "$views/mark.bookmark/d/sub/9")" = 644 ] || die "mode of that time"
dd if="$views/mark.bookmark/d/big" bs=4096 skip=4 count=1 status=none | cmp - <(dd if="$mnt/d/big" bs=4096 skip=4 count=1 status=none) || die "blocks that did not change"
refused 2 "is a bookmark" hf restore crm@mark --in-place --yes
refused 2 "is a bookmark" hf restore crm@mark /d --to "$lab/back"
refused 2 "is a bookmark" hf verify crm@mark
hf prune crm --keep-last 1 --yes | grep -q '^mark .*bookmark$' || die "prune"
hf status crm | grep -q 'last snapshot:.*crm@later' || die "status"
# Across kill -9 (which also empties the kernel's cache of it), and from each store alone.
pid=$(daemon_pid)
kill -KILL "$pid"
wait_for bash -c "! kill -0 $pid 2>/dev/null"
hf mount crm "$mnt"
refused 1 "No data available" cat "$views/mark.bookmark/d/removed"
refused 1 "No data available" cat "$views/mark.bookmark/linked"
differs "$lab/want" crm@mark
hf store offline crm a
differs "$lab/want" crm@mark
hf store online crm a --wait >/dev/null
# No snapshot is left: from now on nothing is kept, only what changes.
hf snapshot destroy crm@later --yes
before=$(kept_bytes)
head -c 30000000 /dev/urandom >"$mnt/other"
head -c 8000000 /dev/urandom | dd of="$mnt/d/big" bs=1M conv=notrunc status=none
rm "$mnt/d/sub/10"
mv "$mnt/d/sub/11" "$mnt/d/sub/12"
none_kept || die "a file was kept for a bookmark"
[ "$(kept_bytes)" -lt $((before + 300000)) ] || die "$before -> $(kept_bytes) bytes"
hf diff crm@mark -v | sort >"$lab/got"
grep -q '^M  /d/big  (1954 of 1954 blocks)$' "$lab/got" && grep -q '^-  /d/sub/10$' "$lab/got" &&
    grep -q '^+  /other$' "$lab/got" || { cat "$lab/got"; die "diff of what only a bookmark needs"; }
hf snapshot create crm@full -q
wait_for emptied
hf umount "$mnt"
hf mount crm "$mnt"
[ -z "$(hf diff crm@mark crm@mark)" ] || { hf diff crm@mark crm@mark; die "a bookmark differs from itself"; }
hf diff crm@mark -v | sort | diff "$lab/got" - || die "diff once it was emptied"
rm "$mnt/other"
[ "$(stat -c %s "$views/full/other")" = 30000000 ] || die "the next snapshot"
cat "$views/full/other" >"$lab/other" || die "the next snapshot keeps everything again"
hf snapshot destroy crm@mark --yes
refused 1 'no snapshot "mark"' hf diff crm@mark
hf umount "$mnt"
same
