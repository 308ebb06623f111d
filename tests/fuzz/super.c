/* Any 4096 bytes may be in a superblock slot: decoding must refuse them or give a record that
 * encodes to the same bytes. With clang -DFUZZER -fsanitize=fuzzer: a libFuzzer target. Without:
 * replays the files it is given. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "format/super.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t bytes[SUPER_BYTES] = {0}, again[SUPER_BYTES];
    struct super s;

    memcpy(bytes, data, size < sizeof(bytes) ? size : sizeof(bytes));
    if (super_decode(bytes, &s) == 0) {
        super_encode(&s, again);
        assert(memcmp(bytes, again, sizeof(bytes)) == 0);
    }
    return 0;
}

#ifndef FUZZER
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        uint8_t buf[2 * SUPER_BYTES];
        FILE *f = fopen(argv[i], "re");
        size_t n;

        if (!f) {
            perror(argv[i]);
            return 1;
        }
        n = fread(buf, 1, sizeof(buf), f);
        (void)fclose(f); /* read only */
        (void)LLVMFuzzerTestOneInput(buf, n);
        for (size_t k = 0; k < n; k += 7) { /* and what is near it */
            buf[k] ^= 0x55;
            (void)LLVMFuzzerTestOneInput(buf, n);
            buf[k] ^= 0x55;
        }
    }
    return argc < 2;
}
#endif
