/* What changed between two instants. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <uthash.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/text.h"
#include "snap/snap.h"
#include "store/copy.h"
#include "tools/pairs.h"
#include "tools/snapshots.h"

enum { COMPARED_BYTES = 1 << 20, COMPARED_BLOCK = 4096 };

/* A name that only one side has: it may have moved. */
struct moved {
    uint64_t number; /* of the file; 0: nobody knows */
    struct moved *next;
    mode_t type; /* a number may be given to another file later */
    bool found;  /* it is on the other side under another name */
    bool opened; /* a folder: what is in it is known, too */
    UT_hash_handle hh;
    UT_hash_handle by_path; /* of those that are found */
    char path[];
};

/* The names that one side has and the other one lacks, in the order in which they were found. */
struct lone {
    struct moved *first, **last;
    struct moved *found; /* by path: they are not noted again */
};

struct diff {
    int top[2];
    uint64_t cut_s;          /* when the older side was cut */
    struct lone side[2];     /* gone, and added */
    struct moved *by_number; /* of those that are gone */
    const char *below[2]; /* where the tops of this walk are on each side: of a folder that moved */
    const char *only;     /* this path and what is below; "": all */
    bool only_found;
    bool count;    /* the blocks that changed */
    bool zero;     /* with NULs, and nothing escaped */
    json_t *array; /* with --json; else NULL */
};

/* --- showing --- */

/* `to`: of what moved, else NULL. blocks of `of`: of what changed, with -v; else -1. */
static void show(const struct diff *d, const char *what, const char *path, const char *to,
                 int64_t blocks, int64_t of) {
    char text[4 * PATH_BYTES + 1];
    json_t *o;

    if (d->array) {
        o = json_pack("{s:s, s:o, s:o*}", "change", what, "path", text_json("/", path), "to",
                      to ? text_json("/", to) : NULL);
        if (blocks >= 0) {
            (void)json_object_set_new(o, "blocks", json_integer(blocks));
            (void)json_object_set_new(o, "blocks_total", json_integer(of));
        }
        (void)json_array_append_new(d->array, o);
        return;
    }
    if (d->zero) {
        (void)printf("%s\t/%s%c", what, path, '\0');
        if (to) {
            (void)printf("/%s%c", to, '\0');
        }
        return;
    }
    (void)text_escape(path, text, sizeof(text));
    (void)printf("%s  /%s", what, text);
    if (to) {
        (void)text_escape(to, text, sizeof(text));
        (void)printf(" -> /%s", text);
    }
    if (blocks >= 0) {
        (void)printf("  (%lld of %lld blocks)", (long long)blocks, (long long)of);
    }
    (void)putchar('\n');
}

/* --- comparing --- */

static char *join(const char *folder, const char *path) {
    char *joined = NULL;

    return asprintf(&joined, "%s%s%s", folder, *folder && *path ? "/" : "", path) < 0 ? NULL
                                                                                      : joined;
}

static int note(struct diff *d, int side, const char *path, const struct stat *st) {
    struct moved *m, *same = NULL;

    HASH_FIND(by_path, d->side[side].found, path, strlen(path), same);
    if (same) {
        return 0;
    }
    m = calloc(1, sizeof(*m) + strlen(path) + 1);
    if (!m) {
        return -ENOMEM;
    }
    m->number = snap_ino_same(st->st_ino);
    m->type = st->st_mode & S_IFMT;
    memcpy(m->path, path, strlen(path) + 1);
    *d->side[side].last = m;
    d->side[side].last = &m->next;
    if (side == 0 && m->number != 0) {
        HASH_FIND(hh, d->by_number, &m->number, sizeof(m->number), same);
    }
    if (side == 0 && m->number != 0 && !same) {
        HASH_ADD(hh, d->by_number, number, sizeof(m->number), m);
    }
    return 0;
}

/* How many blocks in a part of two files differ; or a negative errno. */
static int64_t count_part(int a, int b, char *buf, size_t len, off_t at) {
    char *second = buf + COMPARED_BYTES;
    ssize_t n = io_pread(a, buf, len, at), m = io_pread(b, second, len, at);
    int64_t blocks = 0;

    if (n == -ENODATA || m == -ENODATA) { /* a bookmark: it says of each block whether it changed */
        for (size_t k = 0; len > COMPARED_BLOCK && k < len && blocks >= 0; k += COMPARED_BLOCK) {
            int64_t one = count_part(a, b, buf, COMPARED_BLOCK, at + (off_t)k);

            blocks = one < 0 ? one : blocks + one;
        }
        return len > COMPARED_BLOCK ? blocks : 1;
    }
    if (n < 0 || m < 0) {
        return n < 0 ? n : m;
    }
    for (ssize_t k = 0; k < n || k < m; k += COMPARED_BLOCK) {
        ssize_t left = n - k < COMPARED_BLOCK ? n - k : COMPARED_BLOCK;
        ssize_t right = m - k < COMPARED_BLOCK ? m - k : COMPARED_BLOCK;

        blocks += left != right || memcmp(buf + k, second + k, (size_t)left) != 0;
    }
    return blocks;
}

static off_t longer_size(const struct pair *p) {
    return p->st[0]->st_size > p->st[1]->st_size ? p->st[0]->st_size : p->st[1]->st_size;
}

static int64_t count_blocks(const struct pair *p) {
    scope_fd int a =
        openat(p->folder[0], p->name[0], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    scope_fd int b =
        openat(p->folder[1], p->name[1], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    scope_free char *buf = calloc(2, COMPARED_BYTES);
    int64_t blocks = 0;

    if (a < 0 || b < 0 || !buf) {
        return -errno;
    }
    for (off_t at = 0; at < longer_size(p); at += COMPARED_BYTES) {
        int64_t part = count_part(a, b, buf, COMPARED_BYTES, at);

        if (part < 0) {
            return part;
        }
        blocks += part;
    }
    return blocks;
}

/* A ctime changes without the file, too; then the bytes say it. */
static bool differs(const struct diff *d, const struct pair *p) {
    return !copy_same_stat(p->st[0], p->st[1]) ||
           (!pair_untouched(p, d->cut_s) && !pair_same_content(p));
}

static bool is_below(const char *path, const char *top) {
    size_t n = strlen(top);

    return n == 0 || (strncmp(path, top, n) == 0 && (path[n] == '/' || !path[n]));
}

static int show_changed(const struct diff *d, const struct pair *p, const char *path) {
    bool counted = d->count && S_ISREG(p->st[0]->st_mode);
    int64_t blocks = counted ? count_blocks(p) : 0;

    if (blocks == -ENOENT) { /* the live one just went */
        return 0;
    }
    if (blocks < 0) {
        return (int)blocks;
    }
    show(d, "M", path, NULL, counted ? blocks : -1,
         (longer_size(p) + COMPARED_BLOCK - 1) / COMPARED_BLOCK);
    return 0;
}

static bool is_folder(const struct stat *st) {
    return st && S_ISDIR(st->st_mode);
}

/* One side alone has it, or both have something else there. */
static int note_lone(struct diff *d, const struct pair *p) {
    int err = 0;

    for (int i = 0; i < 2 && err == 0; i++) {
        scope_free char *path = p->st[i] ? join(d->below[i], p->path) : NULL;

        if (p->st[i] && !path) {
            return -ENOMEM;
        }
        err = path && is_below(path, d->only) ? note(d, i, path, p->st[i]) : 0;
    }
    return err;
}

static int compare(void *arg, const struct pair *p) {
    struct diff *d = arg;
    const struct stat *a = p->st[0], *b = p->st[1];
    scope_free char *path = join(d->below[1], p->path);
    int err = 0;

    if (!path) {
        return -ENOMEM;
    }
    if (!is_below(path, d->only)) { /* it may lead there */
        return (is_below(d->only, path) || !*path) && (is_folder(a) || is_folder(b));
    }
    d->only_found = true;
    if (!a || !b || ((a->st_mode ^ b->st_mode) & S_IFMT)) {
        return note_lone(d, p);
    }
    err = differs(d, p) ? show_changed(d, p, path) : 0;
    return err < 0 ? err : is_folder(a);
}

/* --- what moved --- */

/* A path of each side (NULL: that side has none) as a pair, and its folders; closed by close_pair(). */
static int open_pair(const struct diff *d, const char *const path[2], struct pair *ret,
                     struct stat st[2]) {
    *ret = (struct pair){.path = "", .folder = {-1, -1}};
    for (int i = 0; i < 2; i++) {
        if (!path[i]) {
            continue;
        }
        ret->folder[i] = pairs_open(d->top[i], path[i], &ret->name[i]);
        if (ret->folder[i] < 0 ||
            fstatat(ret->folder[i], ret->name[i], &st[i], AT_SYMLINK_NOFOLLOW) < 0) {
            return ret->folder[i] < 0 ? ret->folder[i] : -errno;
        }
        ret->st[i] = &st[i];
    }
    return 0;
}

static void close_pair(struct pair *p) {
    cleanup_fd(&p->folder[0]);
    cleanup_fd(&p->folder[1]);
}

/* Compares all that is in the folder, which is at one path on the one side and at another (or none) on the
 * other. */
static int compare_below(struct diff *d, const struct pair *p, const char *const path[2]) {
    const struct pairs_walk walk = {.each = compare, .arg = d};
    scope_free char *where = NULL;
    int top[2] = {-1, -1}, err = 0;

    for (int i = 0; i < 2 && err == 0; i++) {
        if (p->st[i]) {
            top[i] =
                openat(p->folder[i], p->name[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            err = top[i] < 0 && !(i == 1 && errno == ENOENT) ? -errno : 0; /* the live one may go */
        }
        d->below[i] = path[i] ? path[i] : path[!i];
    }
    err = err < 0 ? err : pairs_walk(top, &walk, &where);
    d->below[0] = d->below[1] = "";
    cleanup_fd(&top[0]);
    cleanup_fd(&top[1]);
    return err;
}

/* What was noted of a folder before it was known to have moved is compared with where it moved to. */
static void forget_below(struct diff *d, int side, const char *path) {
    for (struct moved *m = d->side[side].first; m; m = m->next) {
        struct moved *listed = NULL;

        if (m->found || !is_below(m->path, path)) {
            continue;
        }
        m->found = m->opened = true;
        if (side == 0) {
            HASH_FIND(hh, d->by_number, &m->number, sizeof(m->number), listed);
        }
        if (listed == m) {
            HASH_DEL(d->by_number, m);
        }
    }
}

static void is_found(struct diff *d, int side, struct moved *m) {
    m->found = m->opened = true;
    HASH_ADD_KEYPTR(by_path, d->side[side].found, m->path, strlen(m->path), m);
}

/* It moved; it may have changed as well. */
static int has_moved(struct diff *d, struct moved *from, struct moved *to) {
    const char *const path[2] = {from->path, to->path};
    bool opened = S_ISDIR(to->type) && (from->opened || to->opened);
    struct stat st[2];
    struct pair p;
    int err = open_pair(d, path, &p, st);

    if (err == -ENOENT && p.st[0]) { /* the live one just went: so it is gone */
        to->found = true;
        err = 0;
    } else if (err == 0) {
        is_found(d, 0, from);
        is_found(d, 1, to);
        if (opened) {
            forget_below(d, 0, from->path);
            forget_below(d, 1, to->path);
        }
        show(d, "R", from->path, to->path, -1, 0);
        err = differs(d, &p) ? show_changed(d, &p, to->path) : 0;
        err = err < 0 || !S_ISDIR(to->type) ? err : compare_below(d, &p, path);
    }
    close_pair(&p);
    return err;
}

/* Finds the added ones that are gone elsewhere. 1: some. */
static int match(struct diff *d) {
    int some = 0, err = 0;

    for (struct moved *m = d->side[1].first; m && err == 0; m = m->next) {
        struct moved *from = NULL;

        if (!m->found) {
            HASH_FIND(hh, d->by_number, &m->number, sizeof(m->number), from);
        }
        if (from && !from->found && from->type == m->type) {
            some = 1;
            err = has_moved(d, from, m);
        }
    }
    return err < 0 ? err : some;
}

/* What is in a folder that only one side has may be elsewhere on the other. 1: one was opened. */
static int open_lone(struct diff *d) {
    int some = 0, err = 0;

    for (int i = 0; i < 2; i++) {
        struct moved **end = d->side[i].last; /* what is found now has its turn later */

        for (struct moved *m = d->side[i].first; m && err == 0;
             m = &m->next == end ? NULL : m->next) {
            const char *const path[2] = {i == 0 ? m->path : NULL, i == 1 ? m->path : NULL};
            struct stat st[2];
            struct pair p;

            if (m->opened || !S_ISDIR(m->type)) {
                continue;
            }
            m->opened = true;
            some = 1;
            err = open_pair(d, path, &p, st);
            err = err == -ENOENT ? 0 /* the live one just went */
                  : err < 0      ? err
                                 : compare_below(d, &p, path);
            close_pair(&p);
        }
    }
    return err < 0 ? err : some;
}

/* First those that moved, and what is in them, so that a folder that moved is one line. */
static int find_moved(struct diff *d) {
    int some;

    do {
        some = match(d);
        some = some == 0 ? open_lone(d) : some;
    } while (some > 0);
    return some;
}

static void show_lone(struct diff *d) {
    HASH_CLEAR(hh, d->by_number);
    for (int i = 0; i < 2; i++) {
        HASH_CLEAR(by_path, d->side[i].found);
        for (struct moved *m = d->side[i].first, *next; m; m = next) {
            next = m->next;
            if (!m->found) {
                show(d, i == 0 ? "-" : "+", m->path, NULL, -1, 0);
            }
            free(m);
        }
    }
}

static int diff(const struct args *a, const char *from, const char *to, uint64_t cut_s,
                json_t *array, struct why *why) {
    scope_fd int first = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scope_fd int second = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scope_free char *only = path_inside(a->path ? a->path : "", why);
    struct diff d = {.top = {first, second},
                     .cut_s = cut_s,
                     .below = {"", ""},
                     .only = only,
                     .only_found = only && !*only, /* there may be nothing in it */
                     .count = a->verbose,
                     .zero = a->zero,
                     .array = array};
    const struct pairs_walk walk = {.each = compare, .arg = &d};
    scope_free char *path = NULL;
    char text[512];
    int err;

    if (first < 0 || second < 0) {
        return why_set(why, -errno, "%s: %s", first < 0 ? from : to, error_words(-errno));
    }
    if (!only) {
        return -HFE_USAGE;
    }
    d.side[0].last = &d.side[0].first;
    d.side[1].last = &d.side[1].first;
    (void)io_raise_file_limit();
    err = pairs_walk(d.top, &walk, &path);
    err = err < 0 ? err : find_moved(&d);
    if (err < 0) {
        (void)text_escape(path ? path : "", text, sizeof(text));
        (void)why_set(why, err, "/%s cannot be compared: %s; what is shown is not all", text,
                      error_words(err));
    }
    show_lone(&d);
    return err == 0 && !d.only_found ? why_set(why, -ENOENT, "neither side has /%s", only) : err;
}

/* Which ctimes say that nothing changed; of two bookmarks all, for there are no bytes to compare. */
static uint64_t cut_of(const struct snapshot_view *view, int n) {
    if (n < 2) {
        return view[0].cut_s;
    }
    return view[0].bookmark && view[1].bookmark ? UINT64_MAX
           : view[0].cut_s < view[1].cut_s      ? view[0].cut_s
                                                : view[1].cut_s;
}

int cmd_diff(const struct args *a) {
    struct snapshot_view view[2];
    struct why why = {""};
    json_t *array = a->json ? json_array() : NULL;
    struct target t[2];
    int err = a->zero && (a->verbose || a->json)
                  ? why_set(&why, -HFE_USAGE, "-z goes without -v and --json")
                  : 0;

    for (int i = 0; i < a->count && err == 0; i++) {
        err = snapshot_parse(a->word[i], true, &t[i], &why);
        if (err == 0 && strcmp(t[0].volume, t[i].volume) != 0) {
            err = why_set(&why, -HFE_USAGE, "%s and %s are of different volumes", a->word[0],
                          a->word[1]);
        }
        err = err < 0 ? err : snapshot_find_view(&t[i], false, &view[i], &why);
    }
    err = err < 0 ? err
                  : diff(a, view[0].path, a->count > 1 ? view[1].path : view[0].mount,
                         cut_of(view, a->count), array, &why);
    if (err == 0 && array) {
        print_json(json_pack("{s:i, s:s, s:s, s:s*, s:O}", "schema", 1, "volume", t[0].volume,
                             "from", t[0].snapshot, "to", a->count > 1 ? t[1].snapshot : NULL,
                             "changes", array));
    }
    json_decref(array);
    return err < 0 ? fail(err, &why) : EXIT_OK;
}
