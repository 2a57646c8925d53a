/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * New, empty volumes that VDIs have before the disk has them. What they hold follows from a
 * few words in the journal: one commit makes the rows durable, and the promise that the
 * volumes are there. They get their names behind it, and are synced some milliseconds later,
 * many at once; then the journal forgets the promise. A kill or a power cut before has their
 * images made again, before anyone can use the SR.
 *
 * As long as the journal promises a volume nobody may have written to it: volume_open
 * (daemon/sr/volume.h) waits until it does not. Where the syncs fail, the promise stays, the
 * volume cannot be opened, and the next attach of the SR makes it again.
 *
 * Threads: any, but no call is made in a transaction unless it says so. Each SR has a settler,
 * a thread that is there while it has something to do.
 */
#ifndef SMD_DAEMON_SR_SETTLE_H
#define SMD_DAEMON_SR_SETTLE_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/sr/volume.h"

struct settling;		/* the new volumes of one change */

/* Before the transaction: n volumes of one SR are written. Where the SR is nearly full they
 * are synced at once: who learns only then that there is no room has answered already. *ret:
 * what the SR has left, for the transaction. */
int settle_prepare(struct new_volume *v, size_t n, struct smd_sr_stat *ret,
		   struct smd_error *err);
/* In the transaction that makes them VDIs'. redo: job_plan_add_made of each, and what else
 * is left to do behind them; borrowed. */
int settle_promise(const char *kind, const struct new_volume *v, size_t n, json *redo,
		   struct settling **ret, struct smd_error *err);
/* It was undone. */
void settle_forget(struct settling *s);
/* It is committed: they get their names, and this takes over their descriptors. What fails is
 * logged and left to the next attach of the SR, as what fails later. */
void settle_publish(struct settling *s, struct new_volume *v, size_t n);

/* Wait until a volume is as durable as any. IMAGE_IO where it is not going to be. */
int settle_wait(struct sr *sr, const char *name, struct smd_error *err);
/* Until it is, or is not going to be. */
void settle_end(struct sr *sr, const char *name);
/* Until all are that the SR has now. */
void settle_sr(struct sr *sr);

/* The journal's promise: an image like this target (a worker's T, without "fd"), on this
 * parent (NULL: none). One that somebody has written to stays as it is, and so does one that
 * no VDI has. The SR is nobody's else. Durable on return. */
int volume_make_again(struct sr *sr, const char *name, json *target, const char *parent,
		      const char *parent_format, struct smd_error *err);

struct settler;
struct settler *settler_new(void);
void settler_free(struct settler *settler);	/* of an SR that nobody uses */

#endif
