/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/shared.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/rpc/call.h"

struct shared {
	atomic_uint refs;
	const struct api_type *type;
	pthread_mutex_t lock;	/* all below */
	json *value;
	char *texts[N_WIRES];	/* NULL: nobody has asked yet */
};

struct shared *
shared_new(const struct api_type *type, json *value)
{
	struct shared *shared = smd_calloc(1, sizeof *shared);

	atomic_init(&shared->refs, 1);
	shared->type = type;
	shared->value = value;
	pthread_mutex_init(&shared->lock, NULL);
	return shared;
}

struct shared *
shared_ref(struct shared *shared)
{
	atomic_fetch_add(&shared->refs, 1);
	return shared;
}

void
shared_unref(struct shared *shared)
{
	if (!shared || atomic_fetch_sub(&shared->refs, 1) != 1)
		return;
	json_object_put(shared->value);
	for (size_t i = 0; i < N_WIRES; i++)
		free(shared->texts[i]);
	pthread_mutex_destroy(&shared->lock);
	free(shared);
}

const char *
shared_text(struct shared *shared, enum wire wire, size_t *ret_len)
{
	LOCK_SCOPE(&shared->lock);
	if (!shared->texts[wire])
		shared->texts[wire] = wire == WIRE_JSON ? smd_json_print(shared->value) :
				      call_result_xml(shared->type, shared->value);
	*ret_len = strlen(shared->texts[wire]);
	return shared->texts[wire];
}

void
shared_frame_done(struct shared_frame *frame)
{
	free(frame->method);
	free(frame->before);
	free(frame->after);
}

char *
shared_reply(const struct shared_frame *frame, struct shared *shared, size_t *ret_len)
{
	size_t before = strlen(frame->before), after = strlen(frame->after), len;
	const char *text = shared_text(shared, frame->wire, &len);
	char *reply = smd_malloc(before + len + after + 1);

	memcpy(reply, frame->before, before);
	memcpy(reply + before, text, len);
	memcpy(reply + before + len, frame->after, after + 1);
	*ret_len = before + len + after;
	return reply;
}
