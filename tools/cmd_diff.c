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

/* A name of the first side that the second does not have: it may have moved. */
struct moved {
    uint64_t number; /* of the file; 0: nobody knows */
    struct moved *next;
    mode_t type; /* a number may be given to another file later */
    bool found;
    UT_hash_handle hh;
    char path[];
};

struct diff {
    int top[2];
    uint64_t cut_s; /* when the older side was cut */
    struct moved *by_number;
    struct moved *gone, *added; /* in the order of the walk */
    struct moved **last_gone, **last_added;
    const char *only; /* this path and what is below; "": all */
    bool only_found;
    bool count;    /* the blocks that changed */
    bool zero;     /* with NULs, and nothing escaped */
    json_t *array; /* with --json; else NULL */
};

/* --- showing --- */

static json_t *text_json(const char *path) {
    char text[4 * PATH_BYTES + 1];

    (void)text_escape(path, text, sizeof(text));
    return json_sprintf("/%s", text);
}

/* `to`: of what moved, else NULL. blocks of `of`: of what changed, with -v; else -1. */
static void show(const struct diff *d, const char *what, const char *path, const char *to,
                 int64_t blocks, int64_t of) {
    char text[4 * PATH_BYTES + 1];
    json_t *o;

    if (d->array) {
        o = json_pack("{s:s, s:o, s:o*}", "change", what, "path", text_json(path), "to",
                      to ? text_json(to) : NULL);
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

static int note(struct moved ***last, const char *path, const struct stat *st) {
    struct moved *m = calloc(1, sizeof(*m) + strlen(path) + 1);

    if (!m) {
        return -ENOMEM;
    }
    m->number = snap_ino_same(st->st_ino);
    m->type = st->st_mode & S_IFMT;
    memcpy(m->path, path, strlen(path) + 1);
    **last = m;
    *last = &m->next;
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
    scope_fd int a = openat(p->folder[0], p->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    scope_fd int b = openat(p->folder[1], p->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
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

static void show_changed(const struct diff *d, const struct pair *p, int64_t blocks) {
    bool counted = d->count && S_ISREG(p->st[0]->st_mode);

    show(d, "M", p->path, NULL, counted ? blocks : -1,
         (longer_size(p) + COMPARED_BLOCK - 1) / COMPARED_BLOCK);
}

static int compare(void *arg, const struct pair *p) {
    struct diff *d = arg;
    const struct stat *a = p->st[0], *b = p->st[1];
    int err = 0;

    if (!is_below(p->path, d->only)) { /* it leads there, if both have it; or it does not matter */
        return is_below(d->only, p->path) || !*p->path
                   ? a && b && S_ISDIR(a->st_mode) && S_ISDIR(b->st_mode)
                   : 0;
    }
    d->only_found = true;
    if (a && b && ((a->st_mode ^ b->st_mode) & S_IFMT) == 0) {
        if (differs(d, p)) {
            int64_t blocks = d->count && S_ISREG(a->st_mode) ? count_blocks(p) : 0;

            if (blocks < 0) {
                return (int)blocks;
            }
            show_changed(d, p, blocks);
        }
        return S_ISDIR(a->st_mode);
    }
    err = a ? note(&d->last_gone, p->path, a) : 0;
    return err < 0 || !b ? err : note(&d->last_added, p->path, b);
}

/* All names of the first side are known now: those of the second are the same files, or new ones. */
static void show_moved(struct diff *d) {
    for (struct moved *m = d->gone; m; m = m->next) {
        struct moved *same;

        HASH_FIND(hh, d->by_number, &m->number, sizeof(m->number), same);
        if (!same && m->number != 0) {
            HASH_ADD(hh, d->by_number, number, sizeof(m->number), m);
        }
    }
    for (struct moved *m = d->added, *next; m; m = next) {
        struct moved *from;

        next = m->next;
        HASH_FIND(hh, d->by_number, &m->number, sizeof(m->number), from);
        if (from && !from->found && from->type == m->type) {
            from->found = true;
            show(d, "R", from->path, m->path, -1, 0);
        } else {
            show(d, "+", m->path, NULL, -1, 0);
        }
        free(m);
    }
    HASH_CLEAR(hh, d->by_number);
    for (struct moved *m = d->gone, *next; m; m = next) {
        next = m->next;
        if (!m->found) {
            show(d, "-", m->path, NULL, -1, 0);
        }
        free(m);
    }
}

static int diff(const struct args *a, const char *from, const char *to, uint64_t cut_s,
                json_t *array, struct why *why) {
    scope_fd int first = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scope_fd int second = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scope_free char *only = path_inside(a->path ? a->path : "", why);
    struct diff d = {.top = {first, second},
                     .cut_s = cut_s,
                     .only = only,
                     .count = a->verbose,
                     .zero = a->zero,
                     .array = array};
    const struct pairs_walk walk = {.each = compare, .arg = &d};
    scope_free char *path = NULL;
    int err;

    if (first < 0 || second < 0) {
        return why_set(why, -errno, "%s: %s", first < 0 ? from : to, error_words(-errno));
    }
    if (!only) {
        return -HFE_USAGE;
    }
    d.last_gone = &d.gone;
    d.last_added = &d.added;
    (void)io_raise_file_limit();
    err = pairs_walk(d.top, &walk, &path);
    if (err < 0) {
        (void)why_set(why, err, "/%s cannot be compared: %s; what is shown is not all",
                      path ? path : "", error_words(err));
    }
    show_moved(&d);
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
