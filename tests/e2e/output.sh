# What commands say to programs: JSON, columns, NULs; parts that are looked at alone; names of any bytes.
. "$(dirname "$0")/lib.sh"
volume
json() { python3 -c 'import json, sys
d = json.load(sys.stdin)
assert d["schema"] == 1
print(eval(sys.argv[1], {"d": d}))' "$1"; }
is() { [ "$1" = "$2" ] || die "it is \"$1\", not \"$2\""; }
code() { local rc=0; "$@" >/dev/null 2>&1 || rc=$?; echo $rc; }
odd=$'M\xfcll\e[2Jer\n\\x' # Latin-1, a terminal's control sequence, a newline, a backslash
shown='M\374ll\033[2Jer\012\134x'
hf snapshot create crm@nothing -q
is "$(hf diff crm@nothing)" ""
is "$(hf diff crm@nothing --json | json 'd["changes"]')" "[]"
hf snapshot destroy crm@nothing --yes
mkdir -p "$mnt/up/2026" "$mnt/other"
head -c 3000000 /dev/urandom >"$mnt/up/2026/big"
echo old >"$mnt/up/$odd"
echo one >"$mnt/up/moves"
echo one >"$mnt/up/leaves"
echo same >"$mnt/other/same"
setfattr -n user.x -v 1 "$mnt/up"

# Lists.
is "$(hf snapshot create crm@one --tag release --json | json 'd["volume"] + "@" + d["snapshot"], 0 < d["cut_us"] <= d["settled_us"]')" "('crm@one', True)"
is "$(hf snapshot list crm -H -o tags,name)" $'manual,release\tcrm@one'
is "$(hf list -o name)" $'NAME\ncrm'
is "$(hf store list crm -H -o state,store)" $'ONLINE\ta\nONLINE\tb'
refused 2 "there are: STORE STATE WHERE DISK" hf store list crm -o state,stores
refused 2 "there is no column" hf list -o ""

# What changed.
printf changed | dd of="$mnt/up/2026/big" bs=1 seek=5000 conv=notrunc status=none
mv "$mnt/up/$odd" "$mnt/up/b$odd"
mv "$mnt/up/moves" "$mnt/up/2026/moved"
mv "$mnt/up/leaves" "$mnt/other/left"
hf diff crm@one -v >"$lab/diff"
for line in "M  /up/2026/big  (1 of 733 blocks)" "R  /up/$shown -> /up/b$shown" "R  /up/moves -> /up/2026/moved" "R  /up/leaves -> /other/left"; do
    grep -qxF -- "$line" "$lab/diff" || { cat "$lab/diff"; die "diff does not say: $line"; }
done
hf diff crm@one --path /up/2026/ >"$lab/diff"
is "$(grep -cv '^[MR+] ' "$lab/diff")" 0
is "$(grep -vF /up/2026 "$lab/diff")" ""
grep -qx "+  /up/2026/moved" "$lab/diff" || { cat "$lab/diff"; die "what moved in"; }
is "$(hf diff crm@one --path up/2026/big)" "M  /up/2026/big"
refused 1 "neither side has /nowhere" hf diff crm@one --path nowhere
hf diff crm@one -z | python3 -c 'import sys
got = sys.stdin.buffer.read().split(b"\0")
old = b"/up/M\xfcll\x1b[2Jer\n\\x"
i = got.index(b"R\t" + old)
assert got[i + 1] == old.replace(b"/M", b"/bM"), got
assert b"M\t/up/2026/big" in got' || die "diff -z"
refused 2 "-z goes without" hf diff crm@one -z -v
is "$(hf diff crm@one -v --json | json '[(c["blocks"], c["blocks_total"]) for c in d["changes"] if c["path"] == "/up/2026/big"]')" "[(1, 733)]"
is "$(hf diff crm@one --json | json 'd["from"], [c["to"] for c in d["changes"] if c["path"] == "/up/moves"]')" "('one', ['/up/2026/moved'])"
hf diff crm@one --json | json "$(printf '[c["path"] for c in d["changes"]].count(%s)' "'/up/${shown//\\/\\\\}'")" | grep -qx 1 || die "an odd name in JSON"

# A folder that moved, one that is new, one that is gone: what is in them, too.
hf snapshot create crm@two -q
mv "$mnt/up" "$mnt/up.locked"
printf changed | dd of="$mnt/up.locked/2026/big" bs=1 seek=9000 conv=notrunc status=none
mkdir -p "$mnt/fresh/deep"
mv "$mnt/other/same" "$mnt/fresh/deep/moved"
echo new >"$mnt/fresh/deep/new"
rm -r "$mnt/other"
hf diff crm@two -v >"$lab/diff"
for line in "R  /up -> /up.locked" "M  /up.locked/2026/big  (1 of 733 blocks)" "+  /fresh" "+  /fresh/deep" "+  /fresh/deep/new" \
    "R  /other/same -> /fresh/deep/moved" "-  /other" "-  /other/left"; do
    grep -qxF -- "$line" "$lab/diff" || { cat "$lab/diff"; die "diff does not say: $line"; }
done
is "$(wc -l <"$lab/diff")" 8
mkdir -p "$mnt/one/two/three"
mv "$mnt/up.locked" "$mnt/one/two/three/up"
for line in "R  /up -> /one/two/three/up" "M  /one/two/three/up/2026/big  (1 of 733 blocks)" "+  /one" "+  /one/two" "+  /one/two/three"; do
    hf diff crm@two -v | grep -xF -- "$line" >/dev/null || { hf diff crm@two -v; die "diff does not say: $line"; }
done
is "$(hf diff crm@two | wc -l)" 11
is "$(hf diff crm@two --path fresh/deep/new)" "+  /fresh/deep/new"
is "$(hf diff crm@two --path other/left)" "-  /other/left"
mv "$mnt/one/two/three/up/2026/moved" "$mnt/y"
hf diff crm@two >"$lab/diff"
grep -qx "R  /up/2026/moved -> /y" "$lab/diff" || grep -qx "R  /up/moves -> /y" "$lab/diff" || { cat "$lab/diff"; die "what moved out of what moved"; }
grep -q "^[-+] .*moved$" "$lab/diff" && grep -v "fresh/deep/moved" "$lab/diff" | grep "^[-+] .*/moved$" && die "it is told twice"
hf restore crm@two --in-place --yes --verify -q
is "$(hf diff crm@two)" ""
hf snapshot destroy crm@two --yes

# What was restored is compared.
hf restore crm@one up other/same --to "$lab/out" --verify >"$lab/said"
grep -q "^7 objects compared" "$lab/said" || { cat "$lab/said"; die "restore --to --verify"; }
cmp "$lab/out/up/2026/big" "$mnt/.holdfast/snapshots/one/up/2026/big" || die "it is another one"
is "$(hf restore crm@one up --to "$lab/out2" --verify --json | json 'd["compared"], d["in_place"], d["snapshot"]')" "(6, False, 'one')"
is "$(hf restore crm@one --to "$lab/all" --verify --json | json 'd["compared"]')" "9"
hf restore crm@one --in-place --yes --verify --json >"$lab/said"
is "$(json 'd["in_place"], d["put_back"] > 0, d["compared"], d["safety_snapshot"][:15]' <"$lab/said")" "(True, True, 9, 'before-restore-')"
# ... and what is not like the snapshot is found: cp of another kind leaves something out, and adds something.
mkdir "$lab/bin"
cat >"$lab/bin/cp" <<'C'
#!/bin/sh
/bin/cp "$@"
for to; do :; done
printf x >>"$to/2026/big"
rm "$to/moves"
C
chmod 755 "$lab/bin/cp"
PATH="$lab/bin:$PATH" refused 1 "differs from the snapshot in 3 of 6" hf restore crm@one up --to "$lab/out3" --verify
for line in "$lab/out3/up/2026/big has another owner, mode, size or time" "$lab/out3/up/moves is missing"; do
    grep -qF -- "$line" "$lab/said" || { cat "$lab/said"; die "not told: $line"; }
done

# Parts are verified: of the volume ...
printf ROT | dd of="$lab/b/s/up/2026/big" bs=1 seek=100000 conv=notrunc status=none
touch -r "$lab/a/s/up/2026/big" "$lab/b/s/up/2026/big"
hf verify crm --path other -q || die "verify --path looks elsewhere"
is "$(code hf verify crm --path up/2026/big -q)" 3
is "$(code hf verify crm --path /up -q)" 3
refused 1 "no store has that path" hf verify crm --path up/2025 --json
refused 1 "no store has that path" hf verify crm --path up/2026/big/x --json
refused 1 "no store has that path" hf verify crm --path .holdfast/super --json
refused 2 "has no .." hf verify crm --path ../x
refused 2 "1 to 100" hf verify crm --sample 0
found=0
for _ in $(seq 200); do # one of 12 parts differs, and one in ten is looked at
    hf verify crm --path up --sample 10 -q || { found=$?; break; }
done
[ $found = 3 ] || die "verify --sample finds nothing: $found"
is "$(hf verify crm --path other --sample 10 --json | json 'd["verify"]["result"]')" "no difference in 2 objects; of their bytes 10 % were compared"
# ... and of a snapshot.
bytes() { hf verify crm@one "$@" --json | json 'd["bytes"]'; }
is "$(bytes --path up/2026)" 3000000
is "$(bytes --path other)" 5
refused 1 "/nowhere: No such file" hf verify crm@one --path nowhere

# An event names any file.
chmod 600 "$lab/b/s/up/$odd"
is "$(code hf verify crm --path "up/$odd" -q)" 3
refused 2 "are for stores" hf verify crm@one --repair
hf events crm -H | grep -F -- "mode: nobody can know which copy is right: /up/$shown" >/dev/null || { hf events crm | tail -3; die "an odd name in an event"; }

# What is pruned, and why not.
refused 5 "no rule keeps any" hf prune crm --keep-tag nobody --yes
refused 2 "would be minutes" hf prune crm --keep-within 6m --yes
hf snapshot hold crm@one
is "$(hf prune crm --keep-last 1 -n --json | json 'd["dry_run"], [(s["name"][:6], s["kept"], s["why_kept"]) for s in d["snapshots"]]')" \
    "(True, [('before', True, 'last 1'), ('before', False, ''), ('one', True, 'hold')])"
hf snapshot release crm@one
is "$(hf prune crm --keep-last 1 --yes -H -o why-kept,name | tail -1)" $'- (destroyed)\tone'
is "$(hf snapshot list crm -H | wc -l)" 1
refused 1 'has no snapshot "one"' hf diff crm@one
refused 1 "no snapshot" hf snapshot hold crm@one
