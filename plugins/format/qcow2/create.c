/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * New images: their options, and where header, refcount table, refcount blocks
 * and L1 lie, in this order from cluster 0. The refcount table is made large
 * enough for the whole disk, so that it need not grow.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

#define CHUNK (1u << 20)	/* zeroes written at a time */

const struct smd_option qcow2_options[] = {
	{ "cluster_size", SMD_OPTION_SIZE, "65536", "512..2097152",
	  "bytes of a cluster, a power of two" },
	{ "refcount_bits", SMD_OPTION_INT, "16", "1..64", "width of a refcount, a power of two" },
	{ "compat", SMD_OPTION_ENUM, "1.1", "0.10|1.1|v2|v3", "version of the format" },
	{ "compression_type", SMD_OPTION_ENUM, "zlib", "zlib|zstd",
	  "how compressed clusters are encoded" },
	{ "extended_l2", SMD_OPTION_BOOL, "off", NULL, "divide clusters into 32 subclusters" },
	{ "preallocation", SMD_OPTION_ENUM, "off", "off|metadata|falloc|full",
	  "take space when the image is made" },
	{ NULL, 0, NULL, NULL, NULL },
};

static const char *
option(const struct smd_create *params, const char *name)
{
	const struct smd_option *o = qcow2_options;

	for (size_t i = 0; i < params->n_options; i++)
		if (strcmp(params->option_names[i], name) == 0)
			return params->option_values[i];
	while (strcmp(o->name, name) != 0)
		o++;
	return o->dflt;
}

/* The exponent of an option that is a power of two, or UINT_MAX. */
static unsigned
option_log2(const struct smd_create *params, const char *name)
{
	uint64_t value = strtoull(option(params, name), NULL, 10);

	return smd_is_pow2_u64(value) ? (unsigned)__builtin_ctzll(value) : ~0u;
}

static int
check_options(const struct qcow2_plan *plan, unsigned cluster_bits, unsigned refcount_order,
	      const struct smd_create *params, const char *name, struct smd_error *err)
{
	if (cluster_bits > QCOW2_MAX_CLUSTER_BITS || cluster_bits < QCOW2_MIN_CLUSTER_BITS ||
	    (plan->extended_l2 && cluster_bits < QCOW2_MIN_EXTENDED_L2_BITS))
		return smd_fail(err, SMD_REASON_BAD_CLUSTER_SIZE, name,
				"cluster_size %s is not a power of two within 512..2097152, "
				"or below 16384 with extended_l2", option(params, "cluster_size"));
	if (refcount_order > QCOW2_MAX_REFCOUNT_ORDER)
		return smd_fail(err, SMD_REASON_BAD_REFCOUNT_ORDER, name,
				"refcount_bits %s is not a power of two within 1..64",
				option(params, "refcount_bits"));
	if (plan->version == 2 && (plan->extended_l2 || plan->compression || refcount_order != 4))
		return smd_fail(err, SMD_REASON_UNSUPPORTED, name,
				"extended_l2, zstd and refcounts of another width than 16 bits "
				"need compat=1.1");
	if (params->parent_name && strcmp(plan->preallocation, "off") != 0)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, name,
				"preallocation would hide the parent");
	return 0;
}

static int
check_size(const struct qcow2_plan *plan, const char *name, struct smd_error *err)
{
	if (plan->virtual_size % SMD_SECTOR != 0)
		return smd_fail(err, SMD_REASON_BAD_SIZE, name,
				"virtual size %" PRIu64 " is no multiple of %u",
				plan->virtual_size, SMD_SECTOR);
	if (plan->virtual_size > QCOW2_MAX_VIRTUAL_SIZE)
		return smd_fail(err, SMD_REASON_SIZE_LIMIT, name,
				"virtual size %" PRIu64 " is over %" PRIu64, plan->virtual_size,
				(uint64_t)QCOW2_MAX_VIRTUAL_SIZE);
	if (plan->l1_size > QCOW2_MAX_L1_BYTES / 8)
		return smd_fail(err, SMD_REASON_SIZE_LIMIT, name,
				"virtual size %" PRIu64 " needs clusters larger than %" PRIu64,
				plan->virtual_size, plan->g.cluster_size);
	return 0;
}

/* Refcount blocks and table for n clusters and themselves. */
static void
count_refcounts(const struct qcow2_geometry *g, uint64_t n, uint64_t *ret_blocks,
		uint64_t *ret_table)
{
	uint64_t blocks = 0, table = 0, all;

	do {
		all = n + blocks + table;
		blocks = smd_div_round_up_u64(all, g->rb_entries);
		table = smd_div_round_up_u64(blocks * 8, g->cluster_size);
	} while (n + blocks + table != all);
	*ret_blocks = blocks;
	*ret_table = table;
}

/* Clusters of L2 and data that the whole disk takes. */
static uint64_t
full_clusters(const struct qcow2_plan *plan)
{
	return smd_div_round_up_u64(plan->virtual_size, plan->g.cluster_size) + plan->l1_size;
}

int
qcow2_plan_init(struct qcow2_plan *plan, const struct smd_create *params, uint64_t extra,
		const char *name, struct smd_error *err)
{
	unsigned cluster_bits = option_log2(params, "cluster_size");
	unsigned refcount_order = option_log2(params, "refcount_bits");
	uint64_t in_use, blocks, table, table_now;

	memset(plan, 0, sizeof *plan);
	plan->version = strcmp(option(params, "compat"), "0.10") == 0 ||
		strcmp(option(params, "compat"), "v2") == 0 ? 2 : 3;
	plan->compression = strcmp(option(params, "compression_type"), "zstd") == 0 ?
		QCOW2_COMPRESSION_ZSTD : QCOW2_COMPRESSION_ZLIB;
	plan->extended_l2 = strcmp(option(params, "extended_l2"), "on") == 0;
	plan->preallocation = option(params, "preallocation");
	plan->virtual_size = params->virtual_size;
	if (check_options(plan, cluster_bits, refcount_order, params, name, err) < 0)
		return -1;
	qcow2_geometry_init(&plan->g, cluster_bits, plan->extended_l2, refcount_order);
	plan->l1_size = smd_div_round_up_u64(plan->virtual_size, plan->g.l2_span);
	if (check_size(plan, name, err) < 0)
		return -1;
	plan->l1_clusters = smd_div_round_up_u64(plan->l1_size * 8, plan->g.cluster_size);
	count_refcounts(&plan->g, 1 + plan->l1_clusters + full_clusters(plan), &blocks, &table);
	plan->rt_clusters = smd_min_u64(table, QCOW2_MAX_RT_BYTES >> cluster_bits);
	in_use = 1 + plan->l1_clusters + plan->rt_clusters + extra;
	do {
		table_now = plan->rb_clusters;
		plan->rb_clusters = smd_div_round_up_u64(in_use + table_now, plan->g.rb_entries);
	} while (plan->rb_clusters != table_now);
	plan->end = 1 + plan->rt_clusters + plan->rb_clusters + plan->l1_clusters;
	if (plan->rb_clusters * 8 > plan->rt_clusters << cluster_bits)
		return smd_fail(err, SMD_REASON_SIZE_LIMIT, name,
				"virtual size %" PRIu64 " needs clusters larger than %" PRIu64,
				plan->virtual_size, plan->g.cluster_size);
	return 0;
}

static void
header_init(struct qcow2_header *h, const struct qcow2_plan *plan)
{
	uint64_t rt = 1, l1 = 1 + plan->rt_clusters + plan->rb_clusters;

	memset(h, 0, sizeof *h);
	h->version = plan->version;
	h->cluster_bits = plan->g.cluster_bits;
	h->size = plan->virtual_size;
	h->l1_size = (uint32_t)plan->l1_size;
	h->l1_offset = plan->l1_size ? l1 << plan->g.cluster_bits : 0;
	h->rt_offset = rt << plan->g.cluster_bits;
	h->rt_clusters = (uint32_t)plan->rt_clusters;
	h->refcount_order = plan->g.refcount_order;
	h->compression = plan->compression;
	h->header_length = plan->version == 2 ? QCOW2_HEADER_V2_LENGTH : QCOW2_HEADER_OUR_LENGTH;
	if (plan->extended_l2)
		h->incompatible |= QCOW2_INCOMPAT_EXTENDED_L2;
	if (plan->compression)
		h->incompatible |= QCOW2_INCOMPAT_COMPRESSION;
}

int
qcow2_plan_header(const struct qcow2_plan *plan, const struct smd_create *params,
		  const char *name, uint8_t **ret, struct smd_error *err)
{
	size_t format_size = params->parent_name && params->parent_format ?
		strlen(params->parent_format) : 0;
	size_t name_size = params->parent_name ? strlen(params->parent_name) : 0;
	CLEANUP_FREE uint8_t *buf = calloc(1, plan->g.cluster_size);
	struct qcow2_header h;
	size_t pos;

	if (!buf)
		return smd_fail(err, SMD_REASON_IO, name, "out of memory");
	header_init(&h, plan);
	pos = h.header_length;
	if (format_size > QCOW2_MAX_BACKING_FORMAT)
		return smd_fail(err, SMD_REASON_BACKING_FORMAT, name,
				"format name of %zu bytes is over %u", format_size,
				QCOW2_MAX_BACKING_FORMAT);
	if (params->parent_name && (name_size == 0 || name_size > QCOW2_MAX_BACKING_NAME ||
				    pos + 32 + name_size > plan->g.cluster_size))
		return smd_fail(err, SMD_REASON_BACKING_NAME, name,
				"name of %zu bytes is empty or does not fit the header", name_size);
	if (format_size != 0)
		pos = qcow2_ext_put(buf, pos, QCOW2_EXT_BACKING_FORMAT, params->parent_format,
				    (uint32_t)format_size);
	pos += 8;
	if (name_size != 0) {
		memcpy(buf + pos, params->parent_name, name_size);
		h.backing_offset = pos;
		h.backing_size = (uint32_t)name_size;
	}
	qcow2_header_encode(&h, buf);
	*ret = TAKE_PTR(buf);
	return 0;
}

/* The store is made as long as the tables, all zeroes. */
static int
make_room(struct smd_io *io, uint64_t size, struct smd_error *err)
{
	if (io->flags & SMD_IO_CAN_GROW)
		return io->ops->truncate(io, 0, err) < 0 ? -1 : io->ops->truncate(io, size, err);
	if (size > io->size)
		return smd_fail(err, SMD_REASON_IO, io->name,
				"no room: the tables take %" PRIu64 " bytes of %" PRIu64, size,
				io->size);
	return io->ops->zero(io, 0, size, err);
}

static int
write_tables(struct smd_io *io, const struct qcow2_plan *plan, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = malloc(plan->g.cluster_size);
	uint64_t first_rb = 1 + plan->rt_clusters;
	uint8_t entry[8];

	if (!buf)
		return smd_fail(err, SMD_REASON_IO, io->name, "out of memory");
	for (uint64_t i = 0; i < plan->rb_clusters; i++) {
		uint64_t offset = (first_rb + i) << plan->g.cluster_bits;
		uint64_t n = smd_min_u64(plan->end - i * plan->g.rb_entries, plan->g.rb_entries);

		memset(buf, 0, plan->g.cluster_size);
		for (uint64_t c = 0; c < n; c++)
			qcow2_refcount_store(buf, plan->g.refcount_order, c, 1);
		smd_store_be64(entry, offset);
		if (io->ops->pwrite(io, buf, plan->g.cluster_size, offset, err) < 0 ||
		    io->ops->pwrite(io, entry, sizeof entry, plan->g.cluster_size + i * 8, err) < 0)
			return -1;
	}
	return 0;
}

static int
fill_place(void *opaque, const struct smd_place *place, struct smd_error *err)
{
	struct smd_io *io = opaque;
	CLEANUP_FREE uint8_t *zeroes = calloc(1, CHUNK);

	if (!zeroes)
		return smd_fail(err, SMD_REASON_IO, io->name, "out of memory");
	for (uint64_t pos = 0; pos < place->count; pos += CHUNK)
		if (io->ops->pwrite(io, zeroes, smd_min_u64(CHUNK, place->count - pos),
				    place->host_offset + pos, err) < 0)
			return -1;
	return 0;
}

static int
allocate_place(void *opaque, const struct smd_place *place, struct smd_error *err)
{
	struct smd_io *io = opaque;

	if (place->kind != SMD_PLACE_FRESH_ZEROED || !io->ops->allocate)
		return fill_place(opaque, place, err);
	return io->ops->allocate(io, place->host_offset, place->count, err);
}

static int
leave_place(void *opaque, const struct smd_place *place, struct smd_error *err)
{
	return place->kind == SMD_PLACE_FRESH_ZEROED ? 0 : fill_place(opaque, place, err);
}

static smd_place_fn *
preallocate_place(const struct qcow2_plan *plan)
{
	if (strcmp(plan->preallocation, "full") == 0)
		return fill_place;
	return strcmp(plan->preallocation, "falloc") == 0 ? allocate_place : leave_place;
}

/* Map every cluster; with "falloc" take its space, with "full" write its zeroes. */
static int
preallocate(struct smd_io *io, const struct qcow2_plan *plan, struct smd_error *err)
{
	smd_place_fn *fill = preallocate_place(plan);
	CLEANUP_QCOW2 struct qcow2_image *img = NULL;
	struct qcow2_reservation *res;
	uint64_t step = smd_max_u64(plan->g.cluster_size, 4u << 20);

	if (qcow2_open(io, SMD_OPEN_WRITE, &img, err) < 0)
		return -1;
	for (uint64_t pos = 0; pos < plan->virtual_size; pos += step)
		if (qcow2_reserve(img, pos, smd_min_u64(step, plan->virtual_size - pos), fill, io,
				  &res, err) < 0 || qcow2_commit(img, res, err) < 0)
			return -1;
	return qcow2_sync(img, err);
}

int
qcow2_create(struct smd_io *io, const struct smd_create *params, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *head = NULL;
	struct qcow2_plan plan;

	if (qcow2_plan_init(&plan, params, 0, io->name, err) < 0 ||
	    qcow2_plan_header(&plan, params, io->name, &head, err) < 0 ||
	    make_room(io, plan.end << plan.g.cluster_bits, err) < 0 ||
	    write_tables(io, &plan, err) < 0 ||
	    io->ops->pwrite(io, head, plan.g.cluster_size, 0, err) < 0)
		return -1;
	return strcmp(plan.preallocation, "off") == 0 ? 0 : preallocate(io, &plan, err);
}

int
qcow2_measure(const struct smd_create *params, uint64_t data_size, uint64_t n_extents,
	      struct smd_measure *ret, struct smd_error *err)
{
	uint64_t all, data, l2, blocks, table, fixed;
	struct qcow2_plan plan;

	if (qcow2_plan_init(&plan, params, 0, "measure", err) < 0)
		return -1;
	all = smd_div_round_up_u64(plan.virtual_size, plan.g.cluster_size);
	/* A run that begins and ends amid clusters touches two more. */
	data = smd_min_u64(all, data_size / plan.g.cluster_size + 2 * n_extents);
	l2 = smd_min_u64(plan.l1_size, data_size / plan.g.l2_span + 2 * n_extents);
	if (strcmp(plan.preallocation, "off") != 0) {
		data = all;
		l2 = plan.l1_size;
	}
	fixed = 1 + plan.rt_clusters + plan.l1_clusters;
	count_refcounts(&plan.g, fixed + data + l2, &blocks, &table);
	ret->required = (fixed + data + l2 + blocks) << plan.g.cluster_bits;
	count_refcounts(&plan.g, fixed + all + plan.l1_size, &blocks, &table);
	ret->fully_allocated = (fixed + all + plan.l1_size + blocks) << plan.g.cluster_bits;
	return 0;
}

int
qcow2_usage(const struct smd_create *params, struct smd_usage *ret, struct smd_error *err)
{
	struct qcow2_plan plan;

	if (qcow2_plan_init(&plan, params, 0, "measure", err) < 0)
		return -1;
	*ret = (struct smd_usage){
		.write_unit = plan.g.sub_size, .alloc_unit = plan.g.cluster_size,
		.table = plan.g.l2_span,
	};
	return 0;
}

/* Of the tables that are not written whole: the pages of entries [first, end). */
static uint64_t
entry_pages(uint64_t first, uint64_t end)
{
	if (first >= end)
		return 0;
	return smd_div_round_up_u64(end * 8, SMD_PAGE) - first * 8 / SMD_PAGE;
}

/* The header's cluster, the refcount blocks and L2 tables are written whole; of the
 * refcount table and L1 only what has entries. */
int
qcow2_taken(const struct smd_create *params, const struct smd_usage *usage,
	    struct smd_taken *ret, struct smd_error *err)
{
	uint64_t clusters, blocks, rest, units = usage->units, l2 = usage->tables;
	uint64_t pages = usage->pages, first = 0, end = 0;
	struct qcow2_plan plan;

	if (qcow2_plan_init(&plan, params, 0, "measure", err) < 0)
		return -1;
	if (l2 > 0) {
		first = usage->start / plan.g.l2_span;
		end = smd_div_round_up_u64(usage->end, plan.g.l2_span);
	}
	if (strcmp(plan.preallocation, "off") != 0) {
		units = smd_div_round_up_u64(plan.virtual_size, plan.g.cluster_size);
		l2 = end = plan.l1_size;
		if (strcmp(plan.preallocation, "metadata") != 0)
			pages = smd_div_round_up_u64(plan.virtual_size, SMD_PAGE);
	}
	clusters = 1 + plan.rt_clusters + plan.l1_clusters + units + l2;
	for (blocks = plan.rb_clusters; (rest = smd_div_round_up_u64(clusters + blocks,
								      plan.g.rb_entries)) > blocks;)
		blocks = rest;
	ret->size = ret->allocated = (clusters + blocks) << plan.g.cluster_bits;
	if (plan.g.cluster_size >= SMD_PAGE)
		ret->allocated = ((1 + blocks + l2) << plan.g.cluster_bits) +
			(entry_pages(0, blocks) + entry_pages(first, end) + pages) * SMD_PAGE;
	return 0;
}
