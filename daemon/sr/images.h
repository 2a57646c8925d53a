/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The images of an SR as they describe themselves, and which lies on which. What an
 * image says of its parent is matched against the names and uuids of the volumes
 * there are; nothing is opened by it.
 */
#ifndef SMD_DAEMON_SR_IMAGES_H
#define SMD_DAEMON_SR_IMAGES_H

#include "daemon/sr/look.h"

struct image {
	const char *location;		/* borrowed, as what follows */
	const char *format;		/* NULL: none that is loaded */
	const struct look *look;	/* NULL: nothing can be said of it now */
	struct image *known_parent;	/* of the database or the SR's records; NULL: none */
	bool is_linked;			/* it is of the database: nothing else is */
	/* images_resolve's: */
	struct image *parent;		/* NULL: none, or none that can be used */
	char *why;			/* why it cannot be read, "": it can; NULL: not known now */
	struct image *culprit;		/* the image whose fault that is */
	size_t depth;			/* images of its chain; 0: not known */
	size_t n_children;
};

/* Find each image's parent, or say what is wrong with its chain. */
void images_resolve(struct image *images, size_t n);
/* Free what images_resolve made. */
void images_done(struct image *images, size_t n);

#endif
