/* SPDX-License-Identifier: BSD-2-Clause */
/* host and host_metrics: one row each, this machine's. */
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"

/* The API served is the newest there is (xapi 26.17): what clients compare. */
#define API_VERSION_MAJOR 2
#define API_VERSION_MINOR 23
#define PLATFORM_VERSION "3.4.0"	/* the platform of that API; clients parse three numbers */

static json *
string_map(const char *const *pairs)
{
	json *map = json_object_new_object();

	for (; pairs[0]; pairs += 2)
		smd_json_set_str(map, pairs[0], pairs[1]);
	return map;
}

/* A line "key<space>: value" of /proc/cpuinfo's first processor; the caller frees. */
static char *
cpuinfo_value(const char *key)
{
	CLEANUP(cleanup_fclose) FILE *f = fopen("/proc/cpuinfo", "re");
	CLEANUP_FREE char *line = NULL;
	size_t room = 0, len = strlen(key);

	while (f && getline(&line, &room, f) > 0) {
		char *colon = strchr(line, ':');

		if (strncmp(line, key, len) != 0 || !colon)
			continue;
		colon[strcspn(colon, "\n")] = '\0';
		return smd_strdup(colon + 1 + strspn(colon + 1, " "));
	}
	return smd_strdup("");
}

static json *
cpu_info(void)
{
	CLEANUP_FREE char *vendor = cpuinfo_value("vendor_id");
	CLEANUP_FREE char *model = cpuinfo_value("model name");
	CLEANUP_FREE char *flags = cpuinfo_value("flags");

	return string_map(SMD_PARAMS(
		"cpu_count", SMD_U64((uint64_t)sysconf(_SC_NPROCESSORS_ONLN)),
		"socket_count", "1",
		"vendor", vendor,
		"modelname", model,
		"flags", flags));
}

static json *
software_version(void)
{
	struct utsname u;

	uname(&u);
	return string_map(SMD_PARAMS(
		"product_brand", "smd",
		"product_version", SMD_VERSION,
		"product_version_text", SMD_VERSION,
		"platform_name", "smd",
		"platform_version", PLATFORM_VERSION,
		"build_number", "0",
		"hostname", u.nodename,
		"linux", u.release,
		"smd", SMD_VERSION,
		"xapi", "2.23",
		"xapi_build", "26.17.0"));
}

static json *
host_fields(void)
{
	json *record = json_object_new_object();
	struct utsname u;

	uname(&u);
	smd_json_set_str(record, "hostname", u.nodename);
	smd_json_set_int(record, "API_version_major", API_VERSION_MAJOR);
	smd_json_set_int(record, "API_version_minor", API_VERSION_MINOR);
	smd_json_set_str(record, "API_version_vendor", "smd");
	smd_json_set_bool(record, "enabled", true);
	smd_json_set(record, "software_version", software_version());
	smd_json_set(record, "cpu_info", cpu_info());
	return record;
}

static json *
metrics_fields(void)
{
	json *record = json_object_new_object();
	CLEANUP_FREE char *now = db_now();
	struct sysinfo si;

	if (sysinfo(&si) != 0)
		memset(&si, 0, sizeof si);
	smd_json_set_int(record, "memory_total", (int64_t)(si.totalram * (uint64_t)si.mem_unit));
	smd_json_set_int(record, "memory_free", (int64_t)(si.freeram * (uint64_t)si.mem_unit));
	smd_json_set_bool(record, "live", true);
	smd_json_set_str(record, "last_updated", now);
	return record;
}

static int
set_all(struct db *db, const char *cls, const char *ref, json *fields, struct smd_error *err)
{
	json_object_object_foreach(fields, name, value) {
		if (db_set(db, cls, ref, name, value, err) != 0)
			return -1;
	}
	return 0;
}

/* What a person may have changed (names, address) is set once, here. */
static int
host_insert(struct daemon *daemon, struct smd_error *err)
{
	CLEANUP_JSON json *record = host_fields();
	CLEANUP_JSON json *metrics = metrics_fields();
	CLEANUP_FREE char *metrics_ref = db_new_ref();
	CLEANUP_FREE char *ref = db_new_ref();
	char start[24];

	snprintf(start, sizeof start, "%lld.", (long long)time(NULL));
	smd_json_set_str(record, "uuid", smd_uuid_new().text);
	smd_json_set_str(record, "name_label", smd_json_str(record, "hostname", "localhost"));
	smd_json_set_str(record, "address", "127.0.0.1");
	smd_json_set_str(record, "metrics", metrics_ref);
	smd_json_set(record, "other_config", string_map(SMD_PARAMS("agent_start_time", start,
								   "boot_time", start)));
	smd_json_set_str(metrics, "uuid", smd_uuid_new().text);
	if (db_insert(daemon->db, "host_metrics", metrics_ref, metrics, err) != 0 ||
	    db_insert(daemon->db, "host", ref, record, err) != 0)
		return -1;
	daemon->host_ref = TAKE_PTR(ref);
	return 0;
}

static int
host_refresh(struct daemon *daemon, const char *ref, struct smd_error *err)
{
	CLEANUP_JSON json *record = host_fields();
	CLEANUP_JSON json *metrics = metrics_fields();
	CLEANUP_FREE char *metrics_ref = NULL;
	char start[24];

	snprintf(start, sizeof start, "%lld.", (long long)time(NULL));
	daemon->host_ref = smd_strdup(ref);
	if (set_all(daemon->db, "host", ref, record, err) != 0 ||
	    db_map_set(daemon->db, "host", ref, "other_config", "agent_start_time", start,
		       err) != 0 ||
	    db_get_str(daemon->db, "host", ref, "metrics", &metrics_ref, err) != 0)
		return -1;
	return set_all(daemon->db, "host_metrics", metrics_ref, metrics, err);
}

int
api_host_start(struct daemon *daemon, struct smd_error *err)
{
	CLEANUP_JSON json *refs = NULL;
	int rc;

	if (db_begin(daemon->db, DB_DURABLE, err) != 0)
		return -1;
	rc = db_all(daemon->db, "host", &refs, err);
	if (rc == 0 && json_object_array_length(refs) == 0)
		rc = host_insert(daemon, err);
	else if (rc == 0)
		rc = host_refresh(daemon, json_object_get_string(
					  json_object_array_get_idx(refs, 0)), err);
	if (rc != 0) {
		db_rollback(daemon->db);
		return smd_error_prefix(err, "the record of this host");
	}
	return db_commit(daemon->db, err);
}

static int
host_known(struct call *call, struct smd_error *err)
{
	const char *ref = call_str(call, 0);

	if (!db_exists(call->daemon->db, "host", ref))
		return smd_fail_HANDLE_INVALID(err, "host", ref, "there is no host %s", ref);
	return 0;
}

static int
host_get_servertime(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *now = db_now();

	if (host_known(call, err) != 0)
		return -1;
	*ret = json_object_new_string(now);
	return 0;
}

/* smd has no scripts to run for clients; they ask for ones by name and go on without. */
static int
host_call_plugin(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	if (host_known(call, err) != 0)
		return -1;
	return smd_fail_XENAPI_MISSING_PLUGIN(err, call_str(call, 1),
					      "there is no plugin %s on this host",
					      call_str(call, 1));
}

const struct call_binding api_host_handlers[] = {
	{ "host.call_plugin", host_call_plugin },
	{ "host.get_servertime", host_get_servertime },
	{ NULL, NULL },
};
