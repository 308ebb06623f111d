#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define ESCAPED(bytes, text)                                                                       \
    do {                                                                                           \
        char got[64];                                                                              \
        cr_assert_eq(text_escape(bytes, got, sizeof(got)), strlen(text));                          \
        cr_assert_str_eq(got, text);                                                               \
    } while (0)

Test(text, what_can_be_shown_stays) {
    ESCAPED("", "");
    ESCAPED("upload/2026/contract 17.pdf", "upload/2026/contract 17.pdf");
    ESCAPED("M\xc3\xbcller", "M\xc3\xbcller");
    ESCAPED("\xe2\x82\xac \xf0\x9f\x98\x80", "\xe2\x82\xac \xf0\x9f\x98\x80");
}

Test(text, controls_and_the_backslash_are_escaped) {
    ESCAPED("a\nb\tc\x1b[2J\x7f", "a\\012b\\011c\\033[2J\\177");
    ESCAPED("a\\b", "a\\134b");
    ESCAPED("\xc2\x9b", "\\302\\233"); /* a control of ISO 6429 */
}

Test(text, what_is_not_utf_8_is_escaped) {
    ESCAPED("M\xfcller", "M\\374ller"); /* Latin-1 */
    ESCAPED("\xc3", "\\303");           /* it ends too early */
    ESCAPED("\xe2\x82", "\\342\\202");
    ESCAPED("\xc0\xaf", "\\300\\257"); /* too long for what it is */
    ESCAPED("\xe0\x80\xaf", "\\340\\200\\257");
    ESCAPED("\xed\xa0\x80", "\\355\\240\\200");          /* a surrogate */
    ESCAPED("\xf4\x90\x80\x80", "\\364\\220\\200\\200"); /* beyond the last one */
    ESCAPED("\xf8\x90\x80\x80", "\\370\\220\\200\\200"); /* no lead bytes of RFC 3629 */
    ESCAPED("\xfc\x80", "\\374\\200");
    ESCAPED("\xff", "\\377");
}

Test(text, what_was_escaped_can_be_had_back) {
    static const char bytes[] = "a\nb\\c\\012 M\xfcller \xc3\xbc \\";
    char text[200];

    (void)text_escape(bytes, text, sizeof(text));
    text_unescape(text);
    cr_assert_str_eq(text, bytes);
    (void)snprintf(text, sizeof(text), "\\9 \\12 \\777 \\");
    text_unescape(text);
    cr_assert_str_eq(text, "\\9 \\12 \\777 \\", "none of these was escaped");
}

Test(text, nothing_is_cut_in_its_middle) {
    char got[8];

    cr_assert_eq(text_escape("abcdef\xc3\xbc", got, sizeof(got)), 6);
    cr_assert_str_eq(got, "abcdef");
    cr_assert_eq(text_escape("abcd\n", got, sizeof(got)), 4);
    cr_assert_str_eq(got, "abcd");
    cr_assert_eq(text_escape("abc\n", got, sizeof(got)), 7);
    cr_assert_str_eq(got, "abc\\012");
    cr_assert_eq(text_escape("abc", got, 1), 0);
    cr_assert_str_eq(got, "");
}
