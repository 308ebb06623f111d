/* Bytes that somebody else chose, such as a file's name, as text that a terminal, a log and JSON can
 * take. */
#pragma once

#include <stddef.h>

/* Control characters, what is not UTF-8, and the backslash become \ooo (three octal digits each byte), so
 * that the bytes can be had back: $'...' of bash does that. At most `size` - 1 bytes and a NUL; what
 * would be cut in its middle is left out. Returns how many bytes there are. */
size_t text_escape(const char *bytes, char *ret_text, size_t size);
/* Makes them the bytes again, in place. */
void text_unescape(char *text);
