/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "common/mem.h"

#define FIRST 1024

static ssize_t
append(void *opaque, const char *data, size_t len)
{
	struct text *text = opaque;

	if (text->len + len + 1 > text->size) {
		text->size = text->len + len + 1 + text->len / 2 + FIRST;
		text->data = smd_reallocarray(text->data, text->size, 1);
	}
	memcpy(text->data + text->len, data, len);
	text->len += len;
	return (ssize_t)len;
}

void
text_begin(struct text *text)
{
	*text = (struct text){ .out = NULL };
	text->out = fopencookie(text, "w", (cookie_io_functions_t){ .write = append });
	if (!text->out)
		abort();
}

void
text_end(struct text *text)
{
	fclose(text->out);
	text->out = NULL;
	append(text, "", 1);
	text->len--;
}
