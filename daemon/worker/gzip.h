/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gzip, whose checksums libarchive does not look at, and several times as fast as zlib.
 *
 * Threads: one.
 */
#ifndef SMD_DAEMON_WORKER_GZIP_H
#define SMD_DAEMON_WORKER_GZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a stream that begins so is gzip's. */
bool gunzip_is(const uint8_t *data, size_t len);

struct gunzip;
struct gunzip *gunzip_new(void);
void gunzip_free(struct gunzip *z);

enum gunzip_result {
	GUNZIP_DATA,		/* *ret_n > 0 bytes are out */
	GUNZIP_MORE,		/* the input is used up */
	GUNZIP_END,		/* what follows is no gzip: the rest is ignored */
	GUNZIP_BROKEN,		/* no deflate stream, or a foreign one */
	GUNZIP_CHECKSUM,
};
/* Take from [*in, *in + *len), which moves on. The members of a file follow each other. */
enum gunzip_result gunzip(struct gunzip *z, const uint8_t **in, size_t *len, uint8_t *out,
			  size_t room, size_t *ret_n);
/* Whether the stream may end here: between two members. */
bool gunzip_at_end(const struct gunzip *z);

struct gzip;
typedef int gzip_sink_fn(void *opaque, const void *data, size_t len);
struct gzip *gzip_new(gzip_sink_fn *sink, void *opaque);
/* 0, or -1 as the sink said. end: there is no more. */
int gzip(struct gzip *z, const void *data, size_t len, bool end);
void gzip_free(struct gzip *z);

#endif
