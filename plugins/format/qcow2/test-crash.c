/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Power cuts and failing stores. A script of writes, zeroes, resizes and
 * snapshots runs once over a recording; then every prefix of what reached the
 * store, with any part of what was not flushed yet missing, must be an image
 * that opens, whose check finds leaks at worst, where all that a flush
 * acknowledged is there and nothing but what was once written shows.
 */
#include "plugins/format/qcow2/test-image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"

#define SECTORS 640u

/* What each sector held after each step of the script. */
struct history {
	uint8_t values[200][SECTORS];
	uint8_t others[200][SECTORS];	/* what a step that failed may have left instead */
	size_t n;		/* steps */
	struct {
		size_t record;	/* records there were … */
		size_t step;	/* … and steps done, at this flush */
	} flushes[200];
	size_t n_flushes;
	size_t begun[200];	/* records there were when a step began */
};

struct variant {
	const char *name;
	const char *options[5];
	uint64_t unit;
	bool snapshots;
	bool encode;		/* some writes are compressed */
};

static const struct variant variants[] = {
	{ "512", { "cluster_size=512" }, 512, false, false },
	{ "4k", { "cluster_size=4096", "refcount_bits=1" }, 4096, false, false },
	{ "v2", { "compat=0.10", "cluster_size=512" }, 512, false, false },
	{ "extended", { "extended_l2=on", "cluster_size=16384" }, 512, false, false },
	{ "snapshots", { "cluster_size=1024" }, 1024, true, false },
	{ "zlib", { "cluster_size=4096", "refcount_bits=4" }, 4096, false, true },
	{ "zstd", { "cluster_size=1024", "compression_type=zstd" }, 1024, true, true },
};

/* The script's own random numbers: the same in every run. */
static uint32_t
next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* One step: 0 done, -1 failed. value gets what the sectors then hold. */
static int
do_step(void *img, struct smd_io *io, const struct variant *v, uint32_t *seed, unsigned step,
	uint8_t *value, bool *ret_flush, struct smd_error *err)
{
	uint32_t kind = next_random(seed) % 10, per_unit = (uint32_t)(v->unit / SMD_SECTOR);
	uint32_t n_units = SECTORS / per_unit;
	uint32_t first = next_random(seed) % n_units * per_unit;
	uint32_t count = (1 + next_random(seed) % 12) * per_unit;
	uint8_t fill = (uint8_t)(1 + step % 250);
	int r;

	*ret_flush = false;
	if (count > SECTORS - first)
		count = SECTORS - first;
	if (v->snapshots && step % 9 == 5)
		return qcow2->snapshot_create(img, step % 2 ? "one" : "two", 1, err);
	if (v->snapshots && step % 9 == 8)
		return qcow2->snapshot_delete(img, "1", err) < 0 ? -1 : 0;
	if (kind < 6) {
		memset(value + first, fill, count);
		if (v->encode && kind < 4)
			return test_write_encoded(img, v->unit, first * 512ull, count * 512ull, fill,
						  err);
		return test_write(img, io, first * 512ull, count * 512ull, fill, err);
	}
	if (kind < 8) {
		memset(value + first, 0, count);
		r = qcow2->zero(img, first * 512ull, count * 512ull, kind % 2 ? SMD_ZERO_UNMAP : 0,
				err);
		return r == 1 ? test_write(img, io, first * 512ull, count * 512ull, 0, err) : r;
	}
	*ret_flush = true;
	return qcow2->flush(img, err);
}

/* May the sector, read after a crash or failure, be this? Anything it held since
 * the last flush that is surely on the store. */
static bool
allowed(const struct history *h, size_t from_step, size_t to_step, uint32_t sector, int value)
{
	for (size_t s = from_step; s <= to_step && s < h->n; s++)
		if (h->values[s][sector] == value || h->others[s][sector] == value)
			return true;
	return from_step == 0 && value == 0;
}

static void
verify(struct smd_io *io, const struct history *h, size_t from_step, size_t to_step,
       const struct variant *v, const char *what)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	void *img = test_open(io, SMD_OPEN_WRITE);
	struct test_findings t = test_check(io, SMD_REPAIR_NONE);
	uint64_t size;
	uint8_t *disk = test_read(img, io, &size, &err);

	if (!disk)
		fail_msg("%s %s: read: %s", v->name, what, err.message);
	if (t.corruptions != 0)
		fail_msg("%s %s: check finds %s", v->name, what, smd_reason_name(t.reason));
	for (uint32_t s = 0; s < SECTORS; s++)
		if (!allowed(h, from_step, to_step, s, test_sector(disk, s)))
			fail_msg("%s %s: sector %u holds %d, steps %zu to %zu", v->name, what, s,
				 test_sector(disk, s), from_step, to_step);
	free(disk);
	qcow2->close(img);
}

/* Run the script; a failed step is left out and the next one tried. */
static void
run_script(struct smd_io *io, void *img, const struct variant *v, unsigned n_steps,
	   struct history *h, bool may_fail)
{
	uint32_t seed = 7;
	uint8_t value[SECTORS] = { 0 }, other[SECTORS] = { 0 }, before[SECTORS];

	for (unsigned step = 0; step < n_steps; step++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		bool flushed;
		size_t n = 0;
		int r;

		if (!may_fail)
			smd_io_test_records(io, &n);
		h->begun[h->n] = n;
		memcpy(before, value, sizeof value);
		r = do_step(img, io, v, &seed, step, value, &flushed, &err);
		if (r < 0 && !may_fail && !(v->snapshots && step % 9 == 8))
			fail_msg("step %u: %s", step, err.message);
		if (r == 0 && flushed) {
			if (!may_fail)
				smd_io_test_records(io, &n);
			h->flushes[h->n_flushes].record = n;
			h->flushes[h->n_flushes++].step = h->n;
		}
		for (uint32_t s = 0; s < SECTORS; s++) {
			if (value[s] == before[s])
				continue;
			other[s] = value[s];
			if (r < 0)
				value[s] = before[s];
		}
		memcpy(h->others[h->n], other, sizeof other);
		memcpy(h->values[h->n++], value, sizeof value);
	}
}

/* The store after the first n records, those since the last flush only where
 * keep has their bit. */
static struct smd_io *
replay(const struct smd_test_record *records, size_t n, uint32_t keep,
       const struct smd_bytes_view *before)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = smd_io_memory(before->data, before->len, "replay", TEST_RW);
	size_t flushed = 0;

	for (size_t i = 0; i < n; i++)
		if (records[i].op == SMD_TEST_FLUSH)
			flushed = i;
	for (size_t i = 0; i < n; i++)
		if (i <= flushed || (keep >> (i - flushed) % 32 & 1))
			assert_int_equal(smd_test_replay(&records[i], io, &err), 0);
	return io;
}

static void
check_cut(const struct history *h, const struct smd_test_record *records, size_t n,
	  uint32_t keep, const struct smd_bytes_view *before, const struct variant *v)
{
	struct smd_io *io = replay(records, n, keep, before);
	size_t from = 0, to = 0;
	char what[64];

	for (size_t i = 0; i < h->n_flushes && h->flushes[i].record <= n; i++)
		from = h->flushes[i].step;
	for (size_t i = 0; i < h->n && h->begun[i] <= n; i++)
		to = i;
	snprintf(what, sizeof what, "after %zu records, keeping %08x", n, keep);
	verify(io, h, from, to, v, what);
	smd_io_close(io);
}

static void
test_power_cuts(void **state)
{
	static const uint32_t keeps[] = { UINT32_MAX, 0, 0x55555555, 0xaaaaaaaa, 0x0f0f3c3c };

	(void)state;
	for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
		const struct variant *v = &variants[i];
		struct smd_io *below = test_create(SECTORS * 512ull, v->options);
		struct smd_bytes_view now = smd_io_memory_bytes(below), before;
		struct smd_io *io = smd_io_test(below);
		struct history *h = calloc(1, sizeof *h);
		const struct smd_test_record *records;
		uint8_t *copy = malloc(now.len);
		void *img;
		size_t n;

		memcpy(copy, now.data, now.len);
		before = (struct smd_bytes_view){ copy, now.len };
		smd_io_test_record(io);
		img = test_open(io, SMD_OPEN_WRITE);
		run_script(io, img, v, 70, h, false);
		qcow2->close(img);
		records = smd_io_test_records(io, &n);
		assert_true(n > 50 && h->n_flushes > 3);
		for (size_t cut = 1; cut <= n; cut++)
			for (size_t k = 0; k < sizeof keeps / sizeof *keeps; k++)
				check_cut(h, records, cut, keeps[k], &before, v);
		smd_io_close(io);
		smd_io_close(below);
		free(copy);
		free(h);
	}
}

/* The image after a run whose n-th call failed. Returns whether it did. */
static bool
fail_nth(const struct variant *v, uint64_t n, enum smd_test_how how)
{
	const struct smd_test_plan plan = { .fail_at = n, .ops = SMD_TEST_ALL, .how = how };
	struct smd_io *below = test_create(SECTORS * 512ull, v->options);
	struct smd_io *io = smd_io_test(below);
	struct history *h = calloc(1, sizeof *h);
	void *img = test_open(io, SMD_OPEN_WRITE);
	bool failed;
	char what[64];
	size_t from = 0;

	smd_io_test_plan(io, &plan);
	run_script(io, img, v, 40, h, true);
	failed = smd_io_test_count(io) >= n;
	qcow2->close(img);
	for (size_t i = 0; i < h->n_flushes; i++)
		from = h->flushes[i].step;
	snprintf(what, sizeof what, "with call %llu failing", (unsigned long long)n);
	verify(below, h, from, h->n, v, what);
	smd_io_close(io);
	smd_io_close(below);
	free(h);
	return failed;
}

static void
test_failing_calls(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
		uint64_t n = 1;

		while (fail_nth(&variants[i], n, SMD_TEST_FAIL))
			n++;
		assert_true(n > 20);
		for (n = 1; fail_nth(&variants[i], n, SMD_TEST_SHORT); n += 3)
			continue;
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_cuts),
		cmocka_unit_test(test_failing_calls),
	};

	return cmocka_run_group_tests(tests, test_load, NULL);
}
