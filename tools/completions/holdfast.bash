# bash completion for holdfast: which commands and options there are is asked of `holdfast --help`
_holdfast() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} first=${COMP_WORDS[1]} words all name
    all=$(holdfast --help 2>/dev/null | sed -n 's/^  \([a-z]\+\( [a-z]\+\)\?\)  .*/\1/p')
    if [ "$COMP_CWORD" = 1 ]; then
        words=$(cut -d' ' -f1 <<<"$all" | sort -u)
    elif [ "$COMP_CWORD" = 2 ] && grep -q "^$first " <<<"$all"; then
        words=$(sed -n "s/^$first //p" <<<"$all")
    elif [ "$prev" = -o ]; then
        words="degraded store-timeout= min-stores= on-full=drop slow-store= passive-lag= passive-policy=slow snap-reserve= snap-sync=strict cache=writeback ro suid dev noatime"
    elif [[ $cur == -* ]]; then
        # nothing else that was typed: it could be run
        name=$(grep -xF -e "$first ${COMP_WORDS[2]}" -e "$first" <<<"$all" | head -1)
        [ -z "$name" ] || words="$(holdfast $name --help 2>/dev/null | head -1 | grep -oE -- '--?[A-Za-z][a-z-]*') --help"
    elif [ "$cur" = @ ] || [ "$prev" = @ ]; then # bash takes NAME@SNAP for three words
        [ "$cur" = @ ] && name=$prev cur="" || name=${COMP_WORDS[COMP_CWORD - 2]}
        words=$(holdfast snapshot list "$name" -H 2>/dev/null | cut -f1 | cut -d@ -f2)
    else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -W "$(holdfast list -H 2>/dev/null | cut -f1)" -- "$cur"; compgen -d -- "$cur")
        return
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _holdfast holdfast
