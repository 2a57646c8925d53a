/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/worker/coding.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include <zstd.h>

#include "common/image/format.h"
#include "common/mem.h"
#include "daemon/worker/gzip.h"
#include "daemon/worker/internal.h"

#define CODING_CHUNK (256u << 10)
#define ZSTD_LEVEL 1
#define UPLOAD "the upload"

int
coding_parse(json *request, enum coding *ret, struct smd_error *err)
{
	static const char *const names[] = {
		[CODING_IDENTITY] = "", [CODING_GZIP] = "gzip", [CODING_ZSTD] = "zstd",
	};
	const char *name = smd_json_str(request, "coding", "");

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(names[i], name) == 0) {
			*ret = (enum coding)i;
			return 0;
		}
	}
	return bad_request(err, "coding");
}

/* ---- To a descriptor ---- */

struct encoder {
	int fd;
	struct gzip *gzip;		/* NULL: another coding */
	ZSTD_CCtx *zstd;		/* the same */
	struct smd_error error;		/* of a write behind gzip */
	uint8_t out[CODING_CHUNK];
};

static int
write_all(int fd, const uint8_t *p, size_t count, struct smd_error *err)
{
	while (count > 0) {
		ssize_t n = write(fd, p, count);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int e = errno;

			smd_fail_IMAGE_IO(err, "stream", "writing the stream: %s", strerror(e));
			err->errnum = e;
			return -1;
		}
		p += n;
		count -= (size_t)n;
	}
	return 0;
}

static int
gzip_sink(void *opaque, const void *data, size_t len)
{
	struct encoder *e = opaque;

	return write_all(e->fd, data, len, &e->error);
}

struct encoder *
encoder_new(int fd, enum coding coding)
{
	struct encoder *e = smd_calloc(1, sizeof *e);

	e->fd = fd;
	if (coding == CODING_GZIP)
		e->gzip = gzip_new(gzip_sink, e);
	if (coding == CODING_ZSTD) {
		e->zstd = ZSTD_createCCtx();
		if (!e->zstd)
			abort();
		ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
		ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_checksumFlag, 1);
	}
	return e;
}

static int
encode_gzip(struct encoder *e, const void *buf, size_t count, bool end, struct smd_error *err)
{
	if (gzip(e->gzip, buf, count, end) == 0)
		return 0;
	smd_error_move(err, &e->error);
	return -1;
}

static int
encode_zstd(struct encoder *e, const void *buf, size_t count, bool end, struct smd_error *err)
{
	ZSTD_inBuffer in = { buf, count, 0 };
	size_t left;

	do {
		ZSTD_outBuffer out = { e->out, sizeof e->out, 0 };

		left = ZSTD_compressStream2(e->zstd, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(left))
			return smd_fail_INTERNAL_ERROR(err, "zstd", "%s", ZSTD_getErrorName(left));
		if (write_all(e->fd, e->out, out.pos, err) != 0)
			return -1;
	} while (end ? left > 0 : in.pos < in.size);
	return 0;
}

int
encoder_write(void *encoder, const void *buf, size_t count, struct smd_error *err)
{
	struct encoder *e = encoder;

	if (e->gzip)
		return encode_gzip(e, buf, count, false, err);
	if (e->zstd)
		return encode_zstd(e, buf, count, false, err);
	return write_all(e->fd, buf, count, err);
}

int
encoder_finish(struct encoder *e, struct smd_error *err)
{
	if (e->gzip)
		return encode_gzip(e, NULL, 0, true, err);
	return e->zstd ? encode_zstd(e, NULL, 0, true, err) : 0;
}

void
encoder_free(struct encoder *e)
{
	if (!e)
		return;
	gzip_free(e->gzip);
	ZSTD_freeCCtx(e->zstd);
	smd_error_clear(&e->error);
	free(e);
}

/* ---- From a descriptor ---- */

struct decoder {
	int fd;
	struct gunzip *gunzip;		/* NULL: another coding */
	ZSTD_DCtx *zstd;		/* the same */
	size_t zstd_left;		/* 0: between two frames */
	bool begun;			/* something was decoded */
	bool at_end;			/* of fd */
	uint64_t consumed;
	decoder_tick_fn *tick;
	void *opaque;
	const uint8_t *in;		/* read, and not decoded yet */
	size_t in_len;
	uint8_t buf[CODING_CHUNK];
};

struct decoder *
decoder_new(int fd, enum coding coding, decoder_tick_fn *tick, void *opaque)
{
	struct decoder *d = smd_calloc(1, sizeof *d);

	d->fd = fd;
	d->tick = tick;
	d->opaque = opaque;
	if (coding == CODING_GZIP)
		d->gunzip = gunzip_new();
	if (coding == CODING_ZSTD) {
		d->zstd = ZSTD_createDCtx();
		if (!d->zstd)
			abort();
	}
	return d;
}

void
decoder_free(struct decoder *d)
{
	if (!d)
		return;
	gunzip_free(d->gunzip);
	ZSTD_freeDCtx(d->zstd);
	free(d);
}

/* 0 bytes: the end of fd. */
static int
read_some(struct decoder *d, void *buf, size_t count, size_t *ret_n, struct smd_error *err)
{
	ssize_t n;

	do {
		n = read(d->fd, buf, count);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		int e = errno;

		smd_fail_VDI_IO_ERROR(err, "Device I/O errors", "reading the upload at %" PRIu64 ": %s",
				      d->consumed, strerror(e));
		err->errnum = e;
		return -1;
	}
	d->at_end = n == 0;
	d->consumed += (uint64_t)n;
	if (d->tick)
		d->tick(d->opaque, d->consumed);
	*ret_n = (size_t)n;
	return 0;
}

static int
decode_gzip(struct decoder *d, uint8_t *buf, size_t count, size_t *ret_n, struct smd_error *err)
{
	size_t had = d->in_len;

	switch (gunzip(d->gunzip, &d->in, &d->in_len, buf, count, ret_n)) {
	case GUNZIP_BROKEN:
		return smd_image_fail(err, SMD_REASON_DECOMPRESS, UPLOAD,
				      "it is damaged: what gzip compressed does not decode");
	case GUNZIP_CHECKSUM:
		return smd_image_fail(err, SMD_REASON_BAD_CHECKSUM, UPLOAD,
				      "it is damaged: gzip's checksum is another");
	case GUNZIP_END:
		return smd_image_fail(err, SMD_REASON_DECOMPRESS, UPLOAD, d->begun ?
				      "behind what gzip compressed comes something else" :
				      "it is not what its Content-Encoding says, gzip");
	case GUNZIP_DATA:
	case GUNZIP_MORE:
		break;
	}
	d->begun = d->begun || d->in_len < had;
	return 0;
}

static int
decode_zstd(struct decoder *d, uint8_t *buf, size_t count, size_t *ret_n, struct smd_error *err)
{
	ZSTD_inBuffer in = { d->in, d->in_len, 0 };
	ZSTD_outBuffer out = { buf, count, 0 };

	if (d->in_len > 0 || d->zstd_left > 0) {
		size_t left = ZSTD_decompressStream(d->zstd, &out, &in);

		if (ZSTD_isError(left))
			return smd_image_fail(err, SMD_REASON_DECOMPRESS, UPLOAD,
					      "what zstd is said to have compressed does not decode: %s",
					      ZSTD_getErrorName(left));
		d->begun = true;
		d->zstd_left = left;
	}
	d->in += in.pos;
	d->in_len -= in.pos;
	*ret_n = out.pos;
	return 0;
}

/* fd is at its end, and nothing is left to decode. */
static int
decode_end(const struct decoder *d, struct smd_error *err)
{
	if (d->begun && d->zstd_left == 0 && (!d->gunzip || gunzip_at_end(d->gunzip)))
		return 0;
	return smd_image_fail(err, SMD_REASON_TRUNCATED, UPLOAD, "it ends before %s's end",
			      d->gunzip ? "gzip" : "zstd");
}

int
decoder_read(struct decoder *d, void *buf, size_t count, size_t *ret_n, struct smd_error *err)
{
	if (!d->gunzip && !d->zstd)
		return read_some(d, buf, count, ret_n, err);
	for (;;) {
		*ret_n = 0;
		if ((d->gunzip ? decode_gzip(d, buf, count, ret_n, err) :
		     decode_zstd(d, buf, count, ret_n, err)) != 0)
			return -1;
		if (*ret_n > 0)
			return 0;
		if (d->in_len > 0)
			continue;
		if (d->at_end)
			return decode_end(d, err);
		d->in = d->buf;
		if (read_some(d, d->buf, sizeof d->buf, &d->in_len, err) != 0)
			return -1;
	}
}

int
decoder_read_full(struct decoder *d, void *buf, size_t count, size_t *ret_n,
		  struct smd_error *err)
{
	size_t done = 0, n;

	while (done < count) {
		if (decoder_read(d, (uint8_t *)buf + done, count - done, &n, err) != 0)
			return -1;
		if (n == 0)
			break;
		done += n;
	}
	*ret_n = done;
	return 0;
}
