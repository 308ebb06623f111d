# A CRM's uploads and its databases, taken at one instant under load: the databases start from a copy of the
# snapshot, and each row's file is there, and no more than the one being written besides.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-db.sh"
disk a 1G
disk b 1G
hf create crm "$lab/a/s" "$lab/b/s" -q
hf mount crm "$mnt"
export PGHOST=$lab/sock PGUSER=postgres HOME=$lab
printf "[client]\nsocket=%s/mysock/s\n" "$lab" >"$lab/.my.cnf"
pg_init "$mnt/pg"
pg_start "$mnt/pg"
sql 'create table uploads (n int primary key, md5 text)' >/dev/null
as postgres "$bin_pg/pgbench" -i -q -s 2 postgres >/dev/null 2>&1
my_init "$mnt/my"
my_start "$mnt/my"
my 'create database t; create table t.i (n int primary key) engine=innodb; create table t.m (n int primary key) engine=myisam'
mkdir "$mnt/up"

# Each upload is written first, and then told of; MariaDB counts them in two tables.
for i in $(seq 100000); do
    [ ! -e "$lab/stop" ] || exit 0
    head -c 5000 /dev/urandom >"$mnt/up/$i"
    sql "insert into uploads values ($i, '$(md5sum <"$mnt/up/$i" | cut -c-32)')"
    my "insert into t.i values ($i); insert into t.m values ($i)"
done &
load=$!
as postgres "$bin_pg/pgbench" -c 2 -T 12 postgres >"$lab/pgbench" 2>&1 &
bench=$!
pids+=($load $bench)
uploads() { [ "$(find "$mnt/up" -type f | wc -l)" -ge "$1" ]; }
wait_for uploads 8
for db in postgresql mariadb; do
    hf snapshot create crm@$db --freeze $db
    sleep 2
done
wait $bench || { cat "$lab/pgbench"; die pgbench; }
touch "$lab/stop"
wait $load || die "the application saw an error"
refused 1 'ended without saying "frozen"' env PGHOST=/nowhere "$bin" snapshot create crm@never --freeze postgresql
[ "$(hf snapshot list crm -H | grep -c .)" = 2 ] || die "a snapshot too many"
# Ruined, and nobody stopped the databases before.
rm "$mnt/up"/*
sql 'delete from uploads' >/dev/null
my 'delete from t.i; delete from t.m'
pg_stop "$mnt/pg"
my_stop
hf verify crm@postgresql -q
hf verify crm@mariadb -q

# whole TREE: each row's upload is there, and is what the row says; sets rows
whole() {
    sql 'select n, md5 from uploads' | while IFS='|' read -r n sum; do
        [ "$(md5sum <"$1/up/$n" | cut -c-32)" = "$sum" ] || die "$1: upload $n is not what its row says"
    done
    rows=$(sql 'select count(*) from uploads')
    files=$(ls "$1/up" | wc -l)
    echo "$1: $rows rows, $files uploads"
    [ "$rows" -gt 3 ] && [ $((files - rows)) -le 1 ] || die "$1: $rows rows, $files uploads"
}
for db in postgresql mariadb; do
    then=$lab/a/$db
    mkdir "$then"
    rsync -a "$mnt/.holdfast/snapshots/$db/" "$then/"
    pg_start "$then/pg"
    whole "$then"
    as postgres "$bin_pg/psql" -qc 'create extension amcheck' postgres
    as postgres "$bin_pg/pg_amcheck" postgres || die "pg_amcheck"
    pg_stop "$then/pg"
    my_start "$then/my"
    if [ $db = mariadb ]; then # it stood still: not even MyISAM needs a repair
        my 'check table t.m' | grep -q 'OK$' || die "CHECK TABLE of MyISAM: $(my 'check table t.m')"
        [ "$(my 'check table t.m' | wc -l)" = 1 ] || die "MyISAM was open: $(my 'check table t.m')"
        [ "$(my 'select (select count(*) from t.i) - (select count(*) from t.m) between 0 and 1')" = 1 ] || die "the tables are of two instants"
    fi
    my 'check table t.i extended' | grep -q 'OK$' || die "CHECK TABLE of InnoDB"
    my_stop
    rm -rf "$then"
done

# All of it back in place, as it was.
hf restore crm@mariadb --in-place --yes -q
pg_start "$mnt/pg"
before=$rows
whole "$mnt"
[ "$rows" = "$before" ] || die "$rows rows came back, not $before"
pg_stop "$mnt/pg"
my_start "$mnt/my"
my 'check table t.i, t.m extended' | grep -c 'OK$' | grep -qx 2 || die "CHECK TABLE after the restore"
my_stop
hf umount crm
same
