/* SPDX-License-Identifier: BSD-2-Clause */
/* Finding and loading SR drivers, and the SM rows that tell of them. */
#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/db/db.h"
#include "daemon/sr/internal.h"

static void
host_fail(struct smd_error *err, enum smd_sr_failure failure, int errnum, const char *fmt,
	  va_list ap)
{
	CLEANUP_FREE char *text = smd_vasprintf(fmt, ap);
	CLEANUP_FREE char *message = errnum ? smd_asprintf("%s: %s", text, strerror(errnum))
					    : TAKE_PTR(text);
	const struct smd_error_decl *decl;
	char code[40];

	if (failure == SMD_SR_FAIL_IN_USE) {
		smd_fail_SR_DEVICE_IN_USE(err, "%s", message);
	} else if (failure == SMD_SR_FAIL_NOT_EMPTY) {
		smd_fail_SR_NOT_EMPTY(err, "%s", message);
	} else {
		snprintf(code, sizeof code, "SR_BACKEND_FAILURE_%d", (int)failure);
		decl = smd_error_decl_find(code);
		if (!decl)
			decl = &smd_error_decls[SMD_E_SR_BACKEND_FAILURE_202];
		smd_fail_code(err, decl->code, SMD_PARAMS("", decl->text, message), message);
	}
	err->errnum = errnum;
}

static void
host_debug(const char *fmt, va_list ap)
{
	CLEANUP_FREE char *text = smd_vasprintf(fmt, ap);

	smd_log(SMD_LOG_DEBUG, "%s", text);
}

static const struct smd_sr_host the_host = {
	.abi = SMD_SR_ABI,
	.struct_size = sizeof(struct smd_sr_host),
	.fail = host_fail,
	.debug = host_debug,
};

static bool
type_ok(const char *type)
{
	size_t n = 0;

	for (; type && type[n]; n++) {
		if (!islower((unsigned char)type[n]) && !isdigit((unsigned char)type[n]) &&
		    type[n] != '-' && type[n] != '_')
			return false;
	}
	return n > 0 && n <= 32;
}

/* NULL, or what the driver lacks. */
static const char *
missing_member(const struct smd_sr_driver *d)
{
	const struct {
		const char *name;
		bool there;
	} members[] = {
		{ "name_label", d->name_label }, { "version", d->version },
		{ "configuration", d->configuration }, { "features", d->features },
		{ "create", d->create }, { "attach", d->attach }, { "detach", d->detach },
		{ "destroy", d->destroy }, { "stat", d->stat }, { "scan", d->scan },
		{ "probe", d->probe }, { "volume_create", d->volume_create },
		{ "volume_open", d->volume_open }, { "volume_stat", d->volume_stat },
		{ "volume_rename", d->volume_rename }, { "volume_delete", d->volume_delete },
		{ "choose_format", d->formats || d->choose_format },
		{ "records_load", d->records_load || !d->records_save },
		{ "records_save", d->records_save || !d->records_load },
		{ "volume_rename_soon", d->volume_rename_soon || !d->sync_names },
		{ "sync_names", d->sync_names || !d->volume_rename_soon },
		{ "scan_names", d->scan_names || !d->volume_open_stamped },
		{ "volume_open_stamped", d->volume_open_stamped || !d->scan_names },
	};

	for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
		if (!members[i].there)
			return members[i].name;
	}
	return NULL;
}

/* Why the driver is left out; NULL: it is taken. */
static char *
driver_take(struct storage *storage, const struct smd_sr_driver *given, const char *path)
{
	struct driver *driver, **end = &storage->drivers;
	struct smd_sr_driver d = { 0 };
	const char *lacks;

	if (!given)
		return smd_strdup("it cannot be served by this smd");
	if (given->abi != SMD_SR_ABI)
		return smd_asprintf("built for ABI %u, not %u", given->abi, SMD_SR_ABI);
	memcpy(&d, given, given->struct_size < sizeof d ? given->struct_size : sizeof d);
	if (!type_ok(d.type))
		return smd_strdup("its type is no name in lower case");
	lacks = missing_member(&d);
	if (lacks)
		return smd_asprintf("it has no %s", lacks);
	for (; *end; end = &(*end)->next) {
		if (strcmp((*end)->d.type, d.type) == 0)
			return smd_asprintf("%s serves %s already", (*end)->path, d.type);
	}
	driver = smd_calloc(1, sizeof *driver);
	driver->d = d;
	driver->path = smd_strdup(path);
	*end = driver;
	return NULL;
}

static void
driver_load(struct storage *storage, const char *path)
{
	void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	CLEANUP_FREE char *why = NULL;
	smd_sr_init_fn *init;

	if (!module) {
		smd_log(SMD_LOG_WARNING, "SR driver %s is left out: %s", path, dlerror());
		return;
	}
	*(void **)&init = dlsym(module, "smd_sr_init");
	why = init ? driver_take(storage, init(&the_host), path) : smd_strdup("no smd_sr_init");
	if (why) {
		smd_log(SMD_LOG_WARNING, "SR driver %s is left out: %s", path, why);
		dlclose(module);
	}
}

static int
is_driver(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return strncmp(entry->d_name, "smd-sr-", 7) == 0 && len > 10 &&
	       strcmp(entry->d_name + len - 3, ".so") == 0;
}

int
drivers_load(struct storage *storage, const char *dirs, struct smd_error *err)
{
	CLEANUP_FREE char *copy = smd_strdup(dirs);
	char *rest = copy, *dir;

	while ((dir = strsep(&rest, ":"))) {
		struct dirent **names;
		int n;

		if (!*dir)
			continue;
		n = scandir(dir, &names, is_driver, alphasort);
		if (n < 0)
			return smd_fail_INTERNAL_ERROR(err, dir, "the drivers' directory %s cannot "
						       "be read: %s", dir, strerror(errno));
		for (int i = 0; i < n; i++) {
			CLEANUP_FREE char *path = smd_asprintf("%s/%s", dir, names[i]->d_name);

			driver_load(storage, path);
			free(names[i]);
		}
		free(names);
	}
	return 0;
}

int
sr_driver(struct daemon *daemon, const char *type, const struct smd_sr_driver **ret,
	  struct smd_error *err)
{
	CLEANUP_FREE char *known = NULL;

	for (struct driver *d = daemon->storage->drivers; d; d = d->next) {
		char *longer;

		if (strcasecmp(d->d.type, type) == 0) {
			*ret = &d->d;
			return 0;
		}
		longer = smd_asprintf("%s%s%s", known ? known : "", known ? ", " : "", d->d.type);
		free(known);
		known = longer;
	}
	return smd_fail_SR_UNKNOWN_DRIVER(err, type, "no SR driver has the type \"%s\"; there %s: %s",
					  type, known ? "are" : "are none",
					  known ? known : "check plugin-dir");
}

/* ---- SM rows ---- */

/* "NAME/2" is version 2 of a feature. */
static void
set_features(json *record, const char *const *features)
{
	json *map = json_object_new_object(), *names = json_object_new_array();

	for (; *features; features++) {
		const char *slash = strchr(*features, '/');
		CLEANUP_FREE char *name = smd_strndup(*features, slash ? (size_t)(slash - *features)
								       : strlen(*features));

		smd_json_set_int(map, name, slash ? strtol(slash + 1, NULL, 10) : 1);
		json_object_array_add(names, json_object_new_string(name));
	}
	smd_json_set(record, "features", map);
	smd_json_set(record, "capabilities", names);
}

static json *
sm_record(struct storage *storage, const struct driver *driver)
{
	const struct smd_sr_driver *d = &driver->d;
	json *record = json_object_new_object(), *config = json_object_new_object();
	json *formats = formats_of_driver(storage, d);

	smd_json_set_str(record, "name_label", d->name_label);
	smd_json_set_str(record, "name_description", d->name_description ? d->name_description : "");
	smd_json_set_str(record, "type", d->type);
	smd_json_set_str(record, "vendor", d->vendor ? d->vendor : "");
	smd_json_set_str(record, "copyright", d->copyright ? d->copyright : "");
	smd_json_set_str(record, "version", d->version);
	smd_json_set_str(record, "required_api_version",
			 d->required_api_version ? d->required_api_version : "1.0");
	smd_json_set_str(record, "driver_filename", driver->path);
	for (const struct smd_sr_key *key = d->configuration; key->name; key++)
		smd_json_set_str(config, key->name, key->doc);
	smd_json_set_str(config, "preferred-image-formats",
			 "formats for new disks, best first, separated by commas");
	smd_json_set(record, "configuration", config);
	set_features(record, d->features);
	smd_json_set(record, "supported_image_formats",
		     formats ? formats : json_object_new_array());
	return record;
}

/* Write what differs, so that an unchanged driver is no event. */
static int
sm_update(struct db *db, const char *ref, json *record, struct smd_error *err)
{
	json_object_object_foreach(record, field, value) {
		CLEANUP_JSON json *old = NULL;

		if (db_get(db, "SM", ref, field, &old, err) < 0 ||
		    (!json_object_equal(old, value) &&
		     db_set(db, "SM", ref, field, value, err) < 0))
			return -1;
	}
	return 0;
}

static int
sm_publish(struct daemon *daemon, const struct driver *driver, struct smd_error *err)
{
	CLEANUP_JSON json *record = sm_record(daemon->storage, driver);
	CLEANUP_JSON json *refs = NULL;
	CLEANUP_FREE char *ref = NULL;

	if (db_find(daemon->db, "SM", "type", driver->d.type, &refs, err) < 0)
		return -1;
	if (json_object_array_length(refs) > 0)
		return sm_update(daemon->db, json_object_get_string(
					 json_object_array_get_idx(refs, 0)), record, err);
	ref = db_new_ref();
	smd_json_set_str(record, "uuid", smd_uuid_new().text);
	return db_insert(daemon->db, "SM", ref, record, err);
}

static bool
driver_has_type(struct storage *storage, const char *type)
{
	for (struct driver *d = storage->drivers; d; d = d->next) {
		if (strcmp(d->d.type, type) == 0)
			return true;
	}
	return false;
}

static int
sm_remove_gone(struct daemon *daemon, struct smd_error *err)
{
	CLEANUP_JSON json *all = NULL;

	if (db_all_records(daemon->db, "SM", NULL, &all, err) < 0)
		return -1;
	json_object_object_foreach(all, ref, record) {
		if (!driver_has_type(daemon->storage, smd_json_str(record, "type", "")) &&
		    db_delete(daemon->db, "SM", ref, err) < 0)
			return -1;
	}
	return 0;
}

int
drivers_publish(struct daemon *daemon, struct smd_error *err)
{
	if (db_begin(daemon->db, DB_DURABLE, err) < 0)
		return -1;
	for (struct driver *d = daemon->storage->drivers; d; d = d->next) {
		if (sm_publish(daemon, d, err) < 0)
			goto fail;
	}
	if (sm_remove_gone(daemon, err) < 0)
		goto fail;
	return db_commit(daemon->db, err);
fail:
	db_rollback(daemon->db);
	return -1;
}
