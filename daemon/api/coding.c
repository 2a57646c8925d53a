/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/api/coding.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#define WEIGHT_MAX 1000	/* of q=1 */

/* By what they are called, the best for us first. */
static const struct {
	const char *name, *coding;
} codings[] = {
	{ "zstd", "zstd" }, { "gzip", "gzip" }, { "x-gzip", "gzip" }, { "identity", "" },
};

#define N_CODINGS (sizeof codings / sizeof codings[0])

static const char *
skip_space(const char *p)
{
	return p + strspn(p, " \t");
}

static bool
is_word(const char *text, size_t len, const char *word)
{
	return strlen(word) == len && strncasecmp(text, word, len) == 0;
}

/* "0.5" is 500; what is no weight is none. */
static unsigned
parse_weight(const char *p)
{
	unsigned weight = 0, unit = WEIGHT_MAX;

	if (*p == '1')
		return WEIGHT_MAX;
	if (*p++ != '0' || *p++ != '.')
		return 0;
	for (; *p >= '0' && *p <= '9' && unit > 1; p++) {
		unit /= 10;
		weight += (unsigned)(*p - '0') * unit;
	}
	return weight;
}

/* One element of the list: its coding's place in codings, or N_CODINGS. */
static size_t
parse_element(const char *p, const char *end, unsigned *ret_weight)
{
	size_t len = strcspn(p, " \t;,"), i = 0;

	*ret_weight = WEIGHT_MAX;
	for (const char *q = p + len; q < end; q++) {
		if (*q != ';')
			continue;
		q = skip_space(q + 1);
		if ((*q == 'q' || *q == 'Q') && *skip_space(q + 1) == '=')
			*ret_weight = parse_weight(skip_space(skip_space(q + 1) + 1));
	}
	while (i < N_CODINGS && !is_word(p, len, codings[i].name))
		i++;
	return i;
}

const char *
coding_choose(const char *accept)
{
	unsigned best_weight = 0;
	size_t best = N_CODINGS;

	for (const char *p = accept ? accept : ""; *p;) {
		const char *end = p + strcspn(p, ",");
		unsigned weight;
		size_t i;

		p = skip_space(p);
		i = parse_element(p, end, &weight);
		if (i < N_CODINGS && weight > 0 &&
		    (weight > best_weight || (weight == best_weight && i < best))) {
			best = i;
			best_weight = weight;
		}
		p = *end ? end + 1 : end;
	}
	return best < N_CODINGS ? codings[best].coding : "";
}

bool
coding_known(const char *content_encoding, const char **ret)
{
	const char *p = skip_space(content_encoding ? content_encoding : "");
	size_t len = strcspn(p, " \t,");

	*ret = "";
	if (*skip_space(p + len) != '\0')
		return false;	/* more than one */
	for (size_t i = 0; len > 0 && i < N_CODINGS; i++) {
		if (is_word(p, len, codings[i].name)) {
			*ret = codings[i].coding;
			return true;
		}
	}
	return len == 0;
}
