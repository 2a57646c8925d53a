/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * export-image: a chain as XenServer's archive, to a pipe: ./0.vhd is the leaf, each
 * member's parent is the next, the last has none. Where fewer layers are wanted than
 * there are, the last member holds what the rest show.
 *
 * A tar says how long a member is before its bytes, so each is laid out twice.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/worker/archive.h"
#include "daemon/worker/internal.h"

#define MEMBER_NAME_SIZE 64

struct export {
	struct smd_source source;	/* its descriptors stay open until the end */
	size_t n;			/* members */
	const struct smd_format *format;
	uint32_t now;
	uint8_t uuids[SMD_CHAIN_MAX][16];
	struct encoder *to;
	struct archive_writer *w;
	struct smd_copy_options options;
	char name[MEMBER_NAME_SIZE];	/* of the member being written */
	uint64_t done, data, total;	/* of members before it; of it; of all */
	/* Of the leaf, which is what each member changes of those behind it. */
	struct smd_digest digest;
	bool has_digest;
	uint64_t size;			/* the leaf's */
};

static void
cleanup_export(struct export *ex)
{
	archive_writer_close(ex->w);
	encoder_free(ex->to);
	for (size_t i = 0; i < ex->source.n; i++)
		close(ex->source.layers[i].fd);
}

static void
member_name(const struct export *ex, size_t i, char ret[MEMBER_NAME_SIZE])
{
	snprintf(ret, MEMBER_NAME_SIZE, "%zu.%s", i, ex->format->name);
}

/* The layers from the i-th down. */
static int
open_from(const struct export *ex, size_t i, struct smd_chain **ret, struct smd_error *err)
{
	struct smd_source source = { .n = ex->source.n - i };

	for (size_t k = 0; k < source.n; k++) {
		source.layers[k] = ex->source.layers[i + k];
		source.layers[k].fd = dup(source.layers[k].fd);
	}
	return smd_source_open(&source, ret, err);
}

/* parent_name is the caller's, to hold the name as long as the result is used. */
static int
member_params(struct export *ex, size_t i, const struct smd_chain *chain,
	      char parent_name[MEMBER_NAME_SIZE], struct smd_create *ret, struct smd_error *err)
{
	struct smd_target target = {
		.name = ex->name, .format = ex->format->name,
		.virtual_size = smd_chain_size(chain),
	};

	member_name(ex, i, ex->name);
	if (smd_target_round(&target, err) != 0)
		return -1;
	*ret = (struct smd_create){
		.virtual_size = target.virtual_size, .timestamp_unix = ex->now,
	};
	memcpy(ret->uuid, ex->uuids[i], sizeof ret->uuid);
	if (i + 1 == ex->n)
		return 0;
	member_name(ex, i + 1, parent_name);
	ret->parent_name = parent_name;
	ret->parent_format = smd_format_elsewhere(ex->format);
	ret->parent_virtual_size = smd_chain_info(chain, 1)->virtual_size;
	memcpy(ret->parent_uuid, ex->uuids[i + 1], sizeof ret->parent_uuid);
	return 0;
}

static int
member_measure(struct export *ex, size_t i, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *chain = NULL;
	char parent_name[MEMBER_NAME_SIZE];
	struct smd_create params;
	uint64_t size, data;

	if (open_from(ex, i, &chain, err) != 0 ||
	    member_params(ex, i, chain, parent_name, &params, err) != 0 ||
	    smd_stream_measure(chain, ex->format, &params, &size, &data, err) != 0)
		return -1;
	ex->total += data;
	if (i == 0)
		ex->size = smd_chain_size(chain);
	return 0;
}

static int
begin(void *opaque, uint64_t size, struct smd_error *err)
{
	struct export *ex = opaque;
	CLEANUP_FREE char *name = smd_asprintf("./%s", ex->name);

	return archive_writer_member(ex->w, name, size, ex->now, err);
}

static int
sink(void *opaque, const void *buf, size_t count, struct smd_error *err)
{
	struct export *ex = opaque;

	return archive_writer_data(ex->w, buf, count, err);
}

static int
progress(void *opaque, uint64_t done, uint64_t total)
{
	struct export *ex = opaque;

	ex->data = total;
	return print_progress(NULL, ex->done + done, ex->total);
}

static int
member_write(struct export *ex, size_t i, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *chain = NULL;
	char parent_name[MEMBER_NAME_SIZE];
	struct smd_create params;
	struct smd_copy_stats stats;

	if (open_from(ex, i, &chain, err) != 0 ||
	    member_params(ex, i, chain, parent_name, &params, err) != 0 ||
	    smd_stream_to(chain, ex->format, &params, sink, ex, begin, &ex->options, &stats,
			  err) != 0)
		return -1;
	smd_digest_sum(&ex->digest, &stats.digest);
	/* What a larger one has behind the end would be taken for the leaf's. */
	ex->has_digest = ex->has_digest && stats.has_digest && smd_chain_size(chain) <= ex->size;
	ex->done += ex->data;
	return 0;
}

static int
parse_export(json *request, struct export *ex, int *ret_fd, struct smd_error *err)
{
	uint64_t depth;

	if (parse_source(smd_json_member(request, "source"), &ex->source, err) != 0 ||
	    parse_fd(request, ret_fd, err) != 0 || parse_size(request, "depth", &depth, err) != 0 ||
	    smd_format_get(smd_json_str(request, "format", ""), &ex->format, err) != 0)
		return -1;
	ex->n = depth == 0 || depth > ex->source.n ? ex->source.n : (size_t)depth;
	ex->now = (uint32_t)time(NULL);
	for (size_t i = 0; i < ex->n; i++)
		smd_uuid_new_bytes(ex->uuids[i]);
	parse_copy_options(request, &ex->options);
	ex->has_digest = true;
	ex->options.progress = progress;
	ex->options.opaque = ex;
	return 0;
}

int
run_export_image(json *request, json **ret, struct smd_error *err)
{
	CLEANUP(cleanup_export) struct export ex = { .n = 0 };
	int fd = -1;

	if (parse_export(request, &ex, &fd, err) != 0)
		return -1;
	for (size_t i = 0; i < ex.n; i++) {
		if (member_measure(&ex, i, err) != 0)
			return -1;
	}
	/* The length is not known, only that nothing stands in the way. */
	if (print_begin(NULL, ex.total, err) != 0)
		return -1;
	ex.to = encoder_new(fd, CODING_GZIP);
	if (archive_writer_open(ex.to, &ex.w, err) != 0)
		return -1;
	for (size_t i = 0; i < ex.n; i++) {
		if (member_write(&ex, i, err) != 0)
			return -1;
	}
	*ret = json_object_new_object();
	smd_json_set_int(*ret, "images", (int64_t)ex.n);
	set_digest(*ret, &ex.digest, ex.has_digest, ex.size);
	if (archive_writer_finish(ex.w, err) != 0)
		return -1;
	return encoder_finish(ex.to, err);
}
