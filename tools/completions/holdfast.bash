# bash completion for holdfast
_holdfast() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    if [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "create import dissolve mount umount status list check events resolve doctor store replace resync verify snapshot prune diff restore" -- "$cur")
        return
    fi
    if [ "${COMP_WORDS[1]}" = store ] && [ "$COMP_CWORD" = 2 ]; then
        mapfile -t COMPREPLY < <(compgen -W "list add remove set probe online offline" -- "$cur")
        return
    fi
    if [ "${COMP_WORDS[1]}" = snapshot ] && [ "$COMP_CWORD" = 2 ]; then
        mapfile -t COMPREPLY < <(compgen -W "create list destroy bookmark rename hold release" -- "$cur")
        return
    fi
    case $prev in
    --adopt | --take-over | --mount | --keep | --to) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
    -o) mapfile -t COMPREPLY < <(compgen -W "degraded store-timeout= min-stores= on-full=drop slow-store= passive-lag= passive-policy=slow snap-reserve= snap-sync=strict cache=writeback ro suid dev noatime" -- "$cur"); return ;;
    esac
    case ${COMP_WORDS[1]}:$cur in
    create:-*) mapfile -t COMPREPLY < <(compgen -W "--adopt --take-over --mount --fstab -o --dry-run --quiet --help" -- "$cur") ;;
    dissolve:-*) mapfile -t COMPREPLY < <(compgen -W "--keep --yes --help" -- "$cur") ;;
    mount:-*) mapfile -t COMPREPLY < <(compgen -W "-f -d -o --force --help" -- "$cur") ;;
    umount:-*) mapfile -t COMPREPLY < <(compgen -W "--lazy --help" -- "$cur") ;;
    status:-*) mapfile -t COMPREPLY < <(compgen -W "-x -w -p --quiet --json --test --help" -- "$cur") ;;
    list:-*) mapfile -t COMPREPLY < <(compgen -W "-H --json --help" -- "$cur") ;;
    events:-*) mapfile -t COMPREPLY < <(compgen -W "-f --since -H --json --test --help" -- "$cur") ;;
    resolve:-*) mapfile -t COMPREPLY < <(compgen -W "--keep --yes --help" -- "$cur") ;;
    replace:-*) mapfile -t COMPREPLY < <(compgen -W "--wait --force --help" -- "$cur") ;;
    resync:-*) mapfile -t COMPREPLY < <(compgen -W "--pause --resume --limit --wait --help" -- "$cur") ;;
    verify:-*) mapfile -t COMPREPLY < <(compgen -W "--store --repair --stop --json --quiet --help" -- "$cur") ;;
    store:-*) mapfile -t COMPREPLY < <(compgen -W "--json --wait --force --yes --passive -H --help" -- "$cur") ;;
    snapshot:-*) mapfile -t COMPREPLY < <(compgen -W "--tag --freeze --auto --yes --json -H -p -q --help" -- "$cur") ;;
    prune:-*) mapfile -t COMPREPLY < <(compgen -W "--keep-last --keep-hourly --keep-daily --keep-weekly --keep-monthly --keep-yearly --keep-within --keep-tag --auto --dry-run --yes --help" -- "$cur") ;;
    diff:-*) mapfile -t COMPREPLY < <(compgen -W "--verbose --help" -- "$cur") ;;
    restore:-*) mapfile -t COMPREPLY < <(compgen -W "--to --in-place --yes --quiet --help" -- "$cur") ;;
    snapshot:* | diff:* | restore:*@*) mapfile -t COMPREPLY < <(compgen -W "$(holdfast list -H 2>/dev/null | cut -f1 | while read -r v; do holdfast snapshot list "$v" -H 2>/dev/null | cut -f1; done)" -- "$cur") ;;
    doctor:-*) mapfile -t COMPREPLY < <(compgen -W "--json --help" -- "$cur") ;;
    mount:* | umount:* | status:* | doctor:* | dissolve:* | check:* | events:* | resolve:* | replace:* | resync:* | verify:* | prune:* | restore:*)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -W "$(holdfast list -H 2>/dev/null | cut -f1)" -- "$cur"; compgen -d -- "$cur") ;;
    *) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
    esac
}
complete -F _holdfast holdfast
