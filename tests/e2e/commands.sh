# Commands when something is not as it should be: a store that hangs or is not there, too few stores, what is put
# aside, lines that cannot be written, programs that fail.
. "$(dirname "$0")/lib.sh"
export LIBMOUNT_FSTAB=$lab/fstab
disk a
disk b
disk c
mkdir "$lab/far" "$lab/c/new" "$lab/c/more"
bindfs -f "$lab/b/s" "$lab/far" &
far=$!
pids+=($far)
wait_for mountpoint -q "$lab/far"

# What could not be read again is not made.
long=$lab/a/$(head -c 180 /dev/zero | tr '\0' x)
mkdir "$long"
refused 2 "too long for" hf create crm "$long" "$lab/far"
mkdir "$lab/a/x ;y"
refused 2 "cannot be written" hf create crm "$lab/a/x ;y" "$lab/far"
mkdir "$lab/live" "$lab/live.store"
refused 2 "neither --adopt nor --mount" hf create crm "$lab/a/s" --take-over "$lab/live" --mount "$mnt"
refused 1 "there is a" hf create crm "$lab/a/s" --take-over "$lab/live" -n
hf create crm a="$lab/a/s" far="$lab/far" -n -o snap-reserve=1G | grep -q "would make" || die "create -n"
[ ! -e "$lab/a/s/.holdfast" ] && [ ! -e "$lab/etc/crm.conf" ] || die "create -n made something"

label=$(head -c 44 /dev/zero | tr '\0' x)
refused 2 "label" hf create crm a="$lab/a/s" "$label=$lab/far"
mkdir -p "$long/live" # with .store it is too long
refused 2 "too long for" hf create crm "$lab/a/s" --take-over "$long/live"
[ -d "$long/live" ] && [ ! -e "$long/live.store" ] || die "a take-over that cannot be"

# fstab: the volume waits for its stores; a new one must be waited for, too.
hf create crm a="$lab/a/s" far="$lab/far" --mount "$mnt" | sed -n "s/^at boot: echo '\(.*\)' >>.*/\1/p" >"$lab/fstab"
[ "$(grep -o "x-systemd.requires-mounts-for=" "$lab/fstab" | wc -l)" = 2 ] || { cat "$lab/fstab"; die "the line for fstab"; }
advice() { (hf doctor crm --json || true) | python3 -c 'import json,sys
print(*(c["what"] + ": " + c["advice"] for c in json.load(sys.stdin)["checks"] if c["grade"] != "ok"), sep="\n")'; }
advice >"$lab/said"
grep fstab "$lab/said" && die "doctor does not find the line"
hf mount crm -o min-stores=2,store-timeout=2s

# A user who may not ask is told so.
chmod 755 "$lab/etc" "$lab/run"
cp "$bin" "$lab/holdfast" # where everybody can run it
(setpriv --reuid=65534 --regid=65534 --clear-groups "$lab/holdfast" status crm || true) >"$lab/said" 2>/dev/null
grep -q "state: *UNKNOWN" "$lab/said" && grep -q "be root or in the group" "$lab/said" || { cat "$lab/said"; die "status for a user"; }

# min-stores: nothing is taken out by hand below it; a loss makes the volume read-only until the store is back.
refused 5 "min-stores" hf store offline crm far
refused 5 "min-stores" hf store set crm far passive
echo before >"$mnt/f"
kill -STOP $far
touch "$mnt/during" 2>/dev/null || true
wait_for lost far
hf status crm | grep -q "^state: *READ-ONLY" || { hf status crm; die "the state below min-stores"; }
! touch "$mnt/g" 2>"$lab/said" && grep -q "Read-only" "$lab/said" || die "a change below min-stores"
! hf check crm >"$lab/said" && grep -q "CRITICAL" "$lab/said" || die "check below min-stores"

# What touches stores leaves the one that hangs alone.
start=$(date +%s)
hf list | grep -q READ-ONLY || die "list"
advice >"$lab/said"
grep -q "far.*does not answer" "$lab/said" || die "doctor does not name the store that hangs"
hf umount crm
refused 5 "does not answer" hf mount crm -o store-timeout=1s
refused 5 "does not answer" hf dissolve crm --keep far --yes
refused 2 "no change could ever be made" hf mount crm -o degraded,min-stores=3,store-timeout=1s
hf mount crm -o degraded,store-timeout=1s
echo alone >"$mnt/f"
[ $(($(date +%s) - start)) -lt 100 ] || die "commands waited for a store that hangs"
hf replace crm far n="$lab/c/new" --wait=60s 2>"$lab/said" >/dev/null || { cat "$lab/said"; die "replacing a store that hangs"; }
grep -q "does not wait for the new store's disk" "$lab/said" || { cat "$lab/said"; die "nothing said of fstab"; }
kill -CONT $far
hf status crm --test >/dev/null || die "not healthy with the new store"
[ "$(cat "$lab/c/new/f")" = alone ] || die "the new store"

# Waiting ends: in time, and when what is waited for cannot come.
refused 1 "store \"nowhere\"" hf store online crm nowhere
refused 2 "takes 90s" hf resync crm --wait=soon
refused 2 "takes 90s" hf resync crm --wait=0s
refused 2 "is empty" hf store remove crm "" --yes
refused 2 "are for stores" hf verify crm@x --repair
hf store add crm p="$lab/c/more" --passive --wait=60s -q 2>/dev/null
hf resync crm --wait=20s -q || die "resync --wait with a passive store"
refused 2 "is passive" hf replace crm p "$lab/c/more"
hf store offline crm n -q
refused 5 "was taken out by hand" hf resync crm n
refused 5 "was taken out by hand" hf store set crm n passive --wait
hf resync crm -q # what was taken out by hand stays out
sleep 1
[ "$(state_of n)" = OFFLINE ] || die "resync brought back what was taken out by hand"
mkdir "$lab/c/new/sub"
refused 5 "one lies in the other" hf store add crm z="$lab/c/new/sub"
rmdir "$lab/c/new/sub"
head -c 60000000 /dev/urandom >"$mnt/big"
hf resync crm --limit 1M
refused 1 "it goes on" hf store online crm n --wait=2s
"$bin" store online crm n --wait=60s -q 2>"$lab/said" &
waiter=$!
pids+=($waiter)
shown() { (($((16#$(awk '/^SigBlk/ { print $2 }' /proc/$waiter/status))) & 512)) && kill -USR1 $waiter && grep -q "store \"n\": .* of .* to go" "$lab/said"; }
wait_for shown
kill $waiter
wait $waiter || true
ended $waiter
hf resync crm --limit 0
hf store online crm n --wait=60s -q
hf store remove crm p --yes -q
plain() { hf events crm -H | grep -q "more is a plain folder again"; }
wait_for plain

# Programs that are told of events, and those that are not.
refused 3 "nobody is told" hf events crm --test
mkdir "$lab/etc/events.d"
printf '#!/bin/sh\nexit 7\n' >"$lab/etc/events.d/bad"
printf '#!/bin/sh\necho "$3" >%s/told\n' "$lab" >"$lab/etc/events.d/good"
chmod +x "$lab/etc/events.d"/*
refused 1 "bad: failed with exit status 7" hf events crm --test
grep -q "good: told" "$lab/said" && grep -q "a test of the event" "$lab/told" || die "events --test"
rm "$lab/etc/events.d"/* "$lab/told"
printf '#!/bin/sh\necho "$3" >>%s/told\n' "$lab" >"$lab/program"
chmod +x "$lab/program"
printf '\n[events]\nprogram = %s\n' "$lab/program" >>"$lab/etc/crm.conf" # while it is mounted
hf store offline crm n -q
wait_for grep -qs "taken out by hand" "$lab/told"
hf store online crm n --wait -q
hf umount crm

# Known again: what the admin wrote stays.
hf import "$lab/a/s" "$lab/c/new" -q
grep -q "^program = $lab/program" "$lab/etc/crm.conf" && grep -q "^mount = $mnt" "$lab/etc/crm.conf" || die "import forgot what was there"

cp "$lab/etc/crm.conf" "$lab/crm.conf"
echo "no key" >>"$lab/etc/crm.conf"
refused 2 "is no KEY" hf import "$lab/a/s" "$lab/c/new"
grep -q "no key" "$lab/etc/crm.conf" || die "import wrote over a file that it could not read"
cp "$lab/crm.conf" "$lab/etc/crm.conf"

# A passive store, added while nothing is mounted, is one.
hf store add crm q="$lab/b/q" --passive -q 2>/dev/null && die "a folder that is not there"
mkdir "$lab/b/q"
hf store add crm q="$lab/b/q" --passive -q 2>/dev/null
hf mount crm
passive() { [ "$(state_of q)" = PASSIVE ]; }
wait_for passive
hf store remove crm q --yes -q

# What was put aside is not lost with the volume.
hf umount crm
mkdir -p "$lab/c/new/.holdfast/lost/verify-1"
refused 5 "put aside" hf dissolve crm --keep a --yes
rmdir "$lab/c/new/.holdfast/lost/verify-1"
hf dissolve crm --keep a --yes >/dev/null
[ ! -e "$lab/a/s/.holdfast" ] && [ ! -e "$lab/c/new/.holdfast" ] || die "dissolve"

# With too few stores from the beginning it can be read, snapshots too, and is whole again when they are there.
mkdir "$lab/a/few" "$lab/c/few"
hf create few "$lab/a/few" "$lab/c/few" -q 2>/dev/null
hf mount few "$mnt" -o min-stores=2
echo 1 >"$mnt/f"
hf snapshot create few@s -q
echo 2 >"$mnt/f"
hf umount few
mv "$lab/c/few" "$lab/c/gone"
hf mount few "$mnt" -o degraded,min-stores=2
[ "$(cat "$mnt/f" "$mnt/.holdfast/snapshots/s/f")" = "$(printf '2\n1')" ] || die "reading with too few stores"
! touch "$mnt/g" 2>/dev/null || die "a change with too few stores"
refused 1 "fewer stores" hf snapshot create few@t
hf umount few
mv "$lab/c/gone" "$lab/c/few"
hf mount few "$mnt" -o min-stores=2
hf resync few --wait=60s -q
touch "$mnt/g"
hf umount few
"$treecmp" "$lab/a/few" "$lab/c/few" || die "few: the stores differ"
