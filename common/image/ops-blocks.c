/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/ops.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/blocks.h"
#include "common/image/copy-impl.h"
#include "common/image/io.h"

#define CHUNK (1u << 30)

struct blocks {
	uint64_t size;
	uint8_t *bits;
};

static void
mark(struct blocks *blocks, uint64_t offset, uint64_t count)
{
	uint64_t last;

	if (offset >= blocks->size || count == 0)
		return;
	last = (offset + smd_min_u64(count, blocks->size - offset) - 1) / SMD_BLOCK;
	for (uint64_t n = offset / SMD_BLOCK; n <= last; n++)
		blocks->bits[n / 8] |= (uint8_t)(1u << (n % 8));
}

static int
own_run(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	(void)err;
	if (run->kind != SMD_EXTENT_PARENT)
		mark(opaque, run->offset, run->count);
	return 0;
}

static int
tail_run(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	(void)err;
	if (run->kind != SMD_EXTENT_ZERO)
		mark(opaque, run->offset, run->count);
	return 0;
}

static int
mark_difference(struct blocks *blocks, struct smd_chain *chain, struct smd_chain *base,
		struct smd_error *err)
{
	CLEANUP(plan_free) struct plan plan = { .base = base };
	CLEANUP(plan_item_free) struct plan_item item = { .offset = 0 };
	uint64_t size = smd_chain_size(chain);
	int r;

	if (plan_init_delta(&plan, chain, SMD_BLOCK, CHUNK, size, err) != 0)
		return -1;
	while ((r = plan_next(&plan, &item, err)) == 1)
		mark(blocks, item.offset, item.count);
	if (r != 0 || smd_chain_size(base) <= size)
		return r;
	return smd_chain_extents(base, size, smd_chain_size(base) - size, tail_run, blocks, err);
}

static int
find_blocks(struct blocks *blocks, struct smd_chain *chain, struct smd_chain *base,
	    struct smd_error *err)
{
	blocks->size = smd_max_u64(smd_chain_size(chain), base ? smd_chain_size(base) : 0);
	if (blocks->size > SMD_BLOCKS_DISK_MAX)
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, smd_chain_io(chain, 0)->name,
				      "its disk of %" PRIu64 " bytes is too large to track its "
				      "blocks: at most %" PRIu64, blocks->size, (uint64_t)SMD_BLOCKS_DISK_MAX);
	blocks->bits = calloc(1, smd_blocks_bytes(blocks->size) + 1);
	if (!blocks->bits)
		return smd_image_fail(err, SMD_REASON_IO, smd_chain_io(chain, 0)->name,
				      "there is no memory for a set of blocks");
	if (base)
		return mark_difference(blocks, chain, base, err);
	return chain_extents_of(chain, 0, 1, 0, blocks->size, own_run, blocks, err);
}

static int
write_blocks(const struct blocks *blocks, int fd, struct smd_error *err)
{
	size_t len = smd_blocks_bytes(blocks->size);

	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, blocks->bits + done, len - done, (off_t)done);

		if (n < 0 && errno != EINTR)
			return smd_image_fail(err, SMD_REASON_IO, "the set of blocks", "%s",
					      strerror(errno));
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int
smd_op_blocks(struct smd_source *source, struct smd_source *base_source, int fd, json **ret,
	      struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *chain = NULL;
	CLEANUP_CHAIN struct smd_chain *base = NULL;
	struct blocks blocks = { 0, NULL };
	int r = smd_source_open(source, &chain, err);

	if (r == 0 && base_source)
		r = smd_source_open(base_source, &base, err);
	if (r == 0)
		r = find_blocks(&blocks, chain, base, err);
	if (r == 0)
		r = write_blocks(&blocks, fd, err);
	close(fd);
	free(blocks.bits);
	if (r != 0)
		return -1;
	*ret = json_object_new_object();
	smd_json_set_int(*ret, "size", (int64_t)blocks.size);
	return 0;
}
