/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/chain-impl.h"

#include <string.h>

#include "common/mem.h"

/* Encoded units decode whole; a run may want a part of the first and last. */
static int
read_encoded(struct chain_layer *l, const struct smd_run *run, uint8_t *buf,
	     struct smd_error *err)
{
	uint64_t unit = l->info.alloc_unit;
	CLEANUP_FREE uint8_t *scratch = NULL;
	uint64_t end = run->offset + run->count;

	for (uint64_t at = run->offset; at < end;) {
		uint64_t start = smd_round_down_u64(at, unit);
		uint64_t n = smd_min_u64(start + unit, end) - at;

		if (n == unit) {
			if (l->format->read_encoded(l->img, start, buf, err) < 0)
				return -1;
		} else {
			if (!scratch)
				scratch = smd_malloc_pages(unit);
			if (l->format->read_encoded(l->img, start, scratch, err) < 0)
				return -1;
			memcpy(buf, scratch + (at - start), n);
		}
		at += n;
		buf += n;
	}
	return 0;
}

int
chain_read_run(struct smd_chain *chain, const struct smd_run *run, void *buf,
	       struct smd_error *err)
{
	switch (run->kind) {
	case SMD_EXTENT_DATA:
		return smd_io_pread(run->io, buf, run->count, run->host_offset, err);
	case SMD_EXTENT_ENCODED:
		return read_encoded(&chain->layers[run->layer], run, buf, err);
	default:
		memset(buf, 0, run->count);
		return 0;
	}
}

struct reader {
	struct smd_chain *chain;
	uint8_t *buf;
	uint64_t offset;
};

static int
reader_add(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct reader *r = opaque;

	return chain_read_run(r->chain, run, r->buf + (run->offset - r->offset), err);
}

int
smd_chain_pread(struct smd_chain *chain, void *buf, size_t count, uint64_t offset,
		struct smd_error *err)
{
	struct reader r = { chain, buf, offset };

	return smd_chain_extents(chain, offset, count, reader_add, &r, err);
}
