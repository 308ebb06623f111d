# Debian packages, and a way to install those that are missing. Sourced by tools/* and tests/run.
# Why each library is there: docs/ARCHITECTURE.md.
BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkg-config libfuse3-dev libxxhash-dev libjansson-dev liburing-dev libinih-dev libmount-dev uthash-dev scdoc"
RUN_PACKAGES="fuse3"
DEMO_PACKAGES="postgresql postgresql-contrib xfsprogs"
TEST_PACKAGES="libcriterion-dev acl attr xfsprogs e2fsprogs rsync git sqlite3 postgresql postgresql-contrib mariadb-server bindfs sshfs openssh-sftp-server python3 util-linux spin"

# need PACKAGE...: says what is missing and installs it; needs root only if something is.
need() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "installing:$missing"
    if [ "$(id -u)" != 0 ]; then
        echo "these packages are missing; install them as root: apt-get install$missing" >&2
        return 1
    fi
    # Debian starts servers when it installs them; nothing here wants one that it did not start itself.
    policy=/usr/sbin/policy-rc.d
    mine=
    trap '[ -z "$mine" ] || rm -f $policy' EXIT INT TERM
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; mine=1; }
    rc=0
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/tmp/holdfast-apt.log 2>&1 || rc=$?
    [ -z "$mine" ] || rm -f $policy
    trap - EXIT INT TERM
    [ $rc = 0 ] || { tail -20 /tmp/holdfast-apt.log >&2; echo "apt-get failed; its output is in /tmp/holdfast-apt.log" >&2; }
    return $rc
}
