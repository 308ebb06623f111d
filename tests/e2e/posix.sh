# What a filesystem owes its users, and that all of it is on both stores.
. "$(dirname "$0")/lib.sh"
volume
mkdir "$mnt/p"
chmod 755 "$mnt/p"
"$HOLDFAST_BUILD/posix" "$mnt/p" || die "see above"
# ACLs, inherited and not.
mkdir "$mnt/acl"
setfacl -d -m u:1234:rwx,g::r-x "$mnt/acl"
(umask 077; touch "$mnt/acl/f"; mkdir "$mnt/acl/d")
getfacl -p "$mnt/acl/f" | grep -q '^user:1234:rwx' || die "the default ACL is not inherited"
getfacl -p "$mnt/acl/d" | grep -q '^default:user:1234:rwx' || die "the default ACL is not passed on"
# Trees and back: tar, rsync, git.
tar cf - -C /usr/include linux asm-generic | tar xf - -C "$mnt"
rsync -aHAX "$mnt/p/" "$mnt/p2/"
rsync -aHAX --dry-run --itemize-changes --delete "$mnt/p/" "$mnt/p2/" | grep . && die "rsync sees differences"
git -c init.defaultBranch=main init -q "$mnt/git"
cp -r "$mnt/linux" "$mnt/git/"
git -C "$mnt/git" add -A
git -C "$mnt/git" -c user.name=t -c user.email=t@t commit -qm one
git clone -q "$mnt/git" "$mnt/git2"
git -C "$mnt/git2" fsck --full >/dev/null
[ -z "$(git -C "$mnt/git" status --porcelain)" ] || die "git status"
# A folder deeper than PATH_MAX.
(cd "$mnt"; for _ in $(seq 40); do mkdir "$(printf 'd%.0s' $(seq 200))"; cd "$(printf 'd%.0s' $(seq 200))"; done; echo deep >file; [ "$(cat file)" = deep ])
# Few descriptors for many folders.
(cd "$mnt"; mkdir many; cd many; seq 3000 | xargs mkdir; for i in 1 1500 3000; do echo $i >$i/f; done)
[ "$(ls "/proc/$(daemon_pid)/fd" | wc -l)" -lt 2200 ] || die "descriptors"
hf umount crm
same
