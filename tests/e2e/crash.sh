# kill -9 of the daemon under writers: nothing acknowledged is lost, synced or not, and the stores are
# equal again without help. What was acknowledged is noted outside the mount.
. "$(dirname "$0")/lib.sh"
volume
for round in 1 2 3 4 5; do
    for w in 1 2; do
        python3 - "$mnt" "$lab/acked.$round.$w" "$round.$w" <<'P' &
import os, sys
mnt, log, tag = sys.argv[1:]
out = open(log, "w")
fd = os.open(f"{mnt}/grow.{tag}", os.O_CREAT | os.O_WRONLY, 0o644)
n = 0
try:
    while True:
        n += 1
        os.pwrite(fd, b"%08d" % n, (n - 1) * 8)
        if n % 10 == 0:
            os.mkdir(f"{mnt}/d.{tag}.{n}")
            os.rename(f"{mnt}/d.{tag}.{n}", f"{mnt}/r.{tag}.{n}")
        out.write(f"{n}\n")
        out.flush()
except OSError:
    pass
P
        pids+=($!)
    done
    for w in 1 2; do wait_for lines "$lab/acked.$round.$w" 50; done
    sleep 0.3
    kill -KILL "$(daemon_pid)"
    wait
    hf mount crm "$mnt" -o suid,dev
    for w in 1 2; do
        python3 - "$mnt" "$lab/acked.$round.$w" "$round.$w" <<'P' || die "round $round writer $w lost something"
import os, sys
mnt, log, tag = sys.argv[1:]
n = int(open(log).read().split()[-1])
assert n > 20, n
data = open(f"{mnt}/grow.{tag}", "rb").read()
for i in range(1, n + 1):
    assert data[(i - 1) * 8 : i * 8] == b"%08d" % i, i
    if i % 10 == 0:
        assert os.path.isdir(f"{mnt}/r.{tag}.{i}"), i
P
    done
done
hf umount crm
same
