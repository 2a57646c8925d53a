/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SR.scan: the rows and the volumes are brought together, by location. Volumes that
 * nobody knows become VDIs, with the chains their images make; one broken image is
 * flagged in its own row, and in those of the images that lie on it, and never stops
 * the rest. Nothing on the storage is changed.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/job/collect.h"
#include "daemon/job/job.h"
#include "daemon/sr/cbt.h"
#include "daemon/sr/scan-impl.h"
#include "daemon/sr/settle.h"
#include "daemon/sr/tree.h"
#include "daemon/sr/volume.h"

static void
scan_done(struct scan *scan)
{
	images_done(scan->images, scan->n);
	for (size_t i = 0; i < scan->n; i++) {
		free(scan->nodes[i].ref);
		free(scan->nodes[i].snapshot_of);
	}
	names_done(&scan->volumes);
	for (size_t i = 0; i < scan->n_listed; i++)
		free(scan->listed[i].location);
	free(scan->listed);
	free(scan->images);
	free(scan->nodes);
	names_done(&scan->places);
	json_object_put(scan->orphans);
	json_object_put(scan->doubts);
	json_object_put(scan->allowed);
	json_object_put(scan->rows);
}
#define CLEANUP_SCAN CLEANUP(scan_done)

/* A name that can be told of: a file may have any. */
static bool
is_printable(const char *name)
{
	for (const char *p = name; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return false;
	}
	return smd_utf8_valid(name, strlen(name));
}

static int
note_volume(void *opaque, const struct smd_sr_volume *volume, const char *stamp,
	    struct smd_error *err)
{
	struct scan *scan = opaque;
	size_t n = scan->n_listed;
	struct listed *listed;

	(void)err;
	if (!is_printable(volume->name))
		return 0;
	if ((n & (n - 1)) == 0)		/* it is full */
		scan->listed = smd_reallocarray(scan->listed, n ? 2 * n : 1, sizeof *scan->listed);
	listed = &scan->listed[n];
	listed->location = smd_strdup(volume->name);
	listed->allocated = (int64_t)volume->allocated;
	listed->is_told = stamp != NULL;
	stamp_copy(listed->stamp, stamp ? stamp : "");
	if (names_add(&scan->volumes, listed->location, n))
		scan->n_listed++;
	else
		free(listed->location);		/* it was renamed meanwhile, say */
	return 0;
}

/* ---- What there is ---- */

/* Most volumes are of the format of the one before. */
static const char *
format_of(const struct scan *scan, const char *location)
{
	const char *before = scan->n > 0 ? scan->images[scan->n - 1].format : NULL;
	const char *dot = strrchr(location, '.');

	return dot && before && strcmp(dot + 1, before) == 0 ? before :
	       look_format(scan->sr, location);
}

static void
add_node(struct scan *scan, const char *ref, json *row, struct listed *listed)
{
	struct image *image = &scan->images[scan->n];
	struct node *node = &scan->nodes[scan->n];
	const char *location = listed->location;

	image->location = location;
	image->format = listed->format = format_of(scan, location);
	node->row = row;
	node->ref = smd_strdup(ref);
	node->listed = listed;
	node->at_work = job_has_volume(scan->sr->daemon->jobs, scan->sr->uuid, location) ||
			(row && row_is_busy(row));
	scan->n++;
}

/* The logs of changed blocks are no images. One that nobody has was left by who forgot
 * its VDI, or by XenServer. */
static int
set_logs_aside(struct scan *scan, struct smd_error *err)
{
	CLEANUP_JSON json *used = NULL, *names = json_object_new_object();

	if (cbt_logs(scan->db, scan->sr->ref, &used, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(used); i++)
		smd_json_set_bool(names, json_object_get_string(json_object_array_get_idx(used, i)),
				  true);
	for (size_t i = 0; i < scan->n_listed; i++) {
		const char *name = scan->listed[i].location;

		if (cbt_log_is(name) && !volume_is_temporary(name) && !smd_json_member(names, name) &&
		    !job_has_volume(scan->sr->daemon->jobs, scan->sr->uuid, name))
			smd_json_set_str(scan->orphans, name, "a log of changed blocks that no VDI has");
	}
	return 0;
}

/* The SR's rows, with no more of each than a scan looks at: there may be many. */
static int
read_rows(struct scan *scan, struct smd_error *err)
{
	static const char *const wanted[] = {
		"uuid", "name_label", "location", "virtual_size", "physical_utilisation", "missing",
		"read_only", "sm_config", "current_operations", NULL,
	};
	CLEANUP_FREE char *expr = smd_asprintf("field \"SR\" = \"%s\"", scan->sr->ref);
	struct db_rows *rows;
	const char *ref;
	json *vdi;
	int rc;

	ops_show(scan->sr->daemon, 0);
	if (db_rows_open(scan->db, "VDI", expr, &rows, err) < 0)
		return -1;
	while ((rc = db_rows_next(rows, &ref, &vdi, err)) == 1) {
		json *row = json_object_new_object();

		for (const char *const *name = wanted; *name; name++)
			smd_json_set(row, *name, json_object_get(smd_json_member(vdi, *name)));
		smd_json_set(scan->rows, ref, row);
		json_object_put(vdi);
	}
	db_rows_close(rows);
	return rc;
}

/* A node for each volume, those with a row first. */
static int
gather(struct scan *scan, struct smd_error *err)
{
	struct names known CLEANUP_NAMES = { 0 };
	size_t room, at;

	if (volumes_list(scan->sr, !scan->sr->looks, note_volume, scan, err) < 0 ||
	    read_rows(scan, err) < 0)
		return -1;
	room = scan->n_listed + 1;
	scan->images = smd_calloc(room, sizeof *scan->images);
	scan->nodes = smd_calloc(room, sizeof *scan->nodes);
	json_object_object_foreach(scan->rows, ref, row) {
		const char *location = smd_json_str(row, "location", "");

		if (names_find(&scan->volumes, location, &at) && !cbt_log_is(location) &&
		    names_add(&known, location, at))
			add_node(scan, ref, row, &scan->listed[at]);
	}
	for (size_t i = 0; i < scan->n_listed; i++) {
		const char *location = scan->listed[i].location;

		if (!names_find(&known, location, &at) && !volume_is_temporary(location) &&
		    !cbt_log_is(location))
			add_node(scan, NULL, NULL, &scan->listed[i]);
	}
	return set_logs_aside(scan, err);
}

/* In the order of the listing: the next one's is mostly the same. */
static int
look_at_all(struct scan *scan, struct smd_error *err)
{
	CLEANUP_FREE struct listed **volumes = smd_calloc(scan->n + 1, sizeof *volumes);
	CLEANUP_FREE bool *wanted = smd_calloc(scan->n_listed + 1, sizeof *wanted);
	size_t n = 0;

	for (size_t i = 0; i < scan->n; i++)
		wanted[scan->nodes[i].listed - scan->listed] = !scan->nodes[i].at_work;
	for (size_t i = 0; i < scan->n_listed; i++) {
		if (wanted[i])
			volumes[n++] = &scan->listed[i];
	}
	if (looks_refresh(scan->sr, &scan->sr->looks, volumes, n, err) < 0)
		return -1;
	for (size_t i = 0; i < scan->n; i++)
		scan->images[i].look = looks_get(scan->sr->looks, scan->images[i].location);
	return 0;
}

static void
find_places(struct scan *scan)
{
	for (size_t i = 0; i < scan->n; i++) {
		names_add(&scan->places, scan->images[i].location, i);
		if (scan->nodes[i].ref)
			names_add(&scan->places, scan->nodes[i].ref, i);
	}
}

static struct image *
image_at(struct scan *scan, const char *ref_or_location)
{
	size_t at;

	if (!scan->places.table)
		find_places(scan);
	return names_find(&scan->places, ref_or_location, &at) ? &scan->images[at] : NULL;
}

static void
look_at_record(struct scan *scan, struct node *node, struct image *image)
{
	struct record_look record;

	node->recorded = records_look(scan->sr, image->location, &record);
	node->parent_recorded = record.tells_parent;
	node->unmanaged = record.unmanaged;
	image->known_parent = record.parent ? image_at(scan, record.parent) : NULL;
	free(record.parent);
}

/* The chains as the database has them; where it lacks one, as the images say, or else
 * the records. */
static int
load_tree(struct scan *scan, struct smd_error *err)
{
	for (size_t i = 0; i < scan->n; i++) {
		struct image *image = &scan->images[i];
		struct node *node = &scan->nodes[i];
		CLEANUP_FREE char *parent = NULL;

		if (node->ref) {
			if (tree_parent(scan->db, node->ref, &parent, err) < 0)
				return -1;
			image->known_parent = parent ? image_at(scan, parent) : NULL;
			image->is_linked = image->known_parent != NULL;
		} else {
			look_at_record(scan, node, image);
		}
	}
	return 0;
}

/* An image that cannot be read may lie on any other of its format, unless somebody
 * knows better. One that never was an image does not have a uuid for a name. */
static void
note_doubt(struct scan *scan, const struct image *image)
{
	struct smd_uuid_text uuid;
	const char *format;

	if (!image->look || !*image->look->why || !image->format || image->is_linked ||
	    node_of(scan, image)->parent_recorded)
		return;
	if (volume_name_parse(image->location, &uuid, &format) || node_of(scan, image)->recorded)
		smd_json_set_bool(scan->doubts, image->format, true);
}

/* ---- A volume without a row ---- */

void
scan_orphan(struct scan *scan, const struct image *image, const char *why)
{
	node_of(scan, image)->left_out = true;
	smd_json_set_str(scan->orphans, image->location, why);
}

/* XenServer's collector sets a leaf aside under such a name while it merges it. */
#define LEFT_BY_SM "OLD_"

/* A disk that nobody knows is either a VDI from now on or an orphan. A uuid and a
 * format for a name make a VDI of anything; other names want an image that is one. */
static void
judge(struct scan *scan, const struct image *image)
{
	const struct look *look = image->look;
	struct smd_uuid_text uuid;
	const char *format;
	bool named = volume_name_parse(image->location, &uuid, &format);
	bool recorded = node_of(scan, image)->recorded;

	if (!look)
		node_of(scan, image)->left_out = true;	/* at work: the next scan will tell */
	else if (!image->format && !(recorded && named))
		scan_orphan(scan, image, look->why);
	else if (strncmp(image->location, LEFT_BY_SM, strlen(LEFT_BY_SM)) == 0)
		scan_orphan(scan, image, "left by XenServer's collector, which was interrupted");
	else if (*look->why && !named && !recorded)
		scan_orphan(scan, image, look->why);
	else if (!*look->why && image->n_children == 0 &&
		 (recorded ? node_of(scan, image)->unmanaged : look->hidden))
		scan_orphan(scan, image, "hidden, and no image lies on it: it was deleted, or what lies on "
		       "it is missing");
	else if (image->parent && node_of(scan, image->parent)->at_work)
		node_of(scan, image)->left_out = true;
}

/* ---- The trees ---- */

int
scan_link_parent(struct scan *scan, const struct image *image, struct smd_error *err)
{
	const struct node *node = node_of(scan, image);
	const struct node *parent = image->parent ? node_of(scan, image->parent) : NULL;
	CLEANUP_FREE char *location = NULL, *parent_location = NULL;
	struct smd_error gone CLEANUP_ERROR = SMD_ERROR_INIT;

	if (!parent || !parent->ref || !node->ref || image->is_linked || parent->at_work ||
	    node->at_work)
		return 0;
	if (db_get_str(scan->db, "VDI", node->ref, "location", &location, &gone) < 0 ||
	    db_get_str(scan->db, "VDI", parent->ref, "location", &parent_location, &gone) < 0 ||
	    strcmp(location, image->location) != 0 ||
	    strcmp(parent_location, image->parent->location) != 0)
		return 0;
	return tree_set_parent(scan->db, node->ref, parent->ref, err);
}

/* snapshot_of is a uuid in the record: the VDI may have its row only now. */
static int
link_snapshot(struct scan *scan, const struct image *image, struct smd_error *err)
{
	struct smd_error none CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct node *node = node_of(scan, image);
	CLEANUP_FREE char *of = NULL;

	if (!node->snapshot_of || db_by_uuid(scan->db, "VDI", node->snapshot_of, &of, &none) < 0)
		return 0;
	return db_set_str(scan->db, "VDI", node->ref, "snapshot_of", of, err);
}

/* What others lie on may not change; and what was found hidden is nobody's disk, once
 * the collector knows of everything that lies on it. */
static int
settle_parent(struct scan *scan, const struct image *image, struct smd_error *err)
{
	const struct node *node = node_of(scan, image);
	CLEANUP_FREE char *hidden = NULL;
	bool has = false, read_only;

	if (tree_has_children(scan->db, node->ref, &has, err) < 0 ||
	    db_get_bool(scan->db, "VDI", node->ref, "read_only", &read_only, err) < 0)
		return -1;
	if (!has)
		return 0;
	if ((!read_only && db_set_bool(scan->db, "VDI", node->ref, "read_only", true, err) < 0) ||
	    db_map_get(scan->db, "VDI", node->ref, "sm_config", HIDDEN_KEY, &hidden, err) < 0)
		return -1;
	if (!hidden || !image->format || smd_json_member(scan->doubts, image->format) ||
	    node->n_child_rows < image->n_children)
		return 0;
	if (db_map_remove(scan->db, "VDI", node->ref, "sm_config", HIDDEN_KEY, err) < 0)
		return -1;
	return db_set_bool(scan->db, "VDI", node->ref, "managed", false, err);
}

static bool
is_settled(struct scan *scan, const struct image *image)
{
	const struct node *node = node_of(scan, image);

	if (!node->ref || node->at_work)
		return true;
	if (node->row ? image->parent && !image->is_linked : node->snapshot_of != NULL)
		return false;
	return image->n_children == 0 ||
	       (node->row && smd_json_bool(node->row, "read_only", false) &&
		!smd_json_member(smd_json_member(node->row, "sm_config"), HIDDEN_KEY));
}

static int
settle_node(struct scan *scan, const struct image *image, struct smd_error *err)
{
	const struct node *node = node_of(scan, image);

	if (is_settled(scan, image) || !db_exists(scan->db, "VDI", node->ref))
		return 0;
	if (!node->row && link_snapshot(scan, image, err) < 0)
		return -1;
	return image->n_children > 0 ? settle_parent(scan, image, err) : 0;
}

/* One transaction, so that the collector never sees half the children of a node. */
static int
settle_all(struct scan *scan, struct smd_error *err)
{
	bool settled = true;
	int r = 0;

	for (size_t i = 0; i < scan->n; i++) {
		settled = settled && is_settled(scan, &scan->images[i]);
		if (scan->images[i].parent && scan->nodes[i].ref)
			node_of(scan, scan->images[i].parent)->n_child_rows++;
	}
	if (settled && !scan->introduced)
		return 0;
	if (db_begin(scan->db, DB_DURABLE, err) < 0)
		return -1;
	/* Links first: what lies on a node counts wherever it stands in the list. */
	for (size_t i = 0; r == 0 && i < scan->n; i++) {
		if (scan->nodes[i].row && !is_settled(scan, &scan->images[i]))
			r = scan_link_parent(scan, &scan->images[i], err);
	}
	for (size_t i = 0; r == 0 && i < scan->n; i++)
		r = settle_node(scan, &scan->images[i], err);
	return db_end(scan->db, r, err);
}

/* ---- All of it ---- */

static void
report_orphans(struct scan *scan)
{
	struct sr *sr = scan->sr;
	LOCK_SCOPE(&sr->records_lock);

	json_object_object_foreach(scan->orphans, name, why) {
		if (!smd_json_member(sr->orphans, name))
			smd_log(SMD_LOG_NOTICE, "SR %s: %s is left alone: %s", sr->uuid, name,
				json_object_get_string(why));
	}
	json_object_put(sr->orphans);
	sr->orphans = json_object_get(scan->orphans);
}

static void
judge_all(struct scan *scan)
{
	for (size_t i = 0; i < scan->n; i++) {
		note_doubt(scan, &scan->images[i]);
		if (!scan->nodes[i].row)
			judge(scan, &scan->images[i]);
	}
}

/* All that a scan finds out before it changes anything. */
static int
survey(struct scan *scan, struct smd_error *err)
{
	if (gather(scan, err) < 0 || look_at_all(scan, err) < 0 || load_tree(scan, err) < 0)
		return -1;
	images_resolve(scan->images, scan->n);
	judge_all(scan);
	return 0;
}

static void
scan_init(struct scan *scan, struct sr *sr)
{
	*scan = (struct scan){
		.sr = sr, .db = sr->daemon->db,
		.orphans = json_object_new_object(), .doubts = json_object_new_object(),
		.rows = json_object_new_object(),
	};
}

/* ---- Nothing to do ---- */

/* Whether a VDI of any SR was made, changed or deleted since. */
static bool
rows_changed(struct db *db, uint64_t since)
{
	const struct db_interest vdis = { api_class_find("VDI", false), NULL };

	return db_concerned(db, since, &vdis, 1);
}

/* An image that has its row since just now is as those that had theirs, if it stands alone
 * and can be read: of others the next scan may learn more from the rows. */
static bool
is_settled_row(const struct scan *scan, size_t i)
{
	const struct image *image = &scan->images[i];
	const struct node *node = &scan->nodes[i];

	if (node->at_work || !image->look)
		return false;
	return node->row || (node->ref && !*image->look->why && !image->parent &&
			     image->n_children == 0);
}

/* Whether the same volumes, rows and images would leave a scan nothing to do: each volume
 * is an image that was looked at and has its row, and each row its volume. */
static bool
is_at_rest(const struct scan *scan)
{
	size_t n_rows = 0;

	for (size_t i = 0; i < scan->n; i++) {
		if (!is_settled_row(scan, i))
			return false;
		n_rows += scan->nodes[i].row != NULL;
	}
	return scan->n_listed == scan->n &&
	       (size_t)json_object_object_length(scan->rows) == n_rows;
}

static int
scan_whole(struct sr *sr, struct smd_error *err)
{
	struct scan scan CLEANUP_SCAN = { 0 };
	uint64_t generation;

	scan_init(&scan, sr);
	scan.n_before = scan_count_changes(&scan);
	if (survey(&scan, err) < 0 || scan_refresh_rows(&scan, err) < 0 ||
	    scan_introduce(&scan, err) < 0 || settle_all(&scan, err) < 0)
		return -1;
	report_orphans(&scan);
	/* Nobody else has changed a row meanwhile, and nothing of its own but new rows. */
	if (is_at_rest(&scan) && db_count_changes(sr->daemon->db, "VDI", &generation) ==
				 scan.n_before + scan.n_changes)
		sr->rest_generation = generation;
	return 0;
}

static int
scan_used(struct sr *sr, struct smd_error *err)
{
	uint64_t rest;
	LOCK_SCOPE(&sr->scan_lock);

	rest = sr->rest_generation;
	sr->rest_generation = 0;
	if (rest && !rows_changed(sr->daemon->db, rest) && looks_hold(sr, sr->looks)) {
		sr->rest_generation = rest;
	} else {
		if (scan_whole(sr, err) < 0)
			return -1;
		keeper_trims(sr->daemon->storage);	/* thousands of rows were small pieces */
	}
	return db_map_remove(sr->daemon->db, "SR", sr->ref, "other_config", "dirty", err);
}

static void
judge_known(struct scan *scan, const struct image *image)
{
	struct smd_error none CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct node *node = node_of(scan, image);
	struct smd_uuid_text uuid;
	const char *format;
	bool known;

	if (!node->row && !node->left_out && !node->recorded &&
	    volume_name_parse(image->location, &uuid, &format) &&
	    db_has(scan->db, "VDI", "uuid", uuid.text, &known, &none) == 0 && known)
		scan_orphan(scan, image, KNOWN_ALREADY);
}

/* What a scan learns when it makes the rows. In one transaction: one for each question would
 * take longer than the answers. */
static int
judge_all_known(struct scan *scan, struct smd_error *err)
{
	if (db_begin(scan->db, DB_RELAXED, err) < 0)
		return -1;
	for (size_t i = 0; i < scan->n; i++)
		judge_known(scan, &scan->images[i]);
	return db_commit(scan->db, err);
}

int
sr_orphans(struct daemon *daemon, const char *ref, json **ret, struct smd_error *err)
{
	struct scan scan CLEANUP_SCAN = { 0 };
	struct sr *sr;
	int r;

	if (sr_use(daemon, ref, &sr, err) < 0)
		return -1;
	scan_init(&scan, sr);
	pthread_mutex_lock(&sr->scan_lock);
	sr->rest_generation = 0;	/* what it sees first, the next scan has yet to act on */
	r = survey(&scan, err);
	if (r == 0)
		r = judge_all_known(&scan, err);
	pthread_mutex_unlock(&sr->scan_lock);
	if (r == 0)
		*ret = json_object_get(scan.orphans);
	sr_release(sr);
	return r;
}

int
sr_scan(struct daemon *daemon, const char *ref, struct smd_error *err)
{
	struct sr *sr;
	int r;

	if (sr_use(daemon, ref, &sr, err) < 0)
		return -1;
	settle_sr(sr);		/* a job's volumes are left alone */
	r = scan_used(sr, err);
	sr_release(sr);
	if (r < 0)
		return -1;
	collect_kick(daemon, ref);
	return sr_update_stats(daemon, ref, err);
}
