# PostgreSQL and MariaDB for tests, one of each at a time, behind sockets in the lab. Sourced after lib.sh.
bin_pg=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
chmod 755 "$lab"
mkdir "$lab/sock" "$lab/mysock"
chown postgres "$lab/sock"
chown mysql "$lab/mysock"

as() { local user=$1; shift; (cd / && env -u ASAN_OPTIONS runuser -u "$user" -- "$@"); }
pg_init() { # DATA
    mkdir "$1"
    chown postgres: "$1"
    chmod 700 "$1"
    as postgres "$bin_pg/initdb" -D "$1" -A trust >/dev/null
}
pg_start() { # DATA
    as postgres "$bin_pg/pg_ctl" -D "$1" -o "-k $lab/sock -h '' -c shared_buffers=32MB -c dynamic_shared_memory_type=mmap" -w -l "$lab/sock/log" start >/dev/null ||
        { tail "$lab/sock/log"; die "PostgreSQL does not start"; }
    pids+=("$(head -1 "$1/postmaster.pid")")
}
pg_stop() { # DATA
    ended "$(head -1 "$1/postmaster.pid")"
    as postgres "$bin_pg/pg_ctl" -D "$1" -m fast -w stop >/dev/null
}
sql() { as postgres "$bin_pg/psql" -h "$lab/sock" -qtA postgres -c "$1"; }

my_init() { # DATA
    mkdir "$1"
    chown mysql: "$1"
    mariadb-install-db --no-defaults --user=mysql --datadir="$1" --auth-root-authentication-method=normal >"$lab/my.log" 2>&1 ||
        { tail "$lab/my.log"; die "mariadb-install-db"; }
}
my_start() { # DATA; sets my, the process
    env -u ASAN_OPTIONS mariadbd --no-defaults --user=mysql --datadir="$1" --socket="$lab/mysock/s" --skip-networking \
        --pid-file="$lab/mysock/pid" --innodb-buffer-pool-size=32M --innodb-log-file-size=16M >"$lab/mysock/log" 2>&1 &
    my=$!
    pids+=($my)
    wait_for mariadb-admin --no-defaults -u root -S "$lab/mysock/s" ping --silent
}
my_stop() {
    mariadb-admin --no-defaults -u root -S "$lab/mysock/s" shutdown
    wait $my 2>/dev/null || true
    ended $my
}
my() { mariadb --no-defaults -u root -S "$lab/mysock/s" -N -e "$1"; }
