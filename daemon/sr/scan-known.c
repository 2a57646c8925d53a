/* SPDX-License-Identifier: BSD-2-Clause */
/* SR.scan: volumes that have a row, and rows that have no volume. */
#include "daemon/sr/scan-impl.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/job/job.h"
#include "daemon/sr/tree.h"
#include "daemon/sr/volume.h"

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

/* ---- A row without a volume ---- */

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

int
scan_refresh_rows(struct scan *scan, struct smd_error *err)
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
