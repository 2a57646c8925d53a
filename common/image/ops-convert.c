/* SPDX-License-Identifier: BSD-2-Clause */
/* Operations that copy a disk: convert, update. */
#include "common/image/ops-impl.h"

#include <time.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/image/io.h"
#include "common/mem.h"

/* The empty image just made, opened to be filled. */
static int
target_open(struct smd_target *target, struct smd_chain **ret, struct smd_error *err)
{
	struct smd_layer layers[SMD_CHAIN_MAX] = { { NULL, NULL } };
	size_t n = 1 + (target->parents ? target->parents->n : 0);

	if (target->parents && ops_parents_open(target, layers + 1, err) != 0)
		return -1;
	if (ops_target_create(target, &layers[0].format, &layers[0].io, err) != 0 ||
	    smd_chain_open(layers, n, SMD_CHAIN_WRITE, ret, err) != 0) {
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

static json *
convert_result(uint64_t size, const struct smd_copy_stats *stats, double seconds)
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
	*again = *target->parents;
	for (size_t i = 0; i < again->n; i++)
		again->layers[i].fd = dup(target->parents->layers[i].fd);
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

/* A new image holds nothing, unless its store did (raw on a block device). */
static int
convert_copy(struct smd_chain *from, struct smd_chain *to, struct smd_copy_options *options,
	     struct smd_copy_stats *ret, struct smd_error *err)
{
	uint64_t data = 1, runs;

	if (!options->upper && !options->base && smd_count_data(to, &data, &runs, err) != 0)
		return -1;
	options->target_is_zero = data == 0;
	return smd_copy(from, to, options, ret, err);
}

int
smd_op_convert(struct smd_source *source, struct smd_target *target,
	       const struct smd_copy_options *options, json **ret, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *from = NULL;
	CLEANUP_CHAIN struct smd_chain *to = NULL;
	CLEANUP_CHAIN struct smd_chain *base = NULL;
	struct smd_copy_options fresh = *options;
	struct smd_copy_stats stats = { 0 };
	struct smd_source again;
	double started = seconds_now();
	int rc;

	rc = smd_source_open(source, &from, err);
	if (rc == 0)
		rc = upper_check(from, target, err);
	if (rc == 0)
		rc = base_open(target, &again, &base, err);
	if (rc == 0) {
		target->virtual_size = smd_max_u64(target->virtual_size, smd_chain_size(from));
		rc = target_open(target, &to, err);
	}
	ops_target_close(target);
	fresh.base = base;
	fresh.upper = target->parents ? target->upper : 0;
	if (rc != 0 || convert_copy(from, to, &fresh, &stats, err) != 0)
		return -1;
	*ret = convert_result(smd_chain_size(to), &stats, seconds_now() - started);
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
	*ret = convert_result(smd_chain_size(to), &stats, seconds_now() - started);
	return 0;
}
