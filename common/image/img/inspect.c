/* SPDX-License-Identifier: BSD-2-Clause */
/* Verbs that only read: info, check, map, measure, compare. */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "common/image/io.h"
#include "common/image/img/img.h"
#include "common/lock.h"
#include "common/mem.h"

static void
cleanup_source(struct smd_source *source)
{
	img_source_free(source);
}

/* "key: value" lines of an object, its objects indented below their name. Strings
 * print as JSON, since a name in an image may hold anything. */
static void
print_members(json *object, int indent)
{
	json_object_object_foreach(object, name, value) {
		if (json_object_is_type(value, json_type_object)) {
			printf("%*s%s:\n", indent, "", name);
			print_members(value, indent + 4);
		} else {
			printf("%*s%s: %s\n", indent, "", name,
			       json_object_to_json_string_ext(value,
							      JSON_C_TO_STRING_NOSLASHESCAPE));
		}
	}
}

int
img_info(struct img_options *o, struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source source = { 0 };
	CLEANUP_JSON json *info = NULL;

	if (img_source(o, o->args[0], o->format, false, &source, err) != 0 ||
	    smd_op_info(&source, &info, err) != 0)
		return -1;
	if (!o->chain && !o->unsafe && smd_json_bool(info, "has-parent", false))
		return smd_image_fail(err, SMD_REASON_EXTERNAL_REF, o->args[0],
				      "it names a parent: --chain follows it, -u looks at the image "
				      "alone");
	if (o->json)
		img_print_json(info);
	else
		print_members(info, 0);
	return IMG_OK;
}

static uint32_t
repair_flags(const struct img_options *o)
{
	uint32_t flags = SMD_REPAIR_NONE;

	if (o->repair)
		flags = strcmp(o->repair, "all") == 0 ? SMD_REPAIR_ALL : SMD_REPAIR_LEAKS;
	return flags | (o->dry_run ? SMD_REPAIR_DRY_RUN : 0);
}

static void
print_check(json *result)
{
	json *findings = smd_json_member(result, "findings");
	size_t n = findings ? json_object_array_length(findings) : 0;

	for (size_t i = 0; i < n; i++) {
		json *f = json_object_array_get_idx(findings, i);

		printf("%s: %s: %s%s\n", smd_json_str(f, "kind", ""), smd_json_str(f, "reason", ""),
		       smd_json_str(f, "text", ""),
		       smd_json_bool(f, "repaired", false) ? " (repaired)" :
		       smd_json_bool(f, "repairable", false) ? " (repairable)" : "");
	}
	if (n == 0)
		puts("No errors were found on the image.");
}

int
img_check(struct img_options *o, struct smd_error *err)
{
	CLEANUP_JSON json *result = NULL;
	CLEANUP_CLOSE int fd = -1;
	uint32_t repair = repair_flags(o);
	bool write = repair != SMD_REPAIR_NONE && !o->dry_run;
	const char *format;
	int verdict;

	if (o->repair && strcmp(o->repair, "all") != 0 && strcmp(o->repair, "leaks") != 0)
		return smd_fail_INVALID_VALUE(err, "-r", o->repair,
					      "-r is \"%s\", not leaks or all", o->repair);
	fd = img_open_file(o->args[0], write ? O_RDWR : O_RDONLY, err);
	if (fd < 0 || img_format(fd, o->args[0], o->format, &format, err) != 0)
		return -1;
	if (!o->share) {
		int rc = smd_image_lock(fd, write, o->args[0], err);

		if (rc != 0)
			return rc < 0 ? -1 : smd_fail_IMAGE_IO(err, o->args[0],
					"%s is in use by another program", o->args[0]);
	}
	if (smd_op_check(TAKE_FD(fd), o->args[0], format, repair, &result, &verdict, err) != 0)
		return -1;
	if (o->json)
		img_print_json(result);
	else if (verdict == SMD_CHECK_NO_CHECKER)
		fprintf(stderr, "smd-img: %s: %s images cannot be checked\n", o->args[0], format);
	else if (!o->quiet)
		print_check(result);
	return verdict;
}

int
img_repair(struct img_options *o, struct smd_error *err)
{
	if (!o->repair)
		o->repair = "all";
	return img_check(o, err);
}

int
img_map(struct img_options *o, struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source source = { 0 };
	CLEANUP_JSON json *map = NULL;

	if (img_source(o, o->args[0], o->format, false, &source, err) != 0 ||
	    smd_op_map(&source, &map, err) != 0)
		return -1;
	if (o->json) {
		img_print_json(map);
		return IMG_OK;
	}
	printf("%-18s%-18s%-18s%s\n", "Offset", "Length", "Mapped to", "Depth");
	for (size_t i = 0; i < json_object_array_length(map); i++) {
		json *run = json_object_array_get_idx(map, i);

		if (smd_json_bool(run, "data", false))
			printf("%#-18" PRIx64 "%#-18" PRIx64 "%#-18" PRIx64 "%" PRId64 "\n",
			       smd_json_int(run, "start", 0), smd_json_int(run, "length", 0),
			       smd_json_int(run, "offset", 0), smd_json_int(run, "depth", 0));
	}
	return IMG_OK;
}

int
img_measure(struct img_options *o, struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source source = { 0 };
	CLEANUP_JSON json *result = NULL;
	struct smd_target target = { .fd = -1, .name = "target" };
	struct smd_measure_options options = { .exact = o->exact };
	const struct smd_format *format;
	uint64_t size = 0;
	int rc = 0;

	if (smd_format_get(o->out_format ? o->out_format : "raw", &format, err) != 0)
		return -1;
	if (!o->size == (o->n_args == 0))
		return smd_fail_INVALID_VALUE(err, "--size", "", "give --size or a file, not both");
	if (o->size && smd_size_parse(o->size, &size, err) != 0)
		return -1;
	if (!o->size && img_source(o, o->args[0], o->format, false, &source, err) != 0)
		return -1;
	target.format = format->name;
	for (size_t i = 0; rc == 0 && i < o->n_create; i++)
		rc = smd_options_add(&target.options, format, o->create[i].name,
				     o->create[i].value, err);
	if (rc == 0)
		rc = smd_op_measure(o->size ? NULL : &source, size, &target, &options, &result,
				    err);
	smd_options_free(&target.options);
	if (rc != 0)
		return -1;
	if (o->json)
		img_print_json(result);
	else
		printf("required size: %" PRId64 "\nfully allocated size: %" PRId64
		       "\nallocated size: %" PRId64 "\n", smd_json_int(result, "required", 0),
		       smd_json_int(result, "fully-allocated", 0),
		       smd_json_int(result, "allocated", 0));
	return IMG_OK;
}

int
img_checksum(struct img_options *o, struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source source = { 0 };
	CLEANUP_JSON json *result = NULL;
	struct smd_copy_options options;
	struct img_progress progress;
	int rc;

	if (img_source(o, o->args[0], o->format, false, &source, err) != 0)
		return -1;
	img_copy_options(o, &progress, &options);
	rc = smd_op_checksum(&source, &options, &result, err);
	img_progress_end(&progress);
	if (rc != 0)
		return -1;
	if (o->json)
		img_print_json(result);
	else
		printf("%s  %s\n", smd_json_str(result, "digest", ""), o->args[0]);
	return IMG_OK;
}

int
img_compare(struct img_options *o, struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source a = { 0 }, b = { 0 };
	CLEANUP_CHAIN struct smd_chain *chain_a = NULL;
	CLEANUP_CHAIN struct smd_chain *chain_b = NULL;
	struct smd_copy_options options;
	struct img_progress progress;
	uint64_t offset;
	int rc;

	if (img_source(o, o->args[0], o->format, false, &a, err) != 0 ||
	    img_source(o, o->args[1], o->second_format, false, &b, err) != 0 ||
	    smd_source_open(&a, &chain_a, err) != 0 || smd_source_open(&b, &chain_b, err) != 0)
		return -1;
	img_copy_options(o, &progress, &options);
	rc = smd_compare(chain_a, chain_b, o->strict, &options, &offset, err);
	img_progress_end(&progress);
	if (rc != 0)
		return -1;
	if (offset == UINT64_MAX) {
		if (!o->quiet)
			puts("Images are identical.");
		return 0;
	}
	if (!o->quiet)
		printf("Content mismatch at offset %" PRIu64 "!\n", offset);
	return 1;
}
