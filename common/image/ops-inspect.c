/* SPDX-License-Identifier: BSD-2-Clause */
/* Operations that only look: info, check, map, measure, the list of formats. */
#include <string.h>
#include <sys/stat.h>

#include "common/checked.h"
#include "common/image/io.h"
#include "common/image/ops.h"
#include "common/image/ops-impl.h"
#include "common/mem.h"
#include "common/uuid.h"

#define CHECK_FINDINGS_MAX 1000		/* reported one by one; the counts are exact */

/* ---- info ---------------------------------------------------------------------------- */

/* "key\tJSON\n" lines of a module's into an object; a line that is none is left out. */
static json *
details_object(char *details)
{
	json *object = json_object_new_object();

	for (char *save = NULL, *line = strtok_r(details, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		char *tab = strchr(line, '\t');
		json *value;

		if (!tab)
			continue;
		*tab = '\0';
		value = smd_json_parse(tab + 1, strlen(tab + 1), 8, &err);
		if (value || !err.code)
			smd_json_set(object, line, value);
	}
	return object;
}

static int64_t
actual_size(struct smd_io *io)
{
	struct stat st;

	if (smd_io_fd(io) < 0 || fstat(smd_io_fd(io), &st) != 0)
		return (int64_t)io->size;
	return st.st_blocks * 512;
}

static bool
uuid_set(const uint8_t uuid[16])
{
	static const uint8_t none[16];

	return memcmp(uuid, none, sizeof none) != 0;
}

static void
set_if(json *object, const char *key, const char *text)
{
	if (*text)
		smd_json_set_str(object, key, text);
}

/* A name in an image is bytes; what is no UTF-8 can't be told in JSON. */
static void
set_name(json *object, const char *key, const char *name)
{
	if (*name)
		smd_json_set_str(object, key, smd_utf8_valid(name, strlen(name)) ? name :
				 "(not UTF-8)");
}

static void
set_flag(json *object, const char *key, bool flag, bool always)
{
	if (flag || always)
		smd_json_set_bool(object, key, flag);
}

/* all: also what is false. */
static json *
look_object(const struct smd_image_info *info, bool all)
{
	json *object = json_object_new_object();

	smd_json_set_int(object, "virtual-size", (int64_t)info->virtual_size);
	set_name(object, "backing-filename", info->parent_name);
	set_if(object, "backing-filename-format", info->parent_format);
	set_flag(object, "has-parent", info->flags & SMD_INFO_HAS_PARENT, all);
	set_flag(object, "hidden", info->flags & SMD_INFO_HIDDEN, all);
	set_flag(object, "degraded", info->flags & SMD_INFO_DEGRADED, all);
	if (uuid_set(info->uuid))
		smd_json_set_str(object, "uuid", smd_uuid_from_bytes(info->uuid).text);
	if (uuid_set(info->parent_uuid))
		smd_json_set_str(object, "parent-uuid",
				 smd_uuid_from_bytes(info->parent_uuid).text);
	return object;
}

/* Most say no more than their size. */
static json *
look_brief(const struct smd_image_info *info)
{
	if (info->flags & (SMD_INFO_HAS_PARENT | SMD_INFO_HIDDEN | SMD_INFO_DEGRADED) ||
	    info->parent_name[0] || info->parent_format[0] || uuid_set(info->uuid) ||
	    uuid_set(info->parent_uuid))
		return look_object(info, false);
	return json_object_new_int64((int64_t)info->virtual_size);
}

static json *
info_object(const struct smd_layer *layer, struct smd_image_info *info)
{
	json *object = look_object(info, true), *specific = json_object_new_object();

	set_name(object, "filename", layer->io->name);
	smd_json_set_str(object, "format", layer->format->name);
	smd_json_set_int(object, "actual-size", actual_size(layer->io));
	smd_json_set_int(object, "cluster-size", (int64_t)info->alloc_unit);
	smd_json_set_bool(object, "dirty-flag", info->flags & SMD_INFO_DIRTY);
	smd_json_set_bool(object, "encrypted", false);
	smd_json_set_bool(object, "compressed", info->flags & SMD_INFO_COMPRESSED);
	smd_json_set_int(object, "snapshots", (int64_t)info->n_snapshots);
	smd_json_set_str(specific, "type", layer->format->name);
	if (info->details)
		smd_json_set(specific, "data", details_object(info->details));
	smd_json_set(object, "format-specific", specific);
	return object;
}

static int
inspect_layer(const struct smd_layer *layer, uint32_t flags, json **ret, struct smd_error *err)
{
	const struct smd_format *format = layer->format;
	struct smd_image_info info = { 0 };
	void *img;
	int rc;

	if (format->open(layer->io, flags, &img, err) != 0)
		return -1;
	rc = format->info(img, &info, err);
	if (rc == 0)
		*ret = flags & SMD_OPEN_LOOK ? look_brief(&info) : info_object(layer, &info);
	free(info.details);
	format->close(img);
	return rc;
}

/* The leaf alone is opened: what it says of a parent is worth knowing also where
 * there is none. */
static int
inspect(struct smd_source *source, uint32_t flags, json **ret, struct smd_error *err)
{
	struct smd_layer layers[SMD_CHAIN_MAX];
	int rc;

	if (smd_source_layers(source, layers, err) != 0)
		return -1;
	rc = inspect_layer(&layers[0], flags | (source->foreign ? SMD_OPEN_FOREIGN : 0), ret, err);
	ops_layers_close(layers, source->n);
	return rc;
}

int
smd_op_info(struct smd_source *source, json **ret, struct smd_error *err)
{
	return inspect(source, 0, ret, err);
}

int
smd_op_look(struct smd_source *source, json **ret, struct smd_error *err)
{
	return inspect(source, SMD_OPEN_LOOK, ret, err);
}

int
smd_op_look_io(struct smd_io *io, const char *format, json **ret, struct smd_error *err)
{
	struct smd_layer layer = { .io = io };

	return smd_format_get(format, &layer.format, err) != 0 ? -1 :
	       inspect_layer(&layer, SMD_OPEN_LOOK, ret, err);
}

/* ---- check --------------------------------------------------------------------------- */

struct findings {
	json *list;
	int64_t corruptions, leaks, degraded;
	int64_t corruptions_fixed, leaks_fixed, degraded_fixed;
};

static void
findings_count(struct findings *f, const struct smd_finding *finding)
{
	switch (finding->kind) {
	case SMD_FINDING_CORRUPTION:
		finding->repaired ? f->corruptions_fixed++ : f->corruptions++;
		break;
	case SMD_FINDING_LEAK:
		finding->repaired ? f->leaks_fixed++ : f->leaks++;
		break;
	case SMD_FINDING_DEGRADED:
		finding->repaired ? f->degraded_fixed++ : f->degraded++;
		break;
	}
}

static void
findings_add(void *opaque, const struct smd_finding *finding)
{
	static const char *const kinds[] = {
		[SMD_FINDING_CORRUPTION] = "corruption",
		[SMD_FINDING_LEAK] = "leak",
		[SMD_FINDING_DEGRADED] = "degraded",
	};
	struct findings *f = opaque;
	json *entry;

	findings_count(f, finding);
	if (json_object_array_length(f->list) >= CHECK_FINDINGS_MAX)
		return;
	entry = json_object_new_object();
	smd_json_set_str(entry, "kind", kinds[finding->kind]);
	smd_json_set_str(entry, "reason", smd_reason_name(finding->reason));
	smd_json_set_bool(entry, "repairable", finding->repairable);
	smd_json_set_bool(entry, "repaired", finding->repaired);
	smd_json_set_str(entry, "text", finding->text);
	json_object_array_add(f->list, entry);
}

static json *
check_object(const struct smd_io *io, const struct smd_format *format,
	     const struct smd_check *check, struct findings *f)
{
	json *object = json_object_new_object();

	smd_json_set_str(object, "filename", io->name);
	smd_json_set_str(object, "format", format->name);
	smd_json_set_int(object, "check-errors", 0);
	smd_json_set_int(object, "corruptions", f->corruptions);
	smd_json_set_int(object, "leaks", f->leaks);
	smd_json_set_int(object, "degraded", f->degraded);
	smd_json_set_int(object, "corruptions-fixed", f->corruptions_fixed);
	smd_json_set_int(object, "leaks-fixed", f->leaks_fixed);
	smd_json_set_int(object, "degraded-fixed", f->degraded_fixed);
	smd_json_set_int(object, "image-end-offset", (int64_t)check->image_end_offset);
	smd_json_set_int(object, "total-clusters", (int64_t)check->total_units);
	smd_json_set_int(object, "allocated-clusters", (int64_t)check->allocated_units);
	smd_json_set_int(object, "fragmented-clusters", (int64_t)check->fragmented_units);
	smd_json_set_int(object, "compressed-clusters", (int64_t)check->compressed_units);
	smd_json_set(object, "findings", TAKE_PTR(f->list));
	return object;
}

static int
check_exit(const struct findings *f)
{
	if (f->corruptions > 0)
		return 2;
	return f->leaks > 0 || f->degraded > 0 ? 3 : 0;
}

int
smd_op_check(int fd, const char *name, const char *format_name, uint32_t repair,
	     json **ret, int *ret_exit, struct smd_error *err)
{
	bool write = repair != SMD_REPAIR_NONE && !(repair & SMD_REPAIR_DRY_RUN);
	CLEANUP_CLOSE int own_fd = fd;
	CLEANUP_IO struct smd_io *io = NULL;
	struct findings f = { .list = json_object_new_array() };
	const struct smd_format *format;
	struct smd_check check = { 0 };
	int rc = smd_format_get(format_name, &format, err);

	if (rc == 0)
		rc = smd_io_file(own_fd, name, write ? SMD_IO_WRITABLE : 0, &io, err);
	if (rc == 0) {
		own_fd = -1;
		if (format->caps & SMD_CAP_CHECK)
			rc = format->check(io, repair, findings_add, &f, &check, err);
	}
	if (rc == 0) {
		*ret_exit = format->caps & SMD_CAP_CHECK ? check_exit(&f) : SMD_CHECK_NO_CHECKER;
		*ret = check_object(io, format, &check, &f);
	}
	json_object_put(f.list);
	return rc;
}

/* ---- checksum ------------------------------------------------------------------------ */

int
smd_op_checksum(struct smd_source *source, const struct smd_copy_options *options, json **ret,
		struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *chain = NULL;
	char text[SMD_DIGEST_TEXT_MAX], sum[SMD_DIGEST_SUM_MAX];
	struct smd_digest digest;
	uint64_t size;

	if (smd_source_open(source, &chain, err) != 0)
		return -1;
	size = smd_chain_size(chain);
	if (smd_digest_chain(chain, 0, size, options, &digest, err) != 0)
		return -1;
	smd_digest_text(&digest, size, text);
	*ret = json_object_new_object();
	smd_json_set_str(*ret, "filename", source->layers[0].name);
	smd_json_set_str(*ret, "digest", text);
	smd_digest_sum_text(&digest, sum);
	smd_json_set_str(*ret, "digest_sum", sum);
	smd_json_set_int(*ret, "virtual-size", (int64_t)size);
	return 0;
}

/* ---- map ----------------------------------------------------------------------------- */

static int
map_add(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	json *entry = json_object_new_object();

	(void)err;
	smd_json_set_int(entry, "start", (int64_t)run->offset);
	smd_json_set_int(entry, "length", (int64_t)run->count);
	smd_json_set_int(entry, "depth", (int64_t)run->layer);
	smd_json_set_bool(entry, "present", run->kind != SMD_EXTENT_ZERO);
	smd_json_set_bool(entry, "zero", run->kind == SMD_EXTENT_ZERO);
	smd_json_set_bool(entry, "data", run->kind != SMD_EXTENT_ZERO);
	smd_json_set_bool(entry, "compressed", run->kind == SMD_EXTENT_ENCODED);
	if (run->kind == SMD_EXTENT_DATA)
		smd_json_set_int(entry, "offset", (int64_t)run->host_offset);
	json_object_array_add(opaque, entry);
	return 0;
}

int
smd_op_map(struct smd_source *source, json **ret, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *chain = NULL;
	CLEANUP_JSON json *list = json_object_new_array();

	if (smd_source_open(source, &chain, err) != 0 ||
	    smd_chain_extents(chain, 0, smd_chain_size(chain), map_add, list, err) != 0)
		return -1;
	*ret = TAKE_PTR(list);
	return 0;
}

/* ---- measure --------------------------------------------------------------------------- */

/* What the target says of the image: with upper layers it is an overlay, whose parent
 * need not be there yet. */
static void
measure_params(const struct smd_target *target, struct smd_create *ret)
{
	smd_target_params(target, ret);
	if (target->upper > 0 && !ret->parent_name) {
		ret->parent_name = target->name;
		ret->parent_format = target->format;
	}
}

static json *
measure_result(const struct smd_measured *m, uint64_t virtual_size)
{
	json *o = json_object_new_object();

	smd_json_set_int(o, "required", (int64_t)m->size);
	smd_json_set_int(o, "fully-allocated", (int64_t)m->fully_allocated);
	smd_json_set_int(o, "allocated", (int64_t)m->allocated);
	smd_json_set_int(o, "shareable", (int64_t)m->shareable);
	smd_json_set_int(o, "virtual-size", (int64_t)virtual_size);
	smd_json_set_int(o, "data", (int64_t)m->data);
	return o;
}

int
smd_op_measure(struct smd_source *source, uint64_t virtual_size, struct smd_target *target,
	       struct smd_measure_options *options, json **ret, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *chain = NULL;
	CLEANUP_CHAIN struct smd_chain *base = NULL;
	const struct smd_format *format;
	struct smd_measured measured;
	struct smd_create params;
	uint64_t at_least;

	if (source) {
		if (smd_source_open(source, &chain, err) != 0 ||
		    (target->parents && !target->upper &&
		     smd_source_open(target->parents, &base, err) != 0))
			return -1;
		virtual_size = smd_chain_size(chain);
	}
	if (smd_format_get(target->format, &format, err) != 0)
		return -1;
	if (!(format->caps & SMD_CAP_CREATE))
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, target->name,
				      "the module of %s makes no images", format->name);
	at_least = target->virtual_size;
	target->virtual_size = virtual_size;
	if (smd_target_round(target, err) != 0)
		return -1;
	virtual_size = target->virtual_size;
	target->virtual_size = smd_max_u64(virtual_size, at_least);
	measure_params(target, &params);
	options->upper = target->upper;
	options->base = base;
	if (smd_measure(chain, format, &params, options, &measured, err) != 0)
		return -1;
	*ret = measure_result(&measured, virtual_size);
	return 0;
}

/* ---- formats ---------------------------------------------------------------------------- */

static json *
caps_array(uint64_t caps)
{
	static const struct {
		uint64_t cap;
		const char *name;
	} names[] = {
		{ SMD_CAP_WRITE, "write" }, { SMD_CAP_CREATE, "create" },
		{ SMD_CAP_RESIZE, "resize" }, { SMD_CAP_PARENT, "parent" },
		{ SMD_CAP_CHECK, "check" }, { SMD_CAP_STREAM, "stream" },
		{ SMD_CAP_HIDDEN, "hidden" }, { SMD_CAP_PROBE, "probe" },
		{ SMD_CAP_SNAPSHOTS, "snapshots" }, { SMD_CAP_ENCODE, "encode" },
	};
	json *list = json_object_new_array();

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (caps & names[i].cap)
			json_object_array_add(list, json_object_new_string(names[i].name));
	}
	return list;
}

static json *
options_array(const struct smd_option *options)
{
	static const char *const types[] = {
		[SMD_OPTION_SIZE] = "size", [SMD_OPTION_INT] = "int",
		[SMD_OPTION_BOOL] = "bool", [SMD_OPTION_ENUM] = "enum",
	};
	json *list = json_object_new_array();

	for (const struct smd_option *o = options; o && o->name; o++) {
		json *entry = json_object_new_object();

		smd_json_set_str(entry, "name", o->name);
		smd_json_set_str(entry, "type", types[o->type]);
		smd_json_set_str(entry, "default", o->dflt);
		smd_json_set_str(entry, "values", o->values);
		smd_json_set_str(entry, "doc", o->doc);
		json_object_array_add(list, entry);
	}
	return list;
}

static json *
lies_on_array(const struct smd_format *format)
{
	json *list = json_object_new_array();

	for (const struct smd_format *const *f = smd_formats(); *f; f++) {
		if (smd_format_lies_on(format, *f))
			json_object_array_add(list, json_object_new_string((*f)->name));
	}
	return list;
}

json *
smd_op_formats(void)
{
	json *list = json_object_new_array();

	for (const struct smd_format *const *f = smd_formats(); *f; f++) {
		json *entry = json_object_new_object();

		smd_json_set_str(entry, "name", (*f)->name);
		smd_json_set_str(entry, "alias", (*f)->alias);
		smd_json_set_str(entry, "doc", (*f)->doc);
		smd_json_set(entry, "caps", caps_array((*f)->caps));
		smd_json_set_int(entry, "max-virtual-size", (int64_t)(*f)->max_virtual_size);
		smd_json_set_int(entry, "size-unit", (int64_t)(*f)->size_unit);
		smd_json_set_bool(entry, "needs-grow", (*f)->caps & SMD_CAP_NEEDS_GROW);
		smd_json_set(entry, "lies-on", lies_on_array(*f));
		smd_json_set(entry, "options", options_array((*f)->options));
		json_object_array_add(list, entry);
	}
	return list;
}
