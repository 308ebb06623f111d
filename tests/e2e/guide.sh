# docs/guide/replace-a-disk.md, step by step.
. "$(dirname "$0")/lib.sh"
guide=$HOLDFAST_TOP/docs/guide/replace-a-disk.md
# says COMMAND: the guide says so, with its own places for ours
says() {
    grep -qF "    $(printf '%s' "$*" | sed "s#$lab/disk#/mnt/disk#g")" "$guide" || die "the guide does not say: $*"
}
# step COMMAND...: runs what the guide says
step() { says "$@"; "$@"; }
holdfast() { hf "$@"; }
for n in 1 2 3; do disk disk$n; mkdir "$lab/disk$n/crm"; done
hf create crm "$lab/disk1/crm" "$lab/disk2/crm" -q
rmdir "$lab/disk3/crm"
hf mount crm "$mnt"
tar -C /usr/include -c linux | tar -C "$mnt" -x
(while [ ! -e "$lab/enough" ]; do date >"$mnt/now"; mv "$mnt/now" "$mnt/then"; done) &
writer=$!
pids+=($writer)

# 1, 2: the disk dies
xfs_io -x -c shutdown "$lab/disk2"
wait_for lost b
step holdfast status crm >"$lab/said"
grep -q FAULTED "$lab/said" || die "status does not say that it is FAULTED"
step holdfast store list crm >"$lab/said"
grep -q "loop" "$lab/said" || die "store list does not name the disk"
says umount "$lab/disk2"
wait_for umount -qc "$lab/disk2"
rm "$lab/disk2.img"
disk disk2
step mkdir "$lab/disk2/crm"
says holdfast replace crm b "$lab/disk2/crm" --wait
hf replace crm b "$lab/disk2/crm" -q
touch "$lab/enough" # and the daemon is killed in the middle of it
wait $writer || true
pids=()
kill -KILL "$(hf status crm --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])')"
hf mount crm "$mnt"
taken() { [ "$(hf store list crm -H | cut -f1,2 | tr '\t\n' '= ')" = "a=ONLINE c=ONLINE " ]; }
wait_for taken
rm "$lab/enough"
(while [ ! -e "$lab/enough" ]; do date >"$mnt/now"; mv "$mnt/now" "$mnt/then"; done) &
writer=$!
pids+=($writer)
[ "$(hf store list crm -H | cut -f1,2 | tr '\t\n' '= ')" = "a=ONLINE c=ONLINE " ] || die "the stores after step 2"

# 3, 4: one that works is to go; the guide's "b" is called c by now
says mkdir "$lab/disk3/crm"
mkdir "$lab/disk3/crm"
says holdfast replace crm b "$lab/disk3/crm" --wait
hf replace crm c b="$lab/disk3/crm" -q
step holdfast resync crm --limit 20M
step holdfast resync crm --pause
step holdfast resync crm --resume
hf resync crm --limit 0
replaced() { ! hf store list crm -H | cut -f1 | grep -qx c; }
wait_for replaced
plain() { [ ! -e "$lab/disk2/crm/.holdfast" ]; }
wait_for plain
touch "$lab/enough"
wait $writer
pids=()

# 5: afterwards
step holdfast verify crm >/dev/null 2>&1
hf umount crm
"$treecmp" "$lab/disk1/crm" "$lab/disk3/crm" || die "the stores differ"
