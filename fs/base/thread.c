#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

/* Where the main thread may run, which is bound by nobody but the admin. */
static bool process_set(cpu_set_t *ret_set) {
    return sched_getaffinity(getpid(), sizeof(*ret_set), ret_set) == 0;
}

int thread_start(void *(*fn)(void *arg), void *arg) {
    pthread_attr_t attr;
    pthread_t thread;
    cpu_set_t set;
    int err;

    if (pthread_attr_init(&attr) != 0) {
        return -EAGAIN;
    }
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED); /* a valid state */
    if (process_set(&set)) {
        (void)pthread_attr_setaffinity_np(&attr, sizeof(set), &set); /* else as the caller's */
    }
    err = pthread_create(&thread, &attr, fn, arg);
    if (err == EINVAL) { /* that set is not allowed any more */
        (void)pthread_attr_destroy(&attr);
        (void)pthread_attr_init(&attr); /* did not fail before */
        (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        err = pthread_create(&thread, &attr, fn, arg);
    }
    (void)pthread_attr_destroy(&attr);
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
