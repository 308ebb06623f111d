/* What a filesystem owes its users, on the folder given: prints what is wrong, exits 1. As root. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static int bad;

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            (void)printf("line %d: %s (%s)\n", __LINE__, #x, strerror(errno));                     \
            bad = 1;                                                                               \
        }                                                                                          \
    } while (0)

static struct stat st(const char *name) {
    struct stat s = {0};

    CHECK(lstat(name, &s) == 0);
    return s;
}

static int touch(const char *name, int flags, mode_t mode) {
    int fd = open(name, O_CREAT | O_RDWR | flags, mode);

    CHECK(fd >= 0);
    return fd;
}

/* In a child that is user 1234 in groups 1234 and 4321. */
static void as_user(void (*fn)(void)) {
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        gid_t groups[] = {4321};

        bad = setgroups(1, groups) < 0 || setgid(1234) < 0 || setuid(1234) < 0;
        fn();
        (void)fflush(stdout);
        _exit(bad);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}

static void user_creates(void) {
    (void)umask(027);
    (void)close(touch("user/f", O_EXCL, 0666));
    CHECK(mkdir("user/d", 0777) == 0);
    CHECK(st("user/f").st_uid == 1234 && st("user/f").st_gid == 1234 &&
          (st("user/f").st_mode & 07777) == 0640);
    CHECK(st("user/d").st_uid == 1234 && (st("user/d").st_mode & 07777) == 0750);
    CHECK(open("secret", O_RDONLY) < 0 && errno == EACCES);
    (void)umask(0);
    (void)close(touch("setgid/f", O_EXCL, 02775)); /* group 9 is none of his: the bit must go */
    CHECK(st("setgid/f").st_gid == 9 && !(st("setgid/f").st_mode & S_ISGID));
    (void)close(touch("setgid4321/f", O_EXCL, 02775)); /* this one is */
    CHECK(st("setgid4321/f").st_gid == 4321 && (st("setgid4321/f").st_mode & S_ISGID));
    CHECK(mkdir("setgid/d", 0755) == 0 && (st("setgid/d").st_mode & S_ISGID));
}

static void user_writes_suid(void) {
    int fd = open("suid", O_WRONLY);

    CHECK(fd >= 0 && write(fd, "x", 1) == 1);
    CHECK(!(st("suid").st_mode & (S_ISUID | S_ISGID)));
    (void)close(fd);
    CHECK(truncate("suid2", 0) == 0 && !(st("suid2").st_mode & S_ISUID));
}

static void owners(void) {
    (void)umask(0);
    CHECK(mkdir("user", 0777) == 0 && chown("user", 1234, 1234) == 0);
    CHECK(mkdir("setgid", 0777) == 0 && chown("setgid", 0, 9) == 0 && chmod("setgid", 02777) == 0);
    CHECK(mkdir("setgid4321", 0777) == 0 && chown("setgid4321", 0, 4321) == 0 &&
          chmod("setgid4321", 02777) == 0);
    (void)close(touch("secret", 0, 0600));
    as_user(user_creates);
    (void)close(touch("suid", 0, 0666));
    (void)close(touch("suid2", 0, 0666));
    CHECK(chmod("suid", 06777) == 0 && chmod("suid2", 04777) == 0);
    as_user(user_writes_suid);
    CHECK(chmod("suid", 04755) == 0 && chown("suid", 5, 5) == 0 && !(st("suid").st_mode & S_ISUID));
}

static void times_and_links(void) {
    struct timespec t[2] = {{1, 2}, {1234567890, 123456789}};
    int fd = touch("t", 0, 0644);
    struct stat a, b;

    CHECK(futimens(fd, t) == 0 && st("t").st_mtim.tv_nsec == 123456789);
    CHECK(write(fd, "x", 1) == 1 && st("t").st_mtim.tv_sec > 1234567890);
    a = st(".");
    CHECK(link("t", "t2") == 0 && st("t").st_nlink == 2 && st("t").st_ino == st("t2").st_ino);
    b = st(".");
    CHECK(b.st_mtim.tv_sec > a.st_mtim.tv_sec || b.st_mtim.tv_nsec != a.st_mtim.tv_nsec);
    CHECK(unlink("t") == 0 && st("t2").st_nlink == 1);
    CHECK(fstat(fd, &a) == 0 && a.st_nlink == 1);
    CHECK(unlink("t2") == 0 && fstat(fd, &a) == 0 && a.st_nlink == 0);
    CHECK(pwrite(fd, "still", 5, 0) == 5 && fchmod(fd, 0600) == 0 && fstat(fd, &a) == 0 &&
          (a.st_mode & 0777) == 0600);
    CHECK(close(fd) == 0);
}

static void renames(void) {
    (void)close(touch("r1", 0, 0644));
    CHECK(mkdir("r2", 0755) == 0);
    CHECK(renameat2(AT_FDCWD, "r1", AT_FDCWD, "r2", RENAME_NOREPLACE) < 0 && errno == EEXIST);
    CHECK(renameat2(AT_FDCWD, "r1", AT_FDCWD, "r2", RENAME_EXCHANGE) == 0);
    CHECK(S_ISDIR(st("r1").st_mode) && S_ISREG(st("r2").st_mode));
    CHECK(rename("r1", "r1/below") < 0 && errno == EINVAL);
    CHECK(rename("r2", "r1") < 0 && errno == EISDIR);
    CHECK(mkdir("r1/x", 0755) == 0 && mkdir("r3", 0755) == 0 && rename("r3", "r1") < 0 &&
          (errno == ENOTEMPTY || errno == EEXIST));
}

static void names_and_nodes(void) {
    char name[260];

    memset(name, 'n', sizeof(name));
    name[255] = '\0';
    (void)close(touch(name, 0, 0644));
    name[255] = 'n';
    name[256] = '\0';
    CHECK(open(name, O_CREAT | O_RDWR, 0644) < 0 && errno == ENAMETOOLONG);
    (void)close(touch("\xff\xfe bytes\n", 0, 0644));
    CHECK(mknod("fifo", S_IFIFO | 0600, 0) == 0 && S_ISFIFO(st("fifo").st_mode));
    CHECK(mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0 && st("null").st_rdev == makedev(1, 3));
    CHECK(symlink("somewhere", "sym") == 0 && readlink("sym", name, sizeof(name)) == 9);
    CHECK(open(".", O_TMPFILE | O_RDWR, 0600) < 0 && errno == EOPNOTSUPP);
}

static void data(void) {
    static char big[300000];
    int fd = touch("data", 0, 0644), other = touch("other", 0, 0644);
    char *map, buf[16];
    off_t in = 0, out = 0;

    CHECK(pwrite(fd, "end", 3, 10 << 20) == 3);
    CHECK(st("data").st_blocks < 100);
    CHECK(lseek(fd, 0, SEEK_DATA) >= (10 << 20) - 65536);
    CHECK(fallocate(fd, 0, 0, 1 << 20) == 0 && st("data").st_blocks >= 2048);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20) == 0 &&
          st("data").st_blocks < 200);
    CHECK(ftruncate(fd, 8192) == 0);
    map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    memcpy(map + 4096, "mapped", 6);
    CHECK(msync(map, 8192, MS_SYNC) == 0 && munmap(map, 8192) == 0);
    CHECK(pread(fd, buf, 6, 4096) == 6 && memcmp(buf, "mapped", 6) == 0);
    CHECK(copy_file_range(fd, &in, other, &out, 8192, 0) == 8192);
    CHECK(pread(other, buf, 6, 4096) == 6 && memcmp(buf, "mapped", 6) == 0);
    memset(big, 7, sizeof(big));
    CHECK(write(other, big, sizeof(big)) == (ssize_t)sizeof(big) && fsync(other) == 0 &&
          fdatasync(fd) == 0);
    (void)close(other);
    other = open("other", O_WRONLY | O_APPEND);
    CHECK(write(other, "tail", 4) == 4 && st("other").st_size == (off_t)sizeof(big) + 4);
    (void)close(other);
    other = open("other", O_RDWR | O_TRUNC);
    CHECK(st("other").st_size == 0);
    (void)close(other);
    (void)close(fd);
    fd = open(".", O_RDONLY | O_DIRECTORY);
    CHECK(fsync(fd) == 0);
    (void)close(fd);
}

static void direct(void) {
    char *buf = aligned_alloc(4096, 8192);
    int fd = open("direct", O_CREAT | O_RDWR | O_DIRECT, 0644);

    memset(buf, 5, 8192);
    CHECK(fd >= 0 && pwrite(fd, buf, 8192, 4096) == 8192 &&
          pread(fd, buf, 512, 12288 - 512) == 512);
    CHECK(pwrite(fd, buf, 512, 512) == 512); /* smaller than a page, as MariaDB does */
    (void)close(fd);
    free(buf);
}

static void locks(void) {
    int a = touch("lock", 0, 0644), b = open("lock", O_RDWR);
    struct flock l = {.l_type = F_WRLCK};
    int status = 0;
    pid_t pid;

    CHECK(flock(a, LOCK_EX) == 0 && flock(b, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    CHECK(fcntl(a, F_SETLK, &l) == 0);
    pid = fork();
    if (pid == 0) {
        _exit(!(fcntl(b, F_SETLK, &l) < 0 && (errno == EAGAIN || errno == EACCES)));
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    (void)close(a);
    (void)close(b);
}

static void xattrs(void) {
    char buf[64];

    (void)close(touch("x", 0, 0644));
    CHECK(setxattr("x", "user.k", "v1", 2, XATTR_CREATE) == 0);
    CHECK(setxattr("x", "user.k", "v2", 2, XATTR_CREATE) < 0 && errno == EEXIST);
    CHECK(getxattr("x", "user.k", buf, sizeof(buf)) == 2 && memcmp(buf, "v1", 2) == 0);
    CHECK(listxattr("x", buf, sizeof(buf)) == 7);
    CHECK(setxattr("x", "trusted.k", "t", 1, 0) == 0 && removexattr("x", "user.k") == 0);
    CHECK(getxattr("x", "user.k", buf, sizeof(buf)) < 0 && errno == ENODATA);
    CHECK(getxattr("x", "trusted.SGI_ACL_FILE", buf, sizeof(buf)) < 0 && errno == ENODATA);
}

int main(int argc, char **argv) {
    struct statvfs v;

    if (argc != 2 || chdir(argv[1]) < 0) {
        (void)fprintf(stderr, "usage: posix DIR\n");
        return 2;
    }
    owners();
    times_and_links();
    renames();
    names_and_nodes();
    data();
    direct();
    locks();
    xattrs();
    CHECK(statvfs(".", &v) == 0 && v.f_namemax == 255 && v.f_bavail > 0);
    return bad;
}
