/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A text that grows as it is printed. Other than open_memstream's it is not copied to
 * grow, once it is long: a reply of 30 MB takes no more than that.
 */
#ifndef SMD_COMMON_TEXT_H
#define SMD_COMMON_TEXT_H

#include <stddef.h>
#include <stdio.h>

struct text {
	FILE *out;
	char *data;		/* ends with a NUL after text_end */
	size_t len, size;
};

void text_begin(struct text *text);
/* Nothing is printed any more: data and len are final, and data the caller's. */
void text_end(struct text *text);

#endif
