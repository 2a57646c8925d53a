/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * image-power-cut [--seed N] [--ops N] [--long-names] [--leaf FILE] LAYER...
 *
 * Random writes, zeroes, flushes and resizes of a chain's leaf, other names for
 * its parent, the hidden mark, internal snapshots; then a copy of the disk, with
 * marks, into a fresh image of the leaf's kind, and of the leaf into one over the same
 * parents, over stores that record. At each record the
 * power fails: what was flushed stays, of the rest all, nothing, or some 512-byte
 * pieces. The chain must open, repaired if it asks for that, without corruption;
 * every sector shows what it held at the last flush or was given after it, and so
 * do the parent's name, the mark and the snapshot; a copy is gone on with from the
 * marks that a cut leaves, and gets to its end. At last the leaf is merged with
 * its parent, either way: wherever that is cut off the disk stays what it is, and
 * the merge can be done again. FILE: the leaf as another
 * program has made it, over a parent named "parent".
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/checked.h"
#include "common/image/copy.h"
#include "common/image/io-test.h"
#include "common/image/merge.h"
#include "common/mem.h"
#include "tests/image-case.h"

#define RW (SMD_IO_WRITABLE | SMD_IO_CAN_GROW)
#define N_SUBSETS 4
#define WRITE_MAX (128u << 10)

/* A step of the script, and what there is after it. */
struct step {
	size_t begun;		/* records there were when it began */
	uint64_t size;
	uint8_t *tags;		/* what the sectors hold, a byte each */
	unsigned name;		/* of the parent */
	bool hidden;
	size_t snapshot;	/* the step whose disk it has; 0: none is there */
};

/* The marks' store, as it grows: a mark may be there once its write has begun, and is when
 * its flush has ended. In records of the copy's. */
struct marks_store {
	struct smd_io *io;
	struct smd_io_ops ops;
	const struct smd_io_ops *below;
	struct { size_t begun, durable; } *times;
	size_t n;
};

struct script;
typedef void judge_fn(struct script *s, struct smd_io *store, size_t now);

struct script {
	struct image_spec specs[IMAGE_LAYERS_MAX];
	struct smd_io *stores[IMAGE_LAYERS_MAX];	/* base first; memory */
	size_t n;
	struct smd_io *recorder;	/* over the leaf's */
	struct smd_chain *chain;
	struct image_random random;
	uint64_t room;			/* bytes a disk may grow to */
	const char *leaf;		/* its file; NULL: it is made here */
	bool long_names;		/* the header has room for them */
	struct step *steps;
	size_t n_steps;
	struct { size_t record, step; } *flushes;
	size_t n_flushes;
	judge_fn *judge;
	const struct script *from;	/* a copy: what is copied */
	struct marks_store marks;
	size_t written;			/* a merge: the layer under the recorder */
	size_t reparented;		/* and the records there were before the leaf's parent went */
};

static struct smd_io *
copy_of(struct smd_io *store)
{
	struct smd_bytes_view v = smd_io_memory_bytes(store);

	return smd_io_memory(v.data, v.len, "cut", RW);
}

/* ---- The script ---- */

/* A chain of the first n layers (from the base on); one of their stores is given, and
 * taken over. Layer `without` is left out. */
static struct smd_chain *
open_layers(const struct script *s, size_t n, size_t given, struct smd_io *store, size_t without,
	    uint32_t flags, struct smd_error *err)
{
	struct smd_layer layers[IMAGE_LAYERS_MAX] = { 0 };
	struct smd_chain *chain = NULL;
	size_t n_layers = 0;

	for (size_t i = n; i-- > 0;) {
		if (i == without)
			continue;
		layers[n_layers].format = s->specs[i].format;
		layers[n_layers++].io = i == given ? store : copy_of(s->stores[i]);
	}
	if (smd_chain_open(layers, n_layers, flags, &chain, err) == 0)
		return chain;
	for (size_t i = 0; i < n_layers; i++) {
		if (layers[i].io != store)
			smd_io_close(layers[i].io);
	}
	return NULL;
}

#define NONE SIZE_MAX

/* All its layers, with the leaf's store. */
static struct smd_chain *
open_over(const struct script *s, size_t n, struct smd_io *leaf, uint32_t flags,
	  struct smd_error *err)
{
	return open_layers(s, n, n - 1, leaf, NONE, flags, err);
}

static size_t
n_records(const struct script *s)
{
	size_t n = 0;

	smd_io_test_records(s->recorder, &n);
	return n;
}

static struct step *
step_begin(struct script *s)
{
	uint64_t sectors = s->room / SMD_SECTOR;
	struct step *step;

	s->steps = smd_reallocarray(s->steps, s->n_steps + 1, sizeof *s->steps);
	step = &s->steps[s->n_steps++];
	*step = (struct step){ .begun = n_records(s), .size = smd_chain_size(s->chain) };
	step->tags = smd_calloc(1, sectors);
	if (s->n_steps > 1) {
		memcpy(step->tags, step[-1].tags, sectors);
		step->name = step[-1].name;
		step->hidden = step[-1].hidden;
		step->snapshot = step[-1].snapshot;
	}
	return step;
}

static void
flushed(struct script *s)
{
	s->flushes = smd_reallocarray(s->flushes, s->n_flushes + 1, sizeof *s->flushes);
	s->flushes[s->n_flushes].record = n_records(s);
	s->flushes[s->n_flushes++].step = s->n_steps - 1;
}

static void
change(struct script *s, struct step *step, bool zero, struct smd_error *err)
{
	static uint8_t buf[WRITE_MAX];
	uint64_t sectors = step->size / SMD_SECTOR;
	uint64_t first = image_below(&s->random, sectors);
	uint64_t n = 1 + image_below(&s->random, image_below(&s->random, 3) ? 20 : 256);
	uint8_t tag = zero ? 0 : (uint8_t)(1 + s->n_steps % 200);
	int rc;

	n = smd_min_u64(n, sectors - first);
	memset(step->tags + first, tag, n);
	memset(buf, tag, n * SMD_SECTOR);
	rc = zero ? smd_chain_zero(s->chain, first * SMD_SECTOR, n * SMD_SECTOR,
				   image_below(&s->random, 2), err)
		  : smd_chain_pwrite(s->chain, buf, n * SMD_SECTOR, first * SMD_SECTOR, err);
	if (rc != 0)
		image_die(err, "step %zu", s->n_steps);
}

static void
resize(struct script *s, struct step *step, struct smd_error *err)
{
	uint64_t change = (1 + image_below(&s->random, 128)) * SMD_SECTOR;
	bool shrink = s->n == 1 && !step->snapshot && step->size > s->room / 2 &&
		      image_below(&s->random, 2);

	if (!shrink && step->size + change > s->room)
		return;
	step->size = shrink ? step->size - change : step->size + change;
	if (smd_chain_resize(s->chain, step->size, shrink, err) == 0) {
		memset(step->tags + step->size / SMD_SECTOR, 0,
		       (s->room - step->size) / SMD_SECTOR);
		flushed(s);
		return;
	}
	if (s->n == 1 || !smd_error_is(err, SMD_E_IMAGE_UNSUPPORTED))
		image_die(err, "resize");
	step->size = smd_chain_size(s->chain);	/* it cannot hide its parent */
}

/* Names of very different lengths. */
static void
parent_name(const struct script *s, unsigned n, char buf[SMD_NAME_MAX])
{
	size_t len = n % 4 == 0 ? 1 : (s->long_names ? 330 : 75) * (n % 4) + n % 7;

	memset(buf, 'a' + (int)(n % 26), len);
	buf[len] = '\0';
}

/* Something about the image, not its disk. */
static void
rewrite_header(struct script *s, struct step *step, struct smd_error *err)
{
	const struct smd_format *f = smd_chain_format(s->chain, 0);
	const struct smd_image_info *info = smd_chain_info(s->chain, 0);
	void *img = smd_chain_image(s->chain, 0);
	char name[SMD_NAME_MAX];

	if (s->n > 1 && image_below(&s->random, 2)) {
		parent_name(s, ++step->name, name);
		if (f->set_parent(img, name, info->parent_format, info->parent_uuid, err) != 0)
			image_die(err, "set_parent");
		flushed(s);
	} else if (f->caps & SMD_CAP_HIDDEN) {
		step->hidden = !step->hidden;
		if (f->set_hidden(img, step->hidden, err) != 0)
			image_die(err, "set_hidden");
	}
}

/* It comes, is gone back to, and goes. */
static void
snapshot(struct script *s, struct step *step, struct smd_error *err)
{
	const struct smd_format *f = smd_chain_format(s->chain, 0);
	void *img = smd_chain_image(s->chain, 0);
	int rc;

	if (!(f->caps & SMD_CAP_SNAPSHOTS))
		return;
	if (!step->snapshot) {
		char name[24];

		step->snapshot = s->n_steps - 1;
		snprintf(name, sizeof name, "step %zu", step->snapshot);
		rc = f->snapshot_create(img, name, 1, err);
	} else if (s->steps[step->snapshot].size == step->size && image_below(&s->random, 2)) {
		rc = f->snapshot_apply(img, "1", err);
		memcpy(step->tags, s->steps[step->snapshot].tags, s->room / SMD_SECTOR);
	} else {
		rc = f->snapshot_delete(img, "1", err);
		step->snapshot = 0;
	}
	if (rc == 0)
		flushed(s);
	else if (smd_error_is(err, SMD_E_IMAGE_UNSUPPORTED))
		step->snapshot = step[-1].snapshot;	/* its refcounts are too narrow */
	else
		image_die(err, "snapshot");
}

static void
run_step(struct script *s)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct step *step = step_begin(s);
	uint64_t kind = image_below(&s->random, 24);

	if (kind < 10) {
		change(s, step, false, &err);
	} else if (kind < 14) {
		change(s, step, true, &err);
	} else if (kind < 16) {
		resize(s, step, &err);
	} else if (kind < 18) {
		rewrite_header(s, step, &err);
	} else if (kind < 20) {
		snapshot(s, step, &err);
	} else {
		if (smd_chain_flush(s->chain, &err) != 0)
			image_die(&err, "flush");
		flushed(s);
	}
}

/* ---- Cutting ---- */

/* A record on the store, as whole or in pieces as the cut leaves it. */
static void
apply(struct script *s, const struct smd_test_record *r, struct smd_io *onto, int subset)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_test_record piece = *r;

	if (subset == 1 || (subset == 2 && image_below(&s->random, 2)))
		return;
	if (subset != 3 || r->op != SMD_TEST_PWRITE) {
		if (smd_test_replay(r, onto, &err) != 0)
			image_die(&err, "replay");
		return;
	}
	for (uint64_t at = 0; at < r->count; at += piece.count) {
		piece.count = smd_min_u64(SMD_SECTOR - (r->offset + at) % SMD_SECTOR, r->count - at);
		piece.offset = r->offset + at;
		piece.data = r->data + at;
		if (image_below(&s->random, 2) && smd_test_replay(&piece, onto, &err) != 0)
			image_die(&err, "replay");
	}
}

struct findings {
	unsigned corruptions;
	char text[200];
};

static void
found(void *opaque, const struct smd_finding *f)
{
	struct findings *all = opaque;

	if (f->kind == SMD_FINDING_CORRUPTION && !f->repaired && all->corruptions++ == 0)
		snprintf(all->text, sizeof all->text, "%s", f->text);
}

static void
check(const struct smd_format *f, struct smd_io *io, uint32_t repair, size_t now)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct findings all = { 0 };
	struct smd_check result;

	if (!(f->caps & SMD_CAP_CHECK))
		return;
	if (f->check(io, repair, found, &all, &result, &err) != 0)
		image_die(&err, "cut after %zu: check", now);
	if (all.corruptions)
		image_die(NULL, "cut after %zu: the check finds %s", now, all.text);
}

static bool
allowed(const struct script *s, size_t from, size_t to, uint64_t sector, uint8_t tag)
{
	for (size_t i = from; i <= to; i++) {
		if (s->steps[i].tags[sector] == tag)
			return true;
	}
	return false;
}

static void
verify_sectors(const struct script *s, struct smd_chain *chain, size_t from, size_t to,
	       size_t now)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint64_t size = smd_chain_size(chain);
	CLEANUP_FREE uint8_t *disk = smd_malloc(size);
	bool size_ok = false;

	for (size_t i = from; i <= to; i++)
		size_ok = size_ok || s->steps[i].size == size;
	if (!size_ok)
		image_die(NULL, "cut after %zu: size %" PRIu64, now, size);
	if (smd_chain_pread(chain, disk, size, 0, &err) != 0)
		image_die(&err, "cut after %zu: read", now);
	for (uint64_t at = 0; at < size; at += SMD_SECTOR) {
		if (memcmp(disk + at, disk + at + 1, SMD_SECTOR - 1) != 0 ||
		    !allowed(s, from, to, at / SMD_SECTOR, disk[at]))
			image_die(NULL, "cut after %zu: sector %" PRIu64 " holds %u, steps %zu to %zu "
				  "of %zu", now, at / SMD_SECTOR, disk[at], from, to, s->n_steps);
	}
}

/* What is told about the image is one step's, between from and to, for each thing. */
static void
verify_header(const struct script *s, struct smd_chain *chain, size_t from, size_t to, size_t now)
{
	const struct smd_image_info *info = smd_chain_info(chain, 0);
	bool name_ok = s->n == 1, hidden_ok = false;

	for (size_t i = from; i <= to; i++) {
		const struct step *step = &s->steps[i];
		char name[SMD_NAME_MAX] = "parent";

		if (step->name)
			parent_name(s, step->name, name);
		name_ok = name_ok || strcmp(name, info->parent_name) == 0;
		hidden_ok = hidden_ok || step->hidden == !!(info->flags & SMD_INFO_HIDDEN);
	}
	if (!name_ok)
		image_die(NULL, "cut after %zu: the parent is %s, steps %zu to %zu", now,
			  info->parent_name, from, to);
	if (!hidden_ok)
		image_die(NULL, "cut after %zu: hidden is wrong, steps %zu to %zu", now, from, to);
}

static int
snapshot_step(void *opaque, const struct smd_snapshot *snapshot, struct smd_error *err)
{
	(void)err;
	sscanf(snapshot->name, "step %zu", (size_t *)opaque);
	return 0;
}

static void
verify_snapshot(const struct script *s, struct smd_chain *chain, size_t from, size_t to,
		size_t now)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_format *f = smd_chain_format(chain, 0);
	size_t step = 0, expected = from;
	struct script then = *s;

	if (!(f->caps & SMD_CAP_SNAPSHOTS))
		return;
	if (f->snapshot_list(smd_chain_image(chain, 0), snapshot_step, &step, &err) != 0)
		image_die(&err, "cut after %zu: snapshots", now);
	while (expected <= to && s->steps[expected].snapshot != step)
		expected++;
	if (expected > to)
		image_die(NULL, "cut after %zu: snapshot of step %zu, steps %zu to %zu", now, step,
			  from, to);
	if (step == 0)
		return;
	if (f->snapshot_apply(smd_chain_image(chain, 0), "1", &err) != 0)
		image_die(&err, "cut after %zu: snapshot", now);
	chain = open_over(&then, s->n, copy_of(smd_chain_io(chain, 0)), 0, &err);
	if (!chain)
		image_die(&err, "cut after %zu: open after going back to the snapshot", now);
	verify_sectors(s, chain, step, step, now);
	check(f, smd_chain_io(chain, 0), SMD_REPAIR_NONE, now);
	smd_chain_close(chain);
}

/* Open what the cut left, repair where that is asked for, compare, write. */
static void
verify(struct script *s, struct smd_io *store, size_t now)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_format *f = s->specs[s->n - 1].format;
	struct smd_chain *chain;
	size_t from = 0, to = 0;

	for (size_t i = 0; i < s->n_flushes && s->flushes[i].record <= now; i++)
		from = s->flushes[i].step;
	for (size_t i = 0; i < s->n_steps && s->steps[i].begun <= now; i++)
		to = i;
	check(f, store, SMD_REPAIR_NONE, now);
	chain = open_over(s, s->n, store, SMD_CHAIN_WRITE, &err);
	if (!chain) {
		check(f, store, SMD_REPAIR_ALL, now);
		smd_error_clear(&err);
		chain = open_over(s, s->n, store, SMD_CHAIN_WRITE, &err);
	}
	if (!chain)
		image_die(&err, "cut after %zu: open", now);
	verify_sectors(s, chain, from, to, now);
	verify_header(s, chain, from, to, now);
	if (smd_chain_pwrite(chain, "again", 5, smd_chain_size(chain) / 2, &err) != 0 ||
	    smd_chain_flush(chain, &err) != 0)
		image_die(&err, "cut after %zu: write", now);
	verify_snapshot(s, chain, from, to, now);
	smd_chain_close(chain);
}

/* stable has everything before the last flush; pending begins after it. */
static void
cut_everywhere(struct script *s, struct smd_io *stable)
{
	size_t n, pending = 0;
	const struct smd_test_record *records = smd_io_test_records(s->recorder, &n);

	for (size_t now = 0; now <= n; now++) {
		for (int subset = 0; subset < N_SUBSETS; subset++) {
			struct smd_io *store = copy_of(stable);

			for (size_t i = pending; i < now; i++)
				apply(s, &records[i], store, subset);
			s->judge(s, store, now);
			if (pending == now)
				break;
		}
		if (now == n || records[now].op != SMD_TEST_FLUSH)
			continue;
		for (; pending <= now; pending++)
			apply(s, &records[pending], stable, 0);
	}
}

/* ---- Runs ---- */

static struct smd_io *
file_bytes(const char *path)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *bytes = NULL;
	struct smd_io *io, *memory;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || smd_io_file(fd, path, 0, &io, &err) != 0)
		image_die(&err, "%s", path);
	bytes = smd_malloc(io->size);
	if (smd_io_pread(io, bytes, io->size, 0, &err) != 0)
		image_die(&err, "%s", path);
	memory = smd_io_memory(bytes, io->size, "layer", RW);
	smd_io_close(io);
	return memory;
}

/* Every layer but the leaf has content of its own; all are durable. */
static void
make_layer(struct script *s, size_t i, const char *leaf)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *parent = s->chain;

	s->stores[i] = leaf ? file_bytes(leaf) : smd_io_memory(NULL, 0, "layer", RW);
	if (!leaf && image_create(&s->specs[i], s->stores[i], parent, "parent", &err) != 0)
		image_die(&err, "create");
	smd_chain_close(parent);
	s->n = i + 1;
}

static void
open_recorded(struct script *s)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	s->recorder = smd_io_test(s->stores[s->n - 1]);
	smd_io_test_record(s->recorder);
	s->chain = open_over(s, s->n, s->recorder, SMD_CHAIN_WRITE, &err);
	if (!s->chain)
		image_die(&err, "open");
}

static void
first_step(struct script *s)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint64_t size = smd_chain_size(s->chain);
	CLEANUP_FREE uint8_t *disk = smd_malloc(size);
	struct step *step;

	for (size_t i = 0; i < s->n_steps; i++)
		free(s->steps[i].tags);
	s->n_steps = s->n_flushes = 0;
	step = step_begin(s);
	if (smd_chain_pread(s->chain, disk, size, 0, &err) != 0)
		image_die(&err, "read");
	for (uint64_t at = 0; at < size; at += SMD_SECTOR)
		step->tags[at / SMD_SECTOR] = disk[at];
}

static void
fill_layer(struct script *s)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	open_recorded(s);
	first_step(s);
	for (int i = 0; i < 12; i++)
		change(s, step_begin(s), i % 4 == 3, &err);
	if (smd_chain_flush(s->chain, &err) != 0)
		image_die(&err, "flush");
	smd_chain_close(s->chain);
	s->chain = open_over(s, s->n, copy_of(s->stores[s->n - 1]), 0, &err);
}

static void
script_done(struct script *s)
{
	smd_chain_close(s->chain);
	for (size_t i = 0; i < s->n; i++)
		smd_io_close(s->stores[i]);
	for (size_t i = 0; i < s->n_steps; i++)
		free(s->steps[i].tags);
	free(s->steps);
	free(s->flushes);
}

/* The disk that the last step left. */
static void
expect_disk(const struct script *s, struct smd_chain *chain, const char *what, size_t now)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct step *step = &s->steps[s->n_steps - 1];
	CLEANUP_FREE uint8_t *disk = smd_malloc(step->size);

	if (smd_chain_size(chain) != step->size)
		image_die(NULL, "cut after %zu: %s has %" PRIu64 " bytes", now, what,
			  smd_chain_size(chain));
	if (smd_chain_pread(chain, disk, step->size, 0, &err) != 0)
		image_die(&err, "cut after %zu: read %s", now, what);
	for (uint64_t at = 0; at < step->size; at++) {
		if (disk[at] != step->tags[at / SMD_SECTOR])
			image_die(NULL, "cut after %zu: %s holds %u at %" PRIu64 ", not %u", now,
				  what, disk[at], at, step->tags[at / SMD_SECTOR]);
	}
}

/* ---- Copies, with marks ---- */

static struct script *copying;	/* whose marks are made */

static int
marks_pwrite(struct smd_io *io, const void *buf, size_t count, uint64_t offset,
	     struct smd_error *err)
{
	struct marks_store *m = &copying->marks;

	m->times = smd_reallocarray(m->times, m->n + 1, sizeof *m->times);
	m->times[m->n].begun = n_records(copying);
	m->times[m->n++].durable = NONE;
	return m->below->pwrite(io, buf, count, offset, err);
}

static int
marks_flush(struct smd_io *io, struct smd_error *err)
{
	struct marks_store *m = &copying->marks;

	if (m->n > 0)
		m->times[m->n - 1].durable = n_records(copying);
	return m->below->flush(io, err);
}

static void
marks_store_open(struct script *s)
{
	struct marks_store *m = &s->marks;

	m->io = smd_io_memory(NULL, 0, "marks", RW);
	m->below = m->io->ops;
	m->ops = *m->below;
	m->ops.pwrite = marks_pwrite;
	m->ops.flush = marks_flush;
	m->io->ops = &m->ops;
	copying = s;
}

/* What a cut leaves of it; the last record whole, torn, or not at all. */
static struct smd_io *
marks_cut(struct script *s, size_t now)
{
	const struct marks_store *m = &s->marks;
	struct smd_bytes_view all = smd_io_memory_bytes(m->io);
	size_t size = m->n ? all.len / m->n : 0, n = 0, torn = 0;

	while (n < m->n && m->times[n].durable <= now)
		n++;
	if (n < m->n && m->times[n].begun <= now)
		torn = image_below(&s->random, 2) ? size : image_below(&s->random, size);
	return smd_io_memory(all.data, n * size + torn, "marks", RW);
}

static struct smd_copy_options
copy_options(const struct script *s, struct smd_marks *marks)
{
	return (struct smd_copy_options){
		.n_threads = 2, .target_is_zero = s->n == 1, .upper = s->n > 1,
		.marks = marks, .mark_bytes = 40 << 10, .verify = true,
	};
}

/* The copy is begun again and gets to its end. What was marked is not copied again. */
static void
resume_copy(struct script *s, struct smd_io *store, size_t now)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_format *f = s->specs[s->n - 1].format;
	CLEANUP_IO struct smd_io *io = marks_cut(s, now);
	CLEANUP_MARKS struct smd_marks *marks = NULL;
	struct smd_copy_options options;
	struct smd_copy_stats stats;
	struct smd_chain *to;
	const char *why;
	size_t n;

	check(f, store, SMD_REPAIR_ALL, now);
	to = open_over(s, s->n, store, SMD_CHAIN_WRITE, &err);
	if (!to || smd_marks_open(io, &marks, &err) != 0)
		image_die(&err, "cut after %zu: open to go on", now);
	options = copy_options(s, marks);
	n = smd_marks_count(marks);
	if (n == 0)
		options.target_is_zero = false;
	else if (smd_copy_resumable(s->from->chain, to, &options, &why, &err) != 1)
		image_die(&err, "cut after %zu: %zu marks, and %s", now, n, why);
	if (smd_copy(s->from->chain, to, &options, &stats, &err) != 0)
		image_die(&err, "cut after %zu: going on", now);
	if ((n > 0) != (stats.resumed_at > 0))
		image_die(NULL, "cut after %zu: %zu marks, and on from %" PRIu64, now, n,
			  stats.resumed_at);
	expect_disk(s, to, "the copy gone on with", now);
	check(f, smd_chain_io(to, 0), SMD_REPAIR_NONE, now);
	smd_chain_close(to);
}

static void
judge_copy(struct script *s, struct smd_io *store, size_t now)
{
	struct smd_io *again = image_below(&s->random, 3) ? NULL : copy_of(store);

	verify(s, store, now);
	if (again)
		resume_copy(s, again, now);
}

/* The disk into a fresh image with no parent, or over copies of the parents: nothing but
 * what was there and what the source has may show, and all of it once the copy has
 * returned, or was gone on with. */
static void
copy_cut(const struct script *from, bool delta)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_MARKS struct smd_marks *marks = NULL;
	CLEANUP_IO struct smd_io *stable = NULL;
	struct script s = { .room = from->room, .random = from->random, .judge = judge_copy,
			    .from = from };
	struct smd_copy_options options;
	struct step *step;

	s.n = delta ? from->n - 1 : 0;
	for (size_t i = 0; i < s.n; i++) {
		s.specs[i] = from->specs[i];
		s.stores[i] = copy_of(from->stores[i]);
	}
	if (delta)
		s.chain = open_over(&s, s.n, copy_of(s.stores[s.n - 1]), 0, &err);
	s.specs[s.n] = from->specs[from->n - 1];
	s.specs[s.n].size = smd_chain_size(from->chain);
	make_layer(&s, s.n, NULL);
	stable = copy_of(s.stores[s.n - 1]);
	open_recorded(&s);
	first_step(&s);
	step = step_begin(&s);
	memcpy(step->tags, from->steps[from->n_steps - 1].tags, s.room / SMD_SECTOR);
	marks_store_open(&s);
	if (smd_marks_open(s.marks.io, &marks, &err) != 0)
		image_die(&err, "marks");
	options = copy_options(&s, marks);
	if (smd_copy(from->chain, s.chain, &options, NULL, &err) != 0)
		image_die(&err, "copy");
	flushed(&s);
	cut_everywhere(&s, stable);
	s.marks.io->ops = s.marks.below;
	smd_io_close(s.marks.io);
	free(s.marks.times);
	script_done(&s);
}

/* ---- Merges ---- */

static int
merge(const struct script *s, struct smd_io *store, struct smd_error *err)
{
	const struct smd_copy_options options = { .n_threads = 2 };
	size_t n = s->written + 1;
	struct smd_chain *to = open_layers(s, n, s->written, store, NONE, SMD_CHAIN_WRITE, err);
	CLEANUP_CHAIN struct smd_chain *child = NULL;
	int r;

	if (!to)
		return -1;
	if (n == s->n) {
		r = smd_merge_into_child(to, &options, NULL, err);
	} else {
		child = open_layers(s, s->n, NONE, NULL, NONE, 0, err);
		r = child ? smd_merge_into_parent(child, to, &options, NULL, err) : -1;
		if (r == 0)
			expect_disk(s, to, "the parent", 0);
	}
	smd_chain_close(to);
	return r;
}

/* The leaf names its grandparent, or nobody. */
static void
leave_parent(const struct script *s, struct smd_io *store)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_format *f = s->specs[s->n - 1].format;
	struct smd_chain *below = NULL;
	uint8_t uuid[16] = { 0 };
	char name[24];
	void *img;

	if (s->n > 2) {
		below = open_layers(s, s->n - 2, NONE, NULL, NONE, 0, &err);
		if (!below)
			image_die(&err, "the grandparent");
		memcpy(uuid, smd_chain_info(below, 0)->uuid, sizeof uuid);
		snprintf(name, sizeof name, "%zu", s->n - 3);
	}
	if (f->open(store, SMD_OPEN_WRITE, &img, &err) != 0 ||
	    f->set_parent(img, below ? name : NULL, below ? s->specs[s->n - 3].format->name : NULL,
			  uuid, &err) != 0 || f->flush(img, &err) != 0)
		image_die(&err, "set_parent");
	f->close(img);
	smd_chain_close(below);
}

/* Open the leaf over what it names. */
static struct smd_chain *
open_merged(const struct script *s, struct smd_io *store, size_t now)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *chain = open_layers(s, s->n, s->written, store, NONE, 0, &err);

	if (!chain && s->written == s->n - 1 && now > s->reparented) {
		smd_error_clear(&err);
		chain = open_layers(s, s->n, s->written, store, s->n - 2, 0, &err);
	}
	if (!chain)
		image_die(&err, "cut after %zu: open", now);
	return chain;
}

/* The disk is what it was; the image that was written has no damage; now and then, the
 * merge begins again and gets to its end. */
static void
judge_merge(struct script *s, struct smd_io *store, size_t now)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_format *f = s->specs[s->written].format;
	CLEANUP_IO struct smd_io *again = copy_of(store);
	struct smd_chain *chain;

	check(f, store, SMD_REPAIR_NONE, now);
	chain = open_merged(s, store, now);
	expect_disk(s, chain, "the leaf", now);
	smd_chain_close(chain);
	if (now > s->reparented || image_below(&s->random, 8))
		return;
	check(f, again, SMD_REPAIR_ALL, now);
	if (merge(s, copy_of(again), &err) != 0)
		image_die(&err, "cut after %zu: merging again", now);
}

/* The leaf's own extents into its parent, or what it shows of it into the leaf. */
static void
merge_cut(const struct script *from, bool into_parent)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct script s = *from;
	CLEANUP_IO struct smd_io *stable = NULL;
	CLEANUP_IO struct smd_io *store = NULL;
	CLEANUP_IO struct smd_io *recorder = NULL;

	if (s.n < 2)
		return;
	if (smd_chain_flush(from->chain, &err) != 0)
		image_die(&err, "flush");
	s.written = into_parent ? s.n - 2 : s.n - 1;
	s.judge = judge_merge;
	s.reparented = NONE;
	stable = copy_of(s.stores[s.written]);
	store = copy_of(stable);
	s.recorder = recorder = smd_io_test(store);
	smd_io_test_record(recorder);
	/* The chain closes its store; the records are wanted after that. */
	if (merge(&s, smd_io_test(recorder), &err) != 0) {
		/* A smaller child, or one that its parent could not grow under. */
		if (!into_parent || !smd_error_is(&err, SMD_E_IMAGE_UNSUPPORTED))
			image_die(&err, "merge");
		return;
	}
	if (!into_parent) {
		s.reparented = n_records(&s);
		leave_parent(&s, recorder);
	}
	cut_everywhere(&s, stable);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ops", required_argument, NULL, 'o' },
		{ "seed", required_argument, NULL, 's' },
		{ "leaf", required_argument, NULL, 'L' },
		{ "long-names", no_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	struct script s = { .random = { 1 }, .judge = verify };
	unsigned long n_ops = 60;
	struct smd_io *stable;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'o')
			n_ops = strtoul(optarg, NULL, 10);
		else if (c == 's')
			s.random.state = strtoull(optarg, NULL, 10);
		else if (c == 'L')
			s.leaf = optarg;
		else if (c == 'l')
			s.long_names = true;
		else
			image_die(NULL, "usage: see image-power-cut.c");
	}
	image_modules();
	if (optind >= argc || argc - optind > IMAGE_LAYERS_MAX)
		image_die(NULL, "usage: see image-power-cut.c");
	for (int i = optind; i < argc; i++) {
		image_spec_parse(argv[i], &s.specs[i - optind]);
		s.room = smd_max_u64(s.room, s.specs[i - optind].size + (256 << 10));
	}
	for (int i = optind; i < argc; i++) {
		make_layer(&s, (size_t)(i - optind), i + 1 < argc ? NULL : s.leaf);
		if (i + 1 < argc)
			fill_layer(&s);
	}
	stable = copy_of(s.stores[s.n - 1]);
	open_recorded(&s);
	first_step(&s);
	for (unsigned long i = 0; i < n_ops; i++)
		run_step(&s);
	cut_everywhere(&s, stable);
	copy_cut(&s, false);
	if (s.n > 1)
		copy_cut(&s, true);
	merge_cut(&s, true);
	merge_cut(&s, false);
	for (size_t i = 0; i < s.n; i++)
		smd_options_free(&s.specs[i].options);
	script_done(&s);
	smd_io_close(stable);
	return 0;
}
