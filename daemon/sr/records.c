/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The records kept with an SR: what the database knows of its VDIs beyond their
 * data, so that the SR can be forgotten here and introduced elsewhere.
 *
 *   {"version":1, "vdis":{LOCATION:{"uuid":…, "name_label":…, …,
 *                                   "snapshot_of": the uuid of a VDI or "",
 *                                   "parent": the LOCATION it lies on or ""}}}
 *
 * They are keyed by location, since a volume that replaced another keeps the
 * VDI's uuid under a name of its own. A VDI whose row is gone without having been
 * destroyed (forgotten, vanished) keeps its record.
 */
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/text.h"
#include "daemon/db/db.h"
#include "daemon/sr/internal.h"
#include "daemon/sr/tree.h"
#include "daemon/sr/volume.h"

#define KEEPER_MS 3000
#define TRIM_MS 1000		/* behind a scan, whose answer is on its way */

static const char *const kept_fields[] = {
	"uuid", "name_label", "name_description", "type", "sharable", "read_only", "other_config",
	"xenstore_data", "sm_config", "tags", "is_a_snapshot", "snapshot_time", "managed",
	"on_boot", "allow_caching", "virtual_size", NULL,
};

/* "": none, or one whose row is gone. */
static char *
parent_location(struct db *db, const char *ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *parent = NULL;
	char *location = NULL;

	if (tree_parent(db, ref, &parent, &err) == 0 && parent)
		db_get_str(db, "VDI", parent, "location", &location, &err);
	return location ? location : smd_strdup("");
}

static json *
record_of_vdi(struct daemon *daemon, const char *ref, json *vdi)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const char *snapshot_of = smd_json_str(vdi, "snapshot_of", API_NULL_REF);
	CLEANUP_FREE char *parent = parent_location(daemon->db, ref);
	CLEANUP_FREE char *uuid = NULL;
	json *record = json_object_new_object();

	for (const char *const *field = kept_fields; *field; field++) {
		json *value = smd_json_member(vdi, *field);

		if (value)
			smd_json_set(record, *field, json_object_get(value));
	}
	if (strcmp(snapshot_of, API_NULL_REF) != 0)
		db_get_str(daemon->db, "VDI", snapshot_of, "uuid", &uuid, &err);
	smd_json_set_str(record, "snapshot_of", uuid ? uuid : "");
	smd_json_set_str(record, "parent", parent);
	return record;
}

/* What is known of a row now, over what was. Where it says the same, nothing changed. */
static void
note_row(struct sr *sr, const char *ref, json *vdi)
{
	CLEANUP_JSON json *record = record_of_vdi(sr->daemon, ref, vdi);
	CLEANUP_FREE char *text = smd_json_print(record);
	const char *location = smd_json_str(vdi, "location", "");

	if (strcmp(smd_json_str(sr->records, location, ""), text) == 0)
		return;
	smd_json_set_str(sr->records, location, text);
	sr->records_changed = true;
}

static int
note_every_row(struct sr *sr, struct smd_error *err)
{
	CLEANUP_FREE char *expr = smd_asprintf("field \"SR\" = \"%s\"", sr->ref);
	uint64_t generation = db_generation(sr->daemon->db);
	struct db_rows *rows;
	const char *ref;
	json *vdi;
	int rc;

	if (db_rows_open(sr->daemon->db, "VDI", expr, &rows, err) < 0)
		return -1;
	while ((rc = db_rows_next(rows, &ref, &vdi, err)) == 1) {
		note_row(sr, ref, vdi);
		json_object_put(vdi);
	}
	db_rows_close(rows);
	if (rc == 0)
		sr->records_generation = generation;
	return rc;
}

/* The records of what lies on a row name its location. */
static void
note_children(struct sr *sr, const char *ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *children = NULL;

	if (tree_children(sr->daemon->db, ref, &children, &err) < 0)
		return;
	for (size_t i = 0; i < json_object_array_length(children); i++) {
		const char *child = json_object_get_string(json_object_array_get_idx(children, i));
		CLEANUP_JSON json *vdi = NULL;

		if (db_get_record(sr->daemon->db, "VDI", child, &vdi, &err) == 0)
			note_row(sr, child, vdi);
		smd_error_clear(&err);
	}
}

static void
note_change(void *opaque, const struct db_change *change)
{
	struct sr *sr = opaque;

	if (change->what == DB_DELETED ||
	    strcmp(smd_json_str(change->record, "SR", ""), sr->ref) != 0)
		return;
	note_row(sr, change->ref, change->record);
	note_children(sr, change->ref);
}

/* The rows of now over the records: those that changed since the last time. */
static int
note_rows(struct sr *sr, struct smd_error *err)
{
	const struct db_interest interest = { api_class_find("VDI", false), NULL };
	struct db *db = sr->daemon->db;
	bool lost = false;

	if (sr->records_generation == 0)
		return note_every_row(sr, err);
	if (db_generation(db) == sr->records_generation)
		return 0;
	if (db_changes(db, sr->records_generation, &interest, 1, note_change, sr,
		       &sr->records_generation, &lost, err) < 0)
		return -1;
	return lost ? note_every_row(sr, err) : 0;
}

static char *
records_text(struct sr *sr)
{
	const char *comma = "";
	struct text text;

	text_begin(&text);
	fputs("{\"version\":1,\"vdis\":{", text.out);
	json_object_object_foreach(sr->records, location, record) {
		CLEANUP_JSON json *name = json_object_new_string(location);
		CLEANUP_FREE char *quoted = smd_json_print(name);

		fprintf(text.out, "%s%s:%s", comma, quoted, json_object_get_string(record));
		comma = ",";
	}
	fputs("}}", text.out);
	text_end(&text);
	return text.data;
}

void
records_save(struct sr *sr)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *text = NULL;

	if (!sr->driver->records_save)
		return;
	LOCK_SCOPE(&sr->records_lock);
	if (sr->records_unread)
		return;
	if (note_rows(sr, &err) == 0 && sr->records_changed) {
		text = records_text(sr);
		if (sr->driver->records_save(sr->handle, text, &err) == 0)
			sr->records_changed = false;
	}
	if (err.code)
		smd_log(SMD_LOG_ERR, "the records of SR %s: %s", sr->uuid, err.message);
}

/* What is there is input: anything unexpected in it is left out. */
void
records_load(struct sr *sr)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *text = NULL;
	CLEANUP_JSON json *whole = NULL;
	json *vdis;

	sr->records = json_object_new_object();
	if (!sr->driver->records_load)
		return;
	if (sr->driver->records_load(sr->handle, &text, &err) == 0 && text)
		whole = smd_json_parse(text, strlen(text), API_DEPTH_MAX, &err);
	if (err.code) {
		/* An empty set over them would lose every name for good. */
		sr->records_unread = true;
		smd_log(SMD_LOG_ERR, "the records of SR %s cannot be used, and are not replaced: %s",
			sr->uuid, err.message);
	}
	vdis = whole ? smd_json_member(whole, "vdis") : NULL;
	if (!json_object_is_type(vdis, json_type_object))
		return;
	json_object_object_foreach(vdis, location, record) {
		if (json_object_is_type(record, json_type_object)) {
			CLEANUP_FREE char *one = smd_json_print(record);

			smd_json_set_str(sr->records, location, one);
		}
	}
}

/* A new reference; NULL: there is none. records_lock is held. */
static json *
record_of(struct sr *sr, const char *location)
{
	const char *text = smd_json_str(sr->records, location, NULL);

	return text ? smd_json_read_back(text) : NULL;
}

/* The record's fields of the right type, over the row about to be made. */
bool
records_apply(struct sr *sr, const char *location, json *row)
{
	const struct api_class *cls = api_class_find("VDI", false);
	CLEANUP_JSON json *record = NULL;

	LOCK_SCOPE(&sr->records_lock);
	record = record_of(sr, location);
	if (!record)
		return false;
	for (const char *const *name = kept_fields; *name; name++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		const struct api_field *field = api_field_find(cls, *name);
		json *value = smd_json_member(record, *name), *copy = NULL, *accepted;

		if (!field || !value || json_object_deep_copy(value, &copy, NULL) < 0)
			continue;
		if (api_value_accept(field->type, copy, *name, &accepted, &err) == 0)
			smd_json_set(row, *name, accepted);
		json_object_put(copy);
	}
	smd_json_set_str(row, "snapshot_of", smd_json_str(record, "snapshot_of", ""));
	return true;
}

bool
records_look(struct sr *sr, const char *location, struct record_look *ret)
{
	CLEANUP_JSON json *record = NULL;
	const char *parent;

	*ret = (struct record_look){ .parent = NULL };
	LOCK_SCOPE(&sr->records_lock);
	if (!json_object_object_get_ex(sr->records, location, NULL))
		return false;
	record = record_of(sr, location);
	parent = smd_json_str(record, "parent", NULL);
	ret->tells_parent = parent != NULL;
	ret->parent = parent && *parent ? smd_strdup(parent) : NULL;
	ret->unmanaged = !smd_json_bool(record, "managed", true);
	return true;
}

void
records_forget(struct sr *sr, const char *location)
{
	LOCK_SCOPE(&sr->records_lock);
	if (!smd_json_member(sr->records, location))
		return;
	json_object_object_del(sr->records, location);
	sr->records_changed = true;
}

/* ---- The keeper: a thread that saves what changed, now and then ---- */

static bool
vdis_changed(struct daemon *daemon, uint64_t *since)
{
	const struct db_interest interest = { api_class_find("VDI", false), NULL };
	uint64_t now = db_generation(daemon->db);
	bool changed = db_concerned(daemon->db, *since, &interest, 1);

	*since = now;
	return changed;
}

static void
save_all(struct daemon *daemon)
{
	struct storage *storage = daemon->storage;
	CLEANUP_FREE struct sr **list = NULL;
	size_t n = 0;

	pthread_mutex_lock(&storage->lock);
	for (struct sr *sr = storage->attached; sr; sr = sr->next) {
		if (!sr->closing) {
			list = smd_reallocarray(list, n + 1, sizeof(struct sr *));
			sr->uses++;
			list[n++] = sr;
		}
	}
	pthread_mutex_unlock(&storage->lock);
	while (n-- > 0) {
		records_save(list[n]);
		sr_release(list[n]);
	}
}

/* Until then, or somebody has something else to do. keeper_lock. */
static void
keeper_wait(struct storage *storage, uint64_t ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	until.tv_sec += (time_t)(ms / 1000) + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&storage->keeper_wake, &storage->keeper_lock, &until);
}

static void *
keeper_main(void *opaque)
{
	struct daemon *daemon = opaque;
	struct storage *storage = daemon->storage;
	uint64_t since = db_generation(daemon->db), save_ms = smd_now_ms() + KEEPER_MS;

	pthread_mutex_lock(&storage->keeper_lock);
	while (!storage->stopping) {
		bool trims = storage->trim_ms && storage->trim_ms < save_ms;
		uint64_t now_ms = smd_now_ms(), due_ms = trims ? storage->trim_ms : save_ms;

		if (now_ms < due_ms) {
			keeper_wait(storage, due_ms - now_ms);
			continue;
		}
		if (trims)
			storage->trim_ms = 0;
		pthread_mutex_unlock(&storage->keeper_lock);
		if (trims)
			malloc_trim(0);
		else if (vdis_changed(daemon, &since))
			save_all(daemon);
		pthread_mutex_lock(&storage->keeper_lock);
		if (!trims)
			save_ms = smd_now_ms() + KEEPER_MS;
	}
	pthread_mutex_unlock(&storage->keeper_lock);
	return NULL;
}

void
keeper_trims(struct storage *storage)
{
	LOCK_SCOPE(&storage->keeper_lock);
	if (storage->trim_ms)
		return;
	storage->trim_ms = smd_now_ms() + TRIM_MS;
	pthread_cond_broadcast(&storage->keeper_wake);
}

void
keeper_start(struct daemon *daemon)
{
	daemon->storage->keeper_runs =
		pthread_create(&daemon->storage->keeper, NULL, keeper_main, daemon) == 0;
	if (!daemon->storage->keeper_runs)
		smd_log(SMD_LOG_WARNING, "records of SRs are saved only when they are detached");
}

void
keeper_stop(struct storage *storage)
{
	if (!storage->keeper_runs)
		return;
	pthread_mutex_lock(&storage->keeper_lock);
	storage->stopping = true;
	pthread_cond_broadcast(&storage->keeper_wake);
	pthread_mutex_unlock(&storage->keeper_lock);
	pthread_join(storage->keeper, NULL);
	storage->keeper_runs = false;
}
