/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/format.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/checked.h"
#include "common/mem.h"

static int
size_bad(const char *text, const char *why, struct smd_error *err)
{
	return smd_fail_INVALID_VALUE(err, "size", text, "\"%s\" is not a size: %s", text, why);
}

/* The power of 1024 a suffix stands for; -1: none. */
static int
size_suffix(const char *s)
{
	static const char letters[] = "bkmgtpe";
	const char *at;

	if (*s == '\0')
		return 0;
	at = strchr(letters, tolower((unsigned char)*s));
	if (!at || s[1] != '\0')
		return -1;
	return (int)(at - letters);
}

/* Digits after the point, as a fraction of 2^32. */
static uint64_t
size_fraction(const char *digits, size_t n)
{
	uint64_t value = 0, scale = 1;

	for (size_t i = 0; i < n && i < 9; i++) {
		value = value * 10 + (uint64_t)(digits[i] - '0');
		scale *= 10;
	}
	return (value << 32) / scale;
}

int
smd_size_parse(const char *text, uint64_t *ret, struct smd_error *err)
{
	size_t whole = strspn(text, "0123456789");
	const char *rest = text + whole;
	uint64_t value = 0, fraction = 0, unit, size;
	int power;

	if (whole == 0 || whole > 20)
		return size_bad(text, "a number, with k, M, G, T or nothing", err);
	for (size_t i = 0; i < whole; i++) {
		if (!smd_mul_u64(value, 10, &value) ||
		    !smd_add_u64(value, (uint64_t)(text[i] - '0'), &value))
			return size_bad(text, "too large", err);
	}
	if (*rest == '.') {
		size_t n = strspn(rest + 1, "0123456789");

		if (n == 0)
			return size_bad(text, "nothing after the point", err);
		fraction = size_fraction(rest + 1, n);
		rest += 1 + n;
	}
	power = size_suffix(rest);
	if (power < 0)
		return size_bad(text, "the suffix is one of k, M, G, T, P, E", err);
	unit = UINT64_C(1) << (10 * power);
	if (fraction && power == 0)
		return size_bad(text, "a part of a byte", err);
	if (!smd_mul_u64(value, unit, &size) ||
	    !smd_add_u64(size, power >= 4 ? fraction * (unit >> 32) : (fraction * unit) >> 32, &size))
		return size_bad(text, "too large", err);
	if (size > INT64_MAX)
		return size_bad(text, "too large", err);
	*ret = size;
	return 0;
}

/* ---- Create options ---- */

static const struct smd_option *
option_find(const struct smd_format *format, const char *name)
{
	for (const struct smd_option *o = format->options; o && o->name; o++) {
		if (strcmp(o->name, name) == 0)
			return o;
	}
	return NULL;
}

static int
option_bad(const struct smd_option *o, const char *value, struct smd_error *err)
{
	return smd_fail_INVALID_VALUE(err, o->name, value, "\"%s\" is no value for %s%s%s", value,
				      o->name, o->values ? ": " : "", o->values ? o->values : "");
}

/* Whether value is one of "a|b|c". */
static bool
enum_has(const char *values, const char *value)
{
	size_t len = strlen(value);

	for (const char *p = values; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
		if (strncmp(p, value, len) == 0 && (p[len] == '|' || p[len] == '\0'))
			return len > 0;
	}
	return false;
}

/* Whether n lies in "min..max". */
static bool
range_has(const char *values, uint64_t n)
{
	CLEANUP_FREE char *low = smd_strdup(values);
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	char *high = low ? strstr(low, "..") : NULL;
	uint64_t min, max;

	if (!high)
		return true;
	*high = '\0';
	high += 2;
	if (smd_size_parse(low, &min, &ignored) < 0 || smd_size_parse(high, &max, &ignored) < 0)
		return true;
	return n >= min && n <= max;
}

static char *
option_number(const struct smd_option *o, const char *value, struct smd_error *err)
{
	struct smd_error why CLEANUP_ERROR = SMD_ERROR_INIT;
	uint64_t n;

	if (smd_size_parse(value, &n, &why) < 0 ||
	    (o->type == SMD_OPTION_INT && value[strspn(value, "0123456789")] != '\0') ||
	    !range_has(o->values, n)) {
		option_bad(o, value, err);
		return NULL;
	}
	return smd_asprintf("%" PRIu64, n);
}

static char *
option_bool(const struct smd_option *o, const char *value, struct smd_error *err)
{
	if (enum_has("on|true|yes|y", value))
		return smd_strdup("on");
	if (enum_has("off|false|no|n", value))
		return smd_strdup("off");
	option_bad(o, value, err);
	return NULL;
}

static char *
option_canonical(const struct smd_option *o, const char *value, struct smd_error *err)
{
	switch (o->type) {
	case SMD_OPTION_SIZE:
	case SMD_OPTION_INT:
		return option_number(o, value, err);
	case SMD_OPTION_BOOL:
		return option_bool(o, value, err);
	case SMD_OPTION_ENUM:
		if (enum_has(o->values, value))
			return smd_strdup(value);
		break;
	}
	option_bad(o, value, err);
	return NULL;
}

int
smd_options_add(struct smd_options *o, const struct smd_format *format, const char *name,
		const char *value, struct smd_error *err)
{
	const struct smd_option *option = option_find(format, name);
	char *canonical;

	if (!option)
		return smd_fail_INVALID_VALUE(err, name, value, "%s has no create option \"%s\"",
					      format->name, name);
	canonical = option_canonical(option, value, err);
	if (!canonical)
		return -1;
	for (size_t i = 0; i < o->n; i++) {
		if (o->names[i] == option->name) {
			free((char *)o->values[i]);
			o->values[i] = canonical;
			return 0;
		}
	}
	o->names = smd_reallocarray(o->names, o->n + 1, sizeof *o->names);
	o->values = smd_reallocarray(o->values, o->n + 1, sizeof *o->values);
	o->names[o->n] = option->name;
	o->values[o->n] = canonical;
	o->n++;
	return 0;
}

void
smd_options_free(struct smd_options *o)
{
	for (size_t i = 0; i < o->n; i++)
		free((char *)o->values[i]);
	free(o->names);
	free(o->values);
	*o = (struct smd_options){ 0 };
}
