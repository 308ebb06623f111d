# Random sequences of what an admin does to stores and what happens to them, under a writer: the volume
# never loses its last good copy, refuses what would lose it, and ends with equal stores. A seed gives
# one sequence; SEEDS="1 2 3 ..." and STEPS=n on demand.
. "$(dirname "$0")/lib.sh"
names=(p q r s)
for n in "${names[@]}"; do disk "$n" 400M; done
# disk_of LABEL, is_in DISK: which disk a store of the volume is on, and whether one is
stores() { hf store list crm -H | cut -f1-3; }
label_on() { stores | awk -F'\t' -v d="$lab/$1/" 'index($3, d) == 1 { print $1 }'; }
count_online() { stores | awk -F'\t' '$2 == "ONLINE"' | wc -l; }
fresh() { rm -rf "$lab/$1/s"; mkdir "$lab/$1/s"; }
mend() { # a disk that was shut down is there again, with what it had
    ls "$lab/$1" >/dev/null 2>&1 && return 0
    wait_for umount -qc "$lab/$1" 2>/dev/null
    mount -o loop "$lab/$1.img" "$lab/$1"
}
# All disks stop, one after the other, and lose what was not synced; so does the machine's memory.
power_cut() {
    local n
    for n in "${names[@]}"; do xfs_io -x -c shutdown "$lab/$n" 2>/dev/null || true; done
    kill -KILL "$(cat "$lab/daemon")"
    writer_off
    umount -qcl "$mnt" || true
    rm -rf "$lab/run"
    mkdir "$lab/run"
    for n in "${names[@]}"; do mend "$n"; done
}
pick() { echo "${names[$((RANDOM % 4))]}"; }
# may COMMAND...: it may be refused for safety or because it makes no sense now, but not fail otherwise
may() {
    local rc=0
    "$@" >"$lab/said" 2>&1 || rc=$?
    case $rc in
    0 | 2 | 3 | 5) ;;
    *) grep -qE "is at it already|has a store with that label|no store is ONLINE|is mounted|no such store" "$lab/said" || { cat "$lab/said"; die "$* gave $rc"; } ;;
    esac
    done=$rc
}
# The writer notes what was synced; only that must be there in the end.
start_writer() {
    exec python3 - "$mnt" "$lab/log" <<'P'
import os, random, sys, time
mnt, log = sys.argv[1:]
rnd = random.Random(1)
out = open(log, "a")
n = int(time.monotonic() * 1000000)
while True:
    n += 1
    k = rnd.randrange(40)
    with open(f"{mnt}/k{k}.new", "w") as f:
        f.write(f"{n} " * rnd.randrange(1, 3000))
        f.flush()
        os.fsync(f.fileno())
    os.rename(f"{mnt}/k{k}.new", f"{mnt}/k{k}")
    d = os.open(mnt, os.O_RDONLY)
    os.fsync(d)
    os.close(d)
    f = os.open(f"{mnt}/k{k}", os.O_RDONLY)
    os.fsync(f)
    os.close(f)
    out.write(f"{k} {n}\n")
    out.flush()
P
}
writer_on() { start_writer 2>"$lab/writer" & writer=$!; pids=($writer); }
writer_off() { kill $writer 2>/dev/null || true; wait $writer 2>/dev/null || true; pids=(); }
check_synced() {
    python3 - "$mnt" "$lab/log" <<'P' || die "seed $seed: something that was synced is gone"
import sys
mnt, log = sys.argv[1:]
last = {}
for line in open(log):
    k, n = line.split()
    last[k] = int(n)
for k, n in last.items():
    have = open(f"{mnt}/k{k}").read().split()
    assert have and int(have[0]) >= n and len(set(have)) == 1, (k, n, have[:1])
print(len(last), "files as they were synced")
P
}
one_step() {
    local d label
    d=$(pick)
    label=$(label_on "$d")
    daemon_pid >"$lab/daemon"
    case $((RANDOM % 12)) in
    0) [ -n "$label" ] && return; mend "$d"; fresh "$d"; step="add $d"; may hf store add crm "$d$RANDOM=$lab/$d/s" -q ;;
    1) [ -z "$label" ] && return; step="remove $label"; may hf store remove crm "$label" --yes -q ;;
    2) local old; old=$(stores | cut -f1 | shuf -n1 --random-source=<(yes $RANDOM)); [ -n "$label" ] && return; mend "$d"; fresh "$d"; step="replace $old by $d"; may hf replace crm "$old" "$d$RANDOM=$lab/$d/s" -q ;;
    3) [ -z "$label" ] && return; step="offline $label"; may hf store offline crm "$label" -q ;;
    4) [ -z "$label" ] && return; step="online $label"; may hf store online crm "$label" -q ;;
    5) [ -z "$label" ] || [ "$(count_online)" -lt 2 ] && return; step="fault $label"; xfs_io -x -c shutdown "$lab/$d"; sleep 0.3; [ "$(label_on "$d")" = "" ] || { hf store offline crm "$label" -q >/dev/null 2>&1 || true; sleep 0.5; }; mend "$d"; may hf store online crm "$label" -q ;;
    6) step="kill -9"; writer_off; kill -KILL "$(daemon_pid)"; may hf mount crm "$mnt"; [ $done = 0 ] || may hf mount crm "$mnt" -o degraded; writer_on ;;
    7) step="remount"; writer_off; hf umount crm; may hf mount crm "$mnt"; [ $done = 0 ] || may hf mount crm "$mnt" -o degraded; writer_on ;;
    11) step="power cut"; power_cut; may hf mount crm "$mnt"; [ $done = 0 ] || may hf mount crm "$mnt" -o degraded; writer_on ;;
    8) step="verify"; may hf verify crm -q ;;
    9) [ -z "$label" ] && return; step="passive $label"; may hf store set crm "$label" passive ;;
    10) [ -z "$label" ] && return; step="active $label"; may hf store set crm "$label" active ;;
    esac
    echo "    $step: $done"
}
for seed in ${SEEDS:-1 2}; do
    RANDOM=$seed
    for n in "${names[@]}"; do mend "$n"; fresh "$n"; done
    rm -rf "$lab/etc" "$lab/state" "$lab/run"
    mkdir "$lab/etc" "$lab/state" "$lab/run"
    : >"$lab/log"
    hf create crm "$lab/p/s" "$lab/q/s" -q
    hf mount crm "$mnt"
    writer_on
    for _ in $(seq "${STEPS:-14}"); do
        one_step
        kill -0 $writer 2>/dev/null || { cat "$lab/writer"; hf status crm; die "seed $seed: the writer failed at: $step"; }
        sleep 0.$((RANDOM % 5))
    done
    writer_off
    # All that is there comes together again.
    for n in "${names[@]}"; do mend "$n"; done
    hf resync crm >/dev/null
    for label in $(stores | cut -f1); do hf store set crm "$label" active; done
    for label in $(stores | cut -f1); do hf store online crm "$label" --wait -q 2>/dev/null || true; done
    calm() { [ "$(stores | awk -F'\t' '$2 != "ONLINE"' | wc -l)" = 0 ]; }
    wait_for calm
    check_synced
    [ "$(count_online)" -lt 2 ] || hf verify crm -q || die "seed $seed: verify"
    paths=$(stores | cut -f3)
    hf umount crm
    first=
    for p in $paths; do
        [ -z "$first" ] || "$treecmp" "$first" "$p" || die "seed $seed: $first and $p differ"
        first=${first:-$p}
    done
    echo "seed $seed: $(echo "$paths" | wc -l) stores are equal"
done
