# A store catches up with what was done at the end of a very long path.
. "$(dirname "$0")/lib.sh"
volume
cat >"$lab/deep" <<'P'
import os, sys
top, words = sys.argv[1:]
os.chdir(top)
for _ in range(600):
    if not os.path.isdir("d"):
        os.mkdir("d")
    os.chdir("d")
for name in ("f", words):
    with open(name, "a") as f:
        f.write(words)
P
python3 "$lab/deep" "$mnt" one
hf umount crm
hf mount crm "$mnt" -o suid,dev
hf store offline crm b -q
python3 "$lab/deep" "$mnt" two
hf store online crm b --wait -q
hf umount crm
same
