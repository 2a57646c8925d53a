/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Archives and compressed streams. libarchive is met in archive.c only, with as
 * little of it as is needed: tar and zip, xz and zstd, all within this process. gzip is
 * gzip.h's.
 *
 * What comes out of a reader is hostile: a member's name is only ever compared, and
 * its size is what it claims.
 *
 * Threads: one.
 */
#ifndef SMD_DAEMON_WORKER_ARCHIVE_H
#define SMD_DAEMON_WORKER_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "daemon/worker/coding.h"

/* ---- Reading ---- */

enum archive_kind {
	ARCHIVE_TAR,		/* members, by gzip, xz, zstd or not compressed */
	ARCHIVE_TAR_PLAIN,	/* members, not compressed */
	ARCHIVE_ZIP,		/* members */
	ARCHIVE_PLAIN,		/* one file without a name */
	ARCHIVE_GZIP,		/* the same, compressed */
	ARCHIVE_XZ,
	ARCHIVE_ZSTD,
};

struct archive_reader;

/* Read what from yields; it is borrowed. name: the archive's, for messages. */
int archive_reader_open(struct decoder *from, const char *name, enum archive_kind kind,
			struct archive_reader **ret, struct smd_error *err);
void archive_reader_close(struct archive_reader *r);
static inline void
cleanup_archive_reader(struct archive_reader **r)
{
	archive_reader_close(*r);
}

struct archive_member {
	const char *name;	/* bytes; "" where there is none */
	const char *kind;	/* "" a regular file, else "a directory", "a link" … */
	bool size_known;
	uint64_t size;
};
/* 1: *ret is the next, valid until the next call; 0: there is none, and the stream has
 * been read to its end; -1. */
int archive_reader_next(struct archive_reader *r, struct archive_member *ret,
			struct smd_error *err);
/* The member's next bytes: 1, 0 at its end, -1. Offsets grow; what lies between is
 * zeroes. */
int archive_reader_data(struct archive_reader *r, const uint8_t **ret_data, size_t *ret_len,
			uint64_t *ret_offset, struct smd_error *err);

/* ---- Writing: a tar ---- */

struct archive_writer;

/* to is borrowed, and is not finished. */
int archive_writer_open(struct encoder *to, struct archive_writer **ret, struct smd_error *err);
/* size is a promise: so many bytes follow. */
int archive_writer_member(struct archive_writer *w, const char *name, uint64_t size,
			  uint32_t mtime_unix, struct smd_error *err);
int archive_writer_data(struct archive_writer *w, const void *data, size_t len,
			struct smd_error *err);
int archive_writer_finish(struct archive_writer *w, struct smd_error *err);
void archive_writer_close(struct archive_writer *w);
static inline void
cleanup_archive_writer(struct archive_writer **w)
{
	archive_writer_close(*w);
}

#endif
