# fish completion for holdfast: which commands and options there are is asked of `holdfast --help`
function __holdfast_commands
    holdfast --help 2>/dev/null | sed -n 's/^  \([a-z]\+\( [a-z]\+\)\?\)  .*/\1/p'
end
function __holdfast_words
    set -l typed (commandline -opc)
    if test (count $typed) -eq 1
        __holdfast_commands | cut -d' ' -f1 | sort -u
    else if test (count $typed) -eq 2; and __holdfast_commands | grep -q "^$typed[2] "
        __holdfast_commands | sed -n "s/^$typed[2] //p"
    else if string match -q -- '-*' (commandline -ct)
        # nothing else that was typed: it could be run
        set -l name (__holdfast_commands | grep -xF -e "$typed[2] $typed[3]" -e "$typed[2]")
        test -n "$name"; and holdfast (string split ' ' -- $name[1]) --help 2>/dev/null | head -1 | grep -oE -- '--?[A-Za-z][a-z-]*'
    else
        holdfast list -H 2>/dev/null | cut -f1
        __fish_complete_directories
    end
end
complete -c holdfast -f -a '(__holdfast_words)'
