/* SPDX-License-Identifier: BSD-2-Clause */
/* What formats there are, which of them an SR takes, and which a disk gets. */
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/db/db.h"
#include "daemon/job/worker.h"
#include "daemon/sr/internal.h"

/* What closes workers in on this kernel. */
static int
check_sandbox(struct daemon *daemon, json *walls, struct smd_error *err)
{
	CLEANUP_FREE char *required = config_str(daemon->config, "require_sandbox");
	bool landlock = smd_json_int(walls, "landlock", 0) > 0;
	bool seccomp = smd_json_bool(walls, "seccomp", false);

	if (!landlock)
		smd_log(SMD_LOG_WARNING, "the kernel has no Landlock: workers are kept from paths by "
			"their system calls alone");
	if (!seccomp)
		smd_log(SMD_LOG_WARNING, "workers make any system call: the kernel has no seccomp, or "
			"smd was built with sanitizers");
	if (landlock || seccomp || strcmp(required, "yes") != 0)
		return 0;
	return smd_fail_INTERNAL_ERROR(err, "require_sandbox", "this kernel has neither Landlock nor "
				       "seccomp, and require_sandbox in smd.conf is yes: use a kernel "
				       "that has one (CONFIG_SECURITY_LANDLOCK, CONFIG_SECCOMP_FILTER), "
				       "or set it to no");
}

int
formats_ask(struct daemon *daemon, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	CLEANUP_JSON json *result = NULL;
	struct worker_job job = { .request = request, .urgent = true,
				  .seconds = WORKER_QUESTION_SECONDS };
	json *list;

	smd_json_set_str(request, "op", "formats");
	if (worker_run(daemon, &job, &result, err) < 0)
		return smd_error_prefix(err, "the format modules in %s",
					daemon->storage->format_dirs);
	if (check_sandbox(daemon, smd_json_member(result, "sandbox"), err) < 0)
		return -1;
	list = smd_json_member(result, "formats");
	daemon->storage->formats = json_object_get(list);
	return 0;
}

json *
storage_formats(struct daemon *daemon)
{
	return daemon->storage->formats;
}

static json *
format_find(struct storage *storage, const char *name)
{
	json *list = storage->formats;

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		json *format = json_object_array_get_idx(list, i);

		if (strcmp(smd_json_str(format, "name", ""), name) == 0)
			return format;
	}
	return NULL;
}

json *
storage_format(struct daemon *daemon, const char *name)
{
	return format_find(daemon->storage, name);
}

bool
storage_format_can(struct daemon *daemon, const char *name, const char *cap)
{
	json *caps = smd_json_member(storage_format(daemon, name), "caps");

	return caps && smd_json_has_str(caps, cap);
}

static void
array_add(json *array, const char *text)
{
	json_object_array_add(array, json_object_new_string(text));
}

char *
storage_format_names(struct daemon *daemon)
{
	CLEANUP_JSON json *names = json_object_new_array();
	json *list = storage_formats(daemon);

	for (size_t i = 0; i < json_object_array_length(list); i++)
		array_add(names, smd_json_str(json_object_array_get_idx(list, i), "name", ""));
	return smd_json_join(names);
}

static bool
driver_meets(const struct smd_sr_driver *driver, json *format)
{
	return driver->caps & SMD_SR_CAN_GROW || !smd_json_bool(format, "needs-grow", false);
}

static int
compare_strings(const void *a, const void *b)
{
	json *const *x = a, *const *y = b;

	return strcmp(json_object_get_string(*x), json_object_get_string(*y));
}

json *
formats_of_driver(struct storage *storage, const struct smd_sr_driver *driver)
{
	json *names;

	if (!driver->formats)
		return NULL;
	names = json_object_new_array();
	for (const char *const *f = driver->formats; *f; f++) {
		json *format = format_find(storage, *f);

		if (format && driver_meets(driver, format))
			array_add(names, *f);
	}
	if (driver->formats[0])
		return names;
	for (size_t i = 0; i < json_object_array_length(storage->formats); i++) {
		json *format = json_object_array_get_idx(storage->formats, i);

		if (driver_meets(driver, format))
			array_add(names, smd_json_str(format, "name", ""));
	}
	json_object_array_sort(names, compare_strings);
	return names;
}

/* The formats of a comma-separated list that are in all, in its order. */
static void
add_preferred(json *names, json *all, const char *list)
{
	CLEANUP_FREE char *copy = smd_strdup(list);
	char *rest = copy, *word;

	for (char *p = copy; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	while ((word = strsep(&rest, ", \t"))) {
		if (*word && smd_json_has_str(all, word) && !smd_json_has_str(names, word))
			array_add(names, word);
	}
}

/* preferred-image-formats of the SR's PBD on this host; NULL: none. */
static char *
pbd_preference(struct daemon *daemon, const char *sr_ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *pbds = NULL;
	char *text = NULL;

	if (db_find(daemon->db, "PBD", "SR", sr_ref, &pbds, &err) < 0)
		return NULL;
	for (size_t i = 0; !text && i < json_object_array_length(pbds); i++) {
		if (db_map_get(daemon->db, "PBD",
			       json_object_get_string(json_object_array_get_idx(pbds, i)),
			       "device_config", "preferred-image-formats", &text, &err) < 0)
			return NULL;
	}
	return text;
}

static int
driver_of_sr(struct daemon *daemon, const char *sr_ref, const struct smd_sr_driver **ret,
	     struct smd_error *err)
{
	CLEANUP_FREE char *type = NULL;

	if (db_get_str(daemon->db, "SR", sr_ref, "type", &type, err) < 0)
		return -1;
	return sr_driver(daemon, type, ret, err);
}

int
sr_formats(struct daemon *daemon, const char *sr_ref, json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *configured = config_str(daemon->config, "preferred_image_formats");
	CLEANUP_FREE char *preference = pbd_preference(daemon, sr_ref);
	const struct smd_sr_driver *driver;
	CLEANUP_JSON json *all = NULL;
	json *names;

	if (driver_of_sr(daemon, sr_ref, &driver, err) < 0)
		return -1;
	all = formats_of_driver(daemon->storage, driver);
	names = json_object_new_array();
	if (all) {
		if (preference)
			add_preferred(names, all, preference);
		if (configured)
			add_preferred(names, all, configured);
		for (size_t i = 0; i < json_object_array_length(all); i++) {
			const char *name = json_object_get_string(json_object_array_get_idx(all, i));

			if (!smd_json_has_str(names, name))
				array_add(names, name);
		}
	}
	*ret = names;
	return 0;
}

/* The largest disk; UINT64_MAX: no limit. */
static uint64_t
format_max(json *format)
{
	int64_t max = smd_json_int(format, "max-virtual-size", 0);

	return max > 0 ? (uint64_t)max : UINT64_MAX;
}

static int
fail_too_large(struct daemon *daemon, const char *format, json *names, uint64_t size,
	       const char *vdi_ref, struct smd_error *err)
{
	CLEANUP_JSON json *fit = json_object_new_array();
	CLEANUP_FREE char *text = NULL;
	uint64_t max = 0;

	for (size_t i = 0; i < json_object_array_length(names); i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(names, i));
		uint64_t m = format_max(storage_format(daemon, name));

		if (m >= size)
			array_add(fit, name);
		else if (*format ? strcmp(name, format) == 0 : m > max)
			max = m;
	}
	text = smd_json_join(fit);
	return smd_fail_VDI_TOO_LARGE(err, vdi_ref, SMD_U64(max), "a disk of %" PRIu64 " bytes is over "
				      "the limit of %s, %" PRIu64 "; %s%s", size,
				      *format ? format : "every format of the SR", max,
				      *text ? "what would fit: " : "no format of the SR fits", text);
}

static int
fail_not_supported(struct daemon *daemon, const char *sr_ref, const char *format, json *names,
		   struct smd_error *err)
{
	CLEANUP_FREE char *uuid = NULL, *text = NULL, *known = smd_json_join(names);

	if (db_get_str(daemon->db, "SR", sr_ref, "uuid", &uuid, err) < 0)
		return -1;
	text = smd_asprintf("Image format %s is not supported by %s", format, uuid);
	return smd_fail_VDI_INCOMPATIBLE_TYPE(err, SMD_PARAMS(text), "%s; it supports: %s%s", text,
					      known, storage_format(daemon, format) ? "" :
					      "; no module for it is loaded");
}

/* Formats undeclared: the driver names one, of those loaded. */
static int
choose_by_driver(struct daemon *daemon, const char *sr_ref, const char *asked, char **ret,
		 struct smd_error *err)
{
	const struct smd_sr_driver *driver;
	const char *format;
	struct sr *sr;

	if (driver_of_sr(daemon, sr_ref, &driver, err) < 0 || sr_use(daemon, sr_ref, &sr, err) < 0)
		return -1;
	format = driver->choose_format(sr_handle(sr), asked);
	if (format && storage_format(daemon, format)) {
		*ret = smd_strdup(format);
	} else {
		CLEANUP_FREE char *loaded = storage_format_names(daemon);

		smd_fail_FORMAT_UNKNOWN(err, format ? format : asked, loaded,
					"the SR's driver wants the format \"%s\", which no module "
					"serves (loaded: %s)", format ? format : asked, loaded);
	}
	sr_release(sr);
	return err->code ? -1 : 0;
}

/* lower: one name or none. */
static int
choose_one(struct daemon *daemon, const char *sr_ref, const char *lower, uint64_t virtual_size,
	   const char *vdi_ref, char **ret, struct smd_error *err)
{
	CLEANUP_JSON json *names = NULL;

	if (sr_formats(daemon, sr_ref, &names, err) < 0)
		return -1;
	if (json_object_array_length(names) == 0)
		return choose_by_driver(daemon, sr_ref, lower, ret, err);
	if (*lower && !smd_json_has_str(names, lower))
		return fail_not_supported(daemon, sr_ref, lower, names, err);
	for (size_t i = 0; i < json_object_array_length(names); i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(names, i));

		if (*lower && strcmp(name, lower) != 0)
			continue;
		if (format_max(storage_format(daemon, name)) >= virtual_size) {
			*ret = smd_strdup(name);
			return 0;
		}
	}
	return fail_too_large(daemon, lower, names, virtual_size, vdi_ref, err);
}

int
sr_choose_format(struct daemon *daemon, const char *sr_ref, const char *asked,
		 uint64_t virtual_size, const char *vdi_ref, char **ret, struct smd_error *err)
{
	CLEANUP_FREE char *lower = smd_strdup(asked);
	char *rest = lower, *word;
	bool any = false;

	for (char *p = lower; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	while ((word = strsep(&rest, ", \t"))) {
		struct smd_error unfit CLEANUP_ERROR = SMD_ERROR_INIT;

		if (!*word)
			continue;
		any = true;
		if (choose_one(daemon, sr_ref, word, virtual_size, vdi_ref, ret, &unfit) == 0) {
			smd_error_clear(err);
			return 0;
		}
		if (!err->code)
			smd_error_move(err, &unfit);
	}
	return any ? -1 : choose_one(daemon, sr_ref, "", virtual_size, vdi_ref, ret, err);
}

static int
fail_no_overlays(struct daemon *daemon, const char *sr_ref, const char *parent_format,
		 struct smd_error *err)
{
	CLEANUP_FREE char *uuid = NULL;

	if (db_get_str(daemon->db, "SR", sr_ref, "uuid", &uuid, err) < 0)
		return -1;
	return smd_fail_SR_OPERATION_NOT_SUPPORTED(
		err, sr_ref, "SR %s takes no format that can lie on a %s image", uuid, parent_format);
}

int
sr_choose_overlay_format(struct daemon *daemon, const char *sr_ref, const char *parent_format,
			 uint64_t virtual_size, const char *vdi_ref, char **ret,
			 struct smd_error *err)
{
	CLEANUP_JSON json *names = NULL;
	bool any = false;

	if (storage_format_can(daemon, parent_format, "parent")) {
		*ret = smd_strdup(parent_format);
		return 0;
	}
	if (sr_formats(daemon, sr_ref, &names, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(names); i++) {
		struct smd_error unfit CLEANUP_ERROR = SMD_ERROR_INIT;
		const char *name = json_object_get_string(json_object_array_get_idx(names, i));

		if (!smd_json_has_str(smd_json_member(storage_format(daemon, name), "lies-on"),
				      parent_format))
			continue;
		any = true;
		smd_error_clear(err);
		if (sr_choose_format(daemon, sr_ref, name, virtual_size, vdi_ref, ret, &unfit) == 0)
			return 0;
		smd_error_move(err, &unfit);
	}
	return any ? -1 : fail_no_overlays(daemon, sr_ref, parent_format, err);
}
