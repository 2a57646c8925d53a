/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Taking, deleting and going back to internal snapshots. In each, one header
 * sector is the switch, and a crash leaks at worst. A snapshot that is taken gets
 * the tables there are; those the disk goes on with are copies, without copied
 * flags (shadow.c). With one that goes, counts and flags change together, too.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

#define COPY_CHUNK 65536u

static uint64_t
clusters_of(const struct qcow2_image *img, uint64_t bytes)
{
	return smd_div_round_up_u64(bytes, img->g.cluster_size);
}

/* What all three begin with: everything so far is on the disk. */
static int
begin(struct qcow2_image *img, struct smd_error *err)
{
	if (qcow2_write_begin(img, err) < 0)
		return -1;
	if (img->n_reservations != 0)
		return smd_fail(err, SMD_REASON_IO, img->io->name,
				"writes are under way: no snapshot can be taken or changed");
	return qcow2_sync(img, err);
}

/* ---- The table, written anew ------------------------------------------------- */

static int
copy_bytes(struct qcow2_image *img, uint64_t from, uint64_t to, uint64_t count,
	   struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = malloc(COPY_CHUNK);
	uint64_t n;

	if (!buf)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	for (uint64_t done = 0; done < count; done += n) {
		n = smd_min_u64(COPY_CHUNK, count - done);
		if (img->io->ops->pread(img->io, buf, n, from + done, err) < 0 ||
		    img->io->ops->pwrite(img->io, buf, n, to + done, err) < 0)
			return -1;
	}
	return 0;
}

/* Entries are padded to 8 bytes, the last one may end with the file. */
static uint64_t
readable(const struct qcow2_image *img, uint64_t offset, uint64_t count)
{
	return smd_min_u64(count, img->io->size - offset);
}

struct table_change {
	uint64_t skip, skip_size;	/* an entry to leave out */
	const uint8_t *append;		/* an entry to add */
	uint64_t append_size;
};

/* The entries at a new place; *ret 0 where none are left. */
static int
table_copy(struct qcow2_image *img, uint64_t old_size, const struct table_change *change,
	   uint64_t *ret, struct smd_error *err)
{
	uint64_t kept = old_size - change->skip_size, old = img->h.snapshots_offset, host;
	uint64_t after = change->skip + change->skip_size, size = kept + change->append_size;

	*ret = 0;
	if (size == 0)
		return 0;
	if (size > QCOW2_MAX_SNAPSHOT_TABLE)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, img->io->name,
				"the snapshot table would be over %u bytes",
				QCOW2_MAX_SNAPSHOT_TABLE);
	if (qcow2_alloc_run(img, clusters_of(img, size), &host, err) < 0 ||
	    qcow2_sync(img, err) < 0 ||
	    copy_bytes(img, old, host, readable(img, old, change->skip), err) < 0 ||
	    copy_bytes(img, old + after, host + change->skip,
		       readable(img, old + after, old_size - after), err) < 0 ||
	    (change->append_size != 0 &&
	     img->io->ops->pwrite(img->io, change->append, change->append_size, host + kept,
				  err) < 0))
		return -1;
	*ret = host;
	return qcow2_flush_io(img, err);
}

/* Written anew; the header's switch to *ret is the caller's. */
static int
table_rewrite(struct qcow2_image *img, const struct table_change *change, uint64_t *ret,
	      uint64_t *ret_old_size, struct smd_error *err)
{
	if (qcow2_snapshots_check(img, ret_old_size, err) < 0)
		return -1;
	return table_copy(img, *ret_old_size, change, ret, err);
}

/* ---- Counting up ---------------------------------------------------------------- */

/* Before anything is raised: would every count fit? One tree holds a compressed
 * cluster as often as it has pieces there, at most as often as it is counted. */
static int
check_clusters(struct qcow2_image *img, uint64_t first, uint64_t n, bool compressed,
	       struct smd_error *err)
{
	uint64_t count;

	for (uint64_t i = 0; i < n; i++) {
		if (qcow2_refcount_get(img, first + i, &count, err) < 0)
			return -1;
		if ((compressed ? count : 1) > img->g.refcount_max - count)
			return smd_fail(err, SMD_REASON_UNSUPPORTED, img->io->name,
					"refcounts of %u bits cannot count another snapshot",
					1u << img->g.refcount_order);
	}
	return 0;
}

static int
check_counts(struct qcow2_image *img, const struct qcow2_array *l1, struct smd_error *err)
{
	struct qcow2_table *table;
	struct qcow2_entry entry;
	uint64_t offset, first, n;

	for (uint64_t i = 0; i < l1->n; i++) {
		if (qcow2_l1_decode(img, l1->entries[i], &offset, err) < 0)
			return -1;
		if (offset == 0)
			continue;
		if (check_clusters(img, offset >> img->g.cluster_bits, 1, false, err) < 0 ||
		    qcow2_l2_get(img, offset, &table, err) < 0)
			return -1;
		for (uint64_t j = 0; j < img->g.l2_entries; j++) {
			if (qcow2_entry_decode(img, table->data + j * img->g.l2_entry_size, &entry,
					       err) < 0)
				return -1;
			qcow2_entry_clusters(img, &entry, &first, &n);
			if (check_clusters(img, first, n, entry.compressed_size != 0, err) < 0)
				return -1;
		}
	}
	return 0;
}

static int
count_up(struct qcow2_image *img, uint64_t first, uint64_t n, struct smd_error *err)
{
	return qcow2_refcount_add(img, first, n, 1, err);
}

/* ---- Create ------------------------------------------------------------------------ */

/* One more than the highest id that is a number, as QEMU counts. */
static int
next_id(struct qcow2_image *img, char *buf, size_t size, struct smd_error *err)
{
	struct qcow2_snapshot s;
	uint64_t pos = 0, max = 0;

	for (uint32_t i = 0; i < img->h.n_snapshots; i++) {
		if (qcow2_snapshot_read(img, &pos, &s, err) < 0)
			return -1;
		max = smd_max_u64(max, strtoul(s.id, NULL, 10));
		qcow2_snapshot_done(&s);
	}
	snprintf(buf, size, "%" PRIu64, max + 1);
	return 0;
}

/* An entry of the table; *ret is the caller's. */
static int
make_entry(struct qcow2_image *img, const struct qcow2_array *l1, const char *name,
	   uint64_t date_ns, uint8_t **ret, uint64_t *ret_size, struct smd_error *err)
{
	char id[24];
	size_t name_size = strlen(name), id_size;
	uint8_t *b, *extra;

	if (next_id(img, id, sizeof id, err) < 0)
		return -1;
	id_size = strlen(id);
	*ret_size = (QCOW2_SNAPSHOT_FIXED + QCOW2_SNAPSHOT_EXTRA_LENGTH + id_size + name_size +
		     7) & ~7ull;
	b = calloc(1, *ret_size);
	if (!b)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	extra = b + QCOW2_SNAPSHOT_FIXED;
	smd_store_be64(b + QCOW2_SNAPSHOT_L1_OFFSET, l1->offset);
	smd_store_be32(b + QCOW2_SNAPSHOT_L1_SIZE, (uint32_t)l1->n);
	smd_store_be16(b + QCOW2_SNAPSHOT_ID_SIZE, (uint16_t)id_size);
	smd_store_be16(b + QCOW2_SNAPSHOT_NAME_SIZE, (uint16_t)name_size);
	smd_store_be32(b + QCOW2_SNAPSHOT_DATE_SEC, (uint32_t)(date_ns / 1000000000));
	smd_store_be32(b + QCOW2_SNAPSHOT_DATE_NSEC, (uint32_t)(date_ns % 1000000000));
	smd_store_be32(b + QCOW2_SNAPSHOT_EXTRA_SIZE, QCOW2_SNAPSHOT_EXTRA_LENGTH);
	smd_store_be64(extra + QCOW2_SNAPSHOT_EXTRA_DISK_SIZE, img->h.size);
	smd_store_be64(extra + QCOW2_SNAPSHOT_EXTRA_ICOUNT, UINT64_MAX);
	memcpy(extra + QCOW2_SNAPSHOT_EXTRA_LENGTH, id, id_size);
	memcpy(extra + QCOW2_SNAPSHOT_EXTRA_LENGTH + id_size, name, name_size);
	*ret = b;
	return 0;
}

/* Switch to the copies and to another snapshot table; the old one goes, as do
 * the old refcounts. */
static int
switch_over(struct qcow2_image *img, struct qcow2_shadow *shadow, uint64_t table,
	    uint64_t old_table_size, uint32_t n_snapshots, struct smd_error *err)
{
	img->h.snapshots_offset = table;
	img->h.n_snapshots = n_snapshots;
	if (qcow2_shadow_switch(img, shadow, err) < 0)
		return -1;
	qcow2_free_later(img, shadow->h.snapshots_offset >> img->g.cluster_bits,
			 clusters_of(img, old_table_size));
	return qcow2_table_free(img, &shadow->rt, err);
}

static int
take_snapshot(struct qcow2_image *img, uint64_t table, uint64_t old_table_size,
	      struct smd_error *err)
{
	__attribute__((cleanup(qcow2_shadow_done))) struct qcow2_shadow shadow;

	if (qcow2_shadow_begin(img, &shadow, err) < 0)
		return -1;
	if (qcow2_tree_each(img, &img->l1, false, count_up, err) < 0 ||
	    qcow2_copied_refresh(img, &img->l1, err) < 0) {
		qcow2_shadow_undo(img, &shadow);
		return -1;
	}
	if (switch_over(img, &shadow, table, old_table_size, img->h.n_snapshots + 1, err) < 0)
		return -1;
	return qcow2_sync(img, err);
}

int
qcow2_snapshot_create(struct qcow2_image *img, const char *name, uint64_t date_ns,
		      struct smd_error *err)
{
	CLEANUP_FREE uint8_t *entry = NULL;
	struct table_change change = { 0 };
	uint64_t table, old_size;

	if (strlen(name) > QCOW2_MAX_SNAPSHOT_NAME)
		return smd_fail(err, SMD_REASON_SNAPSHOT_TABLE, img->io->name,
				"name of %zu bytes is over %u", strlen(name),
				QCOW2_MAX_SNAPSHOT_NAME);
	if (img->h.n_snapshots == QCOW2_MAX_SNAPSHOTS)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, img->io->name,
				"there are %u snapshots already", QCOW2_MAX_SNAPSHOTS);
	if (begin(img, err) < 0 || check_counts(img, &img->l1, err) < 0 ||
	    make_entry(img, &img->l1, name, date_ns, &entry, &change.append_size, err) < 0)
		return -1;
	change.append = entry;
	if (qcow2_snapshots_check(img, &change.skip, err) < 0 ||
	    table_rewrite(img, &change, &table, &old_size, err) < 0)
		return -1;
	return take_snapshot(img, table, old_size, err);
}

/* ---- Delete and apply ------------------------------------------------------------------ */

/* By id, or else by name. */
static int
find(struct qcow2_image *img, const char *id_or_name, struct qcow2_snapshot *ret,
     struct smd_error *err)
{
	for (int by_name = 0; by_name < 2; by_name++) {
		uint64_t pos = 0;

		for (uint32_t i = 0; i < img->h.n_snapshots; i++) {
			if (qcow2_snapshot_read(img, &pos, ret, err) < 0)
				return -1;
			if (strcmp(by_name ? ret->name : ret->id, id_or_name) == 0)
				return 0;
			qcow2_snapshot_done(ret);
		}
	}
	return smd_fail(err, SMD_REASON_SNAPSHOT_TABLE, img->io->name, "no snapshot \"%s\"",
			id_or_name);
}

static int
count_down(struct qcow2_image *img, uint64_t first, uint64_t n, struct smd_error *err)
{
	return qcow2_refcount_add(img, first, n, -1, err);
}

static int
count_down_later(struct qcow2_image *img, uint64_t first, uint64_t n, struct smd_error *err)
{
	(void)err;
	qcow2_free_later(img, first, n);
	return 0;
}

static int
drop_snapshot(struct qcow2_image *img, const struct qcow2_array *l1, uint64_t table,
	      uint64_t old_table_size, struct smd_error *err)
{
	__attribute__((cleanup(qcow2_shadow_done))) struct qcow2_shadow shadow;
	uint64_t first = l1->offset >> img->g.cluster_bits, n = clusters_of(img, l1->n * 8);

	if (qcow2_shadow_begin(img, &shadow, err) < 0)
		return -1;
	if (qcow2_tree_each(img, l1, true, count_down, err) < 0 || count_down(img, first, n, err) < 0 ||
	    qcow2_copied_refresh(img, &img->l1, err) < 0) {
		qcow2_shadow_undo(img, &shadow);
		return -1;
	}
	if (switch_over(img, &shadow, table, old_table_size, img->h.n_snapshots - 1, err) < 0 ||
	    qcow2_tree_each(img, l1, true, qcow2_punch_unused, err) < 0 ||
	    qcow2_punch_unused(img, first, n, err) < 0 ||
	    qcow2_table_free(img, &shadow.l1, err) < 0)
		return -1;
	return qcow2_sync(img, err);
}

int
qcow2_snapshot_delete(struct qcow2_image *img, const char *id_or_name, struct smd_error *err)
{
	__attribute__((cleanup(qcow2_snapshot_done))) struct qcow2_snapshot s = { 0 };
	struct table_change change = { 0 };
	struct qcow2_array l1 = { 0 };
	uint64_t table, old_size;
	int r;

	if (begin(img, err) < 0 || find(img, id_or_name, &s, err) < 0 ||
	    qcow2_array_load(&l1, img->io, s.l1_offset, s.l1_size, err) < 0)
		return -1;
	change.skip = s.table_offset;
	change.skip_size = s.entry_size;
	r = table_rewrite(img, &change, &table, &old_size, err);
	if (r == 0)
		r = drop_snapshot(img, &l1, table, old_size, err);
	free(l1.entries);
	return r;
}

/* A second L1 with the entries of from, at a place of its own: *ret's entries are
 * the caller's. All it reaches is counted once more, and its copied flags are
 * right, on the disk. */
static int
duplicate_l1(struct qcow2_image *img, struct qcow2_array *from, struct qcow2_array *ret,
	     struct smd_error *err)
{
	struct qcow2_array l1 = { .n = from->n };

	if (check_counts(img, from, err) < 0)
		return -1;
	if (l1.n != 0 && qcow2_alloc_run(img, clusters_of(img, l1.n * 8), &l1.offset, err) < 0)
		return -1;
	if (qcow2_tree_each(img, from, true, count_up, err) < 0 || qcow2_sync(img, err) < 0 ||
	    qcow2_copied_refresh(img, from, err) < 0 || qcow2_sync(img, err) < 0)
		return -1;
	l1.entries = calloc(l1.n ? l1.n : 1, sizeof *l1.entries);
	if (!l1.entries)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	memcpy(l1.entries, from->entries, l1.n * sizeof *l1.entries);
	if (qcow2_array_write(&l1, img->io, 0, l1.n, err) < 0 || qcow2_flush_io(img, err) < 0) {
		free(l1.entries);
		return -1;
	}
	*ret = l1;
	return 0;
}

static int
check_applicable(const struct qcow2_image *img, const struct qcow2_snapshot *s,
		 struct smd_error *err)
{
	if (s->virtual_size > QCOW2_MAX_VIRTUAL_SIZE || s->virtual_size % SMD_SECTOR != 0 ||
	    s->l1_size < smd_div_round_up_u64(s->virtual_size, img->g.l2_span))
		return smd_fail(err, SMD_REASON_SNAPSHOT_TABLE, img->io->name,
				"the snapshot's size, %" PRIu64 ", is out of range or not "
				"covered by its L1 table", s->virtual_size);
	return 0;
}

int
qcow2_snapshot_apply(struct qcow2_image *img, const char *id_or_name, struct smd_error *err)
{
	__attribute__((cleanup(qcow2_snapshot_done))) struct qcow2_snapshot s = { 0 };
	struct qcow2_array from = { 0 }, l1, old = img->l1;
	struct qcow2_header h;
	int r;

	if (begin(img, err) < 0 || find(img, id_or_name, &s, err) < 0 ||
	    check_applicable(img, &s, err) < 0 ||
	    qcow2_array_load(&from, img->io, s.l1_offset, s.l1_size, err) < 0)
		return -1;
	r = duplicate_l1(img, &from, &l1, err);
	free(from.entries);
	if (r < 0)
		return -1;
	h = img->h;
	img->h.l1_offset = l1.offset;
	img->h.l1_size = (uint32_t)l1.n;
	img->h.size = s.virtual_size;
	if (qcow2_header_write(img, err) < 0) {
		img->h = h;
		free(l1.entries);
		return -1;
	}
	img->l1 = l1;
	/* What the disk has now is the snapshot's, too: no flag becomes another. */
	r = qcow2_tree_each(img, &old, true, count_down_later, err);
	if (r == 0) {
		qcow2_free_later(img, old.offset >> img->g.cluster_bits,
				 clusters_of(img, old.n * 8));
		r = qcow2_sync(img, err);
	}
	free(old.entries);
	return r;
}
