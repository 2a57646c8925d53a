/* SPDX-License-Identifier: BSD-2-Clause */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"
#include "daemon/sr/sr.h"
#include "daemon/sr/volume.h"

static char *
lower(const char *text)
{
	char *copy = smd_strdup(text);

	for (char *p = copy; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return copy;
}

static json *
sr_row(const char *uuid, const char *name_label, const char *name_description, const char *type,
       const char *content_type, bool shared, json *sm_config)
{
	json *row = json_object_new_object();

	smd_json_set_str(row, "uuid", uuid);
	smd_json_set_str(row, "name_label", name_label);
	smd_json_set_str(row, "name_description", name_description);
	smd_json_set_str(row, "type", type);
	smd_json_set_str(row, "content_type", content_type);
	smd_json_set_bool(row, "shared", shared);
	smd_json_set(row, "sm_config", json_object_get(sm_config));
	return row;
}

/* The rows of an SR that is on its storage now: both, or neither. */
static int
insert_rows(struct daemon *daemon, const char *sr_ref, json *sr, const char *pbd_ref,
	    json *device_config, struct smd_error *err)
{
	CLEANUP_JSON json *pbd = json_object_new_object();

	smd_json_set_str(pbd, "uuid", smd_uuid_new().text);
	smd_json_set_str(pbd, "host", daemon->host_ref);
	smd_json_set_str(pbd, "SR", sr_ref);
	smd_json_set(pbd, "device_config", json_object_get(device_config));
	if (db_begin(daemon->db, DB_DURABLE, err) < 0)
		return -1;
	if (db_insert(daemon->db, "SR", sr_ref, sr, err) < 0 ||
	    db_insert(daemon->db, "PBD", pbd_ref, pbd, err) < 0) {
		db_rollback(daemon->db);
		return -1;
	}
	return db_commit(daemon->db, err);
}

static int
handler_create(struct call *call, json **ret, struct smd_error *err)
{
	struct smd_error plug_err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *sr_ref = db_new_ref(), *pbd_ref = db_new_ref();
	CLEANUP_FREE char *type = lower(call_str(call, 5));
	struct smd_uuid_text uuid = smd_uuid_new();
	const struct smd_sr_driver *driver;
	struct smd_sr_config config;
	CLEANUP_JSON json *row = NULL;
	int r;

	if (!db_exists(call->daemon->db, "host", call_str(call, 0)))
		return smd_fail_HANDLE_INVALID(err, "host", call_str(call, 0), "there is no such host");
	if (sr_driver(call->daemon, type, &driver, err) < 0)
		return -1;
	sr_config_init(&config, call_arg(call, 1));
	r = driver->create(uuid.text, &config, err);
	sr_config_done(&config);
	if (r < 0)
		return -1;
	row = sr_row(uuid.text, call_str(call, 3), call_str(call, 4), type, call_str(call, 6),
		     call_bool(call, 7), call_arg(call, 8));
	if (insert_rows(call->daemon, sr_ref, row, pbd_ref, call_arg(call, 1), err) < 0)
		return -1;
	/* As in xapi, an SR that was made but cannot be attached is still made. */
	if (pbd_attach(call->daemon, pbd_ref, &plug_err) < 0) {
		smd_log(SMD_LOG_WARNING, "SR %s was made but not attached: %s", uuid.text,
			plug_err.message);
		op_refresh(call->daemon, "SR", sr_ref);
	}
	*ret = json_object_new_string(sr_ref);
	return 0;
}

static int
handler_introduce(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *uuid = lower(call_str(call, 0)), *type = lower(call_str(call, 3));
	CLEANUP_FREE char *ref = db_new_ref(), *other = NULL;
	struct smd_error unknown CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_sr_driver *driver;
	CLEANUP_JSON json *row = NULL;

	if (sr_driver(call->daemon, type, &driver, err) < 0)
		return -1;
	if (*uuid && !smd_uuid_ok(uuid))
		return smd_fail_UUID_INVALID(err, "SR", uuid, "\"%s\" is no uuid", uuid);
	if (*uuid && db_by_uuid(call->daemon->db, "SR", uuid, &other, &unknown) == 0)
		return smd_fail_SR_UUID_EXISTS(err, uuid, "there is an SR %s already", uuid);
	row = sr_row(*uuid ? uuid : smd_uuid_new().text, call_str(call, 1), call_str(call, 2), type,
		     call_str(call, 4), call_bool(call, 5), call_arg(call, 6));
	if (db_insert(call->daemon->db, "SR", ref, row, err) < 0)
		return -1;
	op_refresh(call->daemon, "SR", ref);
	*ret = json_object_new_string(ref);
	return 0;
}

/* ---- Going ---- */

static int
check_not_indestructible(struct db *db, const char *sr, struct smd_error *err)
{
	CLEANUP_FREE char *value = NULL;

	if (db_map_get(db, "SR", sr, "other_config", "indestructible", &value, err) < 0)
		return -1;
	if (value && strcmp(value, "true") == 0)
		return smd_fail_SR_INDESTRUCTIBLE(err, sr, "other_config:indestructible protects "
						  "the SR");
	return 0;
}

/* SR_HAS_PBD where one is attached. */
static int
check_detached(struct db *db, const char *sr, json **ret_pbds, struct smd_error *err)
{
	CLEANUP_JSON json *pbds = NULL;

	if (db_find(db, "PBD", "SR", sr, &pbds, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(pbds); i++) {
		const char *pbd = json_object_get_string(json_object_array_get_idx(pbds, i));
		bool attached;

		if (db_get_bool(db, "PBD", pbd, "currently_attached", &attached, err) < 0)
			return -1;
		if (attached)
			return smd_fail_SR_HAS_PBD(err, sr, "the SR is attached: unplug its PBDs "
						   "first");
	}
	*ret_pbds = TAKE_PTR(pbds);
	return 0;
}

static int
delete_all(struct db *db, const char *cls, const char *field, const char *value,
	   struct smd_error *err)
{
	CLEANUP_JSON json *refs = NULL;

	if (db_find(db, cls, field, value, &refs, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(refs); i++) {
		if (db_delete(db, cls, json_object_get_string(json_object_array_get_idx(refs, i)),
			      err) < 0)
			return -1;
	}
	return 0;
}

static int
drop_rows(struct db *db, const char *sr, struct smd_error *err)
{
	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	if (delete_all(db, "VDI", "SR", sr, err) < 0 || delete_all(db, "PBD", "SR", sr, err) < 0 ||
	    db_delete(db, "SR", sr, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

static int
handler_forget(struct call *call, json **ret, struct smd_error *err)
{
	struct op_set ops CLEANUP_OPS = { 0 };
	const char *sr = call_str(call, 0);
	CLEANUP_JSON json *pbds = NULL;

	(void)ret;
	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "SR", sr, "forget", err) < 0 ||
	    check_detached(call->daemon->db, sr, &pbds, err) < 0 ||
	    check_not_indestructible(call->daemon->db, sr, err) < 0)
		return -1;
	return drop_rows(call->daemon->db, sr, err);
}

static int
check_no_vdis(struct db *db, const char *sr, struct smd_error *err)
{
	CLEANUP_JSON json *vdis = NULL;

	if (db_find(db, "VDI", "SR", sr, &vdis, err) < 0)
		return -1;
	if (json_object_array_length(vdis) > 0)
		return smd_fail_SR_NOT_EMPTY(err, "the SR holds %zu VDIs: destroy or forget them "
					     "first", json_object_array_length(vdis));
	return 0;
}

static int
destroy_on_storage(struct daemon *daemon, json *pbds, struct smd_error *err)
{
	const char *pbd_ref = json_object_get_string(json_object_array_get_idx(pbds, 0));
	CLEANUP_JSON json *pbd = NULL;
	struct sr *sr;

	if (db_get_record(daemon->db, "PBD", pbd_ref, &pbd, err) < 0 ||
	    sr_open(daemon, pbd, pbd_ref, &sr, err) < 0)
		return -1;
	if (sr_get_driver(sr)->destroy(sr_handle(sr), err) < 0) {
		sr_close(sr);
		return -1;
	}
	sr_close_destroyed(sr);
	return 0;
}

static int
handler_destroy(struct call *call, json **ret, struct smd_error *err)
{
	struct op_set ops CLEANUP_OPS = { 0 };
	struct db *db = call->daemon->db;
	const char *sr = call_str(call, 0);
	CLEANUP_JSON json *pbds = NULL;

	(void)ret;
	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "SR", sr, "destroy", err) < 0 ||
	    check_detached(db, sr, &pbds, err) < 0)
		return -1;
	if (json_object_array_length(pbds) == 0)
		return smd_fail_SR_HAS_NO_PBDS(err, sr, "the SR has no PBD to reach its storage by");
	if (check_no_vdis(db, sr, err) < 0 || check_not_indestructible(db, sr, err) < 0 ||
	    destroy_on_storage(call->daemon, pbds, err) < 0)
		return -1;
	return drop_rows(db, sr, err);
}

/* ---- Looking ---- */

static int
handler_scan(struct call *call, json **ret, struct smd_error *err)
{
	struct op_set ops CLEANUP_OPS = { 0 };

	(void)ret;
	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "SR", call_str(call, 0), "scan", err) < 0)
		return -1;
	return sr_scan(call->daemon, call_str(call, 0), err);
}

static int
handler_get_orphans(struct call *call, json **ret, struct smd_error *err)
{
	return sr_orphans(call->daemon, call_str(call, 0), ret, err);
}

static int
handler_update(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return sr_update_stats(call->daemon, call_str(call, 0), err);
}

static char *
xml_escape(const char *text)
{
	size_t size = 6 * strlen(text) + 1, n = 0;
	char *out = smd_malloc(size);

	for (; *text; text++) {
		const char *as = *text == '<' ? "&lt;" : *text == '>' ? "&gt;" :
				 *text == '&' ? "&amp;" : *text == '"' ? "&quot;" : NULL;

		if (as)
			n += (size_t)snprintf(out + n, size - n, "%s", as);
		else
			out[n++] = *text;
	}
	out[n] = '\0';
	return out;
}

static void
append(char **text, char *more)
{
	char *longer = smd_asprintf("%s%s", *text, more);

	free(*text);
	free(more);
	*text = longer;
}

/* One SR of the XML that SM drivers answer a probe with; the keys of
 * device-config that reach it are named beside. */
static int
probe_found(void *opaque, const char *uuid, const struct smd_sr_config *config, uint64_t total,
	    struct smd_error *err)
{
	char **text = opaque;
	CLEANUP_FREE char *safe_uuid = xml_escape(uuid);

	(void)err;
	append(text, smd_asprintf("\t<SR>\n\t\t<UUID>%s</UUID>\n\t\t<size>%" PRIu64 "</size>\n",
				  safe_uuid, total));
	for (size_t i = 0; i < config->n; i++) {
		CLEANUP_FREE char *value = xml_escape(config->values[i]);

		append(text, smd_asprintf("\t\t<%s>%s</%s>\n", config->keys[i], value,
					  config->keys[i]));
	}
	append(text, smd_strdup("\t</SR>\n"));
	return 0;
}

static int
handler_probe(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *text = smd_strdup("<?xml version=\"1.0\" ?>\n<SRlist>\n");
	const struct smd_sr_driver *driver;
	struct smd_sr_config config;
	int r;

	if (sr_driver(call->daemon, call_str(call, 2), &driver, err) < 0)
		return -1;
	sr_config_init(&config, call_arg(call, 1));
	r = driver->probe(&config, probe_found, &text, err);
	sr_config_done(&config);
	if (r < 0)
		return -1;
	append(&text, smd_strdup("</SRlist>\n"));
	*ret = json_object_new_string(text);
	return 0;
}

/* The same as a record. An SR without a uuid is a place where one could be made. */
static int
probe_found_ext(void *opaque, const char *uuid, const struct smd_sr_config *config, uint64_t total,
		struct smd_error *err)
{
	json *result = json_object_new_object(), *keys = json_object_new_object();

	(void)err;
	for (size_t i = 0; i < config->n; i++)
		smd_json_set_str(keys, config->keys[i], config->values[i]);
	smd_json_set(result, "configuration", keys);
	smd_json_set_bool(result, "complete", true);
	smd_json_set(result, "extra_info", json_object_new_object());
	json_object_array_add(opaque, result);
	if (*uuid) {
		json *stat = json_object_new_object();

		smd_json_set_str(stat, "uuid", uuid);
		smd_json_set_str(stat, "name_label", "");
		smd_json_set_str(stat, "name_description", "");
		smd_json_set_int(stat, "free_space", -1);
		smd_json_set_int(stat, "total_space", (int64_t)total);
		smd_json_set_bool(stat, "clustered", false);
		smd_json_set_str(stat, "health", "healthy");
		smd_json_set(result, "sr", stat);
	}
	return 0;
}

static int
handler_probe_ext(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *results = json_object_new_array();
	const struct smd_sr_driver *driver;
	struct smd_sr_config config;
	int r;

	if (sr_driver(call->daemon, call_str(call, 2), &driver, err) < 0)
		return -1;
	sr_config_init(&config, call_arg(call, 1));
	r = driver->probe(&config, probe_found_ext, results, err);
	sr_config_done(&config);
	if (r == 0)
		*ret = TAKE_PTR(results);
	return r;
}

static int
handler_get_supported_types(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *all = NULL;
	json *types = json_object_new_array();

	if (db_all_records(call->daemon->db, "SM", NULL, &all, err) < 0) {
		json_object_put(types);
		return -1;
	}
	json_object_object_foreach(all, ref, record) {
		(void)ref;
		json_object_array_add(types, json_object_new_string(
					      smd_json_str(record, "type", "")));
	}
	*ret = types;
	return 0;
}

/* ---- Fields ---- */

static int
handler_set_shared(struct call *call, json **ret, struct smd_error *err)
{
	struct db *db = call->daemon->db;
	CLEANUP_FREE const char **refs = NULL;
	CLEANUP_JSON json *pbds = NULL;
	size_t n;

	(void)ret;
	if (db_find(db, "PBD", "SR", call_str(call, 0), &pbds, err) < 0)
		return -1;
	n = json_object_array_length(pbds);
	if (!call_bool(call, 1) && n > 1) {
		refs = smd_calloc(n + 1, sizeof *refs);
		for (size_t i = 0; i < n; i++)
			refs[i] = json_object_get_string(json_object_array_get_idx(pbds, i));
		return smd_fail_SR_HAS_MULTIPLE_PBDS(err, refs, "the SR has %zu PBDs", n);
	}
	return db_set_bool(db, "SR", call_str(call, 0), "shared", call_bool(call, 1), err);
}

static int
handler_set_name_label(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return db_set_str(call->daemon->db, "SR", call_str(call, 0), "name_label", call_str(call, 1),
			  err);
}

static int
handler_set_name_description(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return db_set_str(call->daemon->db, "SR", call_str(call, 0), "name_description",
			  call_str(call, 1), err);
}

const struct call_binding api_sr_handlers[] = {
	{ "SR.create", handler_create },
	{ "SR.introduce", handler_introduce },
	{ "SR.forget", handler_forget },
	{ "SR.destroy", handler_destroy },
	{ "SR.scan", handler_scan },
	{ "SR.get_orphans", handler_get_orphans },
	{ "SR.update", handler_update },
	{ "SR.probe", handler_probe },
	{ "SR.probe_ext", handler_probe_ext },
	{ "SR.get_supported_types", handler_get_supported_types },
	{ "SR.set_shared", handler_set_shared },
	{ "SR.set_name_label", handler_set_name_label },
	{ "SR.set_name_description", handler_set_name_description },
	{ NULL, NULL },
};
