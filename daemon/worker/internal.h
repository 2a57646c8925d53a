/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the files of the worker: a request's parts, and the operations that have a
 * file of their own. */
#ifndef SMD_DAEMON_WORKER_INTERNAL_H
#define SMD_DAEMON_WORKER_INTERNAL_H

#include "common/image/ops.h"
#include "common/json.h"
#include "daemon/worker/coding.h"

/* request.c. The request's `what` is missing or wrong: INTERNAL_ERROR, -1. */
int bad_request(struct smd_error *err, const char *what);
int parse_fd(json *obj, int *ret, struct smd_error *err);
int parse_size(json *obj, const char *key, uint64_t *ret, struct smd_error *err);
int parse_source(json *obj, struct smd_source *ret, struct smd_error *err);
/* need_fd: measure has a target without a file. */
int parse_target(json *obj, bool need_fd, struct smd_target *ret, struct smd_error *err);
void cleanup_target(struct smd_target *t);
void parse_copy_options(json *request, struct smd_copy_options *ret);
/* The answers {"progress":…}, at most ten a second or one for each 2%, and {"begin":…}. */
int print_progress(void *opaque, uint64_t done, uint64_t total);
int print_begin(void *opaque, uint64_t size, struct smd_error *err);

/* disk.c. In a result: the digest of a disk of so many bytes, or that it is not known. */
void set_digest(json *result, const struct smd_digest *digest, bool known, uint64_t size);

/* blocks.c, disk.c, import.c and export.c. */
int run_export(json *request, json **ret, struct smd_error *err);
int run_export_blocks(json *request, json **ret, struct smd_error *err);
int run_import_raw(json *request, json **ret, struct smd_error *err);
int run_spool(json *request, json **ret, struct smd_error *err);
int run_import_image(json *request, json **ret, struct smd_error *err);
int run_export_image(json *request, json **ret, struct smd_error *err);

/* disk.c: a disk's content on its way into a chain. */
#define UPLOAD_NAME "the upload"

struct upload {
	const char *name;		/* the image's; the request's own */
	struct smd_chain *chain;
	struct decoder *from;
	const struct smd_format *declared;	/* NULL: it may look like anything */
	uint64_t size;			/* of the body; 0: not known */
	struct smd_digest digest;	/* of what came, while it comes in order */
	uint64_t next;			/* where that ends */
	bool disorder;			/* it did not */
	bool has_page;			/* there is a page that more may come for */
	uint64_t page_at;
	uint8_t page[SMD_DIGEST_PAGE];
};

int parse_upload(json *request, struct upload *ret, struct smd_error *err);
void upload_done(struct upload *u);
/* That the disk has such a range: VDI_TOO_SMALL. */
int upload_check(const struct upload *u, uint64_t offset, uint64_t count, struct smd_error *err);
/* Bytes of the disk have come. */
void upload_digest(struct upload *u, const uint8_t *buf, size_t count, uint64_t offset);
bool is_zero(const uint8_t *p, size_t n);
/* Write a piece, its zero granules as zeroes. */
int import_piece(struct smd_chain *chain, const uint8_t *buf, size_t count, uint64_t offset,
		 struct smd_error *err);
int refuse_content(struct smd_chain *chain, const struct smd_format *declared,
		   struct smd_error *err);
/* A decoder_tick_fn; opaque: the size of the body, 0: not known. */
void print_consumed(void *opaque, uint64_t consumed);

/* blocks.c: a tar of blocks. */
int import_blocks(struct upload *u, uint64_t *ret_bytes, struct smd_error *err);

#endif
