/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk as a stream of bytes in a format: the module says which pieces follow
 * each other, in a first pass for the length alone and then for the bytes.
 */
#include "common/image/copy-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/mem.h"

#define STREAM_WINDOW (1u << 20)
#define STREAM_EXTENTS_MAX (1u << 20)

struct stream {
	struct crew crew;		/* for progress and the rate only */
	struct smd_chain *src;
	smd_sink_fn *sink;
	void *sink_opaque;
	uint64_t size;			/* counted in the first pass */
	uint8_t *buf;
	struct smd_extent *extents;
	size_t n, room;
	uint64_t unit;			/* gaps smaller than this are data too */
	struct smd_digest digest;
	bool has_digest, is_change;
	uint64_t written;
};

/* ---- The disk's data as extents ---- */

/* Join all neighbours closer than twice as much as before: bounded memory for
 * any disk. */
static void
extents_thin(struct stream *s)
{
	size_t kept = 0;

	s->unit *= 2;
	for (size_t i = 1; i < s->n; i++) {
		struct smd_extent *last = &s->extents[kept];
		const struct smd_extent *e = &s->extents[i];

		if (e->offset - (last->offset + last->count) < s->unit)
			last->count = e->offset + e->count - last->offset;
		else
			s->extents[++kept] = *e;
	}
	s->n = kept + 1;
}

static void
extents_add(struct stream *s, uint64_t offset, uint64_t count)
{
	struct smd_extent *last = s->n ? &s->extents[s->n - 1] : NULL;

	if (last && offset - (last->offset + last->count) < s->unit) {
		last->count = offset + count - last->offset;
		return;
	}
	while (s->n == STREAM_EXTENTS_MAX)
		extents_thin(s);
	if (s->n == s->room) {
		s->room = s->room ? 2 * s->room : 256;
		s->extents = smd_reallocarray(s->extents, s->room, sizeof *s->extents);
	}
	s->extents[s->n++] = (struct smd_extent){ SMD_EXTENT_DATA, offset, count, 0 };
}

static int
extents_own(void *opaque, const struct smd_extent *e, struct smd_error *err)
{
	struct stream *s = opaque;

	(void)err;
	if (e->kind != SMD_EXTENT_PARENT)
		extents_add(s, e->offset, e->count);
	return 0;
}

/* What the leaf itself says, its zeroes too, which hide what is below. */
static int
extents_of_leaf(struct stream *s, struct smd_error *err)
{
	struct chain_layer *leaf = chain_leaf(s->src);
	uint64_t size;

	s->unit = SMD_SECTOR;
	if (!smd_round_up_u64(smd_chain_size(s->src), SMD_SECTOR, &size))
		return smd_fail_INTERNAL_ERROR(err, "size", "the disk is endless");
	LOCK_SCOPE(&leaf->lock);
	return leaf->format->extents(leaf->img, 0, size, extents_own, s, err);
}

/* All of the disk, or what differs from another one. */
static int
extents_collect(struct stream *s, struct smd_chain *base, struct smd_error *err)
{
	CLEANUP(plan_free) struct plan plan = { .base = base };
	CLEANUP(plan_item_free) struct plan_item item = { 0 };
	uint64_t size = smd_chain_size(s->src);
	int r;

	if (plan_init_delta(&plan, s->src, COPY_PAGE, UINT64_C(1) << 40, size, err) < 0)
		return -1;
	s->unit = COPY_PAGE;
	while ((r = plan_next(&plan, &item, err)) > 0)
		extents_add(s, item.offset, item.count);
	return r;
}

/* ---- Writing ---- */

static int
stream_count(void *opaque, const struct smd_piece *piece, struct smd_error *err)
{
	struct stream *s = opaque;

	if (!smd_add_u64(s->size, piece->count, &s->size))
		return smd_fail_INTERNAL_ERROR(err, "size", "the stream would be endless");
	if (piece->kind == SMD_PIECE_GUEST)
		s->crew.total += piece->count;
	return 0;
}

static int
stream_write(struct stream *s, const void *buf, uint64_t count, struct smd_error *err)
{
	s->written += count;
	return s->sink(s->sink_opaque, buf, count, err);
}

/* A descriptor as a sink. */
static int
sink_fd(void *opaque, const void *buf, size_t count, struct smd_error *err)
{
	const uint8_t *p = buf;
	int fd = *(const int *)opaque;

	while (count > 0) {
		ssize_t r = write(fd, p, count);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0) {
			int e = errno;

			smd_fail_IMAGE_IO(err, "stream", "writing the stream: %s", strerror(e));
			err->errnum = e;
			return -1;
		}
		p += r;
		count -= (size_t)r;
	}
	return 0;
}

static int
stream_zeroes(struct stream *s, uint64_t count, struct smd_error *err)
{
	memset(s->buf, 0, smd_min_u64(count, STREAM_WINDOW));
	while (count > 0) {
		uint64_t n = smd_min_u64(count, STREAM_WINDOW);

		if (stream_write(s, s->buf, n, err) < 0)
			return -1;
		count -= n;
	}
	return 0;
}

/* Of an overlay what it changes: less what lies below. */
static int
stream_digest(struct stream *s, uint64_t offset, uint64_t count, struct smd_error *err)
{
	struct smd_digest below = { 0, 0 };

	smd_digest_add(&s->digest, s->buf, count, offset);
	if (!s->is_change)
		return 0;
	if (copy_read_below(s->src, 1, s->buf, offset, count, err) < 0)
		return -1;
	smd_digest_add(&below, s->buf, count, offset);
	smd_digest_take(&s->digest, &below);
	return 0;
}

static int
stream_guest(struct stream *s, uint64_t offset, uint64_t count, struct smd_error *err)
{
	uint64_t end = smd_min_u64(offset + count, smd_chain_size(s->src));

	/* Pages are digested whole. */
	if (offset % SMD_DIGEST_PAGE || (end % SMD_DIGEST_PAGE && end < smd_chain_size(s->src)))
		s->has_digest = false;
	while (count > 0) {
		uint64_t n = smd_min_u64(count, STREAM_WINDOW);

		crew_throttle(&s->crew, n);
		if (copy_read_padded(s->src, s->buf, offset, n, err) < 0 ||
		    stream_write(s, s->buf, n, err) < 0 || crew_done(&s->crew, n, err) < 0)
			return -1;
		if (s->has_digest && stream_digest(s, offset, n, err) < 0)
			return -1;
		offset += n;
		count -= n;
	}
	return 0;
}

static int
stream_piece(void *opaque, const struct smd_piece *piece, struct smd_error *err)
{
	struct stream *s = opaque;

	switch (piece->kind) {
	case SMD_PIECE_BYTES:
		return stream_write(s, piece->bytes, piece->count, err);
	case SMD_PIECE_GUEST:
		return stream_guest(s, piece->guest_offset, piece->count, err);
	case SMD_PIECE_ZERO:
		return stream_zeroes(s, piece->count, err);
	}
	return smd_fail_INTERNAL_ERROR(err, "piece", "a piece of no kind");
}

static void
cleanup_stream(struct stream *s)
{
	pthread_mutex_destroy(&s->crew.lock);
	free(s->extents);
	free(s->buf);
}

/* The extents, and the first pass over the pieces. */
static int
stream_begin(struct stream *s, const struct smd_format *format, const struct smd_create *params,
	     struct smd_error *err)
{
	struct smd_chain *base = s->crew.options ? s->crew.options->base : NULL;

	pthread_mutex_init(&s->crew.lock, NULL);
	if (!(format->caps & SMD_CAP_STREAM))
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, format->name,
				      "%s cannot be written as a stream", format->name);
	s->buf = smd_malloc_pages(STREAM_WINDOW);
	if ((params->parent_name && !base ? extents_of_leaf(s, err) :
	     extents_collect(s, base, err)) < 0)
		return -1;
	return format->stream(params, s->extents, s->n, stream_count, s, err);
}

int
smd_stream_measure(struct smd_chain *src, const struct smd_format *format,
		   const struct smd_create *params, uint64_t *ret_size, uint64_t *ret_data,
		   struct smd_error *err)
{
	CLEANUP(cleanup_stream) struct stream s = { .src = src };

	if (stream_begin(&s, format, params, err) < 0)
		return -1;
	*ret_size = s.size;
	*ret_data = s.crew.total;
	return 0;
}

int
smd_stream_to(struct smd_chain *src, const struct smd_format *format,
	      const struct smd_create *params, smd_sink_fn *sink, void *sink_opaque,
	      smd_begin_fn *begin, const struct smd_copy_options *options,
	      struct smd_copy_stats *ret_stats, struct smd_error *err)
{
	CLEANUP(cleanup_stream) struct stream s = {
		.crew = { .options = options }, .src = src, .sink = sink,
		.sink_opaque = sink_opaque, .has_digest = !options->base,
		.is_change = params->parent_name,
	};

	if (stream_begin(&s, format, params, err) < 0)
		return -1;
	if (begin && begin(options->opaque, s.size, err) < 0)
		return -1;
	if (options->progress && options->progress(options->opaque, 0, s.crew.total))
		return smd_fail_TASK_CANCELLED(err, "", "cancelled before the first byte");
	if (format->stream(params, s.extents, s.n, stream_piece, &s, err) < 0)
		return -1;
	if (ret_stats)
		*ret_stats = (struct smd_copy_stats){
			.bytes_data = s.crew.total, .bytes_written = s.written,
			.digest = s.digest, .has_digest = s.has_digest, .is_change = s.is_change,
		};
	return 0;
}

int
smd_stream_out(struct smd_chain *src, const struct smd_format *format,
	       const struct smd_create *params, int fd, smd_begin_fn *begin,
	       const struct smd_copy_options *options, struct smd_copy_stats *ret_stats,
	       struct smd_error *err)
{
	return smd_stream_to(src, format, params, sink_fd, &fd, begin, options, ret_stats, err);
}
