#include "base/id.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct id id_new(void) {
    struct id id;

    do {
        if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id)) {
            abort(); /* without randomness two volumes could get one id */
        }
    } while (id_is_zero(&id));
    return id;
}

bool id_is_zero(const struct id *id) {
    static const struct id zero;

    return id_equal(id, &zero);
}

bool id_equal(const struct id *a, const struct id *b) {
    return memcmp(a, b, sizeof(*a)) == 0;
}

void id_text(const struct id *id, char ret_text[ID_TEXT_BYTES]) {
    static const char hex[] = "0123456789abcdef";

    for (int i = 0; i < 16; i++) {
        ret_text[2 * i] = hex[id->b[i] >> 4];
        ret_text[2 * i + 1] = hex[id->b[i] & 15];
    }
    ret_text[32] = '\0';
}

int id_parse(const char *text, struct id *ret_id) {
    struct id id = {{0}};
    int digits = 0;

    for (; *text && !isspace((unsigned char)*text); text++) {
        char c = (char)tolower((unsigned char)*text);

        if (c == '-') {
            continue;
        }
        if (!isxdigit((unsigned char)c) || digits >= 32) {
            return -EINVAL;
        }
        id.b[digits / 2] =
            (uint8_t)(id.b[digits / 2] << 4 | (isdigit((unsigned char)c) ? c - '0' : c - 'a' + 10));
        digits++;
    }
    if (digits != 32) {
        return -EINVAL;
    }
    *ret_id = id;
    return 0;
}

static struct id id_from_file(const char *path) {
    char text[64] = "";
    struct id id = {{0}};
    scope_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 || id_parse(text, &id) < 0) {
        return (struct id){{0}}; /* unknown */
    }
    return id;
}

struct id id_of_machine(void) {
    return id_from_file("/etc/machine-id");
}

struct id id_of_boot(void) {
    return id_from_file("/proc/sys/kernel/random/boot_id");
}
