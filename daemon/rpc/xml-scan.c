/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/xml-scan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SPACE " \t\r\n"

struct scan {
	const char *p, *start, *end;
	char *out;
	size_t n_out;
	int depth;
};

struct name {
	const char *text;
	size_t len;
};

static int
refuse(const struct scan *s, const char *why, struct smd_error *err)
{
	return smd_fail_INVALID_VALUE(err, "xml", why, "not a call in XML, at byte %zu: %s",
				      (size_t)(s->p - s->start), why);
}

/* Nothing put out is longer than what it stands for. */
static void
put(struct scan *s, const char *text, size_t len)
{
	memcpy(s->out + s->n_out, text, len);
	s->n_out += len;
}

static bool
at(const struct scan *s, const char *text)
{
	size_t len = strlen(text);

	return (size_t)(s->end - s->p) >= len && memcmp(s->p, text, len) == 0;
}

/* Past the next occurrence of text; NULL: there is none. */
static const char *
after(const struct scan *s, const char *text)
{
	const char *found = memmem(s->p, (size_t)(s->end - s->p), text, strlen(text));

	return found ? found + strlen(text) : NULL;
}

static bool
is(struct name name, const char *text)
{
	return name.len == strlen(text) && memcmp(name.text, text, name.len) == 0;
}

static bool
is_integer(struct name name)
{
	return is(name, "int") || is(name, "i4") || is(name, "i8");
}

static struct name
renamed(struct name name)
{
	if (is_integer(name))
		return (struct name){ "i8", 2 };
	if (is(name, "dateTime.iso8601"))
		return (struct name){ "string", 6 };
	return name;
}

/* From behind a name to the end of the tag; attributes are nothing to XML-RPC. */
static int
tag_end(struct scan *s, bool *ret_empty, struct smd_error *err)
{
	char quote = '\0';

	for (; s->p < s->end; s->p++) {
		if (quote) {
			if (*s->p == quote)
				quote = '\0';
		} else if (*s->p == '"' || *s->p == '\'') {
			quote = *s->p;
		} else if (*s->p == '<') {
			return refuse(s, "a tag inside a tag", err);
		} else if (*s->p == '>') {
			*ret_empty = s->p[-1] == '/';
			s->p++;
			return 0;
		}
	}
	return refuse(s, "a tag without end", err);
}

static int
integer_text(struct scan *s, struct smd_error *err)
{
	const char *open = memchr(s->p, '<', (size_t)(s->end - s->p));
	const char *from = s->p, *to = open;
	char digits[24], *stop;

	if (!open)
		return refuse(s, "an integer without end", err);
	while (from < to && strchr(SPACE, *from))
		from++;
	while (to > from && strchr(SPACE, to[-1]))
		to--;
	if (from < to && *from == '+')
		from++;
	if (to == from || (size_t)(to - from) >= sizeof digits)
		return refuse(s, "an integer of no or too many digits", err);
	memcpy(digits, from, (size_t)(to - from));
	digits[to - from] = '\0';
	errno = 0;
	(void)strtoll(digits, &stop, 10);
	if (errno != 0 || *stop != '\0' || stop[-1] < '0' || strchr(SPACE "+", digits[0]))
		return refuse(s, "an integer that is none of 64 bits", err);
	put(s, from, (size_t)(to - from));
	s->p = open;
	return 0;
}

static int
element(struct scan *s, struct smd_error *err)
{
	bool closing = s->p[1] == '/', empty = false;
	struct name name, out;

	s->p += closing ? 2 : 1;
	name.text = s->p;
	while (s->p < s->end && !strchr(SPACE "/><", *s->p))
		s->p++;
	name.len = (size_t)(s->p - name.text);
	if (name.len == 0)
		return refuse(s, "a tag without name", err);
	if (tag_end(s, &empty, err) < 0)
		return -1;
	out = renamed(name);
	put(s, closing ? "</" : "<", closing ? 2 : 1);
	put(s, out.text, out.len);
	put(s, empty ? "/>" : ">", empty ? 2 : 1);
	if (closing) {
		if (empty || s->depth-- == 0)
			return refuse(s, "an end without a start", err);
	} else if (!empty) {
		if (++s->depth > XML_DEPTH_MAX)
			return refuse(s, "nested too deep", err);
		if (is_integer(name))
			return integer_text(s, err);
	} else if (is_integer(name)) {
		return refuse(s, "an integer without digits", err);
	}
	return 0;
}

static int
markup(struct scan *s, struct smd_error *err)
{
	const char *from = s->p, *past;

	if (at(s, "<!--") || at(s, "<?")) {
		past = after(s, s->p[1] == '?' ? "?>" : "-->");
		if (!past)
			return refuse(s, "a comment without end", err);
		s->p = past;
		return 0;
	}
	if (at(s, "<![CDATA[")) {
		past = after(s, "]]>");
		if (!past)
			return refuse(s, "text without end", err);
		put(s, from, (size_t)(past - from));
		s->p = past;
		return 0;
	}
	if (s->end - s->p < 3 || at(s, "<!"))
		return refuse(s, "declarations are not taken", err);
	return element(s, err);
}

int
xml_scan(const char *text, size_t len, char **ret, size_t *ret_len, struct smd_error *err)
{
	struct scan s = { .p = text, .start = text, .end = text + len };
	CLEANUP_FREE char *out = malloc(len + 1);

	s.out = out;
	if (!out || memchr(text, '\0', len))
		return refuse(&s, "not text", err);
	if (at(&s, "\xef\xbb\xbf"))
		s.p += 3;
	while (s.p < s.end) {
		const char *open = memchr(s.p, '<', (size_t)(s.end - s.p));
		size_t plain = (size_t)((open ? open : s.end) - s.p);

		put(&s, s.p, plain);
		s.p += plain;
		if (open && markup(&s, err) < 0)
			return -1;
	}
	if (s.depth != 0)
		return refuse(&s, "the text ends too early", err);
	out[s.n_out] = '\0';
	*ret_len = s.n_out;
	*ret = TAKE_PTR(out);
	return 0;
}
