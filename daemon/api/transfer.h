/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What uploads and downloads have in common: who asks, the task they end, and a
 * worker at the other end of a pipe.
 *
 * Threads: the connection's; transfer_start makes one more, which waits for the
 * worker.
 */
#ifndef SMD_DAEMON_API_TRANSFER_H
#define SMD_DAEMON_API_TRANSFER_H

#include <pthread.h>

#include "daemon/job/worker.h"
#include "daemon/rpc/http.h"
#include "daemon/sr/volume.h"

/* What clients declare who do not know the length: 1 PiB; they hang up early. */
#define TRANSFER_LENGTH_UNKNOWN (UINT64_C(1) << 50)

struct transfer {
	struct daemon *daemon;
	struct http_request *client;
	char *session;			/* whose transfer it is */
	char *task_ref;			/* NULL: none */
	char *made_vdi;			/* by the request, which names none; NULL: it does */
	struct disk disk;		/* the VDI's, where it is about one */
	struct disk base;		/* another one's, of which only the difference goes */
	struct op_set ops;
	bool failed_task;		/* the task has its end */
	unsigned status;		/* of the answer, whatever the error; 0: the error's */
	uint64_t declared;		/* the length of an upload; UINT64_MAX: none */
	uint64_t received;		/* bytes that went through here */
	bool uploads;
	bool refused;			/* the worker wanted no more of an upload */
	/* The worker at the other end of the pipe. */
	struct worker_job job;
	json *request;
	json *result;			/* its answer, after transfer_join */
	int pipe;			/* our end; -1: closed */
	bool running;			/* thread is to be joined */
	pthread_t thread;
	pthread_mutex_t lock;		/* guards what follows */
	pthread_cond_t moved;
	bool begun, done;
	bool ending;			/* the connection knows */
	uint64_t size;			/* of a download; UINT64_MAX: unknown */
	struct smd_error error;
};

void transfer_init(struct transfer *t, struct http_request *request);
/* The worker has ended after it, or is ended; what it had may be closed. */
void transfer_stop(struct transfer *t);
void transfer_done(struct transfer *t);

/* 0, or the status to answer with: who is asking, and may they call this message. what:
 * the transfer's name in the audit log. */
unsigned transfer_check_session(struct transfer *t, const char *what, const char *message,
				char **ret_text);
/* The client's task, which the transfer is to end, or one of its own, of this name. Only
 * once the client has shown that it may change things: the end of a task is such a
 * change. */
int transfer_take_task(struct transfer *t, const char *name, struct smd_error *err);
/* The VDI of the request, open, with the operations noted on it and its SR. */
int transfer_open(struct transfer *t, const char *operation, const char *sr_operation,
		  bool write, struct smd_error *err);
/* The VDI is free for others; whoever sees the transfer end may go on with it. */
void transfer_release(struct transfer *t);
/* The header that names the task. */
void transfer_name_task(const struct transfer *t);
bool transfer_length_is_open(const struct transfer *t);
/* npm xen-api first asks without a task whether it may: with an empty body, or with
 * the length it declares where it knows none, and no body either. */
bool transfer_is_probe(const struct transfer *t);
/* A word of the query that is true or false; absent: false. */
int transfer_query_bool(const struct transfer *t, const char *name, bool *ret,
			struct smd_error *err);
/* A body that can be read: the worker's request knows its coding. */
int transfer_check_upload(struct transfer *t, struct smd_error *err);
/* The body's length, for the worker's request; 0: not known, or not the disk's. */
uint64_t transfer_size(const struct transfer *t);

/* Start the worker with one end of a pipe as "fd" of its request. The job's
 * progress_to may be set before. */
int transfer_start(struct transfer *t, bool worker_writes, struct smd_error *err);
/* Wait until a worker that writes has begun: t->size is what it said. */
int transfer_wait_begun(struct transfer *t, struct smd_error *err);
/* Wait for the worker's end: 0, or its error. */
int transfer_join(struct transfer *t, struct smd_error *err);
/* Of the disk's content, by the worker's answer; NULL: none, and the answer says why. And its
 * task shows it. */
const char *transfer_digest(const struct transfer *t);
void transfer_show_digest(struct transfer *t);
/* As transfer_join, after the last byte of an upload, and that it was whole: one that broke off
 * is no body that its worker found wrong. */
int transfer_finish_upload(struct transfer *t, bool complete, struct smd_error *err);
/* The connection's thread is at the end of the stream. */
void transfer_ending(struct transfer *t);
/* The task was cancelled: for task_set_cancel. */
void transfer_hang_up(void *opaque);

/* A download: http_stream's read, and what its end does. */
int64_t transfer_read(struct transfer *t, void *buf, size_t len);
unsigned transfer_read_end(struct transfer *t, bool complete);
/* An upload: http_stream's write; -1: the worker has ended, and says why. */
int transfer_write(struct transfer *t, const void *data, size_t len);

/* The answer to a request that failed, once; the task ends with it. */
unsigned transfer_answer_error(struct transfer *t, const struct smd_error *err, char **ret_text);

#endif
