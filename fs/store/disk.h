/* Which physical disk a device number is on, by what /sys says. Never touches the disk. */
#pragma once

#include <sys/types.h>

enum { DISK_TEXT_BYTES = 192 };

/* "sda, MODEL, serial SERIAL", or what is known of it; "" if there is none (FUSE, a network). */
void disk_describe(dev_t dev, char ret_text[DISK_TEXT_BYTES]);
