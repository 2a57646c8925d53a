/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A result that many calls answer with: printed once for each wire, however many
 * clients get it.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_RPC_SHARED_H
#define SMD_DAEMON_RPC_SHARED_H

#include <stddef.h>

#include "common/json.h"
#include "schema/api.h"

enum wire { WIRE_JSON, WIRE_XML };
#define N_WIRES 2

struct shared;

/* One reference; value is taken over, and fits the type. */
struct shared *shared_new(const struct api_type *type, json *value);
struct shared *shared_ref(struct shared *shared);
void shared_unref(struct shared *shared);	/* NULL is fine */
/* The value as the wire has it (<value>…</value> in XML), as long as a reference is held. */
const char *shared_text(struct shared *shared, enum wire wire, size_t *ret_len);

/* A reply but for such a result: what a wire prints before and after it. */
struct shared_frame {
	enum wire wire;
	char *method, *before, *after;	/* NULL: it is none yet */
};
void shared_frame_done(struct shared_frame *frame);
/* The whole reply, which the caller frees. */
char *shared_reply(const struct shared_frame *frame, struct shared *shared, size_t *ret_len);

static inline void
cleanup_shared(struct shared **shared)
{
	shared_unref(*shared);
}
#define CLEANUP_SHARED CLEANUP(cleanup_shared)

#endif
