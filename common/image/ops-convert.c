/* SPDX-License-Identifier: BSD-2-Clause */
/* Operations that copy a disk: convert, update. */
#include "common/image/ops-impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/image/io.h"
#include "common/mem.h"

/* The empty image just made, opened to be filled. */
static int
target_open(struct smd_target *target, bool small, struct smd_chain **ret, struct smd_error *err)
{
	uint32_t flags = SMD_CHAIN_WRITE | (small ? SMD_CHAIN_SMALL : 0);
	struct smd_layer layers[SMD_CHAIN_MAX] = { { NULL, NULL } };
	size_t n = 1 + (target->parents ? target->parents->n : 0);

	if (target->parents && ops_parents_open(target, layers + 1, err) != 0)
		return -1;
	if (ops_target_create(target, &layers[0].format, &layers[0].io, err) != 0 ||
	    smd_chain_open(layers, n, flags, ret, err) != 0) {
		ops_layers_close(layers, n);
		return -1;
	}
	return 0;
}

static double
seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#define DIGEST_OF_A_PART "what was copied is a part of the disk, and the rest was not read"

/* Why the disk's digest is not known; NULL: it is. */
static const char *
digest_absent(const struct smd_chain *to, const struct smd_target *target,
	      const struct smd_copy_stats *stats)
{
	if (!stats->has_digest)
		return target->parents && target->upper == 0 ? DIGEST_OF_A_PART :
		       "extents are shared with the source, and were not read";
	if (!stats->is_change)
		return NULL;
	if (!target->has_below)
		return "that of what it lies on is not known";
	if (smd_chain_info(to, 1)->virtual_size > smd_chain_size(to))
		return "what it lies on is larger";
	return NULL;
}

/* The digest is the new disk's. One that its format made larger has another than the
 * source: both are told. */
static void
result_digest(json *result, const struct smd_chain *from, const struct smd_chain *to,
	      const struct smd_target *target, const struct smd_copy_stats *stats)
{
	const char *why = digest_absent(to, target, stats);
	struct smd_digest sum = stats->digest;
	char text[SMD_DIGEST_TEXT_MAX], sum_text[SMD_DIGEST_SUM_MAX];

	if (why) {
		smd_json_set_str(result, "digest_absent", why);
		return;
	}
	if (stats->is_change)
		smd_digest_sum(&sum, &target->below);
	smd_digest_text(&sum, smd_chain_size(to), text);
	smd_json_set_str(result, "digest", text);
	smd_digest_sum_text(&sum, sum_text);
	smd_json_set_str(result, "digest_sum", sum_text);
	smd_digest_text(&sum, smd_chain_size(from), text);
	smd_json_set_str(result, "source_digest", text);
}

static json *
copy_result(uint64_t size, const struct smd_copy_stats *stats, double seconds)
{
	json *result = json_object_new_object();

	smd_json_set_int(result, "virtual-size", (int64_t)size);
	smd_json_set_int(result, "data", (int64_t)stats->bytes_data);
	smd_json_set_int(result, "written", (int64_t)stats->bytes_written);
	smd_json_set_int(result, "shared", (int64_t)stats->bytes_shared);
	smd_json_set_int(result, "zero", (int64_t)stats->bytes_zero);
	smd_json_set(result, "seconds", json_object_new_double(seconds));
	return result;
}

/* Where a delta has to be compared, with what: the new image's parents, once more. */
static int
base_open(struct smd_target *target, struct smd_source *again, struct smd_chain **ret,
	  struct smd_error *err)
{
	if (!target->parents || target->upper > 0)
		return 0;
	if (ops_source_copy(target->parents, 0, again, err) != 0)
		return -1;
	return smd_source_open(again, ret, err);
}

static int
upper_check(const struct smd_chain *from, const struct smd_target *target, struct smd_error *err)
{
	if (target->upper > smd_chain_depth(from))
		return smd_fail_INVALID_VALUE(err, "upper", SMD_U64(target->upper),
					      "the source has %zu layers", smd_chain_depth(from));
	return 0;
}

/* ---- Going on with what an earlier run left ---- */

/* What the target is to be: an image of another kind is no work to go on with. */
static char *
target_text(const struct smd_target *target)
{
	char *text = smd_asprintf("%" PRIu64 ";%s;%s", target->virtual_size, target->format,
				  target->parent_name ? target->parent_name : "");

	for (size_t i = 0; i < target->options.n; i++) {
		char *longer = smd_asprintf("%s;%s=%s", text, target->options.names[i],
					    target->options.values[i]);

		free(text);
		text = longer;
	}
	return text;
}

/* The target as it is, over its parents. What a power cut left is mended, and what it
 * leaked is given back. */
static int
target_open_again(struct smd_target *target, bool small, struct smd_chain **ret,
		  struct smd_error *err)
{
	CLEANUP(ops_source_close) struct smd_source source = {
		.n = 1, .write = true, .small = small,
	};
	CLEANUP(ops_source_close) struct smd_source below = { 0 };
	bool sound;

	source.layers[0].name = target->name;
	source.layers[0].format = target->format;
	source.layers[0].fd = fcntl(target->fd, F_DUPFD_CLOEXEC, 0);
	if (source.layers[0].fd < 0)
		return smd_image_fail(err, SMD_REASON_IO, target->name, "no descriptor is free");
	if (ops_source_repair(&source, &sound, err) != 0)
		return -1;
	if (!sound)
		return smd_image_fail(err, SMD_REASON_NEEDS_REPAIR, target->name,
				      "it is damaged");
	if (target->parents) {
		if (ops_source_copy(target->parents, 0, &below, err) != 0)
			return -1;
		memcpy(&source.layers[1], below.layers, below.n * sizeof below.layers[0]);
		source.n += below.n;
		below.n = 0;
	}
	if (smd_source_open(&source, ret, err) != 0)
		return -1;
	ops_give_direct(&target->direct_fd, smd_chain_io(*ret, 0));
	return 0;
}

/* 1: *ret is open, to be gone on with; 0: the target is to be made, because of *ret_why
 * where there were marks. */
static int
target_resume(struct smd_chain *from, struct smd_target *target,
	      const struct smd_copy_options *options, struct smd_chain **ret, char **ret_why)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_CHAIN struct smd_chain *to = NULL;
	const char *why;
	int r;

	if (!options->marks || smd_marks_count(options->marks) == 0)
		return 0;
	if (target_open_again(target, options->small, &to, &err) != 0) {
		*ret_why = smd_asprintf("the destination cannot be opened: %s", err.message);
		return 0;
	}
	r = smd_copy_resumable(from, to, options, &why, &err);
	if (r <= 0) {
		*ret_why = r == 0 ? smd_strdup(why) :
			   smd_asprintf("the destination cannot be read: %s", err.message);
		return 0;
	}
	*ret = TAKE_PTR(to);
	return 1;
}

/* There are no marks of a target before it is empty. */
static int
target_start(struct smd_target *target, const struct smd_copy_options *options,
	     struct smd_chain **ret, struct smd_error *err)
{
	if (options->marks && smd_marks_count(options->marks) > 0 &&
	    smd_marks_reset(options->marks, err) != 0)
		return -1;
	/* A device has a size of its own. */
	if (options->marks && ftruncate(target->fd, 0) != 0 && errno != EINVAL)
		return smd_image_fail(err, SMD_REASON_IO, target->name, "emptying it: %s",
				      strerror(errno));
	return target_open(target, options->small, ret, err);
}

/* ---- Convert ---- */

struct convert {
	struct smd_chain *from, *to, *base;
	struct smd_copy_options options;
	bool resumed;
	char *started_over;		/* why; NULL: it was not */
	char *asked;
};

static void
convert_done(struct convert *c)
{
	smd_chain_close(c->from);
	smd_chain_close(c->to);
	smd_chain_close(c->base);
	free(c->started_over);
	free(c->asked);
}

static int
convert_open(struct convert *c, struct smd_source *source, struct smd_target *target,
	     struct smd_error *err)
{
	struct smd_source again;

	if (smd_source_open(source, &c->from, err) != 0 ||
	    upper_check(c->from, target, err) != 0 ||
	    base_open(target, &again, &c->base, err) != 0)
		return -1;
	target->virtual_size = smd_max_u64(target->virtual_size, smd_chain_size(c->from));
	if (smd_target_round(target, err) != 0)
		return -1;
	c->asked = target_text(target);
	c->options.asked = c->asked;
	c->options.base = c->base;
	c->options.upper = target->parents ? target->upper : 0;
	target->no_flush = target->no_flush && !c->options.marks;
	c->resumed = target_resume(c->from, target, &c->options, &c->to, &c->started_over);
	return c->resumed ? 0 : target_start(target, &c->options, &c->to, err);
}

/* A new image holds nothing, unless its store did (raw on a block device). */
static int
convert_copy(struct convert *c, struct smd_copy_stats *ret, struct smd_error *err)
{
	uint64_t data = 1, runs;

	if (!c->resumed && !c->options.upper && !c->base &&
	    smd_count_data(c->to, &data, &runs, err) != 0)
		return -1;
	c->options.target_is_zero = data == 0;
	return smd_copy(c->from, c->to, &c->options, ret, err);
}

int
smd_op_convert(struct smd_source *source, struct smd_target *target,
	       const struct smd_copy_options *options, json **ret, struct smd_error *err)
{
	CLEANUP(convert_done) struct convert c = { .options = *options };
	struct smd_copy_stats stats = { 0 };
	double started = seconds_now();
	int rc = convert_open(&c, source, target, err);

	ops_target_close(target);
	if (target->parents)
		ops_source_close(target->parents);
	if (rc != 0 || convert_copy(&c, &stats, err) != 0)
		return -1;
	*ret = copy_result(smd_chain_size(c.to), &stats, seconds_now() - started);
	smd_json_set_int(*ret, "resumed_at", (int64_t)stats.resumed_at);
	if (c.started_over)
		smd_json_set_str(*ret, "started_over", c.started_over);
	result_digest(*ret, c.from, c.to, target, &stats);
	return 0;
}

int
smd_op_update(struct smd_source *source, struct smd_source *base_source, struct smd_source *onto,
	      const struct smd_copy_options *options, json **ret, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *from = NULL;
	CLEANUP_CHAIN struct smd_chain *base = NULL;
	CLEANUP_CHAIN struct smd_chain *to = NULL;
	struct smd_copy_options delta = *options;
	struct smd_copy_stats stats = { 0 };
	double started = seconds_now();

	onto->write = true;
	if (smd_source_open(source, &from, err) != 0 ||
	    smd_source_open(base_source, &base, err) != 0 ||
	    smd_source_open_mended(onto, &to, err) != 0)
		return -1;
	delta.base = base;
	if (smd_copy(from, to, &delta, &stats, err) != 0)
		return -1;
	*ret = copy_result(smd_chain_size(to), &stats, seconds_now() - started);
	smd_json_set_str(*ret, "digest_absent", DIGEST_OF_A_PART);
	return 0;
}
