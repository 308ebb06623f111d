# PostgreSQL, MariaDB (O_DIRECT and native AIO), SQLite in WAL mode: load, kill -9, restart, check; and
# both stores are equal afterwards.
. "$(dirname "$0")/lib.sh"
disk a 1G
disk b 1G
hf create crm "$lab/a/s" "$lab/b/s" -q
hf mount crm "$mnt"
. "$(dirname "$0")/lib-db.sh"
pg_init "$mnt/pg"
data=$mnt/pg
start() { pg_start "$data"; }
start
as postgres "$bin_pg/pgbench" -h "$lab/sock" -i -q -s 2 postgres >/dev/null 2>&1
as postgres "$bin_pg/pgbench" -h "$lab/sock" -c 4 -t 100 postgres >"$lab/pgbench" 2>&1 || { cat "$lab/pgbench"; die pgbench; }
grep -q 'processed: 400/400' "$lab/pgbench" || { cat "$lab/pgbench"; die "transactions failed"; }
before=$(sql 'select count(*) from pgbench_history')
pid=$(head -1 "$data/postmaster.pid")
pids+=("$pid")
kill -KILL "$pid"
wait_for bash -c "! pgrep -P $pid >/dev/null && ! kill -0 $pid 2>/dev/null"
rm -f "$data/postmaster.pid"
start
[ "$(sql 'select count(*) from pgbench_history')" = "$before" ] || die "rows are gone"
sql 'create extension amcheck' >/dev/null
as postgres "$bin_pg/pg_amcheck" -h "$lab/sock" postgres || die "pg_amcheck"
pg_stop "$data"

my_init "$mnt/my"
my_start "$mnt/my"
my "create database t; create table t.a (id int auto_increment primary key, v varchar(200), key(v)) engine=innodb;
    insert into t.a (v) values ('x');"
for _ in $(seq 10); do my "insert into t.a (v) select md5(rand()) from t.a"; done
my "begin; insert into t.a (v) values ('committed'); commit"
kill -KILL $my
wait $my 2>/dev/null || true
my_start "$mnt/my"
[ "$(my 'select count(*) from t.a')" = 1025 ] || die "MariaDB lost rows"
my 'check table t.a extended' | grep -q 'OK$' || die "CHECK TABLE"

# Both under load while a store dies and comes back: no transaction fails.
start
as postgres "$bin_pg/pgbench" -h "$lab/sock" -c 4 -T 9 postgres >"$lab/pgbench" 2>&1 &
bench=$!
(for i in $(seq 250); do my "begin; insert into t.a (v) values ('load $i'); update t.a set v = md5(id) where id % 100 = $i % 100; commit" || exit 1; done) &
load=$!
sleep 2
xfs_io -x -c shutdown "$lab/b"
wait_for lost b
wait_for umount -qc "$lab/b"
sleep 1
mount -o loop "$lab/b.img" "$lab/b"
wait_for online b
wait $bench || { cat "$lab/pgbench"; die "pgbench"; }
grep -q 'failed transactions: 0 ' "$lab/pgbench" || { cat "$lab/pgbench"; die "transactions failed"; }
wait $load || die "MariaDB saw an error"
[ "$(my "select count(*) from t.a where v like 'load %' or length(v) = 32" | tail -1)" -gt 1000 ] || die "MariaDB lost rows"
my 'check table t.a extended' | grep -q 'OK$' || die "CHECK TABLE after the loss"
as postgres "$bin_pg/pg_amcheck" -h "$lab/sock" postgres || die "pg_amcheck after the loss"
rows=$(sql 'select count(*) from pgbench_history')
pg_stop "$data"
my_stop

sqlite3 "$mnt/lite.db" 'pragma journal_mode=wal; create table t(a); begin; insert into t values(1),(2),(3); commit;' >/dev/null
for i in 1 2 3 4; do
    (for k in $(seq 20); do sqlite3 -cmd '.timeout 60000' "$mnt/lite.db" "insert into t values($i$k)" || exit 1; done) &
done
wait
[ "$(sqlite3 "$mnt/lite.db" 'select count(*) from t; pragma integrity_check')" = "$(printf '83\nok')" ] || die "SQLite"
hf umount crm
# Zeros that were written on one store may be a hole on the one that came back: the same bytes.
same -H

# From each single store alone, without us.
for side in a b; do
    data=$lab/$side/s/pg
    start
    [ "$(sql 'select count(*) from pgbench_history')" = "$rows" ] || die "rows are gone on $side alone"
    as postgres "$bin_pg/pg_amcheck" -h "$lab/sock" postgres || die "pg_amcheck on $side alone"
    pg_stop "$data"
done
