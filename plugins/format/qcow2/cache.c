/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bounded cache of cluster-sized tables. Dirty tables are never pushed out:
 * whoever dirties many calls qcow2_sync_if_full between steps.
 */
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

int
qcow2_cache_init(struct qcow2_cache *cache, size_t table_size, size_t max,
		 const struct smd_io *io, struct smd_error *err)
{
	memset(cache, 0, sizeof *cache);
	cache->table_size = table_size;
	cache->max = max;
	cache->n_buckets = 1;
	while (cache->n_buckets < max)
		cache->n_buckets *= 2;
	cache->buckets = calloc(cache->n_buckets, sizeof(struct qcow2_table *));
	if (!cache->buckets)
		return smd_fail(err, SMD_REASON_IO, io->name, "out of memory");
	return 0;
}

static struct qcow2_table **
bucket(struct qcow2_cache *cache, uint64_t offset)
{
	uint64_t hash = offset / cache->table_size * 0x9e3779b97f4a7c15ull;

	return &cache->buckets[(hash >> 32) & (cache->n_buckets - 1)];
}

static void
unlink_lru(struct qcow2_cache *cache, struct qcow2_table *table)
{
	*(table->newer ? &table->newer->older : &cache->newest) = table->older;
	*(table->older ? &table->older->newer : &cache->oldest) = table->newer;
}

static void
push_newest(struct qcow2_cache *cache, struct qcow2_table *table)
{
	table->newer = NULL;
	table->older = cache->newest;
	*(cache->newest ? &cache->newest->newer : &cache->oldest) = table;
	cache->newest = table;
}

struct qcow2_table *
qcow2_cache_find(struct qcow2_cache *cache, uint64_t offset)
{
	struct qcow2_table *table;

	if (cache->newest && cache->newest->offset == offset)
		return cache->newest;
	for (table = *bucket(cache, offset); table; table = table->hash_next)
		if (table->offset == offset)
			break;
	if (table) {
		unlink_lru(cache, table);
		push_newest(cache, table);
	}
	return table;
}

/* Take a table out of the cache, which keeps no pointer to it. */
static void
detach(struct qcow2_cache *cache, struct qcow2_table *table)
{
	struct qcow2_table **at = bucket(cache, table->offset);

	while (*at != table)
		at = &(*at)->hash_next;
	*at = table->hash_next;
	unlink_lru(cache, table);
	if (table->dirty_end != 0)
		cache->n_dirty--;
	cache->n--;
}

static void
table_free(struct qcow2_table *table)
{
	if (table)
		free(table->data);
	free(table);
}

/* A table not in the cache yet: the oldest clean one, or a new one. */
static struct qcow2_table *
table_take(struct qcow2_cache *cache, const struct smd_io *io, struct smd_error *err)
{
	struct qcow2_table *table = NULL;

	if (cache->n >= cache->max)
		for (table = cache->oldest; table && table->dirty_end != 0; table = table->newer)
			continue;
	if (table) {
		detach(cache, table);
		return table;
	}
	table = calloc(1, sizeof *table);
	if (table)
		table->data = malloc(cache->table_size);
	if (!table || !table->data) {
		table_free(table);
		smd_fail(err, SMD_REASON_IO, io->name, "out of memory");
		return NULL;
	}
	return table;
}

static void
attach(struct qcow2_cache *cache, struct qcow2_table *table, uint64_t offset)
{
	struct qcow2_table **at = bucket(cache, offset);

	table->offset = offset;
	table->dirty_start = table->dirty_end = 0;
	table->hash_next = *at;
	*at = table;
	push_newest(cache, table);
	cache->n++;
}

int
qcow2_cache_get(struct qcow2_cache *cache, struct smd_io *io, uint64_t offset,
		struct qcow2_table **ret, struct smd_error *err)
{
	struct qcow2_table *table = qcow2_cache_find(cache, offset);

	if (!table) {
		table = table_take(cache, io, err);
		if (!table)
			return -1;
		if (io->ops->pread(io, table->data, cache->table_size, offset, err) < 0) {
			table_free(table);
			return -1;
		}
		attach(cache, table, offset);
	}
	*ret = table;
	return 0;
}

int
qcow2_cache_new(struct qcow2_cache *cache, const struct smd_io *io, uint64_t offset,
		const uint8_t *copy, struct qcow2_table **ret, struct smd_error *err)
{
	struct qcow2_table *table;

	qcow2_cache_drop(cache, offset);
	table = table_take(cache, io, err);
	if (!table)
		return -1;
	if (copy)
		memmove(table->data, copy, cache->table_size);
	else
		memset(table->data, 0, cache->table_size);
	attach(cache, table, offset);
	qcow2_cache_dirty(cache, table, 0, cache->table_size);
	*ret = table;
	return 0;
}

/* Whole sectors: an entry is then never torn, and a bulk of them is one write. */
void
qcow2_cache_dirty(struct qcow2_cache *cache, struct qcow2_table *table, size_t offset,
		  size_t count)
{
	uint32_t start = (uint32_t)(offset & ~(size_t)(SMD_SECTOR - 1));
	uint32_t end = (uint32_t)((offset + count + SMD_SECTOR - 1) & ~(size_t)(SMD_SECTOR - 1));

	if (table->dirty_end == 0) {
		table->dirty_start = start;
		table->dirty_end = end;
		cache->n_dirty++;
		return;
	}
	if (start < table->dirty_start)
		table->dirty_start = start;
	if (end > table->dirty_end)
		table->dirty_end = end;
}

void
qcow2_cache_drop(struct qcow2_cache *cache, uint64_t offset)
{
	struct qcow2_table *table = qcow2_cache_find(cache, offset);

	if (!table)
		return;
	detach(cache, table);
	table_free(table);
}

void
qcow2_cache_drop_all(struct qcow2_cache *cache)
{
	while (cache->oldest)
		qcow2_cache_drop(cache, cache->oldest->offset);
}

int
qcow2_cache_write(struct qcow2_cache *cache, struct smd_io *io, struct smd_error *err)
{
	struct qcow2_table *table;

	if (cache->n_dirty == 0)
		return 0;
	for (table = cache->oldest; table; table = table->newer)
		if (table->dirty_end != 0 &&
		    io->ops->pwrite(io, table->data + table->dirty_start,
				    table->dirty_end - table->dirty_start,
				    table->offset + table->dirty_start, err) < 0)
			return -1;
	return 0;
}

void
qcow2_cache_clean(struct qcow2_cache *cache)
{
	struct qcow2_table *table;

	for (table = cache->oldest; table; table = table->newer)
		table->dirty_start = table->dirty_end = 0;
	cache->n_dirty = 0;
}

void
qcow2_cache_done(struct qcow2_cache *cache)
{
	struct qcow2_table *table = cache->oldest, *newer;

	for (; table; table = newer) {
		newer = table->newer;
		table_free(table);
	}
	free(cache->buckets);
	memset(cache, 0, sizeof *cache);
}
