#include "base/text.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Bytes of the character that begins here and can be shown (RFC 3629); 0: none does. */
static unsigned shown_length(const uint8_t *s) {
    static const uint32_t least[] = {0, 0, 0xa0, 0x800, 0x10000}; /* below 0xa0 they are controls */
    unsigned n = s[0] < 0x80   ? 1
                 : s[0] < 0xc2 ? 0
                 : s[0] < 0xe0 ? 2
                 : s[0] < 0xf0 ? 3
                 : s[0] < 0xf5 ? 4
                               : 0;
    uint32_t c = n < 2 ? s[0] : s[0] & (0xffU >> (n + 1));

    if (n < 2) {
        return n == 1 && c >= 0x20 && c != 0x7f && c != '\\';
    }
    for (unsigned k = 1; k < n; k++) {
        if ((s[k] & 0xc0) != 0x80) {
            return 0; /* the NUL at the end, too */
        }
        c = c << 6 | (s[k] & 0x3f);
    }
    return c >= least[n] && c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff) ? n : 0;
}

void text_unescape(char *text) {
    char *to = text;

    while (*text) {
        unsigned byte;

        if (sscanf(text, "\\%3o", &byte) == 1 && strspn(text + 1, "01234567") >= 3 && byte < 256) {
            *to++ = (char)byte;
            text += 4;
        } else {
            *to++ = *text++;
        }
    }
    *to = '\0';
}

size_t text_escape(const char *bytes, char *ret_text, size_t size) {
    size_t used = 0;

    while (*bytes) {
        unsigned n = shown_length((const uint8_t *)bytes);
        size_t needed = n > 0 ? n : 4;

        if (needed >= size - used) {
            break;
        }
        if (n > 0) {
            memcpy(ret_text + used, bytes, n);
        } else {
            (void)snprintf(ret_text + used, size - used, "\\%03o", (unsigned)(uint8_t)*bytes);
        }
        used += needed;
        bytes += n > 0 ? n : 1;
    }
    ret_text[used] = '\0';
    return used;
}
