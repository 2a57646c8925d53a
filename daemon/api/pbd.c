/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"
#include "daemon/sr/sr.h"

static int
check_device_config(json *config, struct smd_error *err)
{
	const char *master = smd_json_str(config, "SRmaster", NULL);

	if (!master)
		return 0;
	return smd_fail_VALUE_NOT_SUPPORTED(err, "SRmaster", master,
					    "This key is for internal use only",
					    "device-config SRmaster is for internal use only");
}

/* The SR's PBD on a host; NULL: none. */
static int
find_pbd(struct db *db, const char *sr, const char *host, char **ret, struct smd_error *err)
{
	CLEANUP_JSON json *pbds = NULL;

	*ret = NULL;
	if (db_find(db, "PBD", "SR", sr, &pbds, err) < 0)
		return -1;
	for (size_t i = 0; !*ret && i < json_object_array_length(pbds); i++) {
		const char *ref = json_object_get_string(json_object_array_get_idx(pbds, i));
		CLEANUP_FREE char *its_host = NULL;

		if (db_get_str(db, "PBD", ref, "host", &its_host, err) < 0)
			return -1;
		if (strcmp(its_host, host) == 0)
			*ret = smd_strdup(ref);
	}
	return 0;
}

static int
insert_pbd(struct db *db, json *args, const char *ref, struct smd_error *err)
{
	const char *sr = smd_json_str(args, "SR", ""), *host = smd_json_str(args, "host", "");
	CLEANUP_FREE char *other = NULL;

	if (!db_exists(db, "SR", sr))
		return smd_fail_HANDLE_INVALID(err, "SR", sr, "there is no SR %s", sr);
	if (!db_exists(db, "host", host))
		return smd_fail_HANDLE_INVALID(err, "host", host, "there is no host %s", host);
	if (find_pbd(db, sr, host, &other, err) < 0)
		return -1;
	if (other)
		return smd_fail_PBD_EXISTS(err, sr, host, other,
					   "the SR has a PBD on this host already: %s", other);
	return db_insert(db, "PBD", ref, args, err);
}

static int
pbd_create(struct call *call, json **ret, struct smd_error *err)
{
	struct db *db = call->daemon->db;
	CLEANUP_FREE char *ref = db_new_ref();
	CLEANUP_JSON json *row = json_object_new_object();
	json *args = call_arg(call, 0);

	if (check_device_config(smd_json_member(args, "device_config"), err) < 0)
		return -1;
	smd_json_set_str(row, "uuid", smd_uuid_new().text);
	for (const char *const *field = API_VALUES("host", "SR", "device_config", "other_config");
	     *field; field++) {
		json *value = smd_json_member(args, *field);

		if (value)
			smd_json_set(row, *field, json_object_get(value));
	}
	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	if (db_end(db, insert_pbd(db, row, ref, err), err) < 0)
		return -1;
	*ret = json_object_new_string(ref);
	return 0;
}

static int
delete_pbd(struct db *db, const char *self, struct smd_error *err)
{
	bool attached;

	if (db_get_bool(db, "PBD", self, "currently_attached", &attached, err) < 0)
		return -1;
	if (attached)
		return smd_fail_OPERATION_NOT_ALLOWED(err, "PBD is currently attached",
						      "the PBD is attached: unplug it first");
	return db_delete(db, "PBD", self, err);
}

/* One transaction: a plug that is under way either comes first or finds no PBD. */
static int
pbd_destroy(struct call *call, json **ret, struct smd_error *err)
{
	struct db *db = call->daemon->db;

	(void)ret;
	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	return db_end(db, delete_pbd(db, call_str(call, 0), err), err);
}

static int
pbd_plug(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *host = NULL, *sr = NULL;

	(void)ret;
	if (db_get_str(call->daemon->db, "PBD", call_str(call, 0), "host", &host, err) < 0 ||
	    db_get_str(call->daemon->db, "PBD", call_str(call, 0), "SR", &sr, err) < 0)
		return -1;
	if (strcmp(host, call->daemon->host_ref) != 0)
		return smd_fail_SR_NOT_SHARABLE(err, sr, host,
						"the PBD is another host's: plug it there");
	return pbd_attach(call->daemon, call_str(call, 0), err);
}

static int
pbd_unplug(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return pbd_detach(call->daemon, call_str(call, 0), err);
}

static int
pbd_set_device_config(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	if (check_device_config(call_arg(call, 1), err) < 0)
		return -1;
	return db_set(call->daemon->db, "PBD", call_str(call, 0), "device_config",
		      call_arg(call, 1), err);
}

const struct call_binding api_pbd_handlers[] = {
	{ "PBD.create", pbd_create },
	{ "PBD.destroy", pbd_destroy },
	{ "PBD.plug", pbd_plug },
	{ "PBD.unplug", pbd_unplug },
	{ "PBD.set_device_config", pbd_set_device_config },
	{ NULL, NULL },
};
