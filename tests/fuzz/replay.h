/* The main() of a fuzz target that is built without libFuzzer: replays files, and what is near
 * them. */
#pragma once

#ifndef FUZZER
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        uint8_t buf[8192];
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
