/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * GET /export_raw_vdi and PUT /import_raw_vdi: a disk's content over HTTP, raw or
 * as an image, made and read by a worker.
 *
 * Threads: the connection's.
 */
#ifndef SMD_DAEMON_API_RAW_VDI_H
#define SMD_DAEMON_API_RAW_VDI_H

#include "daemon/api/transfer.h"

#define RAW "raw"
#define TAR "tar"	/* no image: raw in blocks, as vhd-tool has it */

struct raw_vdi {
	struct transfer io;
	char *format;			/* of the body */
	/* Import. */
	bool any_content;		/* of a raw body: it may look like an image */
	const char *framing;		/* of a raw body: "import-raw"'s */
	bool verify;			/* what was written is read back */
	bool reads;			/* the disk is read where its content came in disorder */
	struct new_volume volume;	/* the new content */
	struct new_volume spool;	/* the image as it came */
};

struct raw_vdi *raw_vdi_new(struct http_request *request);
void raw_vdi_free(struct raw_vdi *t);
static inline void
cleanup_raw_vdi(struct raw_vdi **t)
{
	raw_vdi_free(*t);
}
/* Whether the body is the disk's bytes, whatever they are wrapped in. */
bool raw_vdi_is_plain(const struct raw_vdi *t);
/* The VDI of the request, and a format that there is. */
int raw_vdi_open(struct raw_vdi *t, const char *operation, bool write, struct smd_error *err);

#endif
