/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the parts of looking share: look.c remembers, look-ask.c asks workers.
 *
 * Threads: any; look_ask starts some of its own.
 */
#ifndef SMD_DAEMON_SR_LOOK_IMPL_H
#define SMD_DAEMON_SR_LOOK_IMPL_H

#include "daemon/sr/look.h"

#define LOOK_NO_TEXTS \
	.why = "", .uuid = "", .parent_uuid = "", .parent_name = "", .parent_format = ""

/* One that says the same; its texts are behind it. */
struct look *look_new(const struct look *said);
/* Of an image that cannot be used. */
struct look *look_why(const char *why);

/* About a volume. */
struct question {
	const char *location, *format;	/* borrowed */
	struct look **place;		/* where the answer goes */
	struct listed *listed;		/* NULL: it is in no list */
};
/* Ask workers, by the hundred. unless_written: not about what another has open for writing, who
 * may be in the middle of a change. What the places had is freed; NULL: nothing can be said. */
int look_ask(struct sr *sr, const struct question *questions, size_t n, bool unless_written,
	     struct smd_error *err);
/* What the driver has told of a volume. */
void look_tell(struct listed *listed, const struct smd_sr_volume *volume);
/* What it tells of one that is not opened, or cannot be. It may be gone. */
void look_tell_unopened(struct sr *sr, struct listed *listed);

#endif
