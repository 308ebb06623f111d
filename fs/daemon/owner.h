/* Never two daemons on one store. On a local filesystem the lock of store_open() sees to it; a store on
 * a remote one may be mounted by another machine, which no lock tells: its heartbeat does. */
#pragma once

#include "store/store.h"

/* Waits, if need be, for two heartbeats of whoever did not unmount these stores, and reads their
 * superblocks again then; NULLs are skipped. -HFE_IN_USE if one moves. */
int owner_wait(struct store *const *store, unsigned count, struct why *why) must_check;
