#include "daemon/config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "format/super.h"

#define SYSTEM_CONF  "/etc/holdfast"
#define SYSTEM_RUN   "/run/holdfast"
#define SYSTEM_STATE "/var/lib/holdfast"

static const char *find_dir(char *buf, const char *env, const char *xdg, const char *home,
                            const char *system) {
    const char *set = getenv(env);

    if (set && *set) {
        return set;
    }
    if (geteuid() == 0) {
        return system;
    }
    set = getenv(xdg);
    if (set && *set) {
        (void)snprintf(buf, PATH_BYTES, "%s/holdfast",
                       set); /* a path that is too long fails when used */
    } else {
        set = getenv("HOME");
        (void)snprintf(buf, PATH_BYTES, "%s/%s/holdfast", set ? set : "/tmp", home);
    }
    return buf;
}

const char *config_dir(void) {
    static char buf[PATH_BYTES];

    return find_dir(buf, "HOLDFAST_CONF_DIR", "XDG_CONFIG_HOME", ".config", SYSTEM_CONF);
}
const char *state_dir(void) {
    static char buf[PATH_BYTES];

    return find_dir(buf, "HOLDFAST_STATE_DIR", "XDG_STATE_HOME", ".local/state", SYSTEM_STATE);
}
const char *run_dir(void) {
    static char buf[PATH_BYTES];

    return find_dir(buf, "HOLDFAST_RUN_DIR", "XDG_RUNTIME_DIR", ".local/run", SYSTEM_RUN);
}

/* May the machine's volumes be meant, by a user who is not root? */
static bool sees_system(void) {
    return geteuid() != 0 && !getenv("HOLDFAST_CONF_DIR") && !getenv("HOLDFAST_RUN_DIR");
}

static bool has_file(const char *dir, const char *name) {
    char path[PATH_BYTES];

    (void)snprintf(path, sizeof(path), "%s/%s.conf", dir, name); /* too long is not there */
    return access(path, F_OK) == 0;
}

bool config_is_systems(const char *name) {
    return sees_system() && !has_file(config_dir(), name) && has_file(SYSTEM_CONF, name);
}

const char *run_dir_of(const char *name) {
    return config_is_systems(name) ? SYSTEM_RUN : run_dir();
}

const char *state_dir_of(const char *name) {
    return config_is_systems(name) ? SYSTEM_STATE : state_dir();
}

struct parse {
    struct config *config;
    struct why *why;
    int err;
};

static int conf_path(const char *name, char ret_path[PATH_BYTES], struct why *why) {
    if (!super_name_ok(name)) {
        return why_set(
            why, -HFE_USAGE,
            "\"%s\" is not a volume name: a letter, then up to 62 letters, digits, '_', '.', '-'",
            name);
    }
    if (snprintf(ret_path, PATH_BYTES, "%s/%s.conf",
                 config_is_systems(name) ? SYSTEM_CONF : config_dir(), name) >= PATH_BYTES) {
        return why_set(why, -ENAMETOOLONG, "%s is too long a path", config_dir());
    }
    return 0;
}

static int bad(struct parse *p, const char *what, const char *value) {
    char path[PATH_BYTES];

    (void)conf_path(p->config->name, path, NULL); /* that is where it was read */
    p->err = why_set(p->why, -HFE_USAGE, "%s: %s: \"%s\"", path, what, value);
    return 0; /* inih: an error in this line */
}

static bool copy_to(char *to, size_t size, const char *from) {
    return (size_t)snprintf(to, size, "%s", from) < size;
}

static int volume_key(struct parse *p, const char *key, const char *value) {
    struct config *c = p->config;

    if (strcmp(key, "id") == 0) {
        return id_parse(value, &c->id) == 0 ? 1 : bad(p, "not an id", value);
    }
    if (strcmp(key, "mount") == 0) {
        return copy_to(c->mount_point, sizeof(c->mount_point), value) ? 1
                                                                      : bad(p, "too long", value);
    }
    if (strcmp(key, "options") == 0) {
        return copy_to(c->options, sizeof(c->options), value) ? 1 : bad(p, "too long", value);
    }
    return bad(p, "unknown key in [volume]", key);
}

static int store_key(struct parse *p, const char *label, const char *key, const char *value) {
    struct config *c = p->config;
    struct config_store *s = c->count > 0 ? &c->store[c->count - 1] : NULL;

    if (!super_name_ok(label)) {
        return bad(p, "not a store label", label);
    }
    if (!s || strcmp(s->label, label) != 0) {
        if (c->count == STORES_MAX) {
            return bad(p, "too many stores, from this one on", label);
        }
        s = &c->store[c->count++];
        (void)copy_to(s->label, sizeof(s->label), label); /* a good name fits */
    }
    if (strcmp(key, "path") != 0) {
        return bad(p, "unknown key in [store]", key);
    }
    return copy_to(s->path, sizeof(s->path), value) ? 1 : bad(p, "too long", value);
}

static int events_key(struct parse *p, const char *key, const char *value) {
    struct config *c = p->config;

    if (strcmp(key, "program") == 0) {
        return copy_to(c->program, sizeof(c->program), value) ? 1 : bad(p, "too long", value);
    }
    if (strcmp(key, "mailaddr") == 0) {
        return copy_to(c->mailaddr, sizeof(c->mailaddr), value) ? 1 : bad(p, "too long", value);
    }
    return bad(p, "unknown key in [events]", key);
}

static int on_key(void *arg, const char *section, const char *key, const char *value) {
    struct parse *p = arg;

    if (p->err < 0) {
        return 0;
    }
    if (strcmp(section, "volume") == 0) {
        return volume_key(p, key, value);
    }
    if (strcmp(section, "events") == 0) {
        return events_key(p, key, value);
    }
    if (strncmp(section, "store ", 6) == 0) {
        return store_key(p, section + 6, key, value);
    }
    return bad(p, "unknown section", section);
}

int config_load(const char *name, struct config *ret_config, struct why *why) {
    char path[PATH_BYTES];
    struct config c = {0};
    struct parse p = {.config = &c, .why = why};
    int line, err = conf_path(name, path, why);

    if (err < 0) {
        return err;
    }
    (void)copy_to(c.name, sizeof(c.name), name); /* a good name fits */
    line = ini_parse(path, on_key, &p);
    if (line < 0 && errno != ENOENT) {
        return why_set(why, -errno, "%s: %s", path, error_words(-errno));
    }
    if (line < 0) {
        return why_set(why, -ENOENT,
                       "there is no volume \"%s\" (no %s); `holdfast list` shows what there is",
                       name, path);
    }
    if (p.err < 0) {
        return p.err;
    }
    if (line > 0) {
        return why_set(why, -HFE_USAGE,
                       "%s: line %d is no KEY = VALUE, or too long; see holdfast.conf(5)", path,
                       line);
    }
    if (c.count == 0 || id_is_zero(&c.id)) {
        return why_set(why, -HFE_USAGE, "%s names no %s; see holdfast.conf(5)", path,
                       c.count == 0 ? "store" : "id of the volume");
    }
    *ret_config = c;
    return 0;
}

/* The library reads lines of so many bytes, and takes what follows " ;" for a comment. */
static int check_line(const char *key, const char *value, struct why *why) {
    enum { LINE_BYTES = 198 };
    size_t n = strlen(value);
    char shown[4 * PATH_BYTES + 1];
    bool plain = text_escape(value, shown, sizeof(shown)) == n;

    if (strlen(key) + strlen(" = ") + n > LINE_BYTES) {
        return why_set(why, -HFE_USAGE, "%s = %s: this is too long for %s/NAME.conf (%d bytes)",
                       key, shown, config_dir(), LINE_BYTES);
    }
    return plain && !strstr(value, " ;") && value[0] != ' ' && (n == 0 || value[n - 1] != ' ')
               ? 0
               : why_set(why, -HFE_USAGE,
                         "%s = %s: this cannot be written to %s/NAME.conf (blanks at an end, "
                         "control characters, a backslash, what is not UTF-8, or a semicolon after "
                         "a blank)",
                         key, shown, config_dir());
}

int config_check(const struct config *c, struct why *why) {
    enum { SECTION_LABEL_BYTES = 49 - (int)sizeof("store") }; /* inih cuts the name of a section */
    int err = check_line("mount", c->mount_point, why);

    err = err < 0 ? err : check_line("options", c->options, why);
    err = err < 0 ? err : check_line("program", c->program, why);
    err = err < 0 ? err : check_line("mailaddr", c->mailaddr, why);
    for (unsigned i = 0; i < c->count && err == 0; i++) {
        err = strlen(c->store[i].label) > SECTION_LABEL_BYTES
                  ? why_set(why, -HFE_USAGE,
                            "the label \"%s\" is too long for %s/NAME.conf (%d bytes)",
                            c->store[i].label, config_dir(), SECTION_LABEL_BYTES)
                  : check_line("path", c->store[i].path, why);
    }
    return err;
}

int config_save(const struct config *c, struct why *why) {
    char path[PATH_BYTES], name[VOLUME_NAME_BYTES + 8], id[ID_TEXT_BYTES];
    scope_free char *text = NULL;
    scope_fd int dir = -1;
    size_t size;
    FILE *f;
    int err = conf_path(c->name, path, why);

    err = err < 0 ? err : config_check(c, why);
    if (err < 0) {
        return err;
    }
    err = io_make_path(config_dir(), 0755);
    dir = err < 0 ? err : open(config_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return why_set(why, -errno, "cannot write to %s: %s", config_dir(), error_words(-errno));
    }
    f = open_memstream(&text, &size);
    if (!f) {
        return why_set(why, -ENOMEM, "out of memory");
    }
    id_text(&c->id, id);
    (void)fprintf(f,
                  "# Volume %s of Holdfast; see holdfast.conf(5).\n[volume]\nid = %s\nmount = "
                  "%s\noptions = %s\n",
                  c->name, id, c->mount_point, c->options);
    if (c->program[0] || c->mailaddr[0]) {
        (void)fprintf(f, "\n[events]\nprogram = %s\nmailaddr = %s\n", c->program, c->mailaddr);
    }
    for (unsigned i = 0; i < c->count; i++) {
        (void)fprintf(f, "\n[store %s]\npath = %s\n", c->store[i].label, c->store[i].path);
    }
    if (fclose(f) != 0) {
        return why_set(why, -ENOMEM, "out of memory");
    }
    (void)snprintf(name, sizeof(name), "%s.conf", c->name); /* fits */
    err = io_replace(dir, name, text, size, 0644);
    return err < 0 ? why_set(why, err, "cannot write %s: %s", path, error_words(err)) : 0;
}

int config_remove(const char *name, struct why *why) {
    char path[PATH_BYTES];
    int err = conf_path(name, path, why);

    if (err == 0 && unlink(path) < 0 && errno != ENOENT) {
        err = why_set(why, -errno, "cannot remove %s: %s", path, error_words(-errno));
    }
    return err;
}

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

/* Those of one folder, after the first `count`. How many there are then. */
static unsigned add_names(const char *dir, char (*ret_names)[VOLUME_NAME_BYTES], unsigned count,
                          unsigned n) {
    scope_dir DIR *d = opendir(dir);
    struct dirent *e;

    while (d && count < n && (e = readdir(d))) {
        size_t len = strlen(e->d_name);

        if (len > 5 && len < VOLUME_NAME_BYTES + 4 && strcmp(e->d_name + len - 5, ".conf") == 0) {
            memcpy(ret_names[count], e->d_name, len - 5);
            ret_names[count][len - 5] = '\0';
            count += super_name_ok(ret_names[count]) &&
                     (strcmp(dir, config_dir()) == 0 || config_is_systems(ret_names[count]));
        }
    }
    return count;
}

unsigned config_list(char (*ret_names)[VOLUME_NAME_BYTES], unsigned n) {
    unsigned count = add_names(config_dir(), ret_names, 0, n);

    count = sees_system() ? add_names(SYSTEM_CONF, ret_names, count, n) : count;
    qsort(ret_names, count, sizeof(*ret_names), by_name);
    return count;
}

static bool label_taken(const struct config *c, const char *label) {
    for (unsigned i = 0; i < c->count; i++) {
        if (strcmp(c->store[i].label, label) == 0) {
            return true;
        }
    }
    return false;
}

bool config_note_store(struct config *c, const char *label, const char *path) {
    struct config_store *s = &c->store[c->count];

    if (label_taken(c, label) || c->count == STORES_MAX) {
        return false;
    }
    (void)snprintf(s->label, sizeof(s->label), "%s", label);
    (void)snprintf(s->path, sizeof(s->path), "%s", path);
    c->count++;
    return true;
}

void config_drop_store(struct config *c, unsigned index) {
    memmove(&c->store[index], &c->store[index + 1],
            (c->count - index - 1) * sizeof(struct config_store));
    c->count--;
}

bool config_is_store(const char *label, const char *path, const char *word) {
    size_t n = strlen(word);

    while (n > 1 && word[n - 1] == '/') {
        n--;
    }
    return strcmp(label, word) == 0 || (strncmp(path, word, n) == 0 && path[n] == '\0');
}

void config_ask_stores(struct config *c, unsigned timeout_ms) {
    const char *paths[STORES_MAX];
    bool answers[STORES_MAX];

    for (unsigned i = 0; i < c->count; i++) {
        paths[i] = c->store[i].path;
    }
    io_ask_folders(paths, c->count, timeout_ms > 0 ? (int)timeout_ms : STORE_TIMEOUT_MS, answers);
    for (unsigned i = 0; i < c->count; i++) {
        c->store[i].away = !answers[i];
    }
}

int config_ask_folder(const char *path, struct why *why) {
    bool answers;

    io_ask_folders(&path, 1, STORE_TIMEOUT_MS, &answers);
    return answers ? 0 : why_set(why, -ETIMEDOUT, "%s does not answer (a mount that hangs?)", path);
}

int config_add_store(struct config *c, const char *text, struct why *why) {
    const char *eq = strchr(text, '='), *path = text;
    struct config_store s = {.label = "a"};

    if (c->count == STORES_MAX) {
        return why_set(why, -HFE_USAGE, "a volume has at most %d stores", STORES_MAX);
    }
    if (eq && text[0] != '/' && text[0] != '.') {
        if (eq - text >= LABEL_BYTES) {
            return why_set(why, -HFE_USAGE, "the label of \"%s\" is too long", text);
        }
        memcpy(s.label, text, (size_t)(eq - text));
        s.label[eq - text] = '\0';
        path = eq + 1;
        if (!super_name_ok(s.label)) {
            return why_set(why, -HFE_USAGE,
                           "\"%s\" is not a label: a letter, then letters, digits, '_', '.', '-'",
                           s.label);
        }
        if (label_taken(c, s.label)) {
            return why_set(why, -HFE_USAGE, "two stores are labelled \"%s\"", s.label);
        }
    } else {
        while (label_taken(c, s.label)) {
            s.label[0]++;
        }
    }
    if (config_ask_folder(path, why) < 0) {
        return -ETIMEDOUT;
    }
    if (!realpath(path, s.path)) {
        return why_set(why, -errno, "%s: %s; create the folder first (is its disk mounted?)", path,
                       error_words(-errno));
    }
    c->store[c->count++] = s;
    return 0;
}

/* --- mount options --- */

/* What mount(8) and systemd pass on, and what is ours already. */
static const char *const dropped[] = {
    "defaults",    "auto",
    "noauto",      "nofail",
    "fail",        "_netdev",
    "user",        "nouser",
    "users",       "group",
    "owner",       "rw",
    "relatime",    "norelatime",
    "strictatime", "nostrictatime",
    "lazytime",    "nolazytime",
    "diratime",    "async",
    "allow_other", "default_permissions",
    "nosuid",      "nodev",
    "exec",        "remount",
    "iversion",    "noiversion",
};
static const char *const for_kernel[] = {"noatime", "nodiratime", "noexec", "sync", "dirsync"};

static bool in_list(const char *const *list, size_t n, const char *word) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i], word) == 0) {
            return true;
        }
    }
    return false;
}
#define IN(list, word) in_list(list, sizeof(list) / sizeof((list)[0]), word)

static bool parse_flag(const char *word, struct mount_options *o) {
    const struct {
        const char *word;
        bool *flag, value;
    } flags[] = {
        {"degraded", &o->degraded, true},
        {"ro", &o->read_only, true},
        {"suid", &o->suid, true},
        {"dev", &o->dev, true},
        {"cache=writeback", &o->writeback, true},
        {"cache=through", &o->writeback, false},
        {"on-full=drop", &o->policy.drop_full, true},
        {"on-full=fail", &o->policy.drop_full, false},
        {"snap-sync=strict", &o->snap_strict, true},
        {"snap-sync=batch", &o->snap_strict, false},
        {"passive-policy=slow", &o->policy.lag_slows, true},
        {"passive-policy=report", &o->policy.lag_slows, false},
    };

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (strcmp(flags[i].word, word) == 0) {
            *flags[i].flag = flags[i].value;
            return true;
        }
    }
    return false;
}

/* Seconds such as 10s, 0.5 or 200ms, as milliseconds. */
static bool parse_time(const char *text, double *ret_ms) {
    char *end;
    double n = strtod(text, &end);

    *ret_ms = strcmp(end, "ms") == 0 ? n : n * 1000;
    return end != text && n > 0 && (!*end || strcmp(end, "s") == 0 || strcmp(end, "ms") == 0);
}

/* Bytes such as 64M. */
static bool parse_bytes(const char *text, uint64_t *ret_bytes) {
    static const char units[] = "KMGT";
    char *end;
    double n = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;

    if (!unit || end == text || end[1] != '\0' || n <= 0) {
        return false;
    }
    *ret_bytes = (uint64_t)(n * (double)(UINT64_C(1024) << (10 * (unit - units))));
    return true;
}

/* 30s, or bytes. */
static int parse_lag(const char *text, struct mirror_policy *p, struct why *why) {
    double ms;

    if (parse_bytes(text, &p->lag_bytes)) {
        return 0;
    }
    if (strchr(text, 's') && parse_time(text, &ms) && ms >= 1000) {
        p->lag_s = (uint64_t)(ms / 1000);
        return 0;
    }
    return why_set(
        why, -HFE_USAGE,
        "passive-lag takes seconds or bytes, such as 30s or 64M; give it twice for both");
}

static int parse_option(const char *word, struct mount_options *o, struct why *why) {
    double ms;
    char *end;

    if (*word == '\0' || IN(dropped, word) || strncmp(word, "x-", 2) == 0 ||
        strncmp(word, "comment=", 8) == 0 || strncmp(word, "subtype=", 8) == 0 ||
        strncmp(word, "user=", 5) == 0 || parse_flag(word, o)) {
        return 0;
    }
    if (strncmp(word, "fsname=", 7) == 0) {
        return copy_to(o->fsname, sizeof(o->fsname), word + 7)
                   ? 0
                   : why_set(why, -HFE_USAGE, "fsname is too long");
    }
    if (strncmp(word, "store-timeout=", 14) == 0) {
        if (!parse_time(word + 14, &ms) || ms < 500 || ms > 3600e3) {
            return why_set(why, -HFE_USAGE,
                           "store-timeout takes seconds, from 0.5 to 3600, such as 10s");
        }
        o->store_timeout_ms = (unsigned)ms;
        return 0;
    }
    if (strncmp(word, "slow-store=", 11) == 0) {
        if (!parse_time(word + 11, &ms) || ms > 3600e3) {
            return why_set(why, -HFE_USAGE, "slow-store takes a time, such as 200ms");
        }
        o->policy.slow_us = (uint64_t)(ms * 1000);
        return 0;
    }
    if (strncmp(word, "passive-lag=", 12) == 0) {
        return parse_lag(word + 12, &o->policy, why);
    }
    if (strncmp(word, "snap-reserve=", 13) == 0) {
        return parse_bytes(word + 13, &o->snap_reserve)
                   ? 0
                   : why_set(why, -HFE_USAGE,
                             "snap-reserve takes a number and K, M, G or T, such as 10G");
    }
    if (strncmp(word, "min-stores=", 11) == 0) {
        unsigned long n = strtoul(word + 11, &end, 10);

        if (n < 1 || n > STORES_MAX || *end) {
            return why_set(why, -HFE_USAGE, "min-stores takes a number from 1 to %d", STORES_MAX);
        }
        o->min_stores = (unsigned)n;
        return 0;
    }
    if (IN(for_kernel, word)) {
        size_t used = strlen(o->for_kernel);

        (void)snprintf(o->for_kernel + used, sizeof(o->for_kernel) - used, ",%s",
                       word); /* the five fit */
        return 0;
    }
    return why_set(why, -HFE_USAGE, "unknown mount option \"%s\"; see mount.holdfast(8)", word);
}

int mount_options_parse(const char *list, struct mount_options *o, struct why *why) {
    scope_free char *copy = strdup(list);
    char *rest = copy, *word;

    if (!copy) {
        return why_set(why, -ENOMEM, "out of memory");
    }
    while ((word = strsep(&rest, ","))) {
        int err = parse_option(word, o, why);

        if (err < 0) {
            return err;
        }
    }
    return 0;
}
