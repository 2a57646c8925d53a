/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cluster 0: the header's numbers, its extensions, the backing file's name. The
 * order of the checks is limit, cover, alignment, bounds, overlap.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

static void
decode_v2(const uint8_t *b, struct qcow2_header *h)
{
	h->version = smd_load_be32(b + QCOW2_HEADER_VERSION);
	h->backing_offset = smd_load_be64(b + QCOW2_HEADER_BACKING_OFFSET);
	h->backing_size = smd_load_be32(b + QCOW2_HEADER_BACKING_SIZE);
	h->cluster_bits = smd_load_be32(b + QCOW2_HEADER_CLUSTER_BITS);
	h->size = smd_load_be64(b + QCOW2_HEADER_SIZE);
	h->crypt_method = smd_load_be32(b + QCOW2_HEADER_CRYPT_METHOD);
	h->l1_size = smd_load_be32(b + QCOW2_HEADER_L1_SIZE);
	h->l1_offset = smd_load_be64(b + QCOW2_HEADER_L1_OFFSET);
	h->rt_offset = smd_load_be64(b + QCOW2_HEADER_RT_OFFSET);
	h->rt_clusters = smd_load_be32(b + QCOW2_HEADER_RT_CLUSTERS);
	h->n_snapshots = smd_load_be32(b + QCOW2_HEADER_N_SNAPSHOTS);
	h->snapshots_offset = smd_load_be64(b + QCOW2_HEADER_SNAPSHOTS_OFFSET);
	h->refcount_order = 4;
	h->header_length = QCOW2_HEADER_V2_LENGTH;
}

static void
decode_v3(const uint8_t *b, struct qcow2_header *h)
{
	h->incompatible = smd_load_be64(b + QCOW2_HEADER_INCOMPATIBLE);
	h->compatible = smd_load_be64(b + QCOW2_HEADER_COMPATIBLE);
	h->autoclear = smd_load_be64(b + QCOW2_HEADER_AUTOCLEAR);
	h->refcount_order = smd_load_be32(b + QCOW2_HEADER_REFCOUNT_ORDER);
	h->header_length = smd_load_be32(b + QCOW2_HEADER_LENGTH);
	if (h->header_length > QCOW2_HEADER_COMPRESSION)
		h->compression = b[QCOW2_HEADER_COMPRESSION];
}

static int
check_magic(const struct smd_io *io, const uint8_t *b, size_t len, struct smd_error *err)
{
	uint32_t version;

	if (len < 4 || smd_load_be32(b) != QCOW2_MAGIC)
		return smd_fail(err, SMD_REASON_BAD_MAGIC, io->name,
				"does not begin with \"QFI\\xfb\"");
	if (len < QCOW2_HEADER_V2_LENGTH)
		return smd_fail(err, SMD_REASON_TRUNCATED, io->name,
				"header has %zu bytes of %d", len, QCOW2_HEADER_V2_LENGTH);
	version = smd_load_be32(b + QCOW2_HEADER_VERSION);
	if (version != 2 && version != 3)
		return smd_fail(err, SMD_REASON_BAD_VERSION, io->name,
				"qcow2 version %" PRIu32 " is neither 2 nor 3", version);
	if (version == 3 && len < QCOW2_HEADER_V3_LENGTH)
		return smd_fail(err, SMD_REASON_TRUNCATED, io->name,
				"header has %zu bytes of %d", len, QCOW2_HEADER_V3_LENGTH);
	return 0;
}

static int
check_features(const struct smd_io *io, const struct qcow2_header *h, struct smd_error *err)
{
	uint64_t unknown = h->incompatible & ~(uint64_t)QCOW2_INCOMPAT_KNOWN;
	bool compression_bit = h->incompatible & QCOW2_INCOMPAT_COMPRESSION;

	if (unknown != 0)
		return smd_fail(err, SMD_REASON_UNKNOWN_INCOMPAT, io->name,
				"unknown incompatible features 0x%" PRIx64, unknown);
	if (h->incompatible & QCOW2_INCOMPAT_DATA_FILE)
		return smd_fail(err, SMD_REASON_EXTERNAL_REF, io->name,
				"keeps its data in an external data file: qemu-img convert makes "
				"one file of both");
	if (h->autoclear & QCOW2_AUTOCLEAR_RAW_EXTERNAL)
		return smd_fail(err, SMD_REASON_BAD_HEADER, io->name,
				"raw external data announced, but no data file");
	if (h->compression > QCOW2_COMPRESSION_ZSTD)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, io->name,
				"compression type %u is unknown", h->compression);
	if (compression_bit != (h->compression != QCOW2_COMPRESSION_ZLIB))
		return smd_fail(err, SMD_REASON_BAD_HEADER, io->name,
				"compression type %u %s the compression feature bit",
				h->compression, compression_bit ? "with" : "without");
	if (h->crypt_method != 0)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, io->name,
				"encryption method %" PRIu32 " is not supported: qemu-img convert "
				"makes it plain", h->crypt_method);
	return 0;
}

static int
check_numbers(const struct smd_io *io, const struct qcow2_header *h, struct smd_error *err)
{
	unsigned min_bits = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ?
		QCOW2_MIN_EXTENDED_L2_BITS : QCOW2_MIN_CLUSTER_BITS;

	if (h->cluster_bits < min_bits || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return smd_fail(err, SMD_REASON_BAD_CLUSTER_SIZE, io->name,
				"cluster_bits %" PRIu32 " is not within %u..%u", h->cluster_bits,
				min_bits, QCOW2_MAX_CLUSTER_BITS);
	if (h->version == 3 && (h->header_length < QCOW2_HEADER_V3_LENGTH ||
				h->header_length % 8 != 0 ||
				h->header_length > UINT32_C(1) << h->cluster_bits))
		return smd_fail(err, SMD_REASON_BAD_HEADER, io->name,
				"header length %" PRIu32 " is not a multiple of 8 within %d..%u",
				h->header_length, QCOW2_HEADER_V3_LENGTH, 1u << h->cluster_bits);
	if (h->refcount_order > QCOW2_MAX_REFCOUNT_ORDER)
		return smd_fail(err, SMD_REASON_BAD_REFCOUNT_ORDER, io->name,
				"refcount order %" PRIu32 " is over %u", h->refcount_order,
				QCOW2_MAX_REFCOUNT_ORDER);
	if (h->size % SMD_SECTOR != 0)
		return smd_fail(err, SMD_REASON_BAD_SIZE, io->name,
				"virtual size %" PRIu64 " is no multiple of %u", h->size,
				SMD_SECTOR);
	if (h->size > QCOW2_MAX_VIRTUAL_SIZE)
		return smd_fail(err, SMD_REASON_SIZE_LIMIT, io->name,
				"virtual size %" PRIu64 " is over %" PRIu64, h->size,
				(uint64_t)QCOW2_MAX_VIRTUAL_SIZE);
	return 0;
}

/* A table at offset: aligned, behind the header cluster, within the file. */
static int
check_table(const struct smd_io *io, const struct qcow2_geometry *g, const char *what,
	    uint64_t offset, uint64_t bytes, struct smd_error *err)
{
	if (offset % g->cluster_size != 0)
		return smd_fail(err, SMD_REASON_TABLE_MISALIGNED, io->name,
				"%s offset %" PRIu64 " is no multiple of %" PRIu64, what, offset,
				g->cluster_size);
	if (offset < g->cluster_size)
		return smd_fail(err, SMD_REASON_TABLE_OVERLAP, io->name,
				"%s offset %" PRIu64 " is the header's", what, offset);
	if (!smd_range_ok(offset, bytes, io->size))
		return smd_fail(err, SMD_REASON_TABLE_BOUNDS, io->name,
				"%s of %" PRIu64 " bytes at %" PRIu64 " passes the end, %" PRIu64,
				what, bytes, offset, io->size);
	return 0;
}

static int
check_l1(const struct smd_io *io, const struct qcow2_header *h, const struct qcow2_geometry *g,
	 struct smd_error *err)
{
	uint64_t needed = smd_div_round_up_u64(h->size, g->l2_span);

	if (h->l1_size > QCOW2_MAX_L1_BYTES / 8)
		return smd_fail(err, SMD_REASON_TABLE_TOO_LARGE, io->name,
				"%" PRIu32 " L1 entries are over %u", h->l1_size,
				QCOW2_MAX_L1_BYTES / 8);
	if (h->l1_size < needed)
		return smd_fail(err, SMD_REASON_L1_TOO_SMALL, io->name,
				"%" PRIu32 " L1 entries, the size needs %" PRIu64, h->l1_size,
				needed);
	if (h->l1_size == 0 && h->l1_offset == 0)
		return 0;
	return check_table(io, g, "L1 table", h->l1_offset, h->l1_size * 8ull, err);
}

static int
check_tables(const struct smd_io *io, const struct qcow2_header *h,
	     const struct qcow2_geometry *g, struct smd_error *err)
{
	uint64_t rt_bytes = (uint64_t)h->rt_clusters * g->cluster_size;
	uint64_t l1_bytes = h->l1_size * 8ull;

	if (h->rt_clusters == 0)
		return smd_fail(err, SMD_REASON_BAD_HEADER, io->name, "no refcount table");
	if (rt_bytes > QCOW2_MAX_RT_BYTES)
		return smd_fail(err, SMD_REASON_TABLE_TOO_LARGE, io->name,
				"refcount table of %" PRIu64 " bytes is over %u", rt_bytes,
				QCOW2_MAX_RT_BYTES);
	if (check_table(io, g, "refcount table", h->rt_offset, rt_bytes, err) < 0 ||
	    check_l1(io, h, g, err) < 0)
		return -1;
	if (l1_bytes != 0 && h->l1_offset < h->rt_offset + rt_bytes &&
	    h->rt_offset < h->l1_offset + l1_bytes)
		return smd_fail(err, SMD_REASON_TABLE_OVERLAP, io->name,
				"L1 table at %" PRIu64 " and refcount table at %" PRIu64 " overlap",
				h->l1_offset, h->rt_offset);
	if (h->n_snapshots > QCOW2_MAX_SNAPSHOTS)
		return smd_fail(err, SMD_REASON_TABLE_TOO_LARGE, io->name,
				"%" PRIu32 " snapshots are over %u", h->n_snapshots,
				QCOW2_MAX_SNAPSHOTS);
	if (h->snapshots_offset % g->cluster_size != 0 ||
	    (h->n_snapshots != 0 && h->snapshots_offset == 0))
		return smd_fail(err, SMD_REASON_SNAPSHOT_TABLE, io->name,
				"%" PRIu32 " snapshots in a table at %" PRIu64, h->n_snapshots,
				h->snapshots_offset);
	return 0;
}

const struct qcow2_ext *
qcow2_ext_find(const struct qcow2_image *img, uint32_t type)
{
	for (size_t i = 0; i < img->n_exts; i++)
		if (img->exts[i].type == type)
			return &img->exts[i];
	return NULL;
}

static int
ext_add(struct qcow2_image *img, uint32_t type, uint32_t length, uint32_t offset,
	struct smd_error *err)
{
	struct qcow2_ext *exts;

	if (qcow2_ext_find(img, type))
		return smd_fail(err, SMD_REASON_EXT_DUP, img->io->name,
				"header extension 0x%08" PRIx32 " appears twice", type);
	if (img->n_exts == QCOW2_MAX_EXTENSIONS)
		return smd_fail(err, SMD_REASON_BAD_HEADER, img->io->name,
				"over %u header extensions", QCOW2_MAX_EXTENSIONS);
	exts = realloc(img->exts, (img->n_exts + 1) * sizeof *exts);
	if (!exts)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	exts[img->n_exts++] = (struct qcow2_ext){ type, length, offset };
	img->exts = exts;
	return 0;
}

/* From the header's end up to the end marker, or to the name, or to the end of
 * the cluster. */
static int
load_extensions(struct qcow2_image *img, struct smd_error *err)
{
	uint64_t limit = img->h.backing_offset ? img->h.backing_offset : img->g.cluster_size;
	uint64_t pos = img->h.header_length;

	while (limit - pos >= 8) {
		uint32_t type = smd_load_be32(img->head + pos);
		uint32_t length = smd_load_be32(img->head + pos + 4);

		pos += 8;
		if (type == QCOW2_EXT_END)
			break;
		if (length > limit - pos)
			return smd_fail(err, SMD_REASON_EXT_OVERRUN, img->io->name,
					"header extension 0x%08" PRIx32 " of %" PRIu32
					" bytes at %" PRIu64 " passes %" PRIu64, type, length, pos,
					limit);
		if (ext_add(img, type, length, (uint32_t)pos, err) < 0)
			return -1;
		pos = smd_min_u64(limit, (pos + length + 7) & ~7ull);
	}
	img->ext_end = (uint32_t)pos;
	return 0;
}

static int
load_backing_format(struct qcow2_image *img, struct smd_error *err)
{
	const struct qcow2_ext *ext = qcow2_ext_find(img, QCOW2_EXT_BACKING_FORMAT);

	if (!ext)
		return 0;
	if (ext->length > QCOW2_MAX_BACKING_FORMAT ||
	    memchr(img->head + ext->offset, 0, ext->length))
		return smd_fail(err, SMD_REASON_BACKING_FORMAT, img->io->name,
				"backing format has %" PRIu32 " bytes, or a NUL", ext->length);
	memcpy(img->backing_format, img->head + ext->offset, ext->length);
	return 0;
}

static int
check_backing_place(const struct qcow2_image *img, struct smd_error *err)
{
	const struct qcow2_header *h = &img->h;

	if (h->backing_offset == 0)
		return 0;
	if (h->backing_size == 0 || h->backing_size > QCOW2_MAX_BACKING_NAME ||
	    h->backing_offset < h->header_length ||
	    !smd_range_ok(h->backing_offset, h->backing_size,
			  smd_min_u64(img->g.cluster_size, img->io->size)))
		return smd_fail(err, SMD_REASON_BACKING_NAME, img->io->name,
				"backing name of %" PRIu32 " bytes at %" PRIu64, h->backing_size,
				h->backing_offset);
	if (memchr(img->head + h->backing_offset, 0, h->backing_size))
		return smd_fail(err, SMD_REASON_BACKING_NAME, img->io->name,
				"backing name holds a NUL");
	return 0;
}

int
qcow2_head_parse(struct qcow2_image *img, struct smd_error *err)
{
	const struct qcow2_ext *hidden;

	free(img->exts);
	img->exts = NULL;
	img->n_exts = 0;
	memset(img->backing_name, 0, sizeof img->backing_name);
	memset(img->backing_format, 0, sizeof img->backing_format);
	if (check_backing_place(img, err) < 0 || load_extensions(img, err) < 0 ||
	    load_backing_format(img, err) < 0)
		return -1;
	if (img->h.backing_offset)
		memcpy(img->backing_name, img->head + img->h.backing_offset, img->h.backing_size);
	hidden = qcow2_ext_find(img, QCOW2_EXT_HIDDEN);
	img->hidden = hidden && hidden->length >= 1 && img->head[hidden->offset] == 1;
	return 0;
}

/* Whether all that it says ends within its first bytes. */
static bool
head_is_within(const struct qcow2_image *img, uint64_t have)
{
	const struct qcow2_header *h = &img->h;
	uint64_t limit = h->backing_offset ? h->backing_offset : img->g.cluster_size;
	uint64_t pos = h->header_length;

	if (pos > limit || (h->backing_offset && !smd_range_ok(limit, h->backing_size, have)))
		return false;
	while (limit - pos >= 8) {
		uint32_t length;

		if (pos > have || have - pos < 8)
			return false;
		if (smd_load_be32(img->head + pos) == QCOW2_EXT_END)
			return true;
		length = smd_load_be32(img->head + pos + 4);
		pos += 8;
		if (length > have - pos)
			return false;
		pos = smd_min_u64(limit, (pos + length + 7) & ~7ull);
	}
	return true;
}

static int
load_rest(struct qcow2_image *img, uint64_t have, struct smd_error *err)
{
	uint8_t *whole = realloc(img->head, img->g.cluster_size);
	uint64_t size = smd_min_u64(img->g.cluster_size, img->io->size);

	if (!whole)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	img->head = whole;
	memset(whole + have, 0, img->g.cluster_size - have);
	return have < size ?
		img->io->ops->pread(img->io, whole + have, size - have, have, err) : 0;
}

/* The whole cluster is for who writes it anew; what it says is mostly in the first bytes,
 * and the rest is not kept then. */
static int
load_head(struct qcow2_image *img, const uint8_t *first, uint64_t n, struct smd_error *err)
{
	bool may_write = img->io->flags & SMD_IO_WRITABLE;

	n = smd_min_u64(n, img->g.cluster_size);
	img->head = malloc(n);
	if (!img->head)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	memcpy(img->head, first, n);
	if (n < img->g.cluster_size && (may_write || !head_is_within(img, n)) &&
	    load_rest(img, n, err) < 0)
		return -1;
	return qcow2_head_parse(img, err);
}

int
qcow2_header_load(struct qcow2_image *img, struct smd_error *err)
{
	uint8_t b[QCOW2_HEAD_FIRST] = { 0 };
	size_t len = smd_min_u64(sizeof b, img->io->size);
	struct qcow2_header *h = &img->h;

	if (img->io->ops->pread(img->io, b, len, 0, err) < 0 ||
	    check_magic(img->io, b, len, err) < 0)
		return -1;
	decode_v2(b, h);
	if (h->version == 3)
		decode_v3(b, h);
	if (check_features(img->io, h, err) < 0 || check_numbers(img->io, h, err) < 0)
		return -1;
	qcow2_geometry_init(&img->g, h->cluster_bits,
			    h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2, h->refcount_order);
	if (check_tables(img->io, h, &img->g, err) < 0)
		return -1;
	return load_head(img, b, len, err);
}

void
qcow2_header_encode(const struct qcow2_header *h, uint8_t *b)
{
	smd_store_be32(b + QCOW2_HEADER_MAGIC, QCOW2_MAGIC);
	smd_store_be32(b + QCOW2_HEADER_VERSION, h->version);
	smd_store_be64(b + QCOW2_HEADER_BACKING_OFFSET, h->backing_offset);
	smd_store_be32(b + QCOW2_HEADER_BACKING_SIZE, h->backing_size);
	smd_store_be32(b + QCOW2_HEADER_CLUSTER_BITS, h->cluster_bits);
	smd_store_be64(b + QCOW2_HEADER_SIZE, h->size);
	smd_store_be32(b + QCOW2_HEADER_CRYPT_METHOD, h->crypt_method);
	smd_store_be32(b + QCOW2_HEADER_L1_SIZE, h->l1_size);
	smd_store_be64(b + QCOW2_HEADER_L1_OFFSET, h->l1_offset);
	smd_store_be64(b + QCOW2_HEADER_RT_OFFSET, h->rt_offset);
	smd_store_be32(b + QCOW2_HEADER_RT_CLUSTERS, h->rt_clusters);
	smd_store_be32(b + QCOW2_HEADER_N_SNAPSHOTS, h->n_snapshots);
	smd_store_be64(b + QCOW2_HEADER_SNAPSHOTS_OFFSET, h->snapshots_offset);
	if (h->version == 2)
		return;
	smd_store_be64(b + QCOW2_HEADER_INCOMPATIBLE, h->incompatible);
	smd_store_be64(b + QCOW2_HEADER_COMPATIBLE, h->compatible);
	smd_store_be64(b + QCOW2_HEADER_AUTOCLEAR, h->autoclear);
	smd_store_be32(b + QCOW2_HEADER_REFCOUNT_ORDER, h->refcount_order);
	smd_store_be32(b + QCOW2_HEADER_LENGTH, h->header_length);
	if (h->header_length > QCOW2_HEADER_COMPRESSION)
		b[QCOW2_HEADER_COMPRESSION] = h->compression;
}

/* A write that failed may be there all the same, and a switch with it: the caller
 * goes on with what was before, so that must be there again. */
int
qcow2_head_write(struct qcow2_image *img, const uint8_t *buf, size_t count, uint64_t offset,
		 struct smd_error *err)
{
	if (img->io->ops->pwrite(img->io, buf, count, offset, err) == 0) {
		memcpy(img->head + offset, buf, count);
		return qcow2_flush_io(img, err);
	}
	if (img->io->ops->pwrite(img->io, img->head + offset, count, offset, err) < 0 ||
	    qcow2_flush_io(img, err) < 0)
		img->failed = true;
	return -1;
}

int
qcow2_header_write(struct qcow2_image *img, struct smd_error *err)
{
	struct qcow2_header h = img->h;
	uint8_t sector[SMD_SECTOR];

	if (img->held_size)
		h.size = img->held_size;
	memcpy(sector, img->head, sizeof sector);
	qcow2_header_encode(&h, sector);
	return qcow2_head_write(img, sector, sizeof sector, 0, err);
}

size_t
qcow2_ext_put(uint8_t *buf, size_t pos, uint32_t type, const void *data, uint32_t length)
{
	smd_store_be32(buf + pos, type);
	smd_store_be32(buf + pos + 4, length);
	memcpy(buf + pos + 8, data, length);
	return pos + 8 + ((length + 7u) & ~7u);
}

static int
autoclear_keep(struct qcow2_image *img, uint64_t keep, struct smd_error *err)
{
	uint64_t autoclear = img->h.autoclear;

	if (!img->writable)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "not opened for writing");
	if (img->failed)
		return smd_fail(err, SMD_REASON_IO, img->io->name,
				"an earlier flush failed: reopen and check the image");
	img->h.autoclear &= keep;
	if (img->h.autoclear == autoclear || qcow2_header_write(img, err) == 0)
		return 0;
	img->h.autoclear = autoclear;
	return -1;
}

int
qcow2_mark_begin(struct qcow2_image *img, struct smd_error *err)
{
	return autoclear_keep(img, QCOW2_AUTOCLEAR_BITMAPS, err);
}

int
qcow2_write_begin(struct qcow2_image *img, struct smd_error *err)
{
	if (autoclear_keep(img, img->write_begun ? img->h.autoclear : 0, err) < 0)
		return -1;
	if (img->write_begun)
		return 0;
	if (qcow2_rt_load(img, err) < 0)
		return -1;
	img->write_begun = true;
	return 0;
}

void
qcow2_mark_corrupt(struct qcow2_image *img, struct smd_error *err)
{
	img->writable = false;
	if (img->h.version < 3)
		return;
	img->h.incompatible |= QCOW2_INCOMPAT_CORRUPT;
	qcow2_header_encode(&img->h, img->head);
	if (img->io->ops->pwrite(img->io, img->head, SMD_SECTOR, 0, err) < 0)
		img->failed = true;
}
