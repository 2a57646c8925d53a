/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SR.scan: the rows and the volumes are brought together, by location. Volumes that
 * nobody knows become VDIs, with the chains their images make; one broken image is
 * flagged in its own row, and in those of the images that lie on it, and never stops
 * the rest. Nothing on the storage is changed.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/db/db.h"
#include "daemon/job/collect.h"
#include "daemon/job/job.h"
#include "daemon/sr/cbt.h"
#include "daemon/sr/images.h"
#include "daemon/sr/internal.h"
#include "daemon/sr/names.h"
#include "daemon/sr/settle.h"
#include "daemon/sr/tree.h"
#include "daemon/sr/volume.h"

#define IMAGE_ERROR_KEY "image-error"
/* Found hidden, and to become an inner node once nothing unreadable may lie on it. */
#define HIDDEN_KEY "hidden-image"
#define ROWS_AT_ONCE 1000	/* in one transaction: others wait so long, and each writes most
				 * pages of the indexes anew */
#define ROWS_FIRST 125		/* in the first: nothing can be inserted before they are made */

/* A volume of the SR, and the row it has or gets. */
struct node {
	json *row;		/* as it was; borrowed; NULL: nobody knows the volume */
	char *ref;		/* NULL: none yet */
	struct listed *listed;
	bool at_work;		/* a job's: to be left alone */
	bool left_out;		/* it gets no row */
	size_t n_child_rows;	/* of the images that lie on it */
	bool recorded;		/* without a row: in the SR's records, as … */
	bool parent_recorded;	/* … what it lies on, */
	bool unmanaged;		/* … nobody's disk */
	char *snapshot_of;	/* uuid, from its record; NULL: none */
};

struct scan {
	struct sr *sr;
	struct db *db;
	struct listed *listed;	/* what there is, in the driver's order */
	size_t n_listed;
	struct names volumes;	/* locations: their places in listed */
	json *rows;		/* {ref: row} of before */
	size_t n;
	struct image *images;
	struct node *nodes;	/* of images[i] */
	struct names places;	/* of images, by location and by ref; empty: nobody has asked yet */
	json *orphans;		/* {name: why it is no VDI} */
	bool introduced;	/* rows, which are durable only with settle_all */
	uint64_t n_before;	/* changes of VDIs, when it began */
	uint64_t n_changes;	/* … and by the introduction of rows */
	json *doubts;		/* formats with an image that may lie on any other of its kind */
	json *allowed;		/* operations of a new row that no record tells of; NULL: not known */
};

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

static struct node *
node_of(struct scan *scan, const struct image *image)
{
	return &scan->nodes[image - scan->images];
}

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
	snprintf(listed->stamp, sizeof listed->stamp, "%s", stamp ? stamp : "");
	if (names_add(&scan->volumes, listed->location, n))
		scan->n_listed++;
	else
		free(listed->location);		/* it was renamed meanwhile, say */
	return 0;
}

/* ---- A volume with a row ---- */

static int
set_image_error(struct db *db, const char *ref, json *sm_config, const char *why,
		struct smd_error *err)
{
	const char *old = smd_json_str(sm_config, IMAGE_ERROR_KEY, "");

	if (strcmp(old, why) == 0)
		return 0;
	if (!*why)
		return db_map_remove(db, "VDI", ref, "sm_config", IMAGE_ERROR_KEY, err);
	return db_map_set(db, "VDI", ref, "sm_config", IMAGE_ERROR_KEY, why, err);
}

/* size 0: not known; why NULL: as it was. */
static bool
is_up_to_date(json *row, uint64_t size, int64_t allocated, const char *why)
{
	return !smd_json_bool(row, "missing", false) &&
	       smd_json_int(row, "physical_utilisation", -1) == allocated &&
	       (size == 0 || (uint64_t)smd_json_int(row, "virtual_size", 0) == size) &&
	       (!why || strcmp(smd_json_str(smd_json_member(row, "sm_config"), IMAGE_ERROR_KEY, ""),
			       why) == 0);
}

static int
update_in_transaction(struct db *db, const char *ref, json *row, uint64_t size,
		      int64_t allocated, const char *why, struct smd_error *err)
{
	if (smd_json_bool(row, "missing", false) &&
	    db_set_bool(db, "VDI", ref, "missing", false, err) < 0)
		return -1;
	if (smd_json_int(row, "physical_utilisation", -1) != allocated &&
	    db_set_int(db, "VDI", ref, "physical_utilisation", allocated, err) < 0)
		return -1;
	if (size && (uint64_t)smd_json_int(row, "virtual_size", 0) != size &&
	    db_set_int(db, "VDI", ref, "virtual_size", (int64_t)size, err) < 0)
		return -1;
	return why ? set_image_error(db, ref, smd_json_member(row, "sm_config"), why, err) : 0;
}

/* Of an image that lies on another, only a scan knows whether its chain is whole. */
static const char *
why_of_look(const struct look *look, json *row)
{
	json *sm_config = smd_json_member(row, "sm_config");

	if (!*look->why && look->has_parent)
		return smd_json_str(sm_config, IMAGE_ERROR_KEY, "");
	return !*look->why && look->degraded ? LOOK_DEGRADED : look->why;
}

int
vdi_refresh(struct sr *sr, const char *ref, json *row, struct smd_error *err)
{
	const char *location = smd_json_str(row, "location", "");
	CLEANUP_LOOK struct look *look = NULL;
	struct db *db = sr->daemon->db;
	int r = 0;

	if (look_at(sr, location, &look, err) < 0 || !look || db_begin(db, DB_RELAXED, err) < 0)
		return err->code ? -1 : 0;
	if (db_exists(db, "VDI", ref))
		r = update_in_transaction(db, ref, row, look->virtual_size,
					  (int64_t)volume_allocated(sr, location),
					  why_of_look(look, row), err);
	return db_end(db, r, err);
}

static bool
row_is_busy(json *row)
{
	json *current = smd_json_member(row, "current_operations");

	return current && json_object_object_length(current) > 0;
}

/* What was seen is of before: a row that was changed since, or that is being, is newer. */
static int
row_as_it_was(struct daemon *daemon, const char *ref, json *row, json **ret,
	      struct smd_error *err)
{
	CLEANUP_JSON json *now = NULL;
	struct db *db = daemon->db;

	*ret = NULL;
	if (!db_exists(db, "VDI", ref))
		return 0;
	if (op_show(daemon, "VDI", ref, err) < 0 || db_get_record(db, "VDI", ref, &now, err) < 0)
		return -1;
	if (!row_is_busy(now) &&
	    strcmp(smd_json_str(now, "location", ""), smd_json_str(row, "location", "")) == 0 &&
	    smd_json_int(now, "virtual_size", 0) == smd_json_int(row, "virtual_size", 0))
		*ret = TAKE_PTR(now);
	return 0;
}

static int
refresh_row(struct scan *scan, const struct image *image, struct smd_error *err)
{
	struct node *node = node_of(scan, image);
	uint64_t size = image->look && !*image->look->why ? image->look->virtual_size : 0;
	CLEANUP_JSON json *now = NULL;
	int r;

	if (node->at_work || !node->listed->is_told ||
	    is_up_to_date(node->row, size, node->listed->allocated, image->why))
		return 0;
	if (db_begin(scan->db, DB_RELAXED, err) < 0)
		return -1;
	r = row_as_it_was(scan->sr->daemon, node->ref, node->row, &now, err);
	if (r == 0 && now)
		r = update_in_transaction(scan->db, node->ref, now, size, node->listed->allocated,
					  image->why, err);
	return db_end(scan->db, r, err);
}

/* The row of a disk that stands alone goes. One of a tree stays, as missing: without
 * it the collector would take the images below for garbage, and they may be all that is
 * left, or their child may come back. */
static int
drop_lost(struct db *db, const char *ref, json *row, struct smd_error *err)
{
	CLEANUP_FREE char *parent = NULL;
	bool has_children;

	if (tree_parent(db, ref, &parent, err) < 0 ||
	    tree_has_children(db, ref, &has_children, err) < 0)
		return -1;
	if (!parent && !has_children)
		return db_delete(db, "VDI", ref, err);
	if (smd_json_bool(row, "missing", false))
		return 0;
	if (db_set_bool(db, "VDI", ref, "missing", true, err) < 0)
		return -1;
	return set_image_error(db, ref, smd_json_member(row, "sm_config"),
			       "VDI_MISSING: its volume is gone; VDI.destroy gives it up", err);
}

/* A row whose volume the listing lacks: it may have been made meanwhile. */
static int
row_without_volume(struct scan *scan, const char *ref, json *row, struct smd_error *err)
{
	struct smd_error stat_err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_error gone CLEANUP_ERROR = SMD_ERROR_INIT;
	const char *location = smd_json_str(row, "location", "");
	CLEANUP_FREE char *now = NULL;
	struct smd_sr_volume volume;
	struct sr *sr = scan->sr;

	if (row_is_busy(row) || job_has_volume(sr->daemon->jobs, sr->uuid, location) ||
	    sr->driver->volume_stat(sr->handle, location, &volume, &stat_err) == 0 ||
	    stat_err.errnum != ENOENT)
		return 0;
	if (db_begin(scan->db, DB_DURABLE, err) < 0)
		return -1;
	if (db_get_str(scan->db, "VDI", ref, "location", &now, &gone) < 0 ||
	    strcmp(now, location) != 0) {
		db_rollback(scan->db);	/* forgotten, or at another place by now */
		return 0;
	}
	if (!smd_json_bool(row, "missing", false))
		smd_log(SMD_LOG_WARNING, "SR %s has lost %s, VDI %s (%s)", sr->uuid, location,
			smd_json_str(row, "uuid", ""), smd_json_str(row, "name_label", ""));
	return db_end(scan->db, drop_lost(scan->db, ref, row, err), err);
}

/* ---- What there is ---- */

static void
add_node(struct scan *scan, const char *ref, json *row, struct listed *listed)
{
	struct image *image = &scan->images[scan->n];
	struct node *node = &scan->nodes[scan->n];
	const char *location = listed->location;

	image->location = location;
	image->format = look_format(scan->sr, location);
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

static int
look_at_all(struct scan *scan, struct smd_error *err)
{
	CLEANUP_FREE struct listed **volumes = smd_calloc(scan->n + 1, sizeof *volumes);
	size_t n = 0;

	for (size_t i = 0; i < scan->n; i++) {
		if (!scan->nodes[i].at_work)
			volumes[n++] = scan->nodes[i].listed;
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

	if (scan->places.n == 0)
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

static void
orphan(struct scan *scan, const struct image *image, const char *why)
{
	node_of(scan, image)->left_out = true;
	smd_json_set_str(scan->orphans, image->location, why);
}

/* XenServer's collector sets a leaf aside under such a name while it merges it. */
#define LEFT_BY_SM "OLD_"

/* Such as a copy made by hand. */
#define KNOWN_ALREADY "its VDI is known already, with another volume"

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
		orphan(scan, image, look->why);
	else if (strncmp(image->location, LEFT_BY_SM, strlen(LEFT_BY_SM)) == 0)
		orphan(scan, image, "left by XenServer's collector, which was interrupted");
	else if (*look->why && !named && !recorded)
		orphan(scan, image, look->why);
	else if (!*look->why && image->n_children == 0 &&
		 (recorded ? node_of(scan, image)->unmanaged : look->hidden))
		orphan(scan, image, "hidden, and no image lies on it: it was deleted, or what lies on "
		       "it is missing");
	else if (image->parent && node_of(scan, image->parent)->at_work)
		node_of(scan, image)->left_out = true;
}

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

/* Say what lies on what, where both have a row that is as it was seen. */
static int
link_parent(struct scan *scan, const struct image *image, struct smd_error *err)
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
	return link_parent(scan, image, err);
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
		orphan(scan, rows->images[first + n_made], KNOWN_ALREADY);
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
		orphan(scan, image, KNOWN_ALREADY);
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

static uint64_t
n_changes(const struct scan *scan)
{
	uint64_t generation;

	return db_count_changes(scan->db, "VDI", &generation);
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
	before = n_changes(scan);
	alone = before == scan->n_before + scan->n_changes;
	for (size_t i = 0; r == 0 && i < rows->n; i += n_done) {
		if (i >= end)
			end = i + count_unclaimed(scan, rows, i, alone);
		n_done = 1;
		r = end > i ? introduce_unclaimed(scan, rows, i, end - i, &n_done, err)
			    : introduce(scan, rows, i, err);
	}
	scan->n_changes += n_changes(scan) - before;
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
	helped = n > ROWS_FIRST && pthread_create(&thread, NULL, making_main, m) == 0;
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

static int
introduce_all(struct scan *scan, struct smd_error *err)
{
	bool more = true;

	for (size_t depth = 1; more; depth++) {
		more = false;
		if (introduce_depth(scan, depth, &more, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- The trees ---- */

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
			r = link_parent(scan, &scan->images[i], err);
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

static int
refresh_all(struct scan *scan, struct smd_error *err)
{
	size_t at;

	json_object_object_foreach(scan->rows, ref, row) {
		if (!names_find(&scan->volumes, smd_json_str(row, "location", ""), &at) &&
		    row_without_volume(scan, ref, row, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < scan->n; i++) {
		if (scan->nodes[i].row && refresh_row(scan, &scan->images[i], err) < 0)
			return -1;
	}
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
	scan.n_before = n_changes(&scan);
	if (survey(&scan, err) < 0 || refresh_all(&scan, err) < 0 ||
	    introduce_all(&scan, err) < 0 || settle_all(&scan, err) < 0)
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
		orphan(scan, image, KNOWN_ALREADY);
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
