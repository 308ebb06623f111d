/* Every bound in Holdfast, with its unit and its reason. */
#pragma once

enum {
    STORES_MAX = 8,            /* stores of a volume; the superblock's table has room for 16 */
    LABEL_BYTES = 64,          /* a store's label with its final NUL */
    VOLUME_NAME_BYTES = 64,    /* [A-Za-z][A-Za-z0-9_.-]{0,62} and a final NUL */
    NAME_BYTES = 256,          /* NAME_MAX of Linux and a final NUL */
    PATH_BYTES = 4096,         /* PATH_MAX: of stores and mount points, never of files inside */
    TREE_DEPTH_MAX = 1024,     /* of a tree that is removed: each level holds a descriptor */
    DIRFDS_MIN = 32,           /* cached directory descriptors of one store: at least */
    DIRFDS_MAX = 1024,         /* and at most; between them a share of RLIMIT_NOFILE */
    DIRFDS_SHARE = 8,          /* all caches together take 1/8 of RLIMIT_NOFILE */
    THREADS_MAX = 64,          /* that serve requests; a request may sleep in a store's fsync */
    QUEUES_MAX = 256,          /* processors that are served by rings of their own */
    QUEUE_THREADS_MIN = 16,    /* each of those may have, however many there are */
    THREADS_IDLE_MAX = 6,      /* kept waiting for work; more only costs memory */
    WORKERS_MAX = 32,          /* that run the second store's fsync beside the first's */
    IO_BYTES_MAX = 1 << 20,    /* of one read or write: what the kernel sends at most */
    XATTR_BYTES_MAX = 1 << 16, /* XATTR_SIZE_MAX and XATTR_LIST_MAX of Linux */
    REASON_BYTES = 256,        /* why a store is not ONLINE, in words */
    EVENTS_MAX = 1024,         /* kept in memory for `status`; older ones are in the log */
    DIRTY_DIRS_MAX = 4096,     /* directories whose times wait to be made equal */
    CTL_LINE_BYTES = 1 << 16,  /* one request on the control socket */
    CTL_TIMEOUT_MS = 5000,     /* for a client to say what it wants */
    SNAPSHOTS_MAX = 1024,      /* of a volume: each has a log that views of older ones read */
    SNAPSHOT_NAME_BYTES = 112, /* with its final NUL */
    SNAPSHOT_TAGS_BYTES = 64,  /* all tags of one, with commas between them and a final NUL */
    SNAP_XATTR_BYTES_MAX = 1 << 20, /* all extended attributes of one object, with their keys */
    LINGER_MAX = 8192,              /* replaced files that stay openable for a moment */
    LINGER_MS = 1000,               /* that moment */
    STORE_TIMEOUT_MS = 10000,       /* silence after which a store is lost, unless set */
    PROBE_MS = 5000,        /* a store is written to, synced and read; others see it is in use */
    SPACE_LOW_PERCENT = 10, /* of a store free: an event, and status says so */
    SPACE_CRITICAL_PERCENT = 3,
    SPACE_AGAIN_PERCENT = 2, /* more than that free again, before it is told once more */
    TICK_MS = 250,           /* the daemon's housekeeping */
    DIR_TIMES_MS = 750,      /* a directory's times are equal on all stores after this long */
    TOUCHED_MAX = 65536,  /* objects synced one by one at a checkpoint, where syncfs does nothing */
    JOURNAL_START = 4096, /* position of a volume's first frame: 0 stands for "unknown" */
    JOURNAL_CAP_BYTES = 256 << 20, /* of the log kept for a store that is away */
    RETRY_OWN_MAX = 3,             /* tries when our own limits (EMFILE, ENOMEM) refuse */
    PARALLEL_BYTES =
        256 << 10 /* a write this large goes to all stores at once: handing over pays */
};
