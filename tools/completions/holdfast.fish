# fish completion for holdfast
set -l commands create import dissolve mount umount status list check events resolve doctor store replace resync verify snapshot prune diff restore
complete -c holdfast -n "not __fish_seen_subcommand_from $commands" -f -a "$commands"
complete -c holdfast -n "__fish_seen_subcommand_from store" -f -a 'list add remove set probe online offline'
complete -c holdfast -n "__fish_seen_subcommand_from snapshot" -f -a 'create list destroy bookmark rename hold release'
complete -c holdfast -n "__fish_seen_subcommand_from snapshot" -l freeze -r
complete -c holdfast -n "__fish_seen_subcommand_from snapshot" -l tag -r
complete -c holdfast -n "__fish_seen_subcommand_from prune" -l keep-last -r
complete -c holdfast -n "__fish_seen_subcommand_from prune" -l keep-hourly -r
complete -c holdfast -n "__fish_seen_subcommand_from prune" -l keep-daily -r
complete -c holdfast -n "__fish_seen_subcommand_from prune" -l keep-weekly -r
complete -c holdfast -n "__fish_seen_subcommand_from prune" -l keep-monthly -r
complete -c holdfast -n "__fish_seen_subcommand_from prune" -l keep-yearly -r
complete -c holdfast -n "__fish_seen_subcommand_from prune" -l keep-within -r
complete -c holdfast -n "__fish_seen_subcommand_from prune" -l keep-tag -r
complete -c holdfast -n "__fish_seen_subcommand_from restore" -l to -r -d "another folder"
complete -c holdfast -n "__fish_seen_subcommand_from restore" -l in-place
complete -c holdfast -n "__fish_seen_subcommand_from mount umount status doctor dissolve check events resolve replace resync verify prune" -a "(holdfast list -H 2>/dev/null | cut -f1)"
complete -c holdfast -n "__fish_seen_subcommand_from create" -l adopt -r -d "store whose files become the volume"
complete -c holdfast -n "__fish_seen_subcommand_from create" -l take-over -r -d "live folder to take over"
complete -c holdfast -n "__fish_seen_subcommand_from create" -l mount -r -d "mount point"
complete -c holdfast -n "__fish_seen_subcommand_from create" -l fstab -d "add the line to /etc/fstab"
complete -c holdfast -n "__fish_seen_subcommand_from dissolve" -l keep -r -d "store that stays"
complete -c holdfast -n "__fish_seen_subcommand_from dissolve" -l yes
complete -c holdfast -n "__fish_seen_subcommand_from mount" -l force
complete -c holdfast -n "__fish_seen_subcommand_from umount" -l lazy
complete -c holdfast -n "__fish_seen_subcommand_from status list doctor store" -l json
complete -c holdfast -n "__fish_seen_subcommand_from status" -l test
complete -c holdfast -n "__fish_seen_subcommand_from resolve" -l keep -r -d "store that stays"
complete -c holdfast -n "__fish_seen_subcommand_from store replace resync" -l wait
complete -c holdfast -n "__fish_seen_subcommand_from store replace" -l force
complete -c holdfast -n "__fish_seen_subcommand_from store" -l passive
complete -c holdfast -n "__fish_seen_subcommand_from resync" -l pause
complete -c holdfast -n "__fish_seen_subcommand_from resync" -l resume
complete -c holdfast -n "__fish_seen_subcommand_from resync" -l limit -r
complete -c holdfast -n "__fish_seen_subcommand_from verify" -l store -r
complete -c holdfast -n "__fish_seen_subcommand_from verify" -l repair
complete -c holdfast -n "__fish_seen_subcommand_from verify" -l stop
complete -c holdfast -n "__fish_seen_subcommand_from events" -l since -r
complete -c holdfast -n "__fish_seen_subcommand_from events" -l test
complete -c holdfast -n "__fish_seen_subcommand_from diff" -s v -l verbose
