# A store that was unmounted and mounted again while no daemon ran is another instance of it, even when
# the kernel gives its mount the same number: what the ring says was under way is not all then.
. "$(dirname "$0")/lib.sh"
volume
for try in 1 2 3 4; do
    echo "$try" >"$mnt/f"
    kill -KILL "$(daemon_pid)"
    for d in b a; do wait_for umount -q "$lab/$d"; done
    for d in a b; do mount -o loop "$lab/$d.img" "$lab/$d"; done
    hf mount crm "$mnt"
    hf events crm -H | tail -n 3 | grep -q "had been killed" && die "try $try: a new mount was taken for the old one"
    wait_for online a
    wait_for online b
    [ "$(cat "$mnt/f")" = "$try" ] || die "try $try: the file is not there"
done
hf umount crm
same
