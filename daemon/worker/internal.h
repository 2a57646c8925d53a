/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the files of the worker: a request's parts, and the operations that have a
 * file of their own. */
#ifndef SMD_DAEMON_WORKER_INTERNAL_H
#define SMD_DAEMON_WORKER_INTERNAL_H

#include "common/image/ops.h"
#include "common/json.h"

/* request.c. The request's `what` is missing or wrong: INTERNAL_ERROR, -1. */
int bad_request(struct smd_error *err, const char *what);
int parse_fd(json *obj, int *ret, struct smd_error *err);
int parse_size(json *obj, const char *key, uint64_t *ret, struct smd_error *err);
int parse_source(json *obj, struct smd_source *ret, struct smd_error *err);
void parse_copy_options(json *request, struct smd_copy_options *ret);
/* The answers {"progress":…}, at most ten a second or one for each 2%, and {"begin":…}. */
int print_progress(void *opaque, uint64_t done, uint64_t total);
int print_begin(void *opaque, uint64_t size, struct smd_error *err);

/* disk.c, import.c and export.c. */
int run_export(json *request, json **ret, struct smd_error *err);
int run_import_raw(json *request, json **ret, struct smd_error *err);
int run_import_image(json *request, json **ret, struct smd_error *err);
int run_export_image(json *request, json **ret, struct smd_error *err);

#endif
