/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compressed clusters: raw deflate or zstd. A cluster decodes to exactly its
 * size, or is an error; input behind the end of the stream is ignored.
 */
#include <inttypes.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

/* More than any one deflate item puts out: a stored block. */
#define DEFLATE_SLACK 65536u
#define ZSTD_WINDOW_LOG_MAX 21	/* 2 MiB: no cluster needs more */

struct qcow2_codec {
	struct qcow2_codec *next;
	struct libdeflate_decompressor *deflate;
	ZSTD_DCtx *zstd;
};

static void
codec_free(struct qcow2_codec *codec)
{
	if (codec->deflate)
		libdeflate_free_decompressor(codec->deflate);
	ZSTD_freeDCtx(codec->zstd);
	free(codec);
}

void
qcow2_codecs_free(struct qcow2_image *img)
{
	while (img->codecs) {
		struct qcow2_codec *next = img->codecs->next;

		codec_free(img->codecs);
		img->codecs = next;
	}
}

static struct qcow2_codec *
codec_new(const struct qcow2_image *img)
{
	struct qcow2_codec *codec = calloc(1, sizeof *codec);
	bool zstd = img->h.compression == QCOW2_COMPRESSION_ZSTD;

	if (!codec)
		return NULL;
	if (zstd)
		codec->zstd = ZSTD_createDCtx();
	else
		codec->deflate = libdeflate_alloc_decompressor();
	if (zstd ? !codec->zstd : !codec->deflate) {
		codec_free(codec);
		return NULL;
	}
	if (zstd)
		ZSTD_DCtx_setParameter(codec->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
	return codec;
}

static struct qcow2_codec *
codec_take(struct qcow2_image *img, struct smd_error *err)
{
	struct qcow2_codec *codec;

	pthread_mutex_lock(&img->codec_lock);
	codec = img->codecs;
	if (codec)
		img->codecs = codec->next;
	pthread_mutex_unlock(&img->codec_lock);
	if (!codec)
		codec = codec_new(img);
	if (!codec)
		smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	return codec;
}

static void
codec_give(struct qcow2_image *img, struct qcow2_codec *codec)
{
	pthread_mutex_lock(&img->codec_lock);
	codec->next = img->codecs;
	img->codecs = codec;
	pthread_mutex_unlock(&img->codec_lock);
}

/* A stream that goes on past the cluster is cut there. libdeflate stops before
 * the item that does not fit, so it gets room for one more. */
static bool
inflate_cut(struct qcow2_codec *codec, const uint8_t *in, size_t in_size, uint8_t *out,
	    size_t out_size)
{
	CLEANUP_FREE uint8_t *buf = malloc(out_size + DEFLATE_SLACK);
	enum libdeflate_result result;
	size_t in_used, out_used = 0;

	if (!buf)
		return false;
	result = libdeflate_deflate_decompress_ex(codec->deflate, in, in_size, buf,
						  out_size + DEFLATE_SLACK, &in_used, &out_used);
	if (result != LIBDEFLATE_INSUFFICIENT_SPACE &&
	    (result != LIBDEFLATE_SUCCESS || out_used < out_size))
		return false;
	memcpy(out, buf, out_size);
	return true;
}

static bool
inflate_cluster(struct qcow2_codec *codec, const uint8_t *in, size_t in_size, uint8_t *out,
		size_t out_size)
{
	size_t in_used, out_used;

	switch (libdeflate_deflate_decompress_ex(codec->deflate, in, in_size, out, out_size,
						 &in_used, &out_used)) {
	case LIBDEFLATE_SUCCESS:
		return out_used == out_size;
	case LIBDEFLATE_INSUFFICIENT_SPACE:
		return inflate_cut(codec, in, in_size, out, out_size);
	default:
		return false;
	}
}

/* Frames until the cluster is full; one that has more to give is an error. */
static bool
unzstd_cluster(struct qcow2_codec *codec, const uint8_t *in, size_t in_size, uint8_t *out,
	       size_t out_size)
{
	ZSTD_inBuffer src = { in, in_size, 0 };
	ZSTD_outBuffer dst = { out, out_size, 0 };
	size_t left = 1;

	ZSTD_DCtx_reset(codec->zstd, ZSTD_reset_session_only);
	while (dst.pos < dst.size || left != 0) {
		size_t in_before = src.pos, out_before = dst.pos;

		left = ZSTD_decompressStream(codec->zstd, &dst, &src);
		if (ZSTD_isError(left))
			return false;
		if (src.pos == in_before && dst.pos == out_before)
			return false;
	}
	return true;
}

static int
decode_compressed(struct qcow2_image *img, const struct qcow2_entry *entry, uint8_t *buf,
		  struct smd_error *err)
{
	size_t in_size = smd_min_u64(entry->compressed_size, img->io->size - entry->host);
	CLEANUP_FREE uint8_t *in = malloc(in_size);
	struct qcow2_codec *codec;
	bool good;

	if (!in)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	if (img->io->ops->pread(img->io, in, in_size, entry->host, err) < 0)
		return -1;
	codec = codec_take(img, err);
	if (!codec)
		return -1;
	good = codec->zstd ?
		unzstd_cluster(codec, in, in_size, buf, img->g.cluster_size) :
		inflate_cluster(codec, in, in_size, buf, img->g.cluster_size);
	codec_give(img, codec);
	if (!good)
		return smd_fail(err, SMD_REASON_DECOMPRESS, img->io->name,
				"compressed data at %" PRIu64 " do not decode to a cluster",
				entry->host);
	return 0;
}

int
qcow2_decode(struct qcow2_image *img, const struct qcow2_entry *entry, uint8_t *buf,
	     struct smd_error *err)
{
	uint64_t here;

	if (entry->compressed_size != 0)
		return decode_compressed(img, entry, buf, err);
	here = entry->alloc ? smd_min_u64(img->g.cluster_size, img->io->size - entry->host) : 0;
	memset(buf + here, 0, img->g.cluster_size - here);
	return here == 0 ? 0 : img->io->ops->pread(img->io, buf, here, entry->host, err);
}

int
qcow2_read_encoded(void *opaque, uint64_t offset, void *buf, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	struct qcow2_entry entry;
	int r;

	pthread_mutex_lock(&img->lock);
	r = qcow2_lookup(img, offset >> img->g.cluster_bits, &entry, err);
	pthread_mutex_unlock(&img->lock);
	return r < 0 ? -1 : qcow2_decode(img, &entry, buf, err);
}
