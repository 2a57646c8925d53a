/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/copy-impl.h"

#include <inttypes.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "common/mem.h"

/* ---- Hashing while copying ---- */

struct copy_hasher {
	XXH3_state_t *state;
};

struct copy_hasher *
copy_hasher_new(void)
{
	struct copy_hasher *h = smd_malloc(sizeof *h);

	h->state = XXH3_createState();
	return h;
}

void
copy_hasher_free(struct copy_hasher *h)
{
	if (!h)
		return;
	XXH3_freeState(h->state);
	free(h);
}

void
copy_hasher_begin(struct copy_hasher *h)
{
	XXH3_128bits_reset(h->state);
}

void
copy_hasher_add(struct copy_hasher *h, const void *buf, size_t count)
{
	XXH3_128bits_update(h->state, buf, count);
}

static void
hasher_digest(struct copy_hasher *h, uint64_t ret[2])
{
	XXH128_hash_t hash = XXH3_128bits_digest(h->state);

	ret[0] = hash.low64;
	ret[1] = hash.high64;
}

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

void
copy_hasher_end(struct copy_hasher *h, struct copy_hashes *into, uint64_t offset, uint64_t count)
{
	struct copy_hash entry = { .offset = offset, .count = count };

	hasher_digest(h, entry.hash);
	copy_hashes_add(into, &entry);
}

/* ---- Reading back ---- */

struct verify {
	struct crew crew;
	struct smd_chain *dst;
	struct copy_hashes *hashes;
	bool delta;
	atomic_size_t next;
	uint64_t window;	/* read at a time */
	uint64_t step;		/* of progress for an entry: they cover more than data */
};

static int gap_run(void *opaque, const struct smd_run *run, struct smd_error *err);

static int
verify_entry(struct verify *v, const struct copy_hash *entry, struct copy_hasher *h, uint8_t *buf,
	     struct smd_error *err)
{
	uint64_t end = entry->offset + entry->count;
	uint64_t hash[2];

	if (entry->zero)
		return smd_chain_extents(v->dst, entry->offset, entry->count, gap_run, v, err);
	crew_throttle(&v->crew, entry->count);
	copy_hasher_begin(h);
	for (uint64_t at = entry->offset; at < end;) {
		uint64_t n = smd_min_u64(v->window, end - at);

		if (smd_chain_pread(v->dst, buf, n, at, err) < 0)
			return -1;
		copy_hasher_add(h, buf, n);
		at += n;
	}
	hasher_digest(h, hash);
	if (hash[0] != entry->hash[0] || hash[1] != entry->hash[1])
		return smd_fail_VDI_COPY_FAILED(err,
				"%s: %" PRIu64 " bytes at %" PRIu64 " read back otherwise than written",
				chain_leaf(v->dst)->io->name, entry->count, entry->offset);
	return 0;
}

static int
verify_work(struct crew *crew, void *opaque, struct smd_error *err)
{
	struct verify *v = opaque;
	struct copy_hasher *h = copy_hasher_new();
	CLEANUP_FREE uint8_t *buf = smd_malloc(v->window);
	int r = 0;

	while (r == 0 && !atomic_load(&crew->stop)) {
		size_t i = atomic_fetch_add(&v->next, 1);

		if (i >= v->hashes->n)
			break;
		r = verify_entry(v, &v->hashes->list[i], h, buf, err);
		if (r == 0)
			r = crew_done(crew, v->step, err);
	}
	copy_hasher_free(h);
	return r;
}

static int
gap_run(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct verify *v = opaque;
	CLEANUP_FREE uint8_t *buf = NULL;
	uint64_t end = run->offset + run->count;

	if (run->kind == SMD_EXTENT_ZERO)
		return 0;
	buf = smd_malloc(COPY_WINDOW);
	for (uint64_t at = run->offset; at < end;) {
		uint64_t n = smd_min_u64(COPY_WINDOW, end - at);

		if (run->kind == SMD_EXTENT_DATA) {	/* holes of the store need no reading */
			uint64_t host = run->host_offset + (at - run->offset), data, stop;

			if (smd_io_next_data(run->io, host, end - at, &data, &stop, err) < 0)
				return -1;
			if (data > host) {
				at += data - host;
				continue;
			}
		}
		if (smd_chain_pread(v->dst, buf, n, at, err) < 0)
			return -1;
		if (!copy_is_zero(buf, n))
			return smd_fail_VDI_COPY_FAILED(err,
					"%s: no zeroes at %" PRIu64 ", where the source has them",
					chain_leaf(v->dst)->io->name, at);
		at += n;
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

static int
verify_gap(struct verify *v, uint64_t from, uint64_t to, struct smd_error *err)
{
	if (from >= to)
		return 0;
	if (v->delta)
		return chain_extents_of(v->dst, 0, 1, from, to, kept_run, v, err);
	return smd_chain_extents(v->dst, from, to - from, gap_run, v, err);
}

static int
hash_compare(const void *a, const void *b)
{
	uint64_t x = ((const struct copy_hash *)a)->offset;
	uint64_t y = ((const struct copy_hash *)b)->offset;

	return x < y ? -1 : x > y;
}

static int
verify_gaps(struct verify *v, struct smd_error *err)
{
	const struct copy_hashes *h = v->hashes;
	uint64_t size = smd_chain_size(v->dst);
	uint64_t at = 0;

	for (size_t i = 0; i <= h->n; i++) {
		uint64_t to = i < h->n ? h->list[i].offset : size;

		if (verify_gap(v, at, to, err) < 0)
			return -1;
		if (i < h->n)
			at = h->list[i].offset + h->list[i].count;
	}
	return 0;
}

int
copy_verify(struct smd_chain *dst, struct copy_hashes *hashes,
	    const struct smd_copy_options *options, uint64_t done, uint64_t total,
	    struct smd_error *err)
{
	struct verify v = {
		.crew = { .options = options, .work = verify_work, .opaque = &v,
			  .done = done, .total = total },
		.dst = dst, .hashes = hashes, .delta = options->upper > 0 && dst->n > 1,
		.window = options->compress ? copy_window(dst) : COPY_WINDOW,
		.step = hashes->n ? (total - done) / hashes->n : 0,
	};

	if (hashes->n > 1)
		qsort(hashes->list, hashes->n, sizeof *hashes->list, hash_compare);
	/* Between the items of a difference dst has what it had. */
	if (crew_run(&v.crew, crew_size(options, total), err) < 0 ||
	    (!options->base && verify_gaps(&v, err) < 0))
		return -1;
	if (options->progress && options->progress(options->opaque, total, total))
		return smd_fail_TASK_CANCELLED(err, "", "cancelled at the end");
	return 0;
}
