/* SPDX-License-Identifier: BSD-2-Clause */
/* SR.scan: the rows and the volumes are brought together, by location. One broken
 * image is flagged in its own row and never stops the rest. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/job.h"
#include "daemon/sr/internal.h"
#include "daemon/sr/volume.h"

#define IMAGE_ERROR_KEY "image-error"

static int
note_volume(void *opaque, const struct smd_sr_volume *volume, struct smd_error *err)
{
	json *volumes = opaque;

	(void)err;
	smd_json_set_int(volumes, volume->name, (int64_t)volume->allocated);
	return 0;
}

/* Why an image cannot be used, as text for sm_config; NULL: the trouble is not the
 * image's (it vanished, or the daemon has troubles of its own). */
static char *
image_error(const struct smd_error *err)
{
	if (err->errnum == ENOENT)
		return NULL;
	if (smd_error_is(err, SMD_E_IMAGE_CORRUPT) || smd_error_is(err, SMD_E_IMAGE_UNSUPPORTED))
		return smd_asprintf("%s %s: %s", err->code, err->params[1], err->message);
	return smd_asprintf("%s: %s", err->code, err->message);
}

/* Ask a worker, or say why not. *ret_why "": readable. */
static void
look_at(struct sr *sr, const char *name, const char *format, uint64_t *ret_size, char **ret_why)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *info = NULL;

	*ret_size = 0;
	*ret_why = NULL;
	if (!storage_format(sr->daemon, format)) {
		*ret_why = smd_asprintf("FORMAT_UNKNOWN: no module for the format %s is loaded", format);
	} else if (volume_info(sr->daemon, sr, name, format, &info, &err) == 0) {
		*ret_size = (uint64_t)smd_json_int(info, "virtual-size", 0);
		*ret_why = smd_strdup("");
	} else {
		*ret_why = image_error(&err);
	}
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
	if (!*why && (uint64_t)smd_json_int(row, "virtual_size", 0) != size &&
	    db_set_int(db, "VDI", ref, "virtual_size", (int64_t)size, err) < 0)
		return -1;
	return set_image_error(db, ref, smd_json_member(row, "sm_config"), why, err);
}

int
vdi_refresh(struct sr *sr, const char *ref, json *row, struct smd_error *err)
{
	const char *location = smd_json_str(row, "location", "");
	struct db *db = sr->daemon->db;
	CLEANUP_FREE char *why = NULL;
	const char *dot = strrchr(location, '.');
	uint64_t size;

	look_at(sr, location, dot ? dot + 1 : "", &size, &why);
	if (!why)
		return 0;
	if (db_begin(db, DB_RELAXED, err) < 0)
		return -1;
	if (!db_exists(db, "VDI", ref)) {
		db_rollback(db);
		return 0;
	}
	if (update_in_transaction(db, ref, row, size, (int64_t)volume_allocated(sr, location), why,
				  err) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

/* ---- A volume without a row ---- */

/* snapshot_of is a uuid in the record; the row wants a ref. */
static void
resolve_snapshot_of(struct db *db, json *row)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const char *uuid = smd_json_str(row, "snapshot_of", "");
	CLEANUP_FREE char *ref = NULL;

	if (*uuid)
		db_by_uuid(db, "VDI", uuid, &ref, &err);
	smd_json_set_str(row, "snapshot_of", ref ? ref : API_NULL_REF);
}

static json *
new_row(struct sr *sr, const char *location, const char *uuid, const char *format,
	uint64_t size, int64_t allocated, const char *why)
{
	json *row = json_object_new_object(), *sm_config;

	smd_json_set_str(row, "uuid", uuid);
	smd_json_set_str(row, "type", "user");
	records_apply(sr, location, row);
	resolve_snapshot_of(sr->daemon->db, row);
	sm_config = smd_json_member(row, "sm_config");
	if (!sm_config) {
		sm_config = json_object_new_object();
		smd_json_set(row, "sm_config", sm_config);
	}
	smd_json_set_str(sm_config, "image-format", format);
	json_object_object_del(sm_config, IMAGE_ERROR_KEY);
	if (*why)
		smd_json_set_str(sm_config, IMAGE_ERROR_KEY, why);
	smd_json_set_str(row, "SR", sr->ref);
	smd_json_set_str(row, "location", location);
	smd_json_set_int(row, "virtual_size", (int64_t)size);
	smd_json_set_int(row, "physical_utilisation", allocated);
	return row;
}

static int
introduce(struct sr *sr, const char *location, int64_t allocated, struct smd_error *err)
{
	struct smd_error uuid_err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *why = NULL, *ref = db_new_ref(), *other = NULL;
	CLEANUP_JSON json *row = NULL;
	struct smd_uuid_text uuid;
	const char *format;
	uint64_t size;
	int r;

	if (!volume_name_parse(location, &uuid, &format) ||
	    (!storage_format(sr->daemon, format) && !records_have(sr, location))) {
		smd_log(SMD_LOG_DEBUG, "SR %s: %s is left alone", sr->uuid, location);
		return 0;
	}
	look_at(sr, location, format, &size, &why);
	if (!why)
		return 0;
	row = new_row(sr, location, uuid.text, format, size, allocated, why);
	if (db_by_uuid(sr->daemon->db, "VDI", smd_json_str(row, "uuid", ""), &other, &uuid_err) == 0) {
		smd_log(SMD_LOG_WARNING, "SR %s: %s is left alone: VDI %s is known already, elsewhere",
			sr->uuid, location, smd_json_str(row, "uuid", ""));
		return 0;
	}
	r = volume_introduce(sr->daemon, sr, ref, row, err);
	if (r == 0)
		op_refresh(sr->daemon, "VDI", ref);
	else if (smd_error_is(err, SMD_E_LOCATION_NOT_UNIQUE)) {
		smd_error_clear(err);	/* somebody was faster */
		return 0;
	}
	return r;
}

/* ---- All of them ---- */

static bool
row_is_busy(json *row)
{
	json *current = smd_json_member(row, "current_operations");

	return current && json_object_object_length(current) > 0;
}

/* A row whose volume the listing lacks: it may have been made meanwhile. */
static int
row_without_volume(struct sr *sr, const char *ref, json *row, struct smd_error *err)
{
	struct smd_error stat_err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_error gone CLEANUP_ERROR = SMD_ERROR_INIT;
	const char *location = smd_json_str(row, "location", "");
	struct db *db = sr->daemon->db;
	CLEANUP_FREE char *now = NULL;
	struct smd_sr_volume volume;

	if (row_is_busy(row) || job_has_volume(sr->daemon->jobs, sr->uuid, location) ||
	    sr->driver->volume_stat(sr->handle, location, &volume, &stat_err) == 0 ||
	    stat_err.errnum != ENOENT)
		return 0;
	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	if (db_get_str(db, "VDI", ref, "location", &now, &gone) < 0 || strcmp(now, location) != 0) {
		db_rollback(db);	/* forgotten, or at another place by now */
		return 0;
	}
	smd_log(SMD_LOG_WARNING, "SR %s has lost %s, VDI %s (%s)", sr->uuid, location,
		smd_json_str(row, "uuid", ""), smd_json_str(row, "name_label", ""));
	if (db_delete(db, "VDI", ref, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

static int
scan_rows(struct sr *sr, json *rows, json *volumes, struct smd_error *err)
{
	json_object_object_foreach(rows, ref, row) {
		const char *location = smd_json_str(row, "location", "");
		bool there = json_object_object_get_ex(volumes, location, NULL);

		json_object_object_del(volumes, location);
		if (there && row_is_busy(row))
			continue;
		if ((there ? vdi_refresh(sr, ref, row, err)
			   : row_without_volume(sr, ref, row, err)) < 0)
			return -1;
	}
	return 0;
}

/* Volumes the first look at the rows did not explain. A job that ends between
 * the two looks has either made its row or deleted its volume by now. */
static int
scan_volumes(struct sr *sr, json *volumes, struct smd_error *err)
{
	json_object_object_foreach(volumes, location, allocated) {
		CLEANUP_JSON json *rows = NULL;
		bool known = false;

		if (job_has_volume(sr->daemon->jobs, sr->uuid, location))
			continue;
		if (db_find(sr->daemon->db, "VDI", "location", location, &rows, err) < 0)
			return -1;
		for (size_t i = 0; !known && i < json_object_array_length(rows); i++) {
			struct smd_error gone CLEANUP_ERROR = SMD_ERROR_INIT;
			CLEANUP_FREE char *ref = NULL;

			db_get_str(sr->daemon->db, "VDI", json_object_get_string(
					   json_object_array_get_idx(rows, i)), "SR", &ref, &gone);
			known = ref && strcmp(ref, sr->ref) == 0;
		}
		if (!known && introduce(sr, location, json_object_get_int64(allocated), err) < 0)
			return -1;
	}
	return 0;
}

static int
scan_used(struct sr *sr, struct smd_error *err)
{
	CLEANUP_FREE char *expr = smd_asprintf("field \"SR\" = \"%s\"", sr->ref);
	CLEANUP_JSON json *volumes = json_object_new_object();
	CLEANUP_JSON json *rows = NULL;
	LOCK_SCOPE(&sr->scan_lock);

	if (sr->driver->scan(sr->handle, note_volume, volumes, err) < 0 ||
	    db_all_records(sr->daemon->db, "VDI", expr, &rows, err) < 0 ||
	    scan_rows(sr, rows, volumes, err) < 0 || scan_volumes(sr, volumes, err) < 0)
		return -1;
	return db_map_remove(sr->daemon->db, "SR", sr->ref, "other_config", "dirty", err);
}

int
sr_scan(struct daemon *daemon, const char *ref, struct smd_error *err)
{
	struct sr *sr;
	int r;

	if (sr_use(daemon, ref, &sr, err) < 0)
		return -1;
	r = scan_used(sr, err);
	if (r == 0)
		records_save(sr);
	sr_release(sr);
	return r < 0 ? -1 : sr_update_stats(daemon, ref, err);
}
