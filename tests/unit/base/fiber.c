/* Requests that go on in another thread when a call gets stuck. */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fiber.h"

struct wait_call {
    struct blocking call;
    int fd; /* it waits until this can be read */
    char answer;
};

static _Atomic int returned, finished, then_ran, losses;
static _Atomic bool moved;
static int answer_seen;

static void wait_run(struct blocking *call) {
    struct wait_call *w = (struct wait_call *)call;

    if (read(w->fd, &w->answer, 1) != 1) {
        w->answer = 0;
    }
}

static void wait_returned(struct blocking *call) {
    (void)call;
    returned++;
}

static void request(void *arg) {
    struct wait_call *w = fiber_seat();
    bool got;

    *w =
        (struct wait_call){.call = {.run = wait_run, .returned = wait_returned}, .fd = *(int *)arg};
    got = fiber_block(&w->call);
    answer_seen = got ? w->answer : -1;
    losses = (int)fiber_losses();
    moved = fiber_moved();
    finished++;
}

static void after(void *arg) {
    (void)arg;
    then_ran++;
}

static void *thread_main(void *arg) {
    return fiber_run(request, arg, after, NULL) ? arg : NULL;
}

static bool any(void *arg, const struct blocking *call, int64_t since_ms) {
    (void)arg;
    (void)call;
    (void)since_ms;
    return true;
}

static void until(_Atomic int *value, int want) {
    for (int i = 0; i < 500 && *value != want; i++) {
        (void)poll(NULL, 0, 10);
    }
    cr_assert_eq(*value, want);
}

Test(fiber, a_call_that_answers_hands_over_its_result) {
    int fd[2];
    pthread_t t;
    void *result;

    cr_assert_eq(pipe(fd), 0);
    cr_assert_eq(write(fd[1], "a", 1), 1);
    cr_assert_eq(pthread_create(&t, NULL, thread_main, &fd[0]), 0);
    cr_assert_eq(pthread_join(t, &result), 0);
    cr_assert_not_null(result, "the same thread went on");
    cr_assert_eq(answer_seen, 'a');
    cr_assert_eq(losses, 0);
}

Test(fiber, a_call_that_is_given_up_fails_and_the_request_goes_on_elsewhere) {
    int fd[2];
    pthread_t t;
    void *result;

    cr_assert_eq(pipe(fd), 0);
    cr_assert_eq(pthread_create(&t, NULL, thread_main, &fd[0]), 0);
    for (int i = 0; i < 500 && finished == 0; i++) {
        (void)poll(NULL, 0, 10);
        fiber_each(any, NULL);
    }
    until(&finished, 1);
    until(&then_ran, 1);
    cr_assert_eq(answer_seen, -1);
    cr_assert_eq(losses, 1);
    cr_assert(moved);
    cr_assert_eq(returned, 0, "the stuck thread is still in its call");
    cr_assert_eq(write(fd[1], "b", 1), 1);
    cr_assert_eq(pthread_join(t, &result), 0);
    cr_assert_null(result, "the stuck thread goes");
    cr_assert_eq(returned, 1);
    cr_assert_eq(finished, 1, "and nothing is done twice");
}

Test(fiber, outside_of_a_fiber_a_call_is_just_made) {
    struct wait_call *w = fiber_seat();
    int fd[2];

    cr_assert_eq(pipe(fd), 0);
    cr_assert_eq(write(fd[1], "c", 1), 1);
    *w = (struct wait_call){.call = {.run = wait_run}, .fd = fd[0]};
    cr_assert(fiber_block(&w->call));
    cr_assert_eq(w->answer, 'c');
    cr_assert_eq(fiber_losses(), 0);
    fiber_orphan(malloc(10)); /* freed at once: the sanitizer would tell */
}
