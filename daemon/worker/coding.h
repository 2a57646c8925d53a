/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Content codings: what a transfer is wrapped in between here and its client, plain,
 * gzip or zstd. libzstd is met in coding.c only, gzip is gzip.h's.
 *
 * Threads: one.
 */
#ifndef SMD_DAEMON_WORKER_CODING_H
#define SMD_DAEMON_WORKER_CODING_H

#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/json.h"

enum coding {
	CODING_IDENTITY,
	CODING_GZIP,
	CODING_ZSTD,
};

/* A request's "coding", which may be absent. */
int coding_parse(json *request, enum coding *ret, struct smd_error *err);

/* ---- To a descriptor, which is borrowed ---- */

struct encoder;
struct encoder *encoder_new(int fd, enum coding coding);
/* An smd_sink_fn. */
int encoder_write(void *encoder, const void *buf, size_t count, struct smd_error *err);
/* The end, without which a reader knows that something is missing. */
int encoder_finish(struct encoder *e, struct smd_error *err);
void encoder_free(struct encoder *e);
static inline void
cleanup_encoder(struct encoder **e)
{
	encoder_free(*e);
}

/* ---- From a descriptor, which is borrowed ---- */

struct decoder;
/* Told of the bytes of fd that have been read, now and then. */
typedef void decoder_tick_fn(void *opaque, uint64_t consumed);
struct decoder *decoder_new(int fd, enum coding coding, decoder_tick_fn *tick, void *opaque);
/* Up to count bytes, fewer only where fd has no more just now; 0 at the end. */
int decoder_read(struct decoder *d, void *buf, size_t count, size_t *ret_n,
		 struct smd_error *err);
/* The same until buf is full, or at the end. */
int decoder_read_full(struct decoder *d, void *buf, size_t count, size_t *ret_n,
		      struct smd_error *err);
void decoder_free(struct decoder *d);
static inline void
cleanup_decoder(struct decoder **d)
{
	decoder_free(*d);
}

#endif
