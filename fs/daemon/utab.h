/* The mount table's side file, /run/mount/utab. umount(8) looks for a helper by filesystem type,
 * but for FUSE it sees only "fuse" and would return before our daemon has flushed; an entry with
 * uhelper=holdfast makes it call umount.holdfast (libmount, mount(8) "Helpers"). Best effort:
 * without it `holdfast umount` still waits. Root only. */
#pragma once

void utab_add(const char *name, const char *mount_point, const char *options);
void utab_remove(const char *mount_point);
