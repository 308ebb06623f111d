# A passive store follows behind, never serves, and becomes active and passive while applications write.
. "$(dirname "$0")/lib.sh"
volume
disk far
mkdir "$lab/near"
bindfs -f "$lab/far/s" "$lab/near" &
bind=$!
pids=($bind)
wait_for mountpoint -q "$lab/near"
in_state() { [ "$(state_of "$1")" = "$2" ]; }
writer() {
    exec python3 - "$mnt" "$lab/enough" <<'P'
import os, random, sys, time
mnt, enough = sys.argv[1:]
rnd = random.Random(5)
os.makedirs(f"{mnt}/d0", exist_ok=True)
big = os.open(f"{mnt}/big", os.O_CREAT | os.O_RDWR)
n = 0
while not os.path.exists(enough):
    n += 1
    os.pwrite(big, b"%09d" % n, rnd.randrange(500) * 4096)
    a, b = f"{mnt}/d0/{rnd.randrange(50)}", f"{mnt}/d0/{rnd.randrange(50)}"
    with open(a, "w") as f:
        f.write(str(n))
    os.rename(a, b)
    time.sleep(0.003)
P
}
write_on() { rm -f "$lab/enough"; writer & w=$!; pids=($bind $w); }
write_off() { touch "$lab/enough"; wait $w || die "the writer failed"; pids=($bind); }
behind() { hf status crm --json | python3 -c 'import json,sys
print([s["behind"] for s in json.load(sys.stdin)["stores"] if s["label"] == "far"][0])'; }

write_on
hf store add crm far="$lab/near" --passive --wait -q
hf status crm --test >/dev/null || die "a volume with a passive store is not healthy"
hf status crm | grep -q "follows [0-9]* s behind" || die "status does not say that it follows"
sleep 3
write_off
follows() { cmp -s "$mnt/big" "$lab/far/s/big" && diff -rq "$mnt/d0" "$lab/far/s/d0" >/dev/null; }
wait_for follows
in_state far PASSIVE || die "far is $(state_of far)"

# It never counts: the last active one stays.
hf store offline crm a -q
refused 5 "cannot do without" hf store offline crm b
hf store online crm a --wait -q
wait_for in_state far PASSIVE # the store it followed left and came back

# kill -9: it goes on following, and catches up what it missed.
write_on
kill -KILL "$(daemon_pid)"
wait $w || true
pids=($bind)
hf mount crm "$mnt" -o suid,dev
wait_for in_state far PASSIVE
wait_for follows

# The passive one is not there at the next mount: nobody minds, and it follows again when it is back.
hf umount crm
kill $bind
wait $bind || true
wait_for sh -c "! mountpoint -q $lab/near"
hf mount crm "$mnt" -o suid,dev
echo x >"$mnt/x"
bindfs -f "$lab/far/s" "$lab/near" &
bind=$!
pids=($bind)
hf store online crm far
wait_for in_state far PASSIVE
there() { [ -e "$lab/far/s/x" ]; }
wait_for there

# Active, and passive again, under load.
write_on
hf store set crm far active --wait
in_state far ONLINE || die "far is $(state_of far)"
hf store set crm a passive --wait
in_state a PASSIVE || die "a is $(state_of a)"
hf store set crm a active --wait
hf store set crm far passive --wait
hf store set crm far active --wait
write_off
hf verify crm -q || die "verify"
hf umount crm
# What was caught up may have holes where others have zeros.
"$treecmp" -H "$lab/a/s" "$lab/b/s" || die "the stores differ"
# Under load a time may stay another one on a store without stable inodes; bindfs cannot punch.
"$treecmp" -t -H "$lab/a/s" "$lab/far/s" || die "the far store differs"
kill $bind
