/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/format.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"

#define FORMATS_MAX 64
#define MODULE_PREFIX "smd-format-"
#define MODULE_SUFFIX ".so"

static const struct smd_format *formats[FORMATS_MAX + 1];
static size_t n_formats;
static char *refused;

/* ---- What the host lends ---- */

static const struct {
	const char *name;
	const char *text;
} reasons[SMD_N_REASONS] = {
#define REASON_ROW(n, t) { #n, t },
	SMD_REASONS(REASON_ROW)
#undef REASON_ROW
};

const char *
smd_reason_name(enum smd_reason reason)
{
	return reason < SMD_N_REASONS ? reasons[reason].name : "BAD_HEADER";
}

const char *
smd_reason_text(enum smd_reason reason)
{
	return reason < SMD_N_REASONS ? reasons[reason].text : "not a reason";
}

static bool
reason_is_unsupported(enum smd_reason reason)
{
	switch (reason) {
	case SMD_REASON_BAD_VERSION:
	case SMD_REASON_UNKNOWN_INCOMPAT:
	case SMD_REASON_UNSUPPORTED:
	case SMD_REASON_CORRUPT_BIT:
	case SMD_REASON_SIZE_LIMIT:
	case SMD_REASON_EXTERNAL_REF:
		return true;
	default:
		return false;
	}
}

/* What to do about an image, where that follows from the reason alone; "": its text says. */
static const char *
reason_cure(enum smd_reason reason)
{
	switch (reason) {
	case SMD_REASON_TRUNCATED:
		return "; it is not whole: copy it once more from where it came";
	case SMD_REASON_BAD_MAGIC:
	case SMD_REASON_BAD_COOKIE:
		return "; name the format that it has, or take another copy";
	case SMD_REASON_BAD_VERSION:
	case SMD_REASON_UNKNOWN_INCOMPAT:
		return "; what made it can convert it to an older version or another format";
	case SMD_REASON_BAD_HEADER:
	case SMD_REASON_BAD_BLOCK_SIZE:
	case SMD_REASON_TABLE_TOO_LARGE:
	case SMD_REASON_L1_TOO_SMALL:
	case SMD_REASON_BITMAP_DIR:
	case SMD_REASON_EXT_OVERRUN:
	case SMD_REASON_EXT_DUP:
	case SMD_REASON_LOCATOR_BOUNDS:
		return "; it is damaged, or what made it errs: take another copy";
	case SMD_REASON_CORRUPT_BIT:
	case SMD_REASON_NEEDS_REPAIR:
		return "; smd-img check -r all repairs it";
	case SMD_REASON_TABLE_MISALIGNED:
	case SMD_REASON_TABLE_BOUNDS:
	case SMD_REASON_TABLE_OVERLAP:
	case SMD_REASON_RESERVED_BITS:
	case SMD_REASON_BAD_L2_ENTRY:
	case SMD_REASON_DATA_MISALIGNED:
	case SMD_REASON_DATA_BOUNDS:
	case SMD_REASON_DATA_OVERLAP:
	case SMD_REASON_DUP_REF:
	case SMD_REASON_DECOMPRESS:
	case SMD_REASON_REFCOUNT_LOW:
	case SMD_REASON_COPIED_FLAG:
	case SMD_REASON_BAD_CHECKSUM:
		return "; smd-img check finds all that is wrong with it, and with -r all repairs what "
		       "it can; else take another copy";
	default:
		return "";
	}
}

static void SMD_PRINTF(4, 0)
host_fail(struct smd_error *err, enum smd_reason reason, const char *image, const char *fmt,
	  va_list ap)
{
	CLEANUP_FREE char *text = smd_vasprintf(fmt, ap);
	const char *name = smd_reason_name(reason), *cure = reason_cure(reason);

	if (reason == SMD_REASON_IO)
		smd_fail_IMAGE_IO(err, image, "%s: %s", image, text);
	else if (reason_is_unsupported(reason))
		smd_fail_IMAGE_UNSUPPORTED(err, image, name, "%s: %s%s", image, text, cure);
	else
		smd_fail_IMAGE_CORRUPT(err, image, name, "%s: %s%s", image, text, cure);
}

static void SMD_PRINTF(1, 0)
host_debug(const char *fmt, va_list ap)
{
	CLEANUP_FREE char *text = smd_vasprintf(fmt, ap);

	smd_log(SMD_LOG_DEBUG, "%s", text);
}

const struct smd_format_host smd_the_format_host = {
	.abi = SMD_FORMAT_ABI,
	.struct_size = sizeof smd_the_format_host,
	.fail = host_fail,
	.debug = host_debug,
};

int
smd_image_fail(struct smd_error *err, enum smd_reason reason, const char *image,
	       const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	host_fail(err, reason, image, fmt, ap);
	va_end(ap);
	return -1;
}

/* ---- Tables ---- */

/* A callback, and the capability that makes it required (0: always). */
static const struct callback {
	const char *name;
	size_t offset;
	uint64_t cap;
} callbacks[] = {
#define CALLBACK(member, cap) { #member, offsetof(struct smd_format, member), cap }
	CALLBACK(open, 0),
	CALLBACK(close, 0),
	CALLBACK(info, 0),
	CALLBACK(extents, 0),
	CALLBACK(probe, SMD_CAP_PROBE),
	CALLBACK(create, SMD_CAP_CREATE),
	CALLBACK(measure, SMD_CAP_CREATE),
	CALLBACK(reserve, SMD_CAP_WRITE),
	CALLBACK(commit, SMD_CAP_WRITE),
	CALLBACK(abandon, SMD_CAP_WRITE),
	CALLBACK(zero, SMD_CAP_WRITE),
	CALLBACK(flush, SMD_CAP_WRITE),
	CALLBACK(resize, SMD_CAP_RESIZE),
	CALLBACK(set_parent, SMD_CAP_PARENT),
	CALLBACK(set_hidden, SMD_CAP_HIDDEN),
	CALLBACK(check, SMD_CAP_CHECK),
	CALLBACK(stream, SMD_CAP_STREAM),
	CALLBACK(snapshot_list, SMD_CAP_SNAPSHOTS),
	CALLBACK(snapshot_create, SMD_CAP_SNAPSHOTS),
	CALLBACK(snapshot_delete, SMD_CAP_SNAPSHOTS),
	CALLBACK(snapshot_apply, SMD_CAP_SNAPSHOTS),
	CALLBACK(encode, SMD_CAP_ENCODE),
	CALLBACK(write_encoded, SMD_CAP_ENCODE),
#undef CALLBACK
};

static bool
callback_missing(const struct smd_format *format, const struct callback *c)
{
	void (*fn)(void);

	if (c->cap && !(format->caps & c->cap))
		return false;
	memcpy(&fn, (const char *)format + c->offset, sizeof fn);
	return fn == NULL;
}

static bool
format_name_ok(const char *name)
{
	size_t len = name ? strlen(name) : 0;

	return len > 0 && len < 32 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static int
format_check(const struct smd_format *format, struct smd_error *err)
{
	if (!format_name_ok(format->name))
		return smd_fail_INVALID_VALUE(err, "name", format->name ? format->name : "",
				"a format's name is 1 to 31 of a-z, 0-9 and -");
	if (format->alias && !format_name_ok(format->alias))
		return smd_fail_INVALID_VALUE(err, "alias", format->alias, "a bad alias");
	for (size_t i = 0; i < sizeof callbacks / sizeof callbacks[0]; i++) {
		if (callback_missing(format, &callbacks[i]))
			return smd_fail_INVALID_VALUE(err, "callback", callbacks[i].name,
					"the callback %s is missing", callbacks[i].name);
	}
	if (n_formats == FORMATS_MAX)
		return smd_fail_INVALID_VALUE(err, "formats", format->name,
				"more than %d formats", FORMATS_MAX);
	return 0;
}

int
smd_formats_add(const struct smd_format *format, struct smd_error *err)
{
	size_t i = n_formats;

	if (format->abi && format->abi != SMD_FORMAT_ABI)
		return smd_fail_INVALID_VALUE(err, "abi", SMD_U64(format->abi),
				"ABI %" PRIu32 "; this smd serves %d", format->abi, SMD_FORMAT_ABI);
	if (format_check(format, err) < 0)
		return -1;
	if (smd_format_find(format->name))
		return 0;
	for (; i > 0 && strcmp(formats[i - 1]->name, format->name) > 0; i--)
		formats[i] = formats[i - 1];
	formats[i] = format;
	n_formats++;
	return 0;
}

/* ---- Modules ---- */

static void
refused_add(const char *path, const char *why)
{
	char *lines = smd_asprintf("%s%s: %s\n", refused ? refused : "", path, why);

	smd_log(SMD_LOG_DEBUG, "%s: %s", path, why);
	free(refused);
	refused = lines;
}

const char *
smd_formats_refused(void)
{
	return refused ? refused : "";
}

/* The module's table, in our size: what it does not know of is zero. */
static struct smd_format *
format_adopt(const struct smd_format *theirs)
{
	struct smd_format *ours = smd_calloc(1, sizeof *ours);
	size_t size = theirs->struct_size < sizeof *ours ? theirs->struct_size : sizeof *ours;

	memcpy(ours, theirs, size);
	return ours;
}

static int
module_init(void *dl, struct smd_error *err)
{
	const struct smd_format *theirs;
	smd_format_init_fn *init;
	struct smd_format *ours;

	*(void **)&init = dlsym(dl, "smd_format_init");
	if (!init)
		return smd_fail_INVALID_VALUE(err, "symbol", "smd_format_init", "%s", dlerror());
	theirs = init(&smd_the_format_host);
	if (!theirs)
		return smd_fail_INVALID_VALUE(err, "module", "", "it declines this host");
	if (theirs->abi != SMD_FORMAT_ABI)
		return smd_fail_INVALID_VALUE(err, "abi", SMD_U64(theirs->abi),
				"ABI %" PRIu32 "; this smd serves %d", theirs->abi, SMD_FORMAT_ABI);
	ours = format_adopt(theirs);
	if (smd_formats_add(ours, err) < 0) {
		free(ours);
		return -1;
	}
	if (smd_format_find(ours->name) != ours)
		free(ours);	/* an earlier directory has it */
	return 0;
}

static void
module_load(const char *path)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	void *dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!dl) {
		refused_add(path, dlerror());
		return;
	}
	if (module_init(dl, &err) < 0) {
		refused_add(path, err.message);
		dlclose(dl);
	}
}

static int
is_module(const struct dirent *d)
{
	size_t len = strlen(d->d_name);
	size_t suffix = strlen(MODULE_SUFFIX);

	return strncmp(d->d_name, MODULE_PREFIX, strlen(MODULE_PREFIX)) == 0 && len > suffix &&
	       strcmp(d->d_name + len - suffix, MODULE_SUFFIX) == 0;
}

static int
dir_load(const char *dir, struct smd_error *err)
{
	struct dirent **entries;
	int n = scandir(dir, &entries, is_module, alphasort);

	if (n < 0)
		return smd_fail_INVALID_VALUE(err, "plugin-dir", dir, "%s: %s", dir,
					      strerror(errno));
	for (int i = 0; i < n; i++) {
		CLEANUP_FREE char *path = smd_asprintf("%s/%s", dir, entries[i]->d_name);

		module_load(path);
		free(entries[i]);
	}
	free(entries);
	return 0;
}

int
smd_formats_load(const char *dirs, struct smd_error *err)
{
	CLEANUP_FREE char *copy = smd_strdup(dirs);
	char *rest = copy;
	char *dir;

	while ((dir = strsep(&rest, ":"))) {
		if (*dir && dir_load(dir, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- Looking up ---- */

const struct smd_format *
smd_format_find(const char *name)
{
	for (size_t i = 0; i < n_formats; i++) {
		if (strcmp(formats[i]->name, name) == 0)
			return formats[i];
	}
	for (size_t i = 0; i < n_formats; i++) {
		if (formats[i]->alias && strcmp(formats[i]->alias, name) == 0)
			return formats[i];
	}
	return NULL;
}

bool
smd_format_lies_on(const struct smd_format *format, const struct smd_format *parent)
{
	if (!(format->caps & SMD_CAP_PARENT))
		return false;
	if (format == parent || !format->parents)
		return true;
	for (const char *const *name = format->parents; *name; name++) {
		if (strcmp(*name, parent->name) == 0)
			return true;
	}
	return false;
}

const char *
smd_format_elsewhere(const struct smd_format *format)
{
	return format->alias ? format->alias : format->name;
}

int
smd_format_get(const char *name, const struct smd_format **ret, struct smd_error *err)
{
	const struct smd_format *format = smd_format_find(name);
	CLEANUP_FREE char *loaded = NULL;

	if (format) {
		*ret = format;
		return 0;
	}
	for (size_t i = 0; i < n_formats; i++) {
		char *longer = smd_asprintf("%s%s%s", loaded ? loaded : "", loaded ? ", " : "",
					    formats[i]->name);

		free(loaded);
		loaded = longer;
	}
	return smd_fail_FORMAT_UNKNOWN(err, name, loaded,
			"no module for the format \"%s\" is loaded; there are: %s%s%.*s", name,
			loaded ? loaded : "none", refused ? "; left out: " : "",
			refused ? (int)strlen(refused) - 1 : 0, refused ? refused : "");
}

const struct smd_format *const *
smd_formats(void)
{
	return formats;
}
