/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making compressed clusters. They are packed byte by byte: one that does not
 * fill its last host cluster leaves the rest to the next one, which counts the
 * host cluster once more.
 */
#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <zstd.h>

#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

/* QEMU's inflate is set up for a window of 4 KiB; no distance may be longer. */
#define DEFLATE_HIST_BITS 12
/* ISA-L's third level would save 1.4 % more and take two and a half times as long where it has
 * no AVX-512. */
#define DEFLATE_LEVEL 2
#define DEFLATE_BUFFER ISAL_DEF_LVL2_DEFAULT
/* The third, zstd's own choice, would save 1.7 % more and take a fifth longer. */
#define ZSTD_LEVEL 2
/* Where size counts. Distances are longer than 4 KiB then; QEMU decodes into the whole cluster at
 * once, and zlib looks there for what a distance means, whatever its window is. */
#define DEFLATE_LEVEL_SMALL 6
#define ZSTD_LEVEL_SMALL 9
/* A cluster that saves less than this part is not worth decoding at every read. */
#define LEAST_SAVED 32u

struct qcow2_encoder {
	struct qcow2_encoder *next;
	struct isal_zstream deflate;
	uint8_t *level_buf;
	ZSTD_CCtx *zstd;
	struct libdeflate_compressor *small;
};

static void
encoder_free(struct qcow2_encoder *encoder)
{
	ZSTD_freeCCtx(encoder->zstd);
	if (encoder->small)
		libdeflate_free_compressor(encoder->small);
	free(encoder->level_buf);
	free(encoder);
}

void
qcow2_encoders_free(struct qcow2_image *img)
{
	while (img->encoders) {
		struct qcow2_encoder *next = img->encoders->next;

		encoder_free(img->encoders);
		img->encoders = next;
	}
}

static struct qcow2_encoder *
encoder_new(const struct qcow2_image *img)
{
	struct qcow2_encoder *encoder = calloc(1, sizeof *encoder);
	bool zstd = img->h.compression == QCOW2_COMPRESSION_ZSTD;

	if (!encoder)
		return NULL;
	if (zstd)
		encoder->zstd = ZSTD_createCCtx();
	else if (img->small)
		encoder->small = libdeflate_alloc_compressor(DEFLATE_LEVEL_SMALL);
	else
		/* Zeroes: ISA-L looks at it before it fills it. */
		encoder->level_buf = calloc(1, DEFLATE_BUFFER);
	if (!encoder->zstd && !encoder->small && !encoder->level_buf) {
		encoder_free(encoder);
		return NULL;
	}
	return encoder;
}

static struct qcow2_encoder *
encoder_take(struct qcow2_image *img, struct smd_error *err)
{
	struct qcow2_encoder *encoder;

	pthread_mutex_lock(&img->codec_lock);
	encoder = img->encoders;
	if (encoder)
		img->encoders = encoder->next;
	pthread_mutex_unlock(&img->codec_lock);
	if (!encoder)
		encoder = encoder_new(img);
	if (!encoder)
		smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	return encoder;
}

static void
encoder_give(struct qcow2_image *img, struct qcow2_encoder *encoder)
{
	pthread_mutex_lock(&img->codec_lock);
	encoder->next = img->encoders;
	img->encoders = encoder;
	pthread_mutex_unlock(&img->codec_lock);
}

/* The length, or 0 where it does not fit. */
static size_t
deflate_cluster(struct qcow2_encoder *encoder, const void *in, size_t in_size, void *out,
		size_t room)
{
	struct isal_zstream *s = &encoder->deflate;

	isal_deflate_stateless_init(s);
	s->level = DEFLATE_LEVEL;
	s->level_buf = encoder->level_buf;
	s->level_buf_size = DEFLATE_BUFFER;
	s->hist_bits = DEFLATE_HIST_BITS;
	s->end_of_stream = 1;
	s->flush = NO_FLUSH;
	s->next_in = (uint8_t *)in;
	s->avail_in = (uint32_t)in_size;
	s->next_out = out;
	s->avail_out = (uint32_t)room;
	return isal_deflate_stateless(s) == COMP_OK ? s->total_out : 0;
}

static size_t
zstd_cluster(struct qcow2_encoder *encoder, int level, const void *in, size_t in_size, void *out,
	     size_t room)
{
	size_t n = ZSTD_compressCCtx(encoder->zstd, out, room, in, in_size, level);

	return ZSTD_isError(n) ? 0 : n;
}

static size_t
encode_cluster(const struct qcow2_image *img, struct qcow2_encoder *encoder, const void *in,
	       void *out, size_t room)
{
	size_t size = img->g.cluster_size;

	if (encoder->zstd)
		return zstd_cluster(encoder, img->small ? ZSTD_LEVEL_SMALL : ZSTD_LEVEL, in, size,
				    out, room);
	return encoder->small ? libdeflate_deflate_compress(encoder->small, in, size, out, room) :
	       deflate_cluster(encoder, in, size, out, room);
}

/* How many may share a host cluster: a snapshot doubles the count, and there should
 * be room for one. */
static uint64_t
pack_max(const struct qcow2_image *img)
{
	return img->g.refcount_max / 2;
}

int
qcow2_encode(void *opaque, const void *buf, void *out, size_t out_room, size_t *ret_len,
	     struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	size_t size = img->g.cluster_size, room = smd_min_u64(out_room, size - size / LEAST_SAVED);
	struct qcow2_encoder *encoder;
	size_t n;

	if (pack_max(img) <= 1)		/* no sharing a host cluster: nothing is saved */
		return 1;
	encoder = encoder_take(img, err);
	if (!encoder)
		return -1;
	n = encode_cluster(img, encoder, buf, out, room);
	encoder_give(img, encoder);
	if (n == 0)
		return 1;
	*ret_len = n;
	return 0;
}

/* ---- Packing -------------------------------------------------------------------- */

/* Whether the host cluster that pack_at lies in can be counted once more. */
static int
pack_open(struct qcow2_image *img, bool *ret, struct smd_error *err)
{
	uint64_t count = 0;

	if (img->pack_at != 0 &&
	    qcow2_refcount_get(img, img->pack_at >> img->g.cluster_bits, &count, err) < 0)
		return -1;
	*ret = count != 0 && count < pack_max(img);
	return 0;
}

/* Take len bytes, less than a cluster: behind the last ones where that is
 * possible, else in a new cluster. */
static int
pack(struct qcow2_image *img, size_t len, uint64_t *ret_host, struct smd_error *err)
{
	uint64_t size = img->g.cluster_size, at = img->pack_at, host = 0, n;
	bool open;

	if (pack_open(img, &open, err) < 0)
		return -1;
	if (!open || len > size - at % size) {
		if (qcow2_alloc(img, 1, &host, &n, err) < 0)
			return -1;
		/* Taking one may have given back what was open (qcow2_sync). */
		open = open && img->pack_at == at &&
			host == smd_round_down_u64(at, size) + size;
		if (!open)
			at = host;
	}
	if (open && qcow2_refcount_add(img, at >> img->g.cluster_bits, 1, 1, err) < 0) {
		qcow2_free_later(img, host >> img->g.cluster_bits, host != 0);
		return -1;
	}
	img->pack_at = (at + len) % size ? at + len : 0;
	*ret_host = at;
	return 0;
}

/* "Compressed Clusters Descriptor": where its offset field ends. */
static bool
describable(const struct qcow2_image *img, uint64_t host, size_t len)
{
	unsigned bits = 62 - (img->g.cluster_bits - 8);

	return (host + len) >> (bits < 56 ? bits : 56) == 0;
}

static int
write_packed(struct qcow2_image *img, uint64_t guest_cluster, const struct qcow2_entry *entry,
	     const void *data, struct smd_error *err)
{
	struct qcow2_entry old;
	uint64_t first, n;

	if (img->io->ops->pwrite(img->io, data, entry->compressed_size, entry->host, err) < 0 ||
	    qcow2_lookup(img, guest_cluster, &old, err) < 0 ||
	    qcow2_entry_set(img, guest_cluster, entry, err) < 0)
		return -1;
	qcow2_entry_clusters(img, &old, &first, &n);
	qcow2_free_later(img, first, n);
	return 0;
}

int
qcow2_write_encoded(struct qcow2_image *img, uint64_t offset, const void *data, size_t len,
		    struct smd_error *err)
{
	struct qcow2_entry entry = { .compressed_size = len };
	uint64_t first, n;
	int r = 1;

	if (qcow2_write_begin(img, err) < 0 || qcow2_sync_if_full(img, err) < 0 ||
	    pack(img, len, &entry.host, err) < 0)
		return -1;
	if (describable(img, entry.host, len))
		r = write_packed(img, offset >> img->g.cluster_bits, &entry, data, err);
	if (r == 0)
		return 0;
	/* Nobody names it: its counts go down again, and nothing is packed behind. */
	qcow2_entry_clusters(img, &entry, &first, &n);
	qcow2_free_later(img, first, n);
	img->pack_at = 0;
	return r;
}
