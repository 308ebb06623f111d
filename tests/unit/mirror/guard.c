/* Listings through the guard, when the store they are read from hangs or fails. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fiber.h"
#include "mirror/guard.h"

/* A store with one folder of one entry: reading it blocks until `may_go` can be read, or fails. */
static _Atomic bool blocks;
static _Atomic int streams, loads, done, answer, fails_with;
static int may_go[2];

static int one_opendir(struct vol *v, struct obj *dir, struct vol_handle *ret_handle) {
    (void)v;
    (void)dir;
    streams++;
    ret_handle->v = 1;
    return 0;
}
static int one_readdir(struct vol *v, struct obj *dir, struct vol_handle h, uint64_t pos,
                       vol_dirent_fn *fill, void *arg) {
    (void)v;
    (void)dir;
    (void)h;
    if (!fill) {
        char c;

        loads++;
        return blocks && read(may_go[0], &c, 1) != 1 ? -EIO : fails_with;
    }
    if (pos == 0) {
        (void)fill(arg, "entry", 7, 0, 1);
    }
    return 0;
}
static int one_closedir(struct vol *v, struct obj *dir, struct vol_handle h) {
    (void)v;
    (void)dir;
    (void)h;
    streams--;
    return 0;
}
static void one_free(struct vol *v) {
    (void)v;
}

static struct vol_ops one_ops = {
    .free = one_free, .opendir = one_opendir, .readdir = one_readdir, .closedir = one_closedir};
static struct vol one = {.ops = &one_ops};
static struct guard *guard;
static struct obj_table *objs;
static struct vol_handle folder;

static void up(void) {
    cr_assert_eq(pipe(may_go), 0);
    cr_assert_eq(obj_table_new(1, 0, &objs), 0);
    cr_assert_eq(guard_new(&one, &guard), 0);
    guard_set_objects(guard, objs);
    cr_assert_eq(guard_vol(guard)->ops->opendir(guard_vol(guard), obj_root(objs), &folder), 0);
}
static void down(void) {
    cr_assert_eq(guard_vol(guard)->ops->closedir(guard_vol(guard), obj_root(objs), folder), 0);
    cr_assert_eq(streams, 0, "every stream is closed once, also those that were given up");
    guard_free(guard);
    obj_table_free(objs);
}
TestSuite(guard, .init = up, .fini = down);

static bool count(void *arg, const char *name, uint64_t ino, uint8_t type, uint64_t next) {
    (void)name;
    (void)ino;
    (void)type;
    (void)next;
    ++*(int *)arg;
    return true;
}

/* So many entries, or the error. */
static int list(uint64_t pos) {
    struct vol *v = guard_vol(guard);
    int entries = 0;
    int err = v->ops->readdir(v, obj_root(objs), folder, pos, count, &entries);

    return err < 0 ? err : entries;
}

static void request(void *arg) {
    (void)arg;
    answer = list(0);
    done++;
}
static void *thread_main(void *arg) {
    return fiber_run(request, arg, NULL, NULL) ? arg : NULL;
}
static bool any(void *arg, const struct blocking *call, int64_t since_ms) {
    (void)arg;
    (void)call;
    (void)since_ms;
    return true;
}

Test(guard, a_listing_that_was_given_up_is_read_again_from_the_start) {
    pthread_t t;

    blocks = true;
    cr_assert_eq(pthread_create(&t, NULL, thread_main, NULL), 0);
    for (int i = 0; i < 500 && done == 0; i++) {
        (void)poll(NULL, 0, 10);
        fiber_each(any, NULL);
    }
    cr_assert_eq(done, 1);
    cr_assert_eq(answer, -HFE_GIVEN_UP);
    cr_assert_eq(list(1), -HFE_GIVEN_UP, "what it had is with the stuck thread");
    cr_assert_eq(guard_calls(guard), 1);
    blocks = false;
    cr_assert_eq(list(0), 1, "the store answers again");
    cr_assert_eq(write(may_go[1], "b", 1), 1);
    cr_assert_eq(pthread_join(t, NULL), 0);
    cr_assert_eq(guard_calls(guard), 0);
    cr_assert_eq(streams, 1);
}

Test(guard, a_listing_that_could_not_be_read_again_is_read_by_the_next_call) {
    cr_assert_eq(list(0), 1);
    cr_assert_eq(list(1), 0);
    cr_assert_eq(loads, 1, "from other positions, no store is touched");
    fails_with = -EIO;
    cr_assert_eq(list(0), -EIO);
    fails_with = 0;
    cr_assert_eq(list(1), 0);
    cr_assert_eq(loads, 3, "it is, through the guard, when nothing is there");
}
