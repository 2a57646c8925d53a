/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the volumes of an SR hold, as workers say: many images a worker, and only
 * those that may have changed since they were looked at last.
 */
#ifndef SMD_DAEMON_SR_LOOK_H
#define SMD_DAEMON_SR_LOOK_H

#include <string.h>

#include "common/error.h"
#include "common/json.h"
#include "daemon/sr/sr.h"

struct look {
	char stamp[SMD_SR_STAMP_MAX];	/* the driver's; "": look again */
	int64_t allocated;		/* of the volume then */
	/* Why the image cannot be used, for sm_config; "": readable, and then: */
	const char *why;
	uint64_t virtual_size;
	bool hidden, has_parent, degraded;
	/* What the image says: data, never a name to open. "": nothing. */
	const char *uuid, *parent_uuid, *parent_name, *parent_format;
};
static inline void
stamp_copy(char ret[SMD_SR_STAMP_MAX], const char *stamp)
{
	size_t len = strnlen(stamp, SMD_SR_STAMP_MAX - 1);

	memcpy(ret, stamp, len);
	ret[len] = '\0';
}
/* What is said of one that is degraded, though it can be read. */
#define LOOK_DEGRADED "IMAGE_CORRUPT NEEDS_REPAIR: a part of it is damaged; it can be read, and " \
	"must be repaired before it is written"
void look_free(struct look *look);
static inline void
cleanup_look(struct look **look)
{
	look_free(*look);
}
#define CLEANUP_LOOK CLEANUP(cleanup_look)

/* Look at one volume now. *ret NULL: nothing can be said (it is gone, or could not
 * be opened for a reason of the daemon's own). */
int look_at(struct sr *sr, const char *location, struct look **ret, struct smd_error *err);

/* A volume as its SR lists it. */
struct listed {
	char *location;
	const char *format;		/* look_format's, borrowed; NULL: none */
	bool is_told;			/* what follows is known; else a look tells it */
	int64_t allocated;
	char stamp[SMD_SR_STAMP_MAX];	/* its volume_stamp; "": it tells nothing now */
};
/* List the volumes, with stamps where the driver has any. Calls of add as with its scan. to_open:
 * whoever asks is going to look at all of them: stamp NULL, and no sizes, where the driver tells
 * more when it opens one. */
int volumes_list(struct sr *sr, bool to_open, smd_sr_stamped_fn *add, void *opaque,
		 struct smd_error *err);

/* What is remembered of an SR's volumes. One thread at a time (sr.scan_lock). */
struct looks;
void looks_free(struct looks *looks);
/* Look at the volumes listed, none twice, as far as they changed; others are forgotten. All that
 * are still there are told of afterwards.
 * *looks may be NULL, and is afterwards what looks_get takes. */
int looks_refresh(struct sr *sr, struct looks **looks, struct listed *const *volumes,
		  size_t n, struct smd_error *err);
/* Whether the SR's volumes are these, and all as they were. */
bool looks_hold(struct sr *sr, struct looks *looks);
/* NULL: nothing can be said of it now; somebody may be writing it. Quickest in the order of the
 * list that they were refreshed by. */
const struct look *looks_get(struct looks *looks, const char *location);

/* The format in a volume's name, as the loaded module spells it; NULL: none. */
const char *look_format(struct sr *sr, const char *location);

#endif
