#include "tools/progress.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "tool.h"

enum { SHOW_MS = 200 };

/* SIGUSR1 is blocked and looked for, so that it cuts no call short. */
static sigset_t asking(void) {
    sigset_t set;

    (void)sigemptyset(&set); /* both cannot fail */
    (void)sigaddset(&set, SIGUSR1);
    return set;
}

void progress_begin(struct progress *p, const char *what, bool quiet) {
    sigset_t set = asking();

    *p = (struct progress){.what = what, .quiet = quiet, .tenth = -1};
    (void)sigprocmask(SIG_BLOCK, &set, NULL); /* cannot fail */
}

static bool is_due(const struct progress *p, int tenth) {
    sigset_t set = asking();

    if (sigtimedwait(&set, NULL, &(struct timespec){0}) == SIGUSR1) {
        return true;
    }
    return !p->quiet &&
           (isatty(STDERR_FILENO) ? clock_ms() - p->shown_ms >= SHOW_MS : tenth > p->tenth);
}

void progress_show(struct progress *p, uint64_t done, uint64_t total, uint64_t rate) {
    uint64_t shown = done < total ? done : total, left = rate > 0 ? (total - shown) / rate : 0;
    int tenth = total > 0 ? (int)(shown * 10 / total) : 0;
    char a[32], b[32], c[32];

    if (!is_due(p, tenth)) {
        return;
    }
    if (total == 0) { /* nobody knows */
        (void)fprintf(stderr, "%s%s: %s so far, %s/s%s", p->line ? "\r\033[K" : "", p->what,
                      size_text(done, false, a), size_text(rate, false, c),
                      isatty(STDERR_FILENO) ? "" : "\n");
    } else {
        (void)fprintf(stderr, "%s%s: %d %%  %s of %s  %s/s  %llu:%02u:%02u to go%s",
                      p->line ? "\r\033[K" : "", p->what, (int)(shown * 100 / total),
                      size_text(done, false, a), size_text(total, false, b),
                      size_text(rate, false, c), (unsigned long long)left / 3600,
                      (unsigned)(left / 60 % 60), (unsigned)(left % 60),
                      isatty(STDERR_FILENO) ? "" : "\n");
    }
    p->line = isatty(STDERR_FILENO);
    p->tenth = tenth;
    p->shown_ms = clock_ms();
}

void progress_end(const struct progress *p) {
    if (p->line) {
        (void)fputc('\n', stderr);
    }
}
