/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two tables that are kept whole: L1 and refcount table. Their entries are
 * in our byte order in memory.
 */
#include <stdlib.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

#define CHUNK 4096u	/* entries turned round at a time */

int
qcow2_array_load(struct qcow2_array *array, struct smd_io *io, uint64_t offset, uint64_t n,
		 struct smd_error *err)
{
	CLEANUP_FREE uint64_t *entries = calloc(n ? n : 1, sizeof *entries);
	uint64_t used = 1;

	if (!entries)
		return smd_fail(err, SMD_REASON_IO, io->name, "out of memory");
	if (n != 0 && io->ops->pread(io, entries, n * sizeof *entries, offset, err) < 0)
		return -1;
	for (uint64_t i = 0; i < n; i++) {
		entries[i] = smd_load_be64((const uint8_t *)&entries[i]);
		if (entries[i] != 0)
			used = i + 1;
	}
	array->entries = TAKE_PTR(entries);
	array->n = n;
	array->empty_from = used;
	array->offset = offset;
	qcow2_array_clean(array);
	return 0;
}

void
qcow2_array_set(struct qcow2_array *array, uint64_t index, uint64_t value)
{
	array->entries[index] = value;
	if (array->empty_from != 0)
		array->empty_from = smd_max_u64(array->empty_from, index + 1);
	if (array->dirty_end == 0) {
		array->dirty_start = index;
		array->dirty_end = index + 1;
		return;
	}
	array->dirty_start = smd_min_u64(array->dirty_start, index);
	array->dirty_end = smd_max_u64(array->dirty_end, index + 1);
}

int
qcow2_array_write(const struct qcow2_array *array, struct smd_io *io, uint64_t start,
		  uint64_t end, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = NULL;
	uint64_t n;

	if (start == end)
		return 0;
	buf = malloc(smd_min_u64(CHUNK, end - start) * 8);
	if (!buf)
		return smd_fail(err, SMD_REASON_IO, io->name, "out of memory");
	for (; start < end; start += n) {
		n = smd_min_u64(CHUNK, end - start);
		for (uint64_t i = 0; i < n; i++)
			smd_store_be64(buf + i * 8, array->entries[start + i]);
		if (io->ops->pwrite(io, buf, n * 8, array->offset + start * 8, err) < 0)
			return -1;
	}
	return 0;
}

int
qcow2_array_write_dirty(const struct qcow2_array *array, struct smd_io *io,
			struct smd_error *err)
{
	return qcow2_array_write(array, io, array->dirty_start, array->dirty_end, err);
}
