/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/xml-planes.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define UPPER 0xe000u
#define LOWER 0xe400u
#define ITSELF 0xe800u
#define PLANE 0x10000u		/* of one plane */
#define LAST 0x10ffffu
#define CDATA "<![CDATA["

static bool
is_hidden(uint32_t c)
{
	return (c >= UPPER && c <= ITSELF) || (c >= PLANE && c <= LAST);
}

/* The character of a sequence of three or four bytes, or 0. */
static uint32_t
decode(const char *text, size_t len)
{
	const uint8_t *b = (const uint8_t *)text;

	if (len >= 3 && b[0] >> 4 == 0xe)
		return (b[0] & 0xfu) << 12 | (b[1] & 0x3fu) << 6 | (b[2] & 0x3fu);
	if (len >= 4 && b[0] >> 3 == 0x1e)
		return (b[0] & 0x7u) << 18 | (b[1] & 0x3fu) << 12 | (b[2] & 0x3fu) << 6 |
		       (b[3] & 0x3fu);
	return 0;
}

static size_t
encode(char *out, uint32_t c)
{
	size_t n = 0;

	if (c >= PLANE) {
		out[n++] = (char)(0xf0 | c >> 18);
		out[n++] = (char)(0x80 | (c >> 12 & 0x3f));
	} else {
		out[n++] = (char)(0xe0 | c >> 12);
	}
	out[n++] = (char)(0x80 | (c >> 6 & 0x3f));
	out[n++] = (char)(0x80 | (c & 0x3f));
	return n;
}

static size_t
hide(char *out, uint32_t c)
{
	size_t n = encode(out, c < PLANE ? ITSELF : UPPER + ((c - PLANE) >> 10));

	return n + encode(out + n, c < PLANE ? c : LOWER + ((c - PLANE) & 0x3ff));
}

/* A numeric reference, "&#128512;": its character and *ret_len bytes, or 0. */
static uint32_t
reference(const char *text, size_t len, size_t *ret_len)
{
	bool hex = len > 3 && text[2] == 'x';
	char digits[12] = "";
	const char *end = memchr(text, ';', len < sizeof digits + 3 ? len : sizeof digits + 3);
	size_t from = hex ? 3 : 2, n = end ? (size_t)(end - text) : 0;
	char *stop;
	unsigned long c;

	if (len < 4 || memcmp(text, "&#", 2) != 0 || n <= from || n - from >= sizeof digits ||
	    strspn(text + from, "0123456789abcdefABCDEF") < n - from)
		return 0;
	memcpy(digits, text + from, n - from);
	c = strtoul(digits, &stop, hex ? 16 : 10);
	*ret_len = n + 1;
	return *stop || c > LAST ? 0 : (uint32_t)c;
}

static bool
nothing_to_hide(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if ((uint8_t)text[i] >= 0xee || (text[i] == '&' && i + 1 < len && text[i + 1] == '#'))
			return false;
	}
	return true;
}

char *
xml_planes_hide(const char *text, size_t len, size_t *ret_len)
{
	size_t n = 0, step;
	const char *data_end = text;	/* of the CDATA, where a reference is none */
	char *out;

	if (nothing_to_hide(text, len))
		return NULL;
	out = smd_malloc(2 * len + 1);
	for (size_t i = 0; i < len; i += step) {
		uint32_t c = decode(text + i, len - i);

		step = c >= PLANE ? 4 : c ? 3 : 1;
		if (len - i >= strlen(CDATA) && memcmp(text + i, CDATA, strlen(CDATA)) == 0)
			data_end = memmem(text + i, len - i, "]]>", 3);
		if (text[i] == '&' && text + i >= data_end) {
			c = reference(text + i, len - i, &step);
			if (!is_hidden(c))
				step = 1;
		}
		if (is_hidden(c)) {
			n += hide(out + n, c);
		} else {
			memcpy(out + n, text + i, step);
			n += step;
		}
	}
	out[n] = '\0';
	*ret_len = n;
	return out;
}

size_t
xml_planes_show(char *text, size_t len)
{
	size_t n = 0, step;

	for (size_t i = 0; i < len; i += step) {
		uint32_t c = decode(text + i, len - i), next = 0;

		step = c >= PLANE ? 4 : c ? 3 : 1;
		if (c >= UPPER && c <= ITSELF)
			next = decode(text + i + 3, len - i - 3);
		if (next && c == ITSELF) {
			step = 6;
			n += encode(text + n, next);
		} else if (next >= LOWER && next < ITSELF && c < LOWER) {
			step = 6;
			n += encode(text + n, PLANE + ((c - UPPER) << 10) + (next - LOWER));
		} else {
			memmove(text + n, text + i, step);
			n += step;
		}
	}
	return n;
}
