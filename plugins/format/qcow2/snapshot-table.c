/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of internal snapshots ("Snapshots"). It is read entry by entry and
 * never kept: it may be 64 MiB. Ids and names are bytes that may hold anything.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

void
qcow2_snapshot_done(struct qcow2_snapshot *snapshot)
{
	free(snapshot->id);
	free(snapshot->name);
	snapshot->id = snapshot->name = NULL;
}

static int
bad(const struct qcow2_image *img, uint64_t pos, const char *what, struct smd_error *err)
{
	return smd_fail(err, SMD_REASON_SNAPSHOT_TABLE, img->io->name,
			"snapshot table entry at %" PRIu64 ": %s", pos, what);
}

/* Read count bytes at pos of the table. */
static int
table_read(struct qcow2_image *img, uint64_t pos, void *buf, size_t count,
	   struct smd_error *err)
{
	uint64_t offset;

	if (!smd_range_ok(pos, count, QCOW2_MAX_SNAPSHOT_TABLE))
		return bad(img, pos, "the table is over 64 MiB", err);
	if (!smd_add_u64(img->h.snapshots_offset, pos, &offset) ||
	    !smd_range_ok(offset, count, img->io->size))
		return bad(img, pos, "passes the end of the file", err);
	return count == 0 ? 0 : img->io->ops->pread(img->io, buf, count, offset, err);
}

static int
read_string(struct qcow2_image *img, uint64_t pos, uint16_t size, char **ret,
	    struct smd_error *err)
{
	*ret = calloc(1, size + 1u);
	if (!*ret)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	return table_read(img, pos, *ret, size, err);
}

static int
check_entry(const struct qcow2_image *img, const struct qcow2_snapshot *s, uint32_t extra_size,
	    struct smd_error *err)
{
	if (extra_size > QCOW2_MAX_SNAPSHOT_EXTRA)
		return bad(img, s->table_offset, "over 1024 bytes of extra data", err);
	if (img->h.version == 3 && extra_size < QCOW2_SNAPSHOT_EXTRA_ICOUNT)
		return bad(img, s->table_offset, "extra data without the disk size", err);
	if (s->l1_offset % img->g.cluster_size != 0)
		return bad(img, s->table_offset, "its L1 table is misaligned", err);
	if (s->l1_size > QCOW2_MAX_L1_BYTES / 8)
		return bad(img, s->table_offset, "its L1 table is over 32 MiB", err);
	if (s->l1_size != 0 && (s->l1_offset < img->g.cluster_size ||
				!smd_range_ok(s->l1_offset, s->l1_size * 8ull, img->io->size)))
		return bad(img, s->table_offset, "its L1 table is outside the file", err);
	return 0;
}

/* "Snapshot table entry": 40 bytes, extra data, id, name, padding. */
int
qcow2_snapshot_read(struct qcow2_image *img, uint64_t *pos, struct qcow2_snapshot *ret,
		    struct smd_error *err)
{
	uint8_t b[QCOW2_SNAPSHOT_FIXED], extra[QCOW2_SNAPSHOT_EXTRA_ICOUNT];
	struct qcow2_snapshot s = { .table_offset = *pos };
	uint32_t extra_size;
	uint64_t at = *pos + sizeof b;

	if (table_read(img, *pos, b, sizeof b, err) < 0)
		return -1;
	s.l1_offset = smd_load_be64(b + QCOW2_SNAPSHOT_L1_OFFSET);
	s.l1_size = smd_load_be32(b + QCOW2_SNAPSHOT_L1_SIZE);
	s.id_size = smd_load_be16(b + QCOW2_SNAPSHOT_ID_SIZE);
	s.name_size = smd_load_be16(b + QCOW2_SNAPSHOT_NAME_SIZE);
	s.date_sec = smd_load_be32(b + QCOW2_SNAPSHOT_DATE_SEC);
	s.date_nsec = smd_load_be32(b + QCOW2_SNAPSHOT_DATE_NSEC);
	s.vm_state_size = smd_load_be32(b + QCOW2_SNAPSHOT_VM_STATE_SIZE);
	s.virtual_size = img->h.size;
	extra_size = smd_load_be32(b + QCOW2_SNAPSHOT_EXTRA_SIZE);
	if (check_entry(img, &s, extra_size, err) < 0 ||
	    table_read(img, at, extra, smd_min_u64(sizeof extra, extra_size), err) < 0)
		return -1;
	if (extra_size >= 8)
		s.vm_state_size = smd_load_be64(extra + QCOW2_SNAPSHOT_EXTRA_VM_STATE);
	if (extra_size >= 16)
		s.virtual_size = smd_load_be64(extra + QCOW2_SNAPSHOT_EXTRA_DISK_SIZE);
	at += extra_size;
	if (read_string(img, at, s.id_size, &s.id, err) < 0 ||
	    read_string(img, at + s.id_size, s.name_size, &s.name, err) < 0) {
		qcow2_snapshot_done(&s);
		return -1;
	}
	at += s.id_size + s.name_size;
	s.entry_size = ((at + 7) & ~7ull) - *pos;
	*pos += s.entry_size;
	*ret = s;
	return 0;
}

int
qcow2_snapshots_check(struct qcow2_image *img, uint64_t *ret_size, struct smd_error *err)
{
	struct qcow2_snapshot s;
	uint64_t pos = 0;

	for (uint32_t i = 0; i < img->h.n_snapshots; i++) {
		if (qcow2_snapshot_read(img, &pos, &s, err) < 0)
			return -1;
		qcow2_snapshot_done(&s);
	}
	*ret_size = pos;
	return 0;
}

int
qcow2_snapshot_list(struct qcow2_image *img, smd_snapshot_fn *add, void *opaque,
		    struct smd_error *err)
{
	struct qcow2_snapshot s;
	uint64_t pos = 0;

	for (uint32_t i = 0; i < img->h.n_snapshots; i++) {
		struct smd_snapshot told;
		int r;

		if (qcow2_snapshot_read(img, &pos, &s, err) < 0)
			return -1;
		told = (struct smd_snapshot){ s.id, s.name, s.virtual_size, s.vm_state_size,
					      s.date_sec * UINT64_C(1000000000) + s.date_nsec };
		r = add(opaque, &told, err);
		qcow2_snapshot_done(&s);
		if (r < 0)
			return -1;
	}
	return 0;
}
