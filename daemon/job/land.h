/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an upload brought becomes VDIs: the images that a worker found in staged
 * volumes, as they are or in another format.
 *
 * Threads: any; the call blocks.
 */
#ifndef SMD_DAEMON_JOB_LAND_H
#define SMD_DAEMON_JOB_LAND_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/sr/staging.h"

struct landing {
	struct daemon *daemon;
	const char *task_ref;		/* NULL: none */
	double progress_from, progress_to;
	struct staging *staging;	/* in the SR they are for */
	json *images;			/* of the worker's answer to import-image */
	const char *format;		/* to have them in; "": as they are, where the SR can */
	bool flatten;			/* a chain becomes one disk */
	bool verify;			/* what is converted is read back */
	bool reads;			/* all of the disk, for its digest */
	const char *name_label, *name_description;
};

/* *ret_ref: the VDI of the leaf, the caller's. Those below it are the chain's inner
 * nodes. SR_FULL before anything is converted. */
int land_images(const struct landing *l, char **ret_ref, struct smd_error *err);

#endif
