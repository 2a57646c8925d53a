/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading disks for their digest: a whole one's, or, after a copy, range by range
 * what must be the same as it was on its way. Holes and zeroes are not read.
 */
#include "common/image/copy-impl.h"

#include <inttypes.h>
#include <string.h>

#include "common/mem.h"

#define STEP_MIN (16u << 20)		/* a thread takes so much of a disk at a time */
#define STEPS_MAX 65536u

void
copy_hashes_add(struct copy_hashes *hashes, const struct copy_hash *entry)
{
	LOCK_SCOPE(&hashes->lock);
	if (hashes->n == hashes->room) {
		hashes->room = hashes->room ? 2 * hashes->room : 256;
		hashes->list = smd_reallocarray(hashes->list, hashes->room, sizeof *hashes->list);
	}
	hashes->list[hashes->n++] = *entry;
}

/* ---- One range ---- */

struct reading {
	struct smd_chain *chain;
	struct crew *crew;		/* NULL: nobody's */
	uint64_t from, to;
	uint64_t at;			/* what lies before it is read */
	uint64_t read;
	uint8_t *buf;
	uint64_t window;
	struct smd_digest *digest;
};

/* Whole pages of the merged view, each once. */
static int
read_pages(struct reading *r, uint64_t start, uint64_t end, struct smd_error *err)
{
	start = smd_max_u64(r->at, smd_round_down_u64(start, SMD_DIGEST_PAGE));
	end = (end + SMD_DIGEST_PAGE - 1) & ~(uint64_t)(SMD_DIGEST_PAGE - 1);
	end = smd_min_u64(end, r->to);
	while (start < end) {
		uint64_t stop = smd_min_u64(end, smd_round_down_u64(start, r->window) + r->window);

		if (r->crew)
			crew_throttle(r->crew, stop - start);
		if (smd_chain_pread(r->chain, r->buf, stop - start, start, err) < 0)
			return -1;
		smd_digest_add(r->digest, r->buf, stop - start, start);
		r->read += stop - start;
		r->at = start = stop;
	}
	return 0;
}

static int
read_run(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct reading *r = opaque;
	uint64_t end = run->offset + run->count;

	if (run->kind == SMD_EXTENT_ZERO)
		return 0;
	for (uint64_t at = run->offset; at < end;) {
		uint64_t stop = end;

		if (run->kind == SMD_EXTENT_DATA) {	/* the store's holes */
			uint64_t host = run->host_offset + (at - run->offset), data;

			if (smd_io_next_data(run->io, host, end - at, &data, &stop, err) < 0)
				return -1;
			at += data - host;
			stop = run->offset + (stop - run->host_offset);
		}
		if (read_pages(r, at, stop, err) < 0)
			return -1;
		at = stop;
	}
	return 0;
}

/* Digest [from, to) of the merged view; *ret_read: bytes there were to read. */
static int
digest_range(struct smd_chain *chain, struct crew *crew, uint8_t *buf, uint64_t window,
	     uint64_t from, uint64_t to, struct smd_digest *ret, uint64_t *ret_read,
	     struct smd_error *err)
{
	struct reading r = {
		.chain = chain, .crew = crew, .from = from, .to = to, .at = from,
		.buf = buf, .window = window, .digest = ret,
	};

	*ret = (struct smd_digest){ 0, 0 };
	if (from < to && smd_chain_extents(chain, from, to - from, read_run, &r, err) < 0)
		return -1;
	*ret_read = r.read;
	return 0;
}

/* ---- A disk ---- */

struct digesting {
	struct crew crew;
	struct smd_chain *chain;
	uint64_t end, step;
	_Atomic uint64_t next;
	struct smd_digest sum;		/* guarded by crew.lock */
};

static int
digest_work(struct crew *crew, void *opaque, struct smd_error *err)
{
	struct digesting *d = opaque;
	uint64_t window = copy_window(d->chain), read;
	CLEANUP_FREE uint8_t *buf = smd_malloc_pages(window);
	struct smd_digest sum;

	while (!atomic_load(&crew->stop)) {
		uint64_t from = atomic_fetch_add(&d->next, d->step);

		if (from >= d->end)
			break;
		if (digest_range(d->chain, crew, buf, window, from,
				 smd_min_u64(from + d->step, d->end), &sum, &read, err) < 0)
			return -1;
		pthread_mutex_lock(&crew->lock);
		smd_digest_sum(&d->sum, &sum);
		pthread_mutex_unlock(&crew->lock);
		if (crew_done(crew, smd_min_u64(read, crew_left(crew)), err) < 0)
			return -1;
	}
	return 0;
}

int
smd_digest_chain(struct smd_chain *chain, uint64_t offset, uint64_t end,
		 const struct smd_copy_options *options, struct smd_digest *ret,
		 struct smd_error *err)
{
	static const struct smd_copy_options alone = { .n_threads = 1 };
	const struct smd_copy_options *o = options ? options : &alone;
	struct digesting d = {
		.crew = { .options = o, .work = digest_work, .opaque = &d },
		.chain = chain, .end = end, .next = offset,
	};
	uint64_t runs;

	d.step = smd_max_u64(STEP_MIN, smd_round_down_u64(end / STEPS_MAX, STEP_MIN) + STEP_MIN);
	if (smd_count_data(chain, &d.crew.total, &runs, err) < 0)
		return -1;
	if (o->progress && o->progress(o->opaque, 0, d.crew.total))
		return smd_fail_TASK_CANCELLED(err, "", "cancelled before the first byte");
	if (crew_run(&d.crew, crew_size(o, d.crew.total, CREW_WAITS), err) < 0)
		return -1;
	if (o->progress && o->progress(o->opaque, d.crew.total, d.crew.total))
		return smd_fail_TASK_CANCELLED(err, "", "cancelled at the end");
	*ret = d.sum;
	return 0;
}

/* ---- Reading back ---- */

struct verify {
	struct crew crew;
	struct smd_chain *src, *dst;
	struct copy_hashes *hashes;
	atomic_size_t next;
	uint64_t window;	/* read at a time */
	_Atomic uint64_t differs;	/* where; UINT64_MAX: nowhere yet */
};

static void
note_difference(struct verify *v, uint64_t offset)
{
	uint64_t first = atomic_load(&v->differs);

	while (offset < first && !atomic_compare_exchange_weak(&v->differs, &first, offset))
		;
}

/* The first byte of a range that is another one than the source's; where the source has
 * now what the destination has, the range's first. */
static int
locate(struct verify *v, const struct copy_hash *entry, uint8_t *buf, uint64_t *ret,
       struct smd_error *err)
{
	CLEANUP_FREE uint8_t *other = smd_malloc_pages(v->window);

	*ret = entry->offset;
	for (uint64_t at = entry->offset; at < entry->end;) {
		uint64_t n = smd_min_u64(v->window, entry->end - at), i = 0;

		if (copy_read_padded(v->src, other, at, n, err) < 0 ||
		    copy_read_padded(v->dst, buf, at, n, err) < 0)
			return -1;
		while (i < n && buf[i] == other[i])
			i++;
		if (i < n) {
			*ret = at + i;
			return 0;
		}
		at += n;
	}
	return 0;
}

static int
verify_entry(struct verify *v, const struct copy_hash *entry, uint8_t *buf, struct smd_error *err)
{
	struct smd_digest found;
	uint64_t read, offset;

	if (digest_range(v->dst, &v->crew, buf, v->window, entry->offset, entry->end, &found,
			 &read, err) < 0)
		return -1;
	if (found.low != entry->sum.low || found.high != entry->sum.high) {
		if (locate(v, entry, buf, &offset, err) < 0)
			return -1;
		note_difference(v, offset);
	}
	return crew_done(&v->crew, smd_min_u64(read, crew_left(&v->crew)), err);
}

static int
verify_work(struct crew *crew, void *opaque, struct smd_error *err)
{
	struct verify *v = opaque;
	CLEANUP_FREE uint8_t *buf = smd_malloc_pages(v->window);

	/* In the order of the disk: what is begun before a difference is looked at. */
	while (!atomic_load(&crew->stop)) {
		size_t i = atomic_fetch_add(&v->next, 1);

		if (i >= v->hashes->n || v->hashes->list[i].offset > atomic_load(&v->differs))
			break;
		if (verify_entry(v, &v->hashes->list[i], buf, err) < 0)
			return -1;
	}
	return 0;
}

static int
kept_run(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	const struct verify *v = opaque;

	if (run->kind == SMD_EXTENT_PARENT)
		return 0;
	return smd_fail_VDI_COPY_FAILED(err,
			"%s: data of its own at %" PRIu64 ", where the source leaves it to its parent",
			chain_leaf(v->dst)->io->name, run->offset);
}

/* An overlay has nothing but what was copied into it. */
static int
verify_gaps(struct verify *v, struct smd_error *err)
{
	const struct copy_hashes *h = v->hashes;
	uint64_t size = smd_chain_size(v->dst);
	uint64_t at = 0;

	for (size_t i = 0; i <= h->n; i++) {
		uint64_t to = i < h->n ? h->list[i].offset : size;

		if (at < to && chain_extents_of(v->dst, 0, 1, at, to, kept_run, v, err) < 0)
			return -1;
		if (i < h->n)
			at = h->list[i].end;
	}
	return 0;
}

static int
hash_compare(const void *a, const void *b)
{
	uint64_t x = ((const struct copy_hash *)a)->offset;
	uint64_t y = ((const struct copy_hash *)b)->offset;

	return x < y ? -1 : x > y;
}

int
copy_verify(struct smd_chain *src, struct smd_chain *dst, struct copy_hashes *hashes,
	    const struct smd_copy_options *options, uint64_t done, uint64_t total,
	    struct smd_error *err)
{
	struct verify v = {
		.crew = { .options = options, .work = verify_work, .opaque = &v,
			  .done = done, .total = total },
		.src = src, .dst = dst, .hashes = hashes, .differs = UINT64_MAX,
		.window = options->compress ? copy_window(dst) : COPY_WINDOW,
	};

	if (hashes->n > 1)
		qsort(hashes->list, hashes->n, sizeof *hashes->list, hash_compare);
	/* The disk's content is wanted, not the memory's. */
	smd_io_drop_cache(chain_leaf(dst)->io);
	if (crew_run(&v.crew, crew_size(options, total, CREW_WAITS), err) < 0)
		return -1;
	if (v.differs != UINT64_MAX)
		return smd_fail_VDI_COPY_FAILED(err,
				"%s: byte %" PRIu64 " of the disk reads back otherwise than it was "
				"written: its storage, or this host's memory, changes data; the "
				"source is as it was", chain_leaf(dst)->io->name, (uint64_t)v.differs);
	if (options->upper > 0 && dst->n > 1 && verify_gaps(&v, err) < 0)
		return -1;
	if (options->progress && options->progress(options->opaque, total, total))
		return smd_fail_TASK_CANCELLED(err, "", "cancelled at the end");
	return 0;
}
