# restore --in-place where a store cannot exchange names (sshfs), and when it is told to stop: all of it, or nothing.
. "$(dirname "$0")/lib.sh"
disk a
disk far
disk b
sshfs_store far
hf create crm "$lab/a/s" far="$lab/net" -q 2>/dev/null
hf mount crm "$mnt" -o suid,dev
mkdir -p "$mnt/u/v"
for i in $(seq 300); do echo "file $i" >"$mnt/u/f$i"; done
echo v >"$mnt/u/v/x"
ln "$mnt/u/f4" "$mnt/u/v/l4"
setfattr -n user.k -v value "$mnt/u/f3"
chown -R 33:33 "$mnt/u"
cp -a "$mnt" "$lab/ref"
hf snapshot create crm@s -q
ruin() {
    for i in $(seq 10 300); do echo changed >"$mnt/u/f$i"; done
    rm "$mnt/u/f2"
    mv "$mnt/u/v" "$mnt/u/w"
    echo new >"$mnt/u/new"
    setfattr -x user.k "$mnt/u/f3"
}
ruin
hf restore crm@s --in-place --yes -q
"$treecmp" "$mnt" "$lab/ref" || die "restored"
[ "$mnt/u/f4" -ef "$mnt/u/v/l4" ] || die "a link is none any more"
# Told to stop, at some time or other.
stopped=0
for wait in 0.1 0.3 0.6 1 1.5; do
    ruin
    rm -rf "$lab/before"
    cp -a "$mnt" "$lab/before"
    rc=0
    timeout --preserve-status -s TERM "$wait" "$bin" restore crm@s --in-place --yes -q >"$lab/said" 2>&1 || rc=$?
    if [ $rc = 0 ]; then
        "$treecmp" "$mnt" "$lab/ref" || die "restored after $wait s"
    else
        stopped=$((stopped + 1))
        "$treecmp" "$mnt" "$lab/before" || { cat "$lab/said"; die "stopped after $wait s: not as it was"; }
        hf restore crm@s --in-place --yes -q
    fi
    [ -z "$(ls -A "$mnt" | grep restore)" ] || die "the stage is left"
done
echo "stopped $stopped of 5 times"
[ $stopped -gt 0 ] || die "it was always faster"
# sshfs shows mtimes as ctimes, and xattrs change neither: what was set back is found all the same.
hf store offline crm a -q
echo before >"$mnt/f"
echo same >"$mnt/x"
touch -d 2020-01-01 "$mnt/f" "$mnt/x"
setfattr -n user.k -v one "$mnt/x"
hf snapshot create crm@far -q
echo behind >"$mnt/f"
touch -d 2020-01-01 "$mnt/f"
setfattr -n user.k -v two "$mnt/x"
[ "$(hf diff crm@far | grep -v '/$')" = $'M  /f\nM  /x' ] || die "diff on sshfs says $(hf diff crm@far)"
hf restore crm@far --in-place --yes -q /f /x
[ "$(cat "$mnt/f")" = before ] && [ "$(getfattr --only-values -n user.k "$mnt/x")" = one ] || die "restored on sshfs"
hf store online crm a --wait -q
hf umount crm

# Times as coarse as a second: what was changed right before the cut and again right after it looks untouched.
disk c 64M mkfs.ext4 -I 128
disk d 64M mkfs.ext4 -I 128
hf create coarse "$lab/c/s" "$lab/d/s" -q
hf mount coarse "$mnt"
echo old >"$mnt/old"
sleep 3
python3 -c 'import time; time.sleep(1 - time.time() % 1)'
echo before >"$mnt/f"
hf snapshot create coarse@s -q
echo behind >"$mnt/f"
hf snapshot create coarse@s2 -q
[ "$(hf diff coarse@s | grep -v '/$')" = "M  /f" ] || die "diff says $(hf diff coarse@s)"
[ "$(hf diff coarse@s2 coarse@s | grep -v '/$')" = "M  /f" ] || die "diff between two says $(hf diff coarse@s2 coarse@s)"
hf restore coarse@s --in-place --yes -q /f
[ "$(cat "$mnt/f")" = before ] || die "restored: $(cat "$mnt/f")"
hf umount coarse
