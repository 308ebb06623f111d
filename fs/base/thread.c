#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

/* Where the main thread may run, which is bound by nobody but the admin. */
static bool process_set(cpu_set_t *ret_set) {
    return sched_getaffinity(getpid(), sizeof(*ret_set), ret_set) == 0;
}

/* `set`: where it may run; NULL: where the caller may. */
static int start(void *(*fn)(void *arg), void *arg, const cpu_set_t *set) {
    pthread_attr_t attr;
    pthread_t thread;
    int err = pthread_attr_init(&attr);

    if (err != 0) {
        return err;
    }
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED); /* a valid state */
    err = set ? pthread_attr_setaffinity_np(&attr, sizeof(*set), set) : 0;
    err = err == 0 ? pthread_create(&thread, &attr, fn, arg) : err;
    (void)pthread_attr_destroy(&attr);
    return err;
}

int thread_start(void *(*fn)(void *arg), void *arg) {
    cpu_set_t set;
    int err = process_set(&set) ? start(fn, arg, &set) : EINVAL;

    if (err == EINVAL) { /* that set cannot be asked for, or is not allowed any more */
        err = start(fn, arg, NULL);
    }
    return err == 0 ? 0 : -EAGAIN;
}

void thread_bind(int cpu) {
    cpu_set_t set;

    if (cpu < CPU_SETSIZE && process_set(&set) && CPU_ISSET((unsigned)cpu, &set)) {
        CPU_ZERO(&set);
        CPU_SET((unsigned)cpu, &set);
        (void)sched_setaffinity(0, sizeof(set), &set); /* elsewhere it is only slower */
    }
}
