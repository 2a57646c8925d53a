/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The copier: everything that moves a disk's bytes goes through here, whatever
 * the formats. It plans from the extents, reads no hole, writes no zero, shares
 * extents where one reflinking file system holds both files and alignment
 * allows, and otherwise runs large reads and writes in parallel.
 *
 * Threads: a call uses threads of its own and returns when all have ended.
 */
#ifndef SMD_COMMON_IMAGE_COPY_H
#define SMD_COMMON_IMAGE_COPY_H

#include "common/error.h"
#include "common/image/chain.h"
#include "common/image/control.h"
#include "common/image/digest.h"
#include "common/image/marks.h"

/* Bytes of data done and to do; total is fixed from the first call on. Called
 * from one thread at a time, every 100 ms or 2% and at the end. Return
 * non-zero to stop: the copy then fails with TASK_CANCELLED [""]. */
typedef int smd_progress_fn(void *opaque, uint64_t done, uint64_t total);

struct smd_copy_options {
	unsigned n_threads;		/* 0: by cores, at most 8 */
	uint64_t bytes_per_second;	/* 0: no limit */
	bool verify;			/* read the destination back and compare hashes */
	bool digest;			/* read also what could be shared unread, for the digest */
	bool spare_cache;		/* what is written leaves the page cache again, right behind */
	bool target_is_zero;		/* a fresh image: zeroes need not be written */
	bool compress;			/* encode what shrinks; IMAGE_UNSUPPORTED: dst can't */
	bool small;			/* smd_op_convert: encode for size rather than speed */
	/* A delta: dst shows what src's layers from the upper-th on show (or what
	 * base shows) already, and only what the upper layers hold (or what differs)
	 * is written, also where it is zeroes. 0 and NULL: everything is. Where dst
	 * is an overlay, its own parents are that base as often as not. */
	size_t upper;
	struct smd_chain *base;
	smd_progress_fn *progress;	/* NULL: none */
	void *opaque;
	struct smd_copy_control *control;	/* NULL: none; its rate counts, not the one above */
	/* smd_copy only. Marks are made about once a second, none before that is nearly
	 * over; what is copied after the last took at most a second to copy. Where
	 * there are marks of this very copy it goes on from the last: dst is then what
	 * the earlier run left, and target_is_zero does not count. */
	struct smd_marks *marks;	/* NULL: none */
	const char *asked;		/* how dst was asked for; marks are of that alone. NULL: "" */
	uint64_t mark_bytes;		/* tests: a mark after so many bytes done. 0: by time */
	/* After each mark: the bytes done that need not be done again. */
	void (*marked)(void *opaque, uint64_t done);
	/* All is copied; what dst has is read back from now on. NULL: not wanted. */
	void (*verifies)(void *opaque);
};

struct smd_copy_stats {
	uint64_t bytes_data;		/* data of the source, or the delta, by its extents */
	uint64_t bytes_written;
	uint64_t bytes_shared;		/* by reflink */
	uint64_t bytes_zero;		/* found to be zeroes while reading */
	uint64_t resumed_at;		/* of the disk: what lies before it an earlier run copied */
	/* Of src's content as it was read. Of a delta of upper layers what they change: to
	 * be added to the digest of what lies below them. Not of a difference to base, nor
	 * where extents were shared and neither digest nor verify asked for them to be read. */
	struct smd_digest digest;
	bool has_digest, is_change;
};

/* What a copy's marks are told by: the sizes and files of both disks, dst's format,
 * what options ask for. */
void smd_copy_identity(struct smd_chain *src, struct smd_chain *dst,
		       const struct smd_copy_options *options, uint8_t ret[16]);

/* Whether dst, which an earlier run left, can be gone on with by options' marks: they are
 * of this copy, and dst reads as the last says. 1, 0 with *ret_why a sentence's end, or -1.
 * Where not, the marks are reset and dst is made anew: smd_copy itself does not look. */
int smd_copy_resumable(struct smd_chain *src, struct smd_chain *dst,
		       const struct smd_copy_options *options, const char **ret_why,
		       struct smd_error *err);

/* Make dst's view equal src's; dst is at least as large. Flushed on return. Of a
 * delta only the range that src has is looked at. */
int smd_copy(struct smd_chain *src, struct smd_chain *dst, const struct smd_copy_options *options,
	     struct smd_copy_stats *ret_stats, struct smd_error *err);

/* Write the disk in the given format, in order, by the format's stream callback; raw
 * needs none. Where params names a parent, only what the leaf has of its own is
 * written, or with options->base what differs from that one by the extents. *ret_size
 * of begin(): the bytes it is in all, told before the first goes to sink. ret_stats (NULL:
 * none) has the data, written, and the digest, of an overlay what it changes. */
typedef int smd_begin_fn(void *opaque, uint64_t size, struct smd_error *err);
typedef int smd_sink_fn(void *opaque, const void *buf, size_t count, struct smd_error *err);
int smd_stream_to(struct smd_chain *src, const struct smd_format *format,
		  const struct smd_create *params, smd_sink_fn *sink, void *sink_opaque,
		  smd_begin_fn *begin, const struct smd_copy_options *options,
		  struct smd_copy_stats *ret_stats, struct smd_error *err);
/* The same to a descriptor (a pipe or socket). */
int smd_stream_out(struct smd_chain *src, const struct smd_format *format,
		   const struct smd_create *params, int fd, smd_begin_fn *begin,
		   const struct smd_copy_options *options, struct smd_copy_stats *ret_stats,
		   struct smd_error *err);
/* The bytes it would be, and of them the disk's. */
int smd_stream_measure(struct smd_chain *src, const struct smd_format *format,
		       const struct smd_create *params, uint64_t *ret_size, uint64_t *ret_data,
		       struct smd_error *err);

/* Where do two disks differ? *ret_offset: the first byte that differs, or
 * UINT64_MAX. A longer disk equals a shorter one when its tail is zeroes,
 * unless strict. Files may be compared by processes of its own (fork), which have all
 * ended on return: for programs that have one thread. */
int smd_compare(struct smd_chain *a, struct smd_chain *b, bool strict,
		const struct smd_copy_options *options, uint64_t *ret_offset,
		struct smd_error *err);

/* Bytes of data and runs of it, by the extents and the store's holes; of a delta
 * also the zeroes that hide what is below. */
int smd_count_delta(struct smd_chain *chain, size_t upper, struct smd_chain *base,
		    uint64_t *ret_bytes, uint64_t *ret_runs, struct smd_error *err);
int smd_count_data(struct smd_chain *chain, uint64_t *ret_bytes, uint64_t *ret_runs,
		   struct smd_error *err);

#endif
