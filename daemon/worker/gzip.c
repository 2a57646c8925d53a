/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/worker/gzip.h"

#include <stdlib.h>
#include <string.h>

#include <isa-l/igzip_lib.h>

#include "common/checked.h"
#include "common/mem.h"

#define GZIP_CHUNK (256u << 10)
#define GZIP_LEVEL 1

/* ---- Reading ---- */

struct gunzip {
	struct inflate_state state;
	bool within;		/* a member has begun and not ended */
	bool over;
	uint8_t head[2];	/* of a member, whose second byte may come later */
	size_t n_head;
};

/* RFC 1952, 2.3.1: ID1, ID2. */
static const uint8_t magic[2] = { 0x1f, 0x8b };

bool
gunzip_is(const uint8_t *data, size_t len)
{
	return len >= sizeof magic && memcmp(data, magic, sizeof magic) == 0;
}

struct gunzip *
gunzip_new(void)
{
	return smd_calloc(1, sizeof(struct gunzip));
}

void
gunzip_free(struct gunzip *z)
{
	free(z);
}

bool
gunzip_at_end(const struct gunzip *z)
{
	return !z->within;
}

/* The next member's first two bytes: padding that follows the last is not ours. */
static enum gunzip_result
member_begin(struct gunzip *z, const uint8_t **in, size_t *len)
{
	while (z->n_head < sizeof magic) {
		if (*len == 0)
			return GUNZIP_MORE;
		z->head[z->n_head++] = *(*in)++;
		(*len)--;
	}
	if (memcmp(z->head, magic, sizeof magic) != 0) {
		z->over = true;
		return GUNZIP_END;
	}
	isal_inflate_init(&z->state);
	z->state.crc_flag = ISAL_GZIP;
	z->state.next_in = z->head;
	z->state.avail_in = sizeof magic;
	z->state.next_out = NULL;
	z->state.avail_out = 0;
	isal_inflate(&z->state);	/* keeps them: a header is not whole yet */
	z->n_head = 0;
	z->within = true;
	return GUNZIP_DATA;
}

enum gunzip_result
gunzip(struct gunzip *z, const uint8_t **in, size_t *len, uint8_t *out, size_t room,
       size_t *ret_n)
{
	struct inflate_state *s = &z->state;
	uint32_t given = (uint32_t)smd_min_u64(*len, UINT32_MAX);
	enum gunzip_result begun;
	int rc;

	if (z->over)
		return GUNZIP_END;
	if (!z->within) {
		begun = member_begin(z, in, len);
		if (begun != GUNZIP_DATA)
			return begun;
		given = (uint32_t)smd_min_u64(*len, UINT32_MAX);
	}
	s->next_in = (uint8_t *)*in;
	s->avail_in = given;
	s->next_out = out;
	s->avail_out = (uint32_t)smd_min_u64(room, UINT32_MAX);
	rc = isal_inflate(s);
	*in += given - s->avail_in;
	*len -= given - s->avail_in;
	*ret_n = (size_t)(s->next_out - out);
	if (rc == ISAL_INCORRECT_CHECKSUM)
		return GUNZIP_CHECKSUM;
	if (rc < 0)
		return GUNZIP_BROKEN;
	z->within = s->block_state != ISAL_BLOCK_FINISH;
	return *ret_n > 0 || *len > 0 ? GUNZIP_DATA : GUNZIP_MORE;
}

/* ---- Writing ---- */

struct gzip {
	struct isal_zstream stream;
	gzip_sink_fn *sink;
	void *opaque;
	uint8_t level_buf[ISAL_DEF_LVL1_DEFAULT];
	uint8_t out[GZIP_CHUNK];
};

struct gzip *
gzip_new(gzip_sink_fn *sink, void *opaque)
{
	struct gzip *z = smd_calloc(1, sizeof *z);

	isal_deflate_init(&z->stream);
	z->stream.level = GZIP_LEVEL;
	z->stream.level_buf = z->level_buf;
	z->stream.level_buf_size = sizeof z->level_buf;
	z->stream.gzip_flag = IGZIP_GZIP;
	z->stream.flush = NO_FLUSH;
	z->sink = sink;
	z->opaque = opaque;
	return z;
}

int
gzip(struct gzip *z, const void *data, size_t len, bool end)
{
	struct isal_zstream *s = &z->stream;

	s->next_in = (uint8_t *)data;
	s->avail_in = (uint32_t)len;
	s->end_of_stream = end;
	do {
		s->next_out = z->out;
		s->avail_out = sizeof z->out;
		if (isal_deflate(s) != COMP_OK)
			return -1;	/* of parameters that are none */
		if (s->avail_out < sizeof z->out &&
		    z->sink(z->opaque, z->out, sizeof z->out - s->avail_out) < 0)
			return -1;
	} while (s->avail_in > 0 || s->avail_out == 0 ||
		 (end && s->internal_state.state != ZSTATE_END));
	return 0;
}

void
gzip_free(struct gzip *z)
{
	free(z);
}
