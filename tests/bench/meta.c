/* meta OP DIR N: creates, stats, reads, renames or removes N small files in DIR; prints the seconds
 * it took. What tests/bench/run times for metadata. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int one(const char *op, long i) {
    char name[64], other[64], buf[256] = {1};
    struct stat st;
    int fd, bad = 0;

    (void)snprintf(name, sizeof(name), "file-%06ld", i);
    (void)snprintf(other, sizeof(other), "renamed-%06ld", i);
    if (strcmp(op, "create") == 0) {
        fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
        bad = fd < 0 || write(fd, buf, sizeof(buf)) != (ssize_t)sizeof(buf) || close(fd) < 0;
    } else if (strcmp(op, "durable") == 0) {
        fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
        bad = fd < 0 || write(fd, buf, sizeof(buf)) != (ssize_t)sizeof(buf) || fsync(fd) < 0 ||
              close(fd) < 0;
    } else if (strcmp(op, "stat") == 0) {
        bad = stat(name, &st) < 0;
    } else if (strcmp(op, "read") == 0) {
        fd = open(name, O_RDONLY);
        bad = fd < 0 || read(fd, buf, sizeof(buf)) != (ssize_t)sizeof(buf) || close(fd) < 0;
    } else if (strcmp(op, "rename") == 0) {
        bad = rename(name, other) < 0;
    } else if (strcmp(op, "unlink") == 0) {
        bad = unlink(other) < 0;
    } else if (strcmp(op, "remove") == 0) {
        bad = unlink(name) < 0;
    } else {
        return -1;
    }
    return bad ? -1 : 0;
}

int main(int argc, char **argv) {
    struct timespec a, b;
    long n = argc == 4 ? strtol(argv[3], NULL, 10) : 0;

    if (n <= 0 || chdir(argv[2]) < 0) {
        (void)fprintf(stderr, "usage: meta create|durable|stat|read|rename|unlink|remove DIR N\n");
        return 2;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    for (long i = 0; i < n; i++) {
        if (one(argv[1], i) < 0) {
            perror(argv[1]);
            return 1;
        }
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    (void)printf("%.6f\n", (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
    return 0;
}
