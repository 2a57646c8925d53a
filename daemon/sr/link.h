/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an image says of its own place in a chain, so that other programs see the chain
 * that the tree (daemon/sr/tree.h) knows: which parent it names, and whether it is a
 * hidden base.
 *
 * Threads: any. The image is nobody else's meanwhile: its lock is the caller's, or the
 * SR is just being attached.
 */
#ifndef SMD_DAEMON_SR_LINK_H
#define SMD_DAEMON_SR_LINK_H

#include "common/error.h"
#include "daemon/sr/sr.h"

/* What is asked of an image is asked again where its worker was killed. */
#define LINK_TRIES 5

/* Have a volume name another one of its SR as its parent (NULL: none). Both show the
 * same. One atomic step, durable on return; to do it again changes nothing. */
int volume_set_parent(struct sr *sr, const char *volume, const char *format, const char *parent,
		      const char *parent_format, struct smd_error *err);
/* The mark of a base that is no disk of anybody's. A format that has no such mark is left
 * alone. */
int volume_set_hidden(struct sr *sr, const char *volume, const char *format, bool hidden,
		      struct smd_error *err);
/* Hide a base that nobody has locked. Only other programs go by it: that it failed is
 * logged, and no more. */
void volume_hide(struct sr *sr, const char *volume, const char *format);

#endif
