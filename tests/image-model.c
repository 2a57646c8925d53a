/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * image-model [--ops N] [--seed N] [--threads N] [--shrink] [--compress]
 *             [--snapshots] --judge PROGRAM DIR LAYER...
 *
 * Random operations on a chain and on a flat array, which must stay equal. Each
 * layer, base first, gets its share of the operations as the leaf. Between
 * batches the disk is read whole; every few thousand operations our checker must
 * find nothing, and PROGRAM is run as
 *	PROGRAM judge DIR WANT FILE FORMAT...		(leaf first)
 * and with --compress, before the operations on a layer,
 *	PROGRAM compress FILE FORMAT
 * which rewrites an image as another program compresses it.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/checked.h"
#include "common/image/ops.h"
#include "common/mem.h"
#include "tests/image-case.h"

#define THREADS_MAX 8
#define BATCH 200		/* operations between two looks at the whole disk */
#define CHECK_EVERY 3000
#define COUNT_MAX (1u << 20)

extern char **environ;

struct model {
	const char *dir, *judge;
	uint64_t n_ops, seed;
	unsigned n_threads;
	bool shrink, compress, snapshots;
	struct image_spec specs[IMAGE_LAYERS_MAX];
	size_t n_specs, n_layers;	/* base first; n_layers exist */
	struct smd_chain *chain;
	struct image_random random;
	uint64_t size, room, done;
	uint8_t *want, *got;		/* room bytes each */
	uint8_t *snapshot;		/* NULL: none is there */
	uint64_t snapshot_size;
};

static char *
layer_path(const struct model *m, size_t layer)
{
	return smd_asprintf("%s/%zu.%s", m->dir, layer, m->specs[layer].format->name);
}

static _Noreturn void
model_die(const struct model *m, const struct smd_error *err, const char *what)
{
	fprintf(stderr, "after %" PRIu64 " operations, layer %zu, size %" PRIu64 ", seed %" PRIu64
		"\n", m->done, m->n_layers - 1, m->size, m->seed);
	image_die(err, "%s", what);
}

static void
run_judge(struct model *m, char **argv)
{
	pid_t pid;
	int status;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid || status != 0)
		model_die(m, NULL, argv[1]);
}

/* ---- The chain's files ---- */

static struct smd_io *
layer_io(struct model *m, size_t layer, bool write)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *path = layer_path(m, layer);
	struct smd_io *io;
	int fd = open(path, (write ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC, 0644);

	if (fd < 0 || smd_io_file(fd, path, write ? SMD_IO_WRITABLE : 0, &io, &err) != 0)
		model_die(m, &err, path);
	return io;
}

static void
chain_open(struct model *m)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_layer layers[IMAGE_LAYERS_MAX];

	for (size_t i = 0; i < m->n_layers; i++) {
		size_t layer = m->n_layers - 1 - i;

		layers[i].format = m->specs[layer].format;
		layers[i].io = layer_io(m, layer, i == 0);
	}
	if (smd_chain_open(layers, m->n_layers, SMD_CHAIN_WRITE, &m->chain, &err) != 0)
		model_die(m, &err, "open");
	if (smd_chain_size(m->chain) != m->size)
		model_die(m, NULL, "open: another size");
}

static void
chain_close(struct model *m)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (m->chain && smd_chain_flush(m->chain, &err) != 0)
		model_die(m, &err, "flush");
	smd_chain_close(m->chain);
	m->chain = NULL;
}

static void
compress_layer(struct model *m, size_t layer)
{
	CLEANUP_FREE char *path = layer_path(m, layer);
	char *argv[] = { (char *)m->judge, (char *)"compress", path,
			 (char *)m->specs[layer].format->name, NULL };

	run_judge(m, argv);
}

/* The size of the array: new bytes are zeroes. */
static void
want_size(struct model *m, uint64_t size)
{
	if (size > m->size)
		memset(m->want + m->size, 0, size - m->size);
	m->size = size;
}

static void
layer_add(struct model *m)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	size_t layer = m->n_layers;
	CLEANUP_FREE char *parent = layer ? layer_path(m, layer - 1) : NULL;
	CLEANUP_IO struct smd_io *io = layer_io(m, layer, true);

	if (image_create(&m->specs[layer], io, m->chain, parent ? strrchr(parent, '/') + 1 : NULL,
			 &err) != 0)
		model_die(m, &err, "create");
	chain_close(m);
	free(m->snapshot);
	m->snapshot = NULL;
	m->n_layers++;
	want_size(m, m->specs[layer].size);
	chain_open(m);
}

/* ---- Judging ---- */

static void
read_all(struct model *m)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (smd_chain_pread(m->chain, m->got, m->size, 0, &err) != 0)
		model_die(m, &err, "read of the whole disk");
	if (memcmp(m->got, m->want, m->size) != 0)
		fprintf(stderr, "after %" PRIu64 " operations, seed %" PRIu64 "\n", m->done, m->seed);
	image_same(m->got, m->want, m->size, 0, "the whole disk");
}

static void
check_layer(struct model *m, size_t layer)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *path = layer_path(m, layer);
	CLEANUP_JSON json *found = NULL;
	int code, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || smd_op_check(fd, path, m->specs[layer].format->name, SMD_REPAIR_NONE,
				   &found, &code, &err) != 0)
		model_die(m, &err, "check");
	if (code != 0 && code != 63) {
		fprintf(stderr, "%s\n", json_object_to_json_string(found));
		model_die(m, NULL, "the checker finds something");
	}
}

static void
judge(struct model *m)
{
	CLEANUP_FREE char *want = smd_asprintf("%s/want.raw", m->dir);
	char *argv[5 + 2 * IMAGE_LAYERS_MAX] = { (char *)m->judge, (char *)"judge",
						 (char *)m->dir, want };
	CLEANUP(cleanup_fclose) FILE *f = fopen(want, "w");
	size_t n = 4;

	if (!f || fwrite(m->want, 1, m->size, f) != m->size || fflush(f) != 0)
		model_die(m, NULL, want);
	chain_close(m);
	for (size_t i = m->n_layers; i-- > 0;) {
		check_layer(m, i);
		argv[n++] = layer_path(m, i);
		argv[n++] = (char *)m->specs[i].format->name;
	}
	run_judge(m, argv);
	while (n > 4) {
		free(argv[n - 2]);
		n -= 2;
	}
	chain_open(m);
}

/* ---- Operations ---- */

/* A thread and the part of the disk that is its own; where parts meet, threads
 * share sectors and units. */
struct hand {
	struct model *m;
	struct image_random random;
	uint64_t start, end;
	unsigned n_ops;
	uint8_t *buf;
};

static void
pick(struct hand *h, uint64_t *ret_offset, uint64_t *ret_count)
{
	static const uint32_t limits[] = { 700, 5000, 70000, COUNT_MAX };
	static const uint32_t aligns[] = { 1, 512, 4096, 65536 };
	uint64_t kind = image_below(&h->random, 20), align = aligns[image_below(&h->random, 4)];
	uint64_t limit = limits[kind < 9 ? 0 : kind < 16 ? 1 : kind < 19 ? 2 : 3];
	uint64_t offset = h->start + image_below(&h->random, h->end - h->start);
	uint64_t count = 1 + image_below(&h->random, limit);

	offset = smd_max_u64(smd_round_down_u64(offset, align), h->start);
	count = smd_round_down_u64(count + align - 1, align);
	*ret_offset = offset;
	*ret_count = smd_min_u64(count, smd_min_u64(h->end - offset, COUNT_MAX));
}

static int
one_operation(struct hand *h, struct smd_error *err)
{
	struct model *m = h->m;
	uint64_t offset, count, kind = image_below(&h->random, 100);

	pick(h, &offset, &count);
	if (kind < 25) {
		if (smd_chain_pread(m->chain, h->buf, count, offset, err) != 0)
			return smd_error_prefix(err, "read");
		image_same(h->buf, m->want + offset, count, offset, "a read");
		return 0;
	}
	if (kind < 75) {
		image_fill(&h->random, h->buf, count);
		memcpy(m->want + offset, h->buf, count);
		return smd_chain_pwrite(m->chain, h->buf, count, offset, err);
	}
	if (kind < 98) {
		if (kind < 80)		/* now and then a large range */
			count = smd_min_u64(h->end - offset, count * 8);
		memset(m->want + offset, 0, count);
		return smd_chain_zero(m->chain, offset, count, kind % 2, err);
	}
	return smd_chain_flush(m->chain, err);
}

static void *
hand_run(void *opaque)
{
	struct hand *h = opaque;

	for (unsigned i = 0; i < h->n_ops && h->start < h->end; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

		if (one_operation(h, &err) != 0)
			model_die(h->m, &err, "operation");
	}
	return NULL;
}

static void
batch(struct model *m)
{
	struct hand hands[THREADS_MAX];
	pthread_t threads[THREADS_MAX];
	uint64_t start = 0;

	for (unsigned i = 0; i < m->n_threads; i++) {
		uint64_t share = m->size / m->n_threads;

		hands[i] = (struct hand){ m, { image_random(&m->random) }, start, m->size,
					  BATCH / m->n_threads, smd_malloc(COUNT_MAX) };
		if (i + 1 < m->n_threads)
			hands[i].end = start + share / 2 + image_below(&m->random, share / 2 + 1);
		start = hands[i].end;
		if (pthread_create(&threads[i], NULL, hand_run, &hands[i]) != 0)
			model_die(m, NULL, "no thread");
	}
	for (unsigned i = 0; i < m->n_threads; i++) {
		pthread_join(threads[i], NULL);
		free(hands[i].buf);
	}
	m->done += BATCH;
}

/* ---- Between batches ---- */

static void
resize(struct model *m)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_format *f = smd_chain_format(m->chain, 0);
	bool shrink = m->shrink && m->size > m->room / 4 && image_below(&m->random, 2);
	uint64_t change = 1 + image_below(&m->random, image_below(&m->random, 2) ? 5000 : m->room / 4);
	uint64_t size = shrink ? m->size - change : m->size + change;

	size = smd_div_round_up_u64(size, f->size_unit) * f->size_unit;
	/* Internal snapshots keep their own size; the disk may only grow over them. */
	if (size > m->room || size == 0 || (size < m->size && (!shrink || m->snapshot)))
		return;
	if (size < m->size && smd_chain_resize(m->chain, size, false, &err) == 0)
		model_die(m, NULL, "it shrank unasked");
	smd_error_clear(&err);
	if (smd_chain_resize(m->chain, size, shrink, &err) != 0) {
		/* Some cannot hide their parent again. */
		if (m->n_layers > 1 && smd_error_is(&err, SMD_E_IMAGE_UNSUPPORTED))
			return;
		model_die(m, &err, "resize");
	}
	want_size(m, size);
}

/* One snapshot comes, is gone back to, and goes. */
static void
snapshot(struct model *m)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_format *f = smd_chain_format(m->chain, 0);
	void *img = smd_chain_image(m->chain, 0);
	int rc;

	if (!m->snapshot) {
		rc = f->snapshot_create(img, "one", 1, &err);
		m->snapshot = smd_malloc(m->room);
		memcpy(m->snapshot, m->want, m->size);
		m->snapshot_size = m->size;
	} else if (m->snapshot_size == m->size && image_below(&m->random, 2)) {
		rc = f->snapshot_apply(img, "one", &err);
		memcpy(m->want, m->snapshot, m->size);
	} else {
		rc = f->snapshot_delete(img, "one", &err);
		free(m->snapshot);
		m->snapshot = NULL;
	}
	if (rc != 0)
		model_die(m, &err, "snapshot");
}

static void
between(struct model *m)
{
	read_all(m);
	if (m->done % CHECK_EVERY < BATCH)
		judge(m);
	if (image_below(&m->random, 3) == 0) {
		chain_close(m);
		chain_open(m);
	}
	if (image_below(&m->random, 3) == 0)
		resize(m);
	if (m->snapshots && image_below(&m->random, 3) == 0)
		snapshot(m);
}

static void
run_layer(struct model *m, uint64_t until)
{
	layer_add(m);
	read_all(m);
	while (m->done < until) {
		batch(m);
		between(m);
	}
	if (m->compress) {
		chain_close(m);
		compress_layer(m, m->n_layers - 1);
		chain_open(m);
		for (int i = 0; i < 3; i++) {
			batch(m);
			read_all(m);
		}
	}
	judge(m);
}

static const struct option options[] = {
	{ "ops", required_argument, NULL, 'o' },
	{ "seed", required_argument, NULL, 's' },
	{ "threads", required_argument, NULL, 't' },
	{ "judge", required_argument, NULL, 'j' },
	{ "shrink", no_argument, NULL, 'S' },
	{ "compress", no_argument, NULL, 'c' },
	{ "snapshots", no_argument, NULL, 'n' },
	{ NULL, 0, NULL, 0 },
};

static void
parse(struct model *m, int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'o': m->n_ops = strtoull(optarg, NULL, 10); break;
		case 's': m->seed = strtoull(optarg, NULL, 10); break;
		case 't': m->n_threads = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'j': m->judge = optarg; break;
		case 'S': m->shrink = true; break;
		case 'c': m->compress = true; break;
		case 'n': m->snapshots = true; break;
		default: image_die(NULL, "usage: see image-model.c");
		}
	}
	if (argc - optind < 2 || argc - optind > 1 + IMAGE_LAYERS_MAX || !m->judge ||
	    m->n_threads < 1 || m->n_threads > THREADS_MAX)
		image_die(NULL, "usage: see image-model.c");
	m->dir = argv[optind];
	for (int i = optind + 1; i < argc; i++)
		image_spec_parse(argv[i], &m->specs[m->n_specs++]);
}

int
main(int argc, char **argv)
{
	struct model m = { .n_ops = 2000, .seed = 1, .n_threads = 1 };

	image_modules();
	parse(&m, argc, argv);
	for (size_t i = 0; i < m.n_specs; i++)
		m.room = smd_max_u64(m.room, 2 * m.specs[i].size);
	m.want = smd_calloc(1, m.room);
	m.got = smd_malloc(m.room);
	m.random.state = m.seed;
	for (size_t i = 0; i < m.n_specs; i++)
		run_layer(&m, m.n_ops * (i + 1) / m.n_specs);
	chain_close(&m);
	for (size_t i = 0; i < m.n_specs; i++)
		smd_options_free(&m.specs[i].options);
	free(m.want);
	free(m.got);
	free(m.snapshot);
	return 0;
}
