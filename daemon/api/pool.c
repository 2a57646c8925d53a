/* SPDX-License-Identifier: BSD-2-Clause */
/* pool: one row; its messages are the generic ones. */
#include <unistd.h>

#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"

/* Clients read both counts, and show what is "restricted" as not for sale. */
static json *
pool_cpu_info(void)
{
	json *map = json_object_new_object();

	smd_json_set_str(map, "cpu_count", SMD_U64((uint64_t)sysconf(_SC_NPROCESSORS_ONLN)));
	smd_json_set_str(map, "socket_count", "1");
	return map;
}

static json *
pool_restrictions(void)
{
	json *map = json_object_new_object();

	smd_json_set_str(map, "restrict_vtpm", "true");
	smd_json_set_str(map, "restrict_zstd_export", "true");
	return map;
}

static int
pool_insert(struct daemon *daemon, struct smd_error *err)
{
	CLEANUP_JSON json *record = json_object_new_object();
	CLEANUP_FREE char *ref = db_new_ref();

	smd_json_set_str(record, "uuid", smd_uuid_new().text);
	smd_json_set_str(record, "master", daemon->host_ref);
	smd_json_set(record, "cpu_info", pool_cpu_info());
	smd_json_set(record, "restrictions", pool_restrictions());
	if (db_insert(daemon->db, "pool", ref, record, err) != 0)
		return -1;
	daemon->pool_ref = TAKE_PTR(ref);
	return 0;
}

int
api_pool_start(struct daemon *daemon, struct smd_error *err)
{
	CLEANUP_JSON json *info = pool_cpu_info();
	CLEANUP_JSON json *refs = NULL;

	if (db_all(daemon->db, "pool", &refs, err) != 0)
		return -1;
	if (json_object_array_length(refs) == 0)
		return pool_insert(daemon, err);
	daemon->pool_ref = smd_strdup(json_object_get_string(json_object_array_get_idx(refs, 0)));
	return db_set(daemon->db, "pool", daemon->pool_ref, "cpu_info", info, err);
}

const struct call_binding api_pool_handlers[] = {
	{ NULL, NULL },
};
