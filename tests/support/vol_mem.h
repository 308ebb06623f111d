/* A volume in memory: what the model tests compare the real chain with. Owns its objects. One
 * thread at a time. No ACLs, no devices' behaviour, no permission checks: as below the kernel. */
#pragma once

#include "vol/vol.h"

int vol_mem_new(struct vol **ret_vol) must_check;
/* The same tree once more, with objects of its own. Nothing is open in it. */
int vol_mem_copy(struct vol *vol, struct vol **ret_copy) must_check;
struct obj_table *vol_mem_objects(struct vol *vol);
