/* SPDX-License-Identifier: BSD-2-Clause */
/* SR.scan: rows for the volumes that nobody knows, many in a transaction. */
#include "daemon/sr/scan-impl.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/mem.h"
#include "common/thread.h"
#include "common/uuid.h"
#include "daemon/job/job.h"
#include "daemon/sr/tree.h"
#include "daemon/sr/volume.h"

#define ROWS_AT_ONCE 1000	/* in one transaction: others wait so long, and each writes most
				 * pages of the indexes anew */
#define ROWS_FIRST 125		/* in the first: nothing can be inserted before they are made */

/* ---- One row ---- */

/* Its record's names, or those its volume suggests. */
static void
name_row(struct scan *scan, const struct image *image, json *row)
{
	const char *dot = strrchr(image->location, '.'), *format, *of;
	CLEANUP_FREE char *label = smd_strndup(image->location, (size_t)(dot - image->location));
	struct smd_uuid_text uuid;

	if (!volume_name_parse(image->location, &uuid, &format)) {
		uuid = smd_uuid_new();
		smd_json_set_str(row, "name_label", label);
	} else if (image->look->hidden) {
		smd_json_set_str(row, "name_label", "base copy");	/* as SM calls it */
	}
	smd_json_set_str(row, "uuid", uuid.text);
	smd_json_set_str(row, "type", "user");
	node_of(scan, image)->recorded = records_apply(scan->sr, image->location, row);
	of = smd_json_str(row, "snapshot_of", "");
	free(node_of(scan, image)->snapshot_of);	/* of a row that became no model */
	node_of(scan, image)->snapshot_of = *of ? smd_strdup(of) : NULL;
	json_object_object_del(row, "snapshot_of");	/* link_snapshot, when all have rows */
}

/* New reference. Rows without a record are alike in all that decides it. */
static json *
allowed_operations(struct scan *scan, const struct node *node, json *row)
{
	if (node->recorded)
		return op_allowed_of_new(scan->sr, row);
	if (!scan->allowed)
		scan->allowed = op_allowed_of_new(scan->sr, row);
	return json_object_get(scan->allowed);
}

static json *
new_row(struct scan *scan, const struct image *image)
{
	json *row = json_object_new_object(), *sm_config;
	const char *dot = strrchr(image->location, '.');

	name_row(scan, image, row);
	sm_config = smd_json_member(row, "sm_config");
	if (!sm_config) {
		sm_config = json_object_new_object();
		smd_json_set(row, "sm_config", sm_config);
	}
	smd_json_set_str(sm_config, "image-format", dot + 1);
	json_object_object_del(sm_config, IMAGE_ERROR_KEY);
	json_object_object_del(sm_config, TREE_PARENT_KEY);
	if (*image->why)
		smd_json_set_str(sm_config, IMAGE_ERROR_KEY, image->why);
	/* Inner nodes are hidden from clients last, when all that lies on them has a row.
	 * The records know better than a mark in the image. */
	if (node_of(scan, image)->recorded ? !smd_json_bool(row, "managed", true)
					   : image->look->hidden)
		smd_json_set_str(sm_config, HIDDEN_KEY, "true");
	smd_json_set_bool(row, "managed", true);
	if (image->n_children > 0)
		smd_json_set_bool(row, "read_only", true);
	smd_json_set_str(row, "SR", scan->sr->ref);
	smd_json_set_str(row, "location", image->location);
	if (!*image->look->why)
		smd_json_set_int(row, "virtual_size", (int64_t)image->look->virtual_size);
	smd_json_set_int(row, "physical_utilisation", node_of(scan, image)->listed->allocated);
	smd_json_set(row, "allowed_operations", allowed_operations(scan, node_of(scan, image), row));
	return row;
}

/* A row as it will be inserted; NULL in made: it cannot be, and why. */
struct new_row {
	struct db_made *made;
	char *ref;
	struct smd_uuid_text uuid;
	struct smd_error why;
};

static void
new_row_done(struct new_row *row)
{
	db_made_free(row->made);
	free(row->ref);
	smd_error_clear(&row->why);
}

/* Rows of one transaction. They are made before it: the lock of the records is never waited
 * for in a transaction, since who holds it may be reading the database. */
struct rows {
	struct image *const *images;
	size_t n;
	size_t n_made;
	struct new_row rows[ROWS_AT_ONCE];
};

static int
introduced(struct scan *scan, const struct image *image, struct new_row *row,
	   struct smd_error *err)
{
	node_of(scan, image)->ref = TAKE_PTR(row->ref);
	scan->introduced = true;
	return scan_link_parent(scan, image, err);
}

/* Those at the beginning that nobody can have but a row of their uuid. alone: nobody else has
 * changed a VDI since the rows were read, and what had no row then has none now; only a job may
 * have it. */
static size_t
count_unclaimed(struct scan *scan, const struct rows *rows, size_t first, bool alone)
{
	size_t i = first;

	while (alone && i < rows->n && rows->rows[i].made &&
	       !job_has_volume(scan->sr->daemon->jobs, scan->sr->uuid, rows->images[i]->location))
		i++;
	return i - first;
}

/* *ret_n: how many of them are done with. */
static int
introduce_unclaimed(struct scan *scan, struct rows *rows, size_t first, size_t n, size_t *ret_n,
		    struct smd_error *err)
{
	struct db_made *made[ROWS_AT_ONCE];
	size_t n_made;

	for (size_t i = 0; i < n; i++)
		made[i] = rows->rows[first + i].made;
	if (db_insert_made(scan->db, made, n, &n_made, err) < 0)
		return -1;
	for (size_t i = first; i < first + n_made; i++) {
		if (introduced(scan, rows->images[i], &rows->rows[i], err) < 0)
			return -1;
	}
	if (n_made < n)
		scan_orphan(scan, rows->images[first + n_made], KNOWN_ALREADY);
	*ret_n = n_made < n ? n_made + 1 : n;
	return 0;
}

/* One that somebody may have by now. */
static int
introduce(struct scan *scan, struct rows *rows, size_t i, struct smd_error *err)
{
	struct smd_error known CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct image *image = rows->images[i];
	struct new_row *row = &rows->rows[i];
	size_t n_done;

	if (!row->made) {
		smd_error_move(err, &row->why);
		return -1;
	}
	if (volume_check_unclaimed(scan->sr->daemon, scan->sr, image->location, row->uuid.text,
				   &known) == 0)
		return introduce_unclaimed(scan, rows, i, 1, &n_done, err);
	if (smd_error_is(&known, SMD_E_UUID_INVALID))
		scan_orphan(scan, image, KNOWN_ALREADY);
	else if (!smd_error_is(&known, SMD_E_LOCATION_NOT_UNIQUE)) {
		smd_error_move(err, &known);
		return -1;
	}
	return 0;	/* somebody was faster */
}

/* The row that those are like that only have an image of this extension: most do. */
struct model {
	struct db_made *row;
	char *extension;
};

/* While some are introduced, a thread makes the next ones. */
struct making {
	struct scan *scan;
	struct image *const *images;
	uint8_t (*uuids)[16];	/* of their refs, in order */
	size_t n;
	struct model *models;	/* whoever makes the rows */
	size_t n_models;
	struct rows rows[2];	/* in turn */
	pthread_mutex_t lock;	/* what follows */
	pthread_cond_t changed;
	size_t n_made, n_done;	/* how often */
	bool stop;
};

static void
rows_clear(struct rows *rows)
{
	for (size_t i = 0; i < rows->n_made; i++)
		new_row_done(&rows->rows[i]);
	rows->n_made = 0;
}

static void
row_make_alone(struct scan *scan, const struct image *image, struct new_row *ret)
{
	CLEANUP_JSON json *row = new_row(scan, image);

	snprintf(ret->uuid.text, sizeof ret->uuid.text, "%s", smd_json_str(row, "uuid", ""));
	db_make(scan->db, "VDI", ret->ref, row, &ret->made, &ret->why);
}

/* Whether its row tells of nothing but its uuid, its place and its sizes. */
static bool
is_plain(struct scan *scan, const struct image *image, struct smd_uuid_text *ret_uuid)
{
	const struct look *look = image->look;
	const char *format;

	return !node_of(scan, image)->recorded && image->n_children == 0 && !look->hidden &&
	       !*look->why && !*image->why && volume_name_parse(image->location, ret_uuid, &format);
}

/* The model of its extension: the first row of its kind. NULL: it cannot be made. */
static const struct db_made *
model_of(struct making *m, const struct image *image)
{
	const char *extension = strrchr(image->location, '.') + 1;
	struct new_row first = { .ref = (char *)"", .why = SMD_ERROR_INIT };

	for (size_t i = 0; i < m->n_models; i++) {
		if (strcmp(m->models[i].extension, extension) == 0)
			return m->models[i].row;
	}
	row_make_alone(m->scan, image, &first);
	smd_error_clear(&first.why);
	if (node_of(m->scan, image)->recorded)		/* just now: it is no model */
		db_made_free(TAKE_PTR(first.made));
	if (!first.made)
		return NULL;
	m->models = smd_reallocarray(m->models, m->n_models + 1, sizeof *m->models);
	m->models[m->n_models++] = (struct model){ first.made, smd_strdup(extension) };
	return first.made;
}

static void
models_done(struct making *m)
{
	for (size_t i = 0; i < m->n_models; i++) {
		db_made_free(m->models[i].row);
		free(m->models[i].extension);
	}
	free(m->models);
}

static void
row_make(struct making *m, const struct image *image, const uint8_t uuid[16],
	 struct new_row *ret)
{
	const struct db_made *model = NULL;

	*ret = (struct new_row){ .ref = db_ref_of(uuid), .why = SMD_ERROR_INIT };
	if (is_plain(m->scan, image, &ret->uuid))
		model = model_of(m, image);
	if (model) {
		struct db_difference differences[] = {
			{ .field = "uuid", .text = ret->uuid.text },
			{ .field = "location", .text = image->location },
			{ .field = "virtual_size", .integer = (int64_t)image->look->virtual_size },
			{ .field = "physical_utilisation",
			  .integer = node_of(m->scan, image)->listed->allocated },
		};

		db_make_like(model, ret->ref, differences, 4, &ret->made, &ret->why);
	} else {
		row_make_alone(m->scan, image, ret);
	}
}

/* Each transaction has twice as many as the one before. */
static size_t
rows_wanted(const struct making *m, size_t first)
{
	size_t wanted = first + ROWS_FIRST < ROWS_AT_ONCE ? first + ROWS_FIRST : ROWS_AT_ONCE;

	return m->n - first < wanted ? m->n - first : wanted;
}

static void
rows_make(struct making *m, struct rows *rows, size_t first)
{
	rows_clear(rows);
	rows->images = m->images + first;
	rows->n = rows_wanted(m, first);
	for (size_t i = 0; i < rows->n; i++)
		row_make(m, rows->images[i], m->uuids[first + i], &rows->rows[i]);
	rows->n_made = rows->n;
}

/* Those to be made next; NULL: no more. */
static struct rows *
making_next(struct making *m)
{
	LOCK_SCOPE(&m->lock);
	while (!m->stop && m->n_made - m->n_done == 2)
		pthread_cond_wait(&m->changed, &m->lock);
	return m->stop ? NULL : &m->rows[m->n_made % 2];
}

static void
making_count(struct making *m, size_t *n)
{
	LOCK_SCOPE(&m->lock);
	(*n)++;
	pthread_cond_signal(&m->changed);
}

/* It also frees them: rows share what is alike in all. */
static void *
making_main(void *opaque)
{
	struct making *m = opaque;
	struct rows *rows;

	for (size_t done = 0; done < m->n && (rows = making_next(m)); done += rows->n) {
		rows_make(m, rows, done);
		making_count(m, &m->n_made);
	}
	return NULL;
}

/* What follows all of them is durable, and they with it: settle_all. */
static int
rows_introduce(struct scan *scan, struct rows *rows, struct smd_error *err)
{
	size_t n_done, end = 0;		/* of those that nobody can have */
	uint64_t before;
	bool alone;
	int r = 0;

	if (db_begin(scan->db, DB_RELAXED, err) < 0)
		return -1;
	before = scan_count_changes(scan);
	alone = before == scan->n_before + scan->n_changes;
	for (size_t i = 0; r == 0 && i < rows->n; i += n_done) {
		if (i >= end)
			end = i + count_unclaimed(scan, rows, i, alone);
		n_done = 1;
		r = end > i ? introduce_unclaimed(scan, rows, i, end - i, &n_done, err)
			    : introduce(scan, rows, i, err);
	}
	scan->n_changes += scan_count_changes(scan) - before;
	if (db_end(scan->db, r, err) < 0)
		return -1;
	db_write_behind(scan->db);
	return 0;
}

/* In order, as the images are: each transaction changes few pages of their index then. Each has
 * a range of its own for its first four bytes. */
static void
make_uuids(uint8_t (*ret)[16], size_t n)
{
	uint64_t range = (UINT64_C(1) << 32) / (n + 1);

	smd_uuid_new_many(ret, n);
	for (size_t i = 0; i < n; i++)
		smd_store_be32(ret[i], (uint32_t)(i * range + (smd_load_be32(ret[i]) * range >> 32)));
}

static void
making_wait(struct making *m)
{
	LOCK_SCOPE(&m->lock);
	while (m->n_made == m->n_done)
		pthread_cond_wait(&m->changed, &m->lock);
}

static int
introduce_made(struct making *m, bool helped, struct smd_error *err)
{
	for (size_t done = 0; done < m->n; ) {
		struct rows *rows = &m->rows[m->n_done % 2];

		if (helped)
			making_wait(m);
		else
			rows_make(m, rows, done);
		done += rows->n;
		if (rows_introduce(m->scan, rows, err) < 0)
			return -1;
		making_count(m, &m->n_done);
	}
	return 0;
}

static void
making_stop(struct making *m)
{
	LOCK_SCOPE(&m->lock);
	m->stop = true;
	pthread_cond_signal(&m->changed);
}

static int
introduce_some(struct scan *scan, struct image *const *images, size_t n, struct smd_error *err)
{
	CLEANUP_FREE struct making *m = smd_calloc(1, sizeof *m);
	CLEANUP_FREE uint8_t (*uuids)[16] = smd_calloc(n + 1, sizeof *uuids);
	pthread_t thread;
	bool helped;
	int r;

	make_uuids(uuids, n);
	m->scan = scan;
	m->images = images;
	m->uuids = uuids;
	m->n = n;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->changed, NULL);
	helped = n > ROWS_FIRST && smd_thread_create_apart(&thread, making_main, m) == 0;
	r = introduce_made(m, helped, err);
	making_stop(m);
	if (helped)
		pthread_join(thread, NULL);
	rows_clear(&m->rows[0]);
	rows_clear(&m->rows[1]);
	models_done(m);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	return r;
}

/* By what their locations begin with, which mostly tells them apart. */
struct placed {
	uint64_t beginning;
	struct image *image;
};

static int
by_location(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;

	if (x->beginning != y->beginning)
		return x->beginning < y->beginning ? -1 : 1;
	return strcmp(x->image->location, y->image->location);
}

static struct placed
placed(struct image *image)
{
	uint8_t beginning[8] = { 0 };

	memcpy(beginning, image->location, strnlen(image->location, sizeof beginning));
	return (struct placed){ smd_load_be64(beginning), image };
}

/* Those of one depth: what they lie on has a row by now, if it gets one. Sorted, since
 * most are named by their uuids: each transaction changes few pages of two indexes then. */
static int
introduce_depth(struct scan *scan, size_t depth, bool *ret_more, struct smd_error *err)
{
	CLEANUP_FREE struct placed *some = smd_calloc(scan->n + 1, sizeof *some);
	CLEANUP_FREE struct image **sorted = NULL;
	size_t n = 0;

	for (size_t i = 0; i < scan->n; i++) {
		struct image *image = &scan->images[i];

		*ret_more = *ret_more || image->depth > depth;
		if (!scan->nodes[i].ref && !scan->nodes[i].left_out && image->depth == depth)
			some[n++] = placed(image);
	}
	qsort(some, n, sizeof *some, by_location);
	sorted = smd_calloc(n + 1, sizeof(struct image *));
	for (size_t i = 0; i < n; i++)
		sorted[i] = some[i].image;
	return introduce_some(scan, sorted, n, err);
}

int
scan_introduce(struct scan *scan, struct smd_error *err)
{
	bool more = true;

	for (size_t depth = 1; more; depth++) {
		more = false;
		if (introduce_depth(scan, depth, &more, err) < 0)
			return -1;
	}
	return 0;
}
