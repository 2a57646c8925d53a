/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "daemon/worker/gzip.h"

#define PLAIN_SIZE 300000u

struct bytes {
	uint8_t *data;
	size_t len, room;
};

static int
collect(void *opaque, const void *data, size_t len)
{
	struct bytes *b = opaque;

	if (b->len + len >= b->room) {
		b->room = 2 * (b->len + len) + 1;
		b->data = smd_reallocarray(b->data, b->room, 1);
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
	return 0;
}

/* Words that compress, noise that does not, zeroes. */
static void
fill(uint8_t plain[PLAIN_SIZE])
{
	uint32_t x = 1;

	for (size_t i = 0; i < PLAIN_SIZE; i++) {
		x = x * 1664525u + 1013904223u;
		plain[i] = i < 100000 ? (uint8_t)"some words "[i % 11] :
			   i < 200000 ? (uint8_t)(x >> 24) : 0;
	}
}

static void
compress(const uint8_t *plain, size_t len, size_t step, struct bytes *into)
{
	struct gzip *z = gzip_new(collect, into);

	for (size_t at = 0; at < len; at += step)
		assert_int_equal(gzip(z, plain + at, len - at < step ? len - at : step, false), 0);
	assert_int_equal(gzip(z, NULL, 0, true), 0);
	gzip_free(z);
}

/* Given in steps of so many bytes, into room for so many: what it ends with. */
static enum gunzip_result
expand(const struct bytes *b, size_t step, size_t room, struct bytes *into, bool *ret_at_end)
{
	struct gunzip *z = gunzip_new();
	uint8_t *out = smd_malloc(room);
	enum gunzip_result r = GUNZIP_MORE;
	size_t at = 0, n = 0;

	into->len = 0;
	while (r == GUNZIP_DATA || at < b->len) {
		const uint8_t *in = b->data + at;
		size_t len = b->len - at < step ? b->len - at : step, left = len;

		n = 0;
		r = gunzip(z, &in, &left, out, room, &n);
		at += len - left;
		collect(into, out, n);
		if (r >= GUNZIP_END)
			break;
	}
	*ret_at_end = gunzip_at_end(z);
	gunzip_free(z);
	free(out);
	return r;
}

struct state {
	uint8_t plain[PLAIN_SIZE];
	struct bytes two;	/* the plain bytes, in two members */
	struct bytes out;
};

static int
setup(void **state)
{
	struct state *s = smd_calloc(1, sizeof *s);

	fill(s->plain);
	compress(s->plain, 150000, 4096, &s->two);
	compress(s->plain + 150000, PLAIN_SIZE - 150000, PLAIN_SIZE, &s->two);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct state *s = *state;

	free(s->two.data);
	free(s->out.data);
	free(s);
	return 0;
}

static void
expect_plain(struct state *s, size_t step, size_t room)
{
	bool at_end;

	expand(&s->two, step, room, &s->out, &at_end);
	assert_true(at_end);
	assert_int_equal(s->out.len, PLAIN_SIZE);
	assert_memory_equal(s->out.data, s->plain, PLAIN_SIZE);
}

static void
test_there_and_back(void **state)
{
	static const size_t steps[] = { 1, 2, 3, 1000, PLAIN_SIZE };
	static const size_t rooms[] = { 1, 100, PLAIN_SIZE };

	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
		for (size_t k = 0; k < sizeof rooms / sizeof *rooms; k++)
			expect_plain(*state, steps[i], rooms[k]);
	assert_true(((struct state *)*state)->two.len < PLAIN_SIZE);
}

static void
test_padding_is_ignored(void **state)
{
	static const uint8_t zeroes[1000];
	struct state *s = *state;
	bool at_end;

	collect(&s->two, zeroes, sizeof zeroes);
	assert_int_equal(expand(&s->two, 7, 5000, &s->out, &at_end), GUNZIP_END);
	assert_true(at_end);
	assert_int_equal(s->out.len, PLAIN_SIZE);
}

/* Wherever it ends but between the members and at the end, it is not whole. */
static void
test_truncated(void **state)
{
	struct state *s = *state;
	struct bytes cut = s->two;
	unsigned whole = 0;
	bool at_end;

	for (cut.len = 2; cut.len < s->two.len; cut.len += 1 + cut.len / 50) {
		expand(&cut, 1000, 70000, &s->out, &at_end);
		whole += at_end;
	}
	assert_in_range(whole, 0, 1);
}

static void
test_damaged(void **state)
{
	struct state *s = *state;
	bool at_end;

	for (size_t at = s->two.len / 2; at < s->two.len; at += 997) {
		s->two.data[at] ^= 0x10;
		assert_in_range(expand(&s->two, 1000, 70000, &s->out, &at_end), GUNZIP_BROKEN,
				GUNZIP_CHECKSUM);
		s->two.data[at] ^= 0x10;
	}
	s->two.data[s->two.len - 6] ^= 1;	/* the CRC: RFC 1952, 2.3 */
	assert_int_equal(expand(&s->two, 1000, 70000, &s->out, &at_end), GUNZIP_CHECKSUM);
}

static int
refuse(void *opaque, const void *data, size_t len)
{
	(void)opaque;
	(void)data;
	(void)len;
	return -1;
}

static void
test_sink_fails(void **state)
{
	struct state *s = *state;
	struct gzip *z = gzip_new(refuse, NULL);

	assert_int_equal(gzip(z, s->plain, PLAIN_SIZE, true), -1);
	gzip_free(z);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_there_and_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_padding_is_ignored, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sink_fails, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
