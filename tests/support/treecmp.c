/* treecmp [-t] [-H] A B: exit 0 if the trees are the same, 1 with the differences if not. -t: do
 * not compare mtimes; -H: do not compare holes. */
#include <stdlib.h>
#include <unistd.h>

#include "tree.h"

int main(int argc, char **argv) {
    struct tree_options o = {.times = true, .holes = true, .differences_max = 50, .out = stdout};
    int opt;
    long n;

    while ((opt = getopt(argc, argv, "tH")) != -1) {
        o.times = o.times && opt != 't';
        o.holes = o.holes && opt != 'H';
    }
    if (argc - optind != 2) {
        (void)fprintf(stderr, "usage: treecmp [-t] [-H] A B\n");
        return 2;
    }
    n = tree_compare(argv[optind], argv[optind + 1], &o);
    if (n != 0) {
        (void)printf("%ld differences between %s and %s\n", n, argv[optind], argv[optind + 1]);
    }
    return n == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
