/* SPDX-License-Identifier: BSD-2-Clause */
/* What both wires need. */
#include "daemon/rpc/wire.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/rpc/xml-print.h"

#define REPLACEMENT "\xef\xbf\xbd"	/* U+FFFD */

/* Bytes of the longest valid beginning, up to one sequence. */
static size_t
valid_sequence(const char *text, size_t len)
{
	for (size_t n = 1; n <= 4 && n <= len; n++) {
		if (smd_utf8_valid(text, n))
			return n;
	}
	return 0;
}

char *
wire_mend_utf8(const char *text, size_t len)
{
	char *mended;
	size_t n = 0;

	if (smd_utf8_valid(text, len))
		return NULL;
	mended = smd_malloc(len * strlen(REPLACEMENT) + 1);
	for (size_t i = 0; i < len;) {
		size_t valid = valid_sequence(text + i, len - i);

		if (valid > 0) {
			memcpy(mended + n, text + i, valid);
			n += valid;
			i += valid;
		} else {
			memcpy(mended + n, REPLACEMENT, strlen(REPLACEMENT));
			n += strlen(REPLACEMENT);
			i++;
		}
	}
	mended[n] = '\0';
	return mended;
}

int
wire_bad_utf8(json *params, struct smd_error *err)
{
	const char *text = "";

	for (size_t i = 0; i < json_object_array_length(params); i++) {
		json *param = json_object_array_get_idx(params, i);
		const char *s = json_object_is_type(param, json_type_string) ?
				json_object_get_string(param) : "";

		if (strstr(s, REPLACEMENT))
			text = s;
	}
	return smd_fail_INVALID_VALUE(err, "Invalid UTF-8 string in parameter", text,
				      "the request is not UTF-8");
}

unsigned
wire_not_a_request(const struct smd_error *err, char **ret_body, size_t *ret_len,
		   const char **ret_type)
{
	FILE *out = open_memstream(ret_body, ret_len);

	if (!out)
		abort();
	fputs("<html><body><h1>HTTP 500 internal server error</h1><p>", out);
	xml_print_text(out, err->message ? err->message : "");
	fputs("</p></body></html>", out);
	fclose(out);
	*ret_type = "text/html";
	return 500;
}
