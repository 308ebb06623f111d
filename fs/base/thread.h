/* Threads that nobody waits for, and the processors they run on. Any thread. */
#pragma once

#include "base/cleanup.h"

/* Runs fn(arg) in a thread of its own, wherever the process may run: what the caller is bound to does
 * not count. -EAGAIN. */
int thread_start(void *(*fn)(void *arg), void *arg) must_check;

/* Binds the calling thread to a processor, if the process may run there. */
void thread_bind(int cpu);
