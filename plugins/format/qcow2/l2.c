/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * L1 and L2: where a guest cluster lies. Every entry is checked each time it is
 * looked at, so that a bad one is an error and never a read of something else.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "plugins/format/qcow2/qcow2.h"

int
qcow2_fault(struct qcow2_fault *fault, enum smd_reason reason, const char *fmt, ...)
{
	va_list ap;

	fault->reason = reason;
	va_start(ap, fmt);
	vsnprintf(fault->text, sizeof fault->text, fmt, ap);
	va_end(ap);
	return -1;
}

int
qcow2_l1_parse(const struct qcow2_image *img, uint64_t l1_entry, uint64_t *ret,
	       struct qcow2_fault *fault)
{
	uint64_t offset = l1_entry & QCOW2_OFFSET_MASK;

	if (l1_entry & QCOW2_L1_RESERVED)
		return qcow2_fault(fault, SMD_REASON_RESERVED_BITS,
				   "L1 entry 0x%016" PRIx64 " has reserved bits set", l1_entry);
	if (offset % img->g.cluster_size != 0)
		return qcow2_fault(fault, SMD_REASON_TABLE_MISALIGNED,
				   "L2 table offset %" PRIu64 " is no multiple of %" PRIu64, offset,
				   img->g.cluster_size);
	*ret = offset;
	return 0;
}

/* "Compressed Clusters Descriptor": x bits of offset, then additional sectors. */
static int
parse_compressed(const struct qcow2_image *img, uint64_t word, struct qcow2_entry *ret,
		 struct qcow2_fault *fault)
{
	unsigned x = 62 - (img->g.cluster_bits - 8);
	uint64_t host = word & ((UINT64_C(1) << x) - 1);
	uint64_t sectors = ((word & (QCOW2_COMPRESSED - 1)) >> x) + 1;

	if (word & QCOW2_COPIED)
		return qcow2_fault(fault, SMD_REASON_BAD_L2_ENTRY,
				   "compressed L2 entry 0x%016" PRIx64 " has the copied flag", word);
	if (host >> 56 != 0)
		return qcow2_fault(fault, SMD_REASON_RESERVED_BITS,
				   "compressed L2 entry 0x%016" PRIx64 " has reserved bits set",
				   word);
	/* The last sector may be cut by the end of the file. */
	if (host < img->g.cluster_size ||
	    (host & ~511ull) + (sectors - 1) * 512 >= img->io->size)
		return qcow2_fault(fault, SMD_REASON_DATA_BOUNDS,
				   "compressed data at %" PRIu64 ", %" PRIu64
				   " sectors, are outside the file of %" PRIu64, host, sectors,
				   img->io->size);
	ret->host = host;
	ret->compressed_size = sectors * 512 - (host & 511);
	return 0;
}

static int
check_standard(const struct qcow2_image *img, uint64_t word, const struct qcow2_entry *entry,
	       struct qcow2_fault *fault)
{
	uint64_t reserved = QCOW2_L2_RESERVED;

	if (img->h.version == 2 || img->g.n_sub > 1)
		reserved |= QCOW2_L2_ZERO;
	if (word & reserved)
		return qcow2_fault(fault, SMD_REASON_RESERVED_BITS,
				   "L2 entry 0x%016" PRIx64 " has reserved bits set", word);
	if (entry->host % img->g.cluster_size != 0)
		return qcow2_fault(fault, SMD_REASON_DATA_MISALIGNED,
				   "data offset %" PRIu64 " is no multiple of %" PRIu64, entry->host,
				   img->g.cluster_size);
	if (entry->host == 0 && (entry->copied || entry->alloc))
		return qcow2_fault(fault, SMD_REASON_BAD_L2_ENTRY,
				   "L2 entry 0x%016" PRIx64 " claims data and has no offset", word);
	if (entry->alloc != 0 && entry->host >= img->io->size)
		return qcow2_fault(fault, SMD_REASON_DATA_BOUNDS,
				   "data at %" PRIu64 " are past the end, %" PRIu64, entry->host,
				   img->io->size);
	return 0;
}

int
qcow2_entry_parse(const struct qcow2_image *img, const uint8_t *p, struct qcow2_entry *ret,
		  struct qcow2_fault *fault)
{
	uint64_t word = smd_load_be64(p);
	uint64_t bitmap = img->g.n_sub > 1 ? smd_load_be64(p + 8) : 0;

	memset(ret, 0, sizeof *ret);
	if (word & QCOW2_COMPRESSED) {
		if (bitmap != 0)
			return qcow2_fault(fault, SMD_REASON_BAD_L2_ENTRY,
					   "compressed cluster with subclusters 0x%016" PRIx64,
					   bitmap);
		return parse_compressed(img, word, ret, fault);
	}
	ret->host = word & QCOW2_OFFSET_MASK;
	ret->copied = word & QCOW2_COPIED;
	if (img->g.n_sub > 1) {
		ret->alloc = (uint32_t)bitmap;
		ret->zero = (uint32_t)(bitmap >> 32);
		if (ret->alloc & ret->zero)
			return qcow2_fault(fault, SMD_REASON_BAD_L2_ENTRY,
					   "subclusters 0x%08" PRIx32
					   " both have data and are zero",
					   ret->alloc & ret->zero);
	} else {
		ret->zero = word & QCOW2_L2_ZERO;
		ret->alloc = ret->host != 0 && ret->zero == 0;
	}
	return check_standard(img, word, ret, fault);
}

static int
fail_fault(const struct qcow2_image *img, const struct qcow2_fault *fault, struct smd_error *err)
{
	return smd_fail(err, fault->reason, img->io->name, "%s", fault->text);
}

int
qcow2_l1_decode(const struct qcow2_image *img, uint64_t l1_entry, uint64_t *ret,
		struct smd_error *err)
{
	struct qcow2_fault fault;

	return qcow2_l1_parse(img, l1_entry, ret, &fault) < 0 ? fail_fault(img, &fault, err) : 0;
}

int
qcow2_entry_decode(const struct qcow2_image *img, const uint8_t *p, struct qcow2_entry *ret,
		   struct smd_error *err)
{
	struct qcow2_fault fault;

	return qcow2_entry_parse(img, p, ret, &fault) < 0 ? fail_fault(img, &fault, err) : 0;
}

void
qcow2_entry_encode(const struct qcow2_image *img, const struct qcow2_entry *entry, uint8_t *p)
{
	uint64_t word = entry->host | (entry->host ? QCOW2_COPIED : 0);
	unsigned x = 62 - (img->g.cluster_bits - 8);

	if (entry->compressed_size != 0)
		word = QCOW2_COMPRESSED | entry->host |
			((entry->host & 511) + entry->compressed_size - 1) / 512 << x;
	if (img->g.n_sub == 1)
		word |= entry->zero;
	else
		smd_store_be64(p + 8, (uint64_t)entry->zero << 32 | entry->alloc);
	smd_store_be64(p, word);
}

void
qcow2_entry_clusters(const struct qcow2_image *img, const struct qcow2_entry *entry,
		     uint64_t *ret, uint64_t *ret_n)
{
	*ret = entry->host >> img->g.cluster_bits;
	*ret_n = entry->host != 0;
	if (entry->compressed_size != 0)
		*ret_n = ((entry->host + entry->compressed_size - 1) >> img->g.cluster_bits) -
			*ret + 1;
}

int
qcow2_l2_get(struct qcow2_image *img, uint64_t offset, struct qcow2_table **ret,
	     struct smd_error *err)
{
	*ret = qcow2_cache_find(&img->l2_cache, offset);
	if (*ret)
		return 0;
	if (!smd_range_ok(offset, img->g.cluster_size, img->io->size))
		return smd_fail(err, SMD_REASON_TABLE_BOUNDS, img->io->name,
				"L2 table at %" PRIu64 " passes the end, %" PRIu64, offset,
				img->io->size);
	return qcow2_cache_get(&img->l2_cache, img->io, offset, ret, err);
}

int
qcow2_lookup(struct qcow2_image *img, uint64_t guest_cluster, struct qcow2_entry *ret,
	     struct smd_error *err)
{
	uint64_t l1_index = guest_cluster / img->g.l2_entries;
	struct qcow2_table *table;
	uint64_t offset = 0;

	memset(ret, 0, sizeof *ret);
	if (l1_index < img->l1.n &&
	    qcow2_l1_decode(img, img->l1.entries[l1_index], &offset, err) < 0)
		return -1;
	if (offset == 0)
		return 0;
	if (qcow2_l2_get(img, offset, &table, err) < 0)
		return -1;
	return qcow2_entry_decode(img, table->data + guest_cluster % img->g.l2_entries *
				  img->g.l2_entry_size, ret, err);
}

/* The L2 table for an L1 index, ours alone: a new one where there is none, a
 * copy of one that a snapshot has too. */
static int
l2_for_write(struct qcow2_image *img, uint64_t l1_index, struct qcow2_table **ret,
	     struct smd_error *err)
{
	uint64_t l1_entry = img->l1.entries[l1_index], old, host;
	struct qcow2_table *copy = NULL;

	if (qcow2_l1_decode(img, l1_entry, &old, err) < 0)
		return -1;
	if (old != 0 && (l1_entry & QCOW2_COPIED))
		return qcow2_l2_get(img, old, ret, err);
	if (qcow2_alloc_run(img, 1, &host, err) < 0)
		return -1;
	if ((old != 0 && qcow2_l2_get(img, old, &copy, err) < 0) ||
	    qcow2_cache_new(&img->l2_cache, img->io, host, copy ? copy->data : NULL, ret,
			    err) < 0) {
		qcow2_cache_drop(&img->l2_cache, host);
		qcow2_refcount_add(img, host >> img->g.cluster_bits, 1, -1, err);
		return -1;
	}
	qcow2_array_set(&img->l1, l1_index, host | QCOW2_COPIED);
	qcow2_free_later(img, old >> img->g.cluster_bits, old != 0);
	return 0;
}

int
qcow2_entry_set(struct qcow2_image *img, uint64_t guest_cluster,
		const struct qcow2_entry *entry, struct smd_error *err)
{
	size_t offset = guest_cluster % img->g.l2_entries * img->g.l2_entry_size;
	struct qcow2_table *table;

	if (l2_for_write(img, guest_cluster / img->g.l2_entries, &table, err) < 0)
		return -1;
	qcow2_entry_encode(img, entry, table->data + offset);
	qcow2_cache_dirty(&img->l2_cache, table, offset, img->g.l2_entry_size);
	return 0;
}

/* ---- Extents ------------------------------------------------------------------ */

/* Joins what touches before telling it. */
struct joiner {
	struct smd_extent run;	/* count 0: none yet */
	uint64_t start, end;	/* nothing outside is told */
	smd_extent_fn *add;
	void *opaque;
};

static int
joiner_end(struct joiner *j, struct smd_error *err)
{
	struct smd_extent run = j->run;

	j->run.count = 0;
	return run.count == 0 ? 0 : j->add(j->opaque, &run, err);
}

static int
join(struct joiner *j, enum smd_extent_kind kind, uint64_t offset, uint64_t count, uint64_t host,
     struct smd_error *err)
{
	uint64_t cut = j->start > offset ? j->start - offset : 0;

	if (cut >= count || offset >= j->end)
		return 0;
	offset += cut;
	host += cut;
	count = smd_min_u64(count - cut, j->end - offset);
	if (j->run.count != 0 && j->run.kind == kind && j->run.offset + j->run.count == offset &&
	    (kind != SMD_EXTENT_DATA || j->run.host_offset + j->run.count == host)) {
		j->run.count += count;
		return 0;
	}
	if (joiner_end(j, err) < 0)
		return -1;
	j->run = (struct smd_extent){ kind, offset, count, kind == SMD_EXTENT_DATA ? host : 0 };
	return 0;
}

static enum smd_extent_kind
unallocated_kind(const struct qcow2_image *img)
{
	return img->backing_name[0] ? SMD_EXTENT_PARENT : SMD_EXTENT_ZERO;
}

/* A cluster of data that the end of the file cuts: the rest reads as zeroes. */
static int
join_cut(struct qcow2_image *img, struct joiner *j, uint64_t offset, uint64_t host,
	 struct smd_error *err)
{
	uint64_t here = img->io->size - host, size = img->g.cluster_size;

	/* No extent can end amid a sector: read_encoded gives the whole. */
	if (here % SMD_SECTOR != 0)
		return join(j, SMD_EXTENT_ENCODED, offset, size, 0, err);
	if (join(j, SMD_EXTENT_DATA, offset, here, host, err) < 0)
		return -1;
	return join(j, SMD_EXTENT_ZERO, offset + here, size - here, 0, err);
}

/* A subcluster of data, of which the end of the file may cut all or a part: qemu
 * leaves a file's last cluster as short as its last allocated subcluster. */
static int
join_subcluster_data(struct qcow2_image *img, struct joiner *j, uint64_t offset, uint64_t host,
		     struct smd_error *err)
{
	uint64_t size = img->g.sub_size;
	uint64_t here = host < img->io->size ? smd_min_u64(img->io->size - host, size) : 0;

	if (here % SMD_SECTOR != 0)
		return smd_fail(err, SMD_REASON_DATA_BOUNDS, img->io->name,
				"the subcluster at %" PRIu64 " is cut amid a sector by the end, %"
				PRIu64, host, img->io->size);
	if (here > 0 && join(j, SMD_EXTENT_DATA, offset, here, host, err) < 0)
		return -1;
	return here == size ? 0 : join(j, SMD_EXTENT_ZERO, offset + here, size - here, 0, err);
}

static int
join_subclusters(struct qcow2_image *img, struct joiner *j, uint64_t offset,
		 const struct qcow2_entry *entry, struct smd_error *err)
{
	uint64_t size = img->g.sub_size;

	for (unsigned i = 0; i < img->g.n_sub; i++) {
		uint32_t bit = UINT32_C(1) << i;
		enum smd_extent_kind kind = entry->alloc & bit ? SMD_EXTENT_DATA :
			entry->zero & bit ? SMD_EXTENT_ZERO : unallocated_kind(img);

		if (kind == SMD_EXTENT_DATA ?
		    join_subcluster_data(img, j, offset + i * size, entry->host + i * size, err) < 0 :
		    join(j, kind, offset + i * size, size, 0, err) < 0)
			return -1;
	}
	return 0;
}

static int
join_cluster(struct qcow2_image *img, struct joiner *j, uint64_t offset,
	     const struct qcow2_entry *entry, struct smd_error *err)
{
	uint64_t size = img->g.cluster_size;
	uint32_t all = qcow2_sub_all(img);

	if (entry->compressed_size != 0)
		return join(j, SMD_EXTENT_ENCODED, offset, size, 0, err);
	if (entry->alloc != 0 && img->io->size - entry->host < size) {
		if (img->g.n_sub > 1)
			return join_subclusters(img, j, offset, entry, err);
		return join_cut(img, j, offset, entry->host, err);
	}
	if (entry->alloc == all)
		return join(j, SMD_EXTENT_DATA, offset, size, entry->host, err);
	if (entry->zero == all)
		return join(j, SMD_EXTENT_ZERO, offset, size, 0, err);
	return join_subclusters(img, j, offset, entry, err);
}

int
qcow2_extents(struct qcow2_image *img, uint64_t offset, uint64_t count,
	      smd_extent_fn *add, void *opaque, struct smd_error *err)
{
	struct joiner j = { .start = offset, .end = offset + count, .add = add, .opaque = opaque };
	uint64_t cluster = offset >> img->g.cluster_bits;
	struct qcow2_entry entry;

	while (cluster << img->g.cluster_bits < j.end) {
		uint64_t at = cluster << img->g.cluster_bits;
		uint64_t l1_index = cluster / img->g.l2_entries;

		if (l1_index >= img->l1.n || img->l1.entries[l1_index] == 0) {
			cluster = (l1_index + 1) * img->g.l2_entries;
			if (join(&j, unallocated_kind(img), at,
				 (cluster << img->g.cluster_bits) - at, 0, err) < 0)
				return -1;
			continue;
		}
		if (qcow2_lookup(img, cluster++, &entry, err) < 0 ||
		    join_cluster(img, &j, at, &entry, err) < 0)
			return -1;
	}
	return joiner_end(&j, err);
}
