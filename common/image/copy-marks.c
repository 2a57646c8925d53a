/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How far a copy is. Items end in any order; what lies before the first that has
 * not ended is done. Now and then that position is made a mark: the destination
 * is flushed, its file first while the threads go on, then the module's tables; then the
 * mark is written. Where that takes long they wait for it, as soon as what they have copied
 * since the mark before took a second: no more than that is ever copied again. A run
 * that begins with marks opens what is there and goes on from the last: whatever lies
 * past it, of an earlier run, is written again or made zeroes where it is not.
 */
#include "common/image/copy-impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/image/io.h"
#include "common/mem.h"

#define COPIED_AGAIN_NS INT64_C(1000000000)
#define MARK_EARLY_NS (COPIED_AGAIN_NS / 4)	/* so that nobody has to wait for it */
#define NAP_NS (COPIED_AGAIN_NS / 10)
#define MARKS_A_COPY 64u		/* so many, where a second would be more */
#define MARK_STEP_MIN (512u << 20)	/* less is copied again sooner than it is flushed */
#define RING_MIN 16u

/* ---- Which copy it is ---- */

static void
identity_add(struct smd_chain *chain, char **text)
{
	for (size_t i = 0; i < chain->n; i++) {
		const struct chain_layer *l = &chain->layers[i];
		int fd = smd_io_fd(l->io);
		struct stat st = { 0 };
		char *longer;

		if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)))
			memset(&st, 0, sizeof st);
		longer = smd_asprintf("%s;%s,%" PRIu64 ",%" PRIu64 ",%ju,%jd.%ld", *text,
				      l->format->name, l->info.virtual_size, l->io->size,
				      (uintmax_t)st.st_ino, (intmax_t)st.st_mtim.tv_sec,
				      st.st_mtim.tv_nsec);
		free(*text);
		*text = longer;
	}
}

void
smd_copy_identity(struct smd_chain *src, struct smd_chain *dst,
		  const struct smd_copy_options *options, uint8_t ret[16])
{
	const struct chain_layer *leaf = chain_leaf(dst);
	CLEANUP_FREE char *text = smd_asprintf("%s;%" PRIu64 ",%" PRIu64 ",%zu,%d,%d;%s",
			leaf->format->name, leaf->info.virtual_size, leaf->info.alloc_unit,
			options->upper, options->base != NULL, options->compress,
			options->asked ? options->asked : "");
	size_t len;
	char *all;

	identity_add(src, &text);
	if (options->base)
		identity_add(options->base, &text);
	len = strlen(text);
	all = smd_malloc(len + sizeof leaf->info.uuid);
	memcpy(all, text, len);
	memcpy(all + len, leaf->info.uuid, sizeof leaf->info.uuid);
	smd_digest_bytes(all, len + sizeof leaf->info.uuid, ret);
	free(all);
}

/* ---- What is done ---- */

struct track_item {
	bool done;
	uint64_t end, data;
	struct smd_digest digest;
};

static struct track_item *
ring_at(const struct copy_marks *m, uint64_t seq)
{
	return &m->ring[seq % m->room];
}

static void
ring_grow(struct copy_marks *m)
{
	size_t room = m->room ? 2 * m->room : RING_MIN;
	struct track_item *ring = smd_calloc(room, sizeof *ring);

	for (uint64_t seq = m->first; seq < m->first + m->room; seq++)
		ring[seq % room] = *ring_at(m, seq);
	free(m->ring);
	m->ring = ring;
	m->room = room;
}

void
copy_marks_item(struct copy_marks *m, const struct plan_item *item, const struct smd_digest *digest)
{
	LOCK_SCOPE(&m->lock);
	while (item->seq - m->first >= m->room)
		ring_grow(m);
	*ring_at(m, item->seq) = (struct track_item){
		true, item->offset + item->count, item->data, *digest,
	};
	for (struct track_item *t; (t = ring_at(m, m->first))->done; m->first++) {
		m->at.position = t->end;
		m->at.done += t->data;
		smd_digest_sum(&m->at.digest, &t->digest);
		t->done = false;
	}
	pthread_cond_broadcast(&m->advanced);
}

int
copy_marks_end(struct copy_marks *m, uint64_t size, struct smd_error *err)
{
	pthread_mutex_lock(&m->lock);
	m->at.position = size;
	pthread_mutex_unlock(&m->lock);
	if (smd_chain_flush(m->dst, err) == 0)
		return 0;
	m->broken = true;	/* nobody knows what is on the disk */
	return -1;
}

/* ---- Marking ---- */

static int64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void
set_due(struct copy_marks *m, int64_t limit_ns, uint64_t due_done)
{
	atomic_store(&m->limit_ns, limit_ns);
	atomic_store(&m->due_ns, limit_ns - MARK_EARLY_NS);
	atomic_store(&m->due_done, due_done);
}

/* A mark of what was done at began_ns. What was copied since then counts for the next. */
static void
set_next(struct copy_marks *m, const struct smd_mark *mark, int64_t began_ns)
{
	int64_t now = now_ns(), limit = atomic_load(&m->limit_ns);
	int64_t copied = (now < limit ? now : limit) - began_ns;

	set_due(m, now + COPIED_AGAIN_NS - (copied > 0 ? copied : 0), mark->done + m->step);
}

static int
mark_locked(struct copy_marks *m, struct smd_error *err)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	int64_t began_ns = now_ns();
	struct smd_mark mark;

	pthread_mutex_lock(&m->lock);
	mark = m->at;
	pthread_mutex_unlock(&m->lock);
	if (m->broken || mark.position <= m->last)
		return 0;
	mark.written = m->written_before + atomic_load(m->written);
	if (smd_io_flush(chain_leaf(m->dst)->io, err) < 0 || smd_chain_flush(m->dst, err) < 0) {
		m->broken = true;
		return -1;
	}
	set_next(m, &mark, began_ns);
	/* A copy goes on without marks: one that cannot be made costs time, later. */
	if (smd_marks_add(m->options->marks, m->identity, &mark, &ignored) < 0)
		return 0;
	m->last = mark.position;
	if (m->options->marked)
		m->options->marked(m->options->opaque, mark.done);
	return 0;
}

int
copy_mark(struct copy_marks *m, struct smd_error *err)
{
	int r;

	if (!m->options->marks)
		return 0;
	pthread_mutex_lock(&m->marking);
	r = mark_locked(m, err);
	pthread_mutex_unlock(&m->marking);
	return r;
}

static bool
is_due(struct copy_marks *m)
{
	LOCK_SCOPE(&m->lock);
	return now_ns() >= atomic_load(&m->due_ns) || m->at.done >= atomic_load(&m->due_done);
}

/* Until the first n items have ended, so that a mark says so. Those who are at them do not
 * wait for us. */
static void
wait_for_items(struct copy_marks *m, uint64_t n)
{
	LOCK_SCOPE(&m->lock);
	while (m->first < n && !atomic_load(&m->crew->stop) && !crew_is_paused(m->crew)) {
		struct timespec until = smd_copy_control_until(NAP_NS);

		pthread_cond_timedwait(&m->advanced, &m->lock, &until);
	}
}

int
copy_mark_if_due(struct copy_marks *m, uint64_t n, struct smd_error *err)
{
	bool late;
	int r = 0;

	if (!m->options->marks || !is_due(m))
		return 0;
	late = now_ns() >= atomic_load(&m->limit_ns);
	if (late) {
		wait_for_items(m, n);
		pthread_mutex_lock(&m->marking);
	} else if (pthread_mutex_trylock(&m->marking) != 0) {
		return 0;
	}
	if (is_due(m))	/* somebody else's may have come before */
		r = mark_locked(m, err);
	pthread_mutex_unlock(&m->marking);
	return r;
}

/* ---- Beginning ---- */

static void
resume(struct copy_marks *m)
{
	const struct smd_mark *list;
	size_t n = smd_marks_of(m->options->marks, m->identity, &list);

	if (n == 0)
		return;
	m->resumed = list[n - 1];
	m->last = m->resumed.position;
	m->at = m->resumed;
	m->written_before = m->resumed.written;
}

int
copy_marks_init(struct copy_marks *m, struct smd_chain *src, struct smd_chain *dst,
		const struct smd_copy_options *options, _Atomic uint64_t *written,
		struct smd_error *err)
{
	pthread_condattr_t attr;

	m->dst = dst;
	m->options = options;
	m->written = written;
	pthread_mutex_init(&m->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&m->advanced, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&m->marking, NULL);
	ring_grow(m);
	if (!options->marks)
		return 0;
	smd_copy_identity(src, dst, options, m->identity);
	resume(m);
	if (m->last == 0 && smd_marks_count(options->marks) > 0)
		return smd_marks_reset(options->marks, err);
	return 0;
}

void
copy_marks_begin(struct copy_marks *m, uint64_t total)
{
	m->step = m->options->mark_bytes ? m->options->mark_bytes :
		  smd_max_u64(total / MARKS_A_COPY, MARK_STEP_MIN);
	set_due(m, now_ns() + COPIED_AGAIN_NS,
		m->options->mark_bytes ? m->at.done + m->step : UINT64_MAX);
}

void
copy_marks_done(struct copy_marks *m)
{
	free(m->ring);
	pthread_cond_destroy(&m->advanced);
	pthread_mutex_destroy(&m->lock);
	pthread_mutex_destroy(&m->marking);
}

/* What earlier runs have copied, as ranges with the digest of each. */
void
copy_marks_hashes(const struct copy_marks *m, struct copy_hashes *into)
{
	struct smd_mark before = { 0 };
	const struct smd_mark *list;
	size_t n = smd_marks_of(m->options->marks, m->identity, &list);

	for (size_t i = 0; i < n && list[i].position <= m->resumed.position; i++) {
		struct copy_hash entry = {
			.offset = before.position, .end = list[i].position, .sum = list[i].digest,
		};

		smd_digest_take(&entry.sum, &before.digest);
		if (entry.offset < entry.end)
			copy_hashes_add(into, &entry);
		before = list[i];
	}
}

int
smd_copy_resumable(struct smd_chain *src, struct smd_chain *dst,
		   const struct smd_copy_options *options, const char **ret_why,
		   struct smd_error *err)
{
	struct smd_digest found, expected;
	const struct smd_mark *list;
	uint8_t identity[16];
	uint64_t from;
	size_t n;

	*ret_why = "the marks are of another copy";
	smd_copy_identity(src, dst, options, identity);
	n = smd_marks_of(options->marks, identity, &list);
	if (n == 0 || list[n - 1].position > smd_chain_size(dst))
		return 0;
	if (!list[n - 1].has_digest || list[n - 1].is_change)
		return 1;
	expected = list[n - 1].digest;
	from = n > 1 ? list[n - 2].position : 0;
	if (n > 1)
		smd_digest_take(&expected, &list[n - 2].digest);
	*ret_why = "the destination does not hold what was marked";
	if (smd_digest_chain(dst, from, list[n - 1].position, NULL, &found, err) < 0)
		return -1;
	return found.low == expected.low && found.high == expected.high;
}
