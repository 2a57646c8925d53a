/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/settle.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include "common/lock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/job/again.h"
#include "daemon/job/job.h"
#include "daemon/job/stall.h"
#include "daemon/sr/internal.h"

#define SETTLE_NS 10000000	/* after the first of those that are settled together */
#define SETTLE_MAX 64u		/* together; who makes more waits */
#define SETTLE_ROOM (64u << 20)	/* bytes free in an SR that is not nearly full */
#define SETTLE_VOLUMES 2u	/* of one change */

struct settling {
	TAILQ_ENTRY(settling) link;
	uint64_t number;		/* in the order of promises */
	struct sr *sr;			/* in use */
	char *job_id;
	enum { SETTLE_PROMISED, SETTLE_PUBLISHED, SETTLE_TAKEN } state;
	size_t n;
	struct {
		char *name;
		int fd;			/* -1: not published yet */
	} volumes[SETTLE_VOLUMES];
};

/* Of an SR: the disk of one may hang, and shall not keep others waiting. */
struct settler {
	pthread_mutex_t lock;		/* guards all; none but the storage's is taken with it */
	pthread_cond_t changed;
	TAILQ_HEAD(, settling) list;
	uint64_t n_promised;		/* ever */
	unsigned n_published;		/* and not taken */
	struct timespec due;		/* of these, in monotonic time */
	unsigned n_waiting;		/* for one of them */
	bool runs;			/* a thread, which uses the SR */
};

static void
settling_free(struct settling *s)
{
	for (size_t i = 0; i < s->n; i++) {
		if (s->volumes[i].fd >= 0)
			close(s->volumes[i].fd);
		free(s->volumes[i].name);
	}
	sr_release(s->sr);
	free(s->job_id);
	free(s);
}

/* ---- The syncs ---- */

static int
sync_images(const struct settling *s, struct smd_error *err)
{
	for (size_t i = 0; i < s->n; i++) {
		if (fdatasync(s->volumes[i].fd) < 0)
			return smd_fail_IMAGE_IO(err, s->volumes[i].name, "%s: fdatasync: %s",
						 s->volumes[i].name, strerror(errno));
	}
	return 0;
}

static void
leave(const struct settling *s, const struct smd_error *err)
{
	smd_log(SMD_LOG_ERR, "%s may not be on the disk of SR %s, and is made again when that is "
		"attached again: %s", s->volumes[0].name, s->sr->uuid, err->message);
	job_leave(s->sr->daemon, s->job_id);
}

static void
settle(struct sr *sr, struct settling *const *batch, size_t n)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE struct settling **synced = smd_calloc(n, sizeof *synced);
	CLEANUP_FREE char **ids = smd_calloc(n, sizeof *ids);
	size_t n_synced = 0;

	for (size_t i = 0; i < n; i++) {
		if (sync_images(batch[i], &err) < 0) {
			leave(batch[i], &err);
			smd_error_clear(&err);
			continue;
		}
		ids[n_synced] = batch[i]->job_id;
		synced[n_synced++] = batch[i];
	}
	if (n_synced == 0 ||
	    ((!sr->driver->sync_names || sr->driver->sync_names(sr->handle, &err) == 0) &&
	     job_kept(sr->daemon, sr, ids, n_synced, &err) == 0))
		return;
	for (size_t i = 0; i < n_synced; i++)
		leave(synced[i], &err);
}

/* ---- The settler ---- */

/* Those that are due, into batch, which has room for all. lock. */
static size_t
take(struct settler *settler, struct settling **batch)
{
	struct settling *s;
	size_t n = 0;

	TAILQ_FOREACH(s, &settler->list, link) {
		if (s->state != SETTLE_PUBLISHED)
			continue;
		s->state = SETTLE_TAKEN;
		batch[n++] = s;
	}
	settler->n_published = 0;
	return n;
}

/* Nobody waits for them any more. */
static void
drop(struct settler *settler, struct settling *const *batch, size_t n)
{
	{
		LOCK_SCOPE(&settler->lock);
		for (size_t i = 0; i < n; i++)
			TAILQ_REMOVE(&settler->list, batch[i], link);
		pthread_cond_broadcast(&settler->changed);
	}
	for (size_t i = 0; i < n; i++)
		settling_free(batch[i]);
}

/* lock. */
static void
wait_until_due(struct settler *settler)
{
	int r = 0;

	while (r == 0 && settler->n_waiting == 0 && settler->n_published < SETTLE_MAX)
		r = pthread_cond_timedwait(&settler->changed, &settler->lock, &settler->due);
}

/* Wait for some, and take them. 0: there are none, and the thread is over. */
static size_t
take_due(struct settler *settler, struct settling *batch[SETTLE_MAX])
{
	LOCK_SCOPE(&settler->lock);
	if (settler->n_published > 0)
		wait_until_due(settler);
	else
		settler->runs = false;
	return take(settler, batch);
}

static void *
settler_main(void *opaque)
{
	struct settling *batch[SETTLE_MAX];
	struct sr *sr = opaque;
	size_t n;

	while ((n = take_due(sr->settler, batch)) > 0) {
		settle(sr, batch, n);
		drop(sr->settler, batch, n);
	}
	sr_release(sr);
	return NULL;
}

/* One that ends when there is nothing left to do. lock. */
static bool
start_thread(struct settler *settler, struct sr *sr)
{
	pthread_attr_t attr;
	pthread_t thread;

	if (settler->runs)
		return true;
	sr_hold(sr);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	settler->runs = pthread_create(&thread, &attr, settler_main, sr) == 0;
	pthread_attr_destroy(&attr);
	if (!settler->runs)
		sr_release(sr);
	return settler->runs;
}

struct settler *
settler_new(void)
{
	struct settler *settler = smd_calloc(1, sizeof *settler);
	pthread_condattr_t monotonic;

	pthread_mutex_init(&settler->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&settler->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	TAILQ_INIT(&settler->list);
	return settler;
}

void
settler_free(struct settler *settler)
{
	if (!settler)
		return;
	pthread_cond_destroy(&settler->changed);
	pthread_mutex_destroy(&settler->lock);
	free(settler);
}

/* ---- New volumes ---- */

int
settle_prepare(struct new_volume *v, size_t n, struct smd_sr_stat *ret, struct smd_error *err)
{
	if (sr_measure(v->sr, ret, err) < 0)
		return -1;
	for (size_t i = 0; i < n && ret->free < SETTLE_ROOM; i++) {
		if (new_volume_sync(&v[i], err) < 0)
			return volume_fail(v->sr, err);
	}
	return 0;
}

int
settle_promise(const char *kind, const struct new_volume *v, size_t n, json *redo,
	       struct settling **ret, struct smd_error *err)
{
	struct settler *settler = v->sr->settler;
	struct settling *s = smd_calloc(1, sizeof *s);

	assert(n <= SETTLE_VOLUMES);
	s->sr = v->sr;
	sr_hold(s->sr);
	for (; s->n < n; s->n++) {
		s->volumes[s->n].name = smd_strdup(v[s->n].name);
		s->volumes[s->n].fd = -1;
	}
	if (job_promise(v->daemon, kind, redo, &s->job_id, err) < 0) {
		settling_free(s);
		return -1;
	}
	LOCK_SCOPE(&settler->lock);
	s->number = ++settler->n_promised;
	TAILQ_INSERT_TAIL(&settler->list, s, link);
	*ret = s;
	return 0;
}

void
settle_forget(struct settling *s)
{
	if (!s)
		return;
	job_forget(s->sr->daemon, s->job_id);
	drop(s->sr->settler, &s, 1);
}

static int
give_name(struct new_volume *v, struct smd_error *err)
{
	const struct smd_sr_driver *driver = v->sr->driver;

	if (driver->sync_names)
		return driver->volume_rename_soon(v->sr->handle, v->tmp, v->name, err);
	/* Its name is durable with this. */
	if (new_volume_sync(v, err) < 0)
		return -1;
	return driver->volume_rename(v->sr->handle, v->tmp, v->name, err);
}

/* From now on it is the thread's. False: there can be none. */
static bool
hand_over(struct settler *settler, struct settling *s)
{
	LOCK_SCOPE(&settler->lock);
	while (settler->n_published >= SETTLE_MAX)
		pthread_cond_wait(&settler->changed, &settler->lock);
	if (!start_thread(settler, s->sr))
		return false;
	s->state = SETTLE_PUBLISHED;
	if (settler->n_published++ > 0)
		return true;
	clock_gettime(CLOCK_MONOTONIC, &settler->due);
	settler->due.tv_nsec += SETTLE_NS;
	if (settler->due.tv_nsec >= 1000000000) {
		settler->due.tv_nsec -= 1000000000;
		settler->due.tv_sec++;
	}
	pthread_cond_broadcast(&settler->changed);
	return true;
}

void
settle_publish(struct settling *s, struct new_volume *v, size_t n)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct settler *settler = s->sr->settler;

	for (size_t i = 0; i < n; i++) {
		if (give_name(&v[i], &err) < 0) {
			leave(s, &err);
			drop(settler, &s, 1);
			return;
		}
		v[i].published = true;
		s->volumes[i].fd = v[i].fd;
		v[i].fd = -1;
	}
	if (hand_over(settler, s))
		return;
	settle(s->sr, &s, 1);
	drop(settler, &s, 1);
}

/* ---- Waiting ---- */

/* Any (name NULL), or the volume, up to the one of this number. lock. */
static bool
is_settling(const struct settler *settler, const char *name, uint64_t number)
{
	const struct settling *s;

	TAILQ_FOREACH(s, &settler->list, link) {
		if (s->number > number)
			continue;
		for (size_t i = 0; i < s->n; i++) {
			if (!name || strcmp(s->volumes[i].name, name) == 0)
				return true;
		}
	}
	return false;
}

/* Of those that there are now: others may be made all the time. */
static void
wait_for(struct settler *settler, const char *name)
{
	uint64_t number;

	LOCK_SCOPE(&settler->lock);
	number = settler->n_promised;
	settler->n_waiting++;
	pthread_cond_broadcast(&settler->changed);
	while (is_settling(settler, name, number))
		pthread_cond_wait(&settler->changed, &settler->lock);
	settler->n_waiting--;
}

static void
wait_and_say(struct sr *sr, const char *name)
{
	const char *task = stall_thread_task();
	struct stall_said *before = stall_says(task, 0, "the disk of SR %s, which syncs new images",
					       sr->uuid);

	wait_for(sr->settler, name);
	stall_back(task, before);
}

void
settle_end(struct sr *sr, const char *name)
{
	if (job_makes_volume(sr->daemon->jobs, sr->uuid, name))
		wait_and_say(sr, name);
}

int
settle_wait(struct sr *sr, const char *name, struct smd_error *err)
{
	if (!job_makes_volume(sr->daemon->jobs, sr->uuid, name))
		return 0;
	wait_and_say(sr, name);
	if (!job_makes_volume(sr->daemon->jobs, sr->uuid, name))
		return 0;
	return smd_fail_IMAGE_IO(err, name, "%s is new, and the disk of SR %s failed before it had it: "
				 "PBD.unplug and PBD.plug of the SR make it again", name, sr->uuid);
}

void
settle_sr(struct sr *sr)
{
	wait_and_say(sr, NULL);
}

/* ---- Again ---- */

struct looking {
	struct new_volume *v;
	json *target;
	bool overlay;
};

static int
fill_look(void *opaque, struct worker_job *job, struct smd_error *err)
{
	const struct looking *l = opaque;
	const struct new_volume *v = l->v;
	json *source = source_of_fd(v->fd, v->name, v->format, false, false, job, err);

	if (!source)
		return -1;
	job->urgent = true;
	smd_json_set_str(job->request, "op", l->overlay ? "own" : "measure");
	smd_json_set(job->request, "source", source);
	if (!l->overlay)
		smd_json_set(job->request, "target", smd_json_copy(l->target));
	return 0;
}

/* Whether somebody has written to it: another program, for nobody here has. Of an overlay its
 * zeroes tell it, too, for its parent would show. One that is no image is as new; nothing is
 * known of one that could not be looked at. */
static int
look_for_data(struct new_volume *v, json *target, bool overlay, bool *ret, struct smd_error *err)
{
	struct looking l = { v, target, overlay };
	CLEANUP_JSON json *result = NULL;

	*ret = false;
	if (again_run(v->daemon, fill_look, &l, &result, err) == 0)
		*ret = smd_json_int(result, "data", 0) > 0 || smd_json_int(result, "zero", 0) > 0;
	else if (!smd_error_is(err, SMD_E_IMAGE_CORRUPT))
		return -1;
	smd_error_clear(err);
	return 0;
}

/* NULL: *err is set. */
static json *
source_of_parent(struct sr *sr, const char *parent, const char *format, struct worker_job *job,
		 struct smd_error *err)
{
	CLEANUP_CLOSE int fd = -1;

	if (sr->driver->volume_open(sr->handle, parent, 0, &fd, err) < 0)
		return NULL;
	return source_of_fd(fd, parent, format, false, false, job, err);
}

static int
write_again(struct new_volume *v, json *target, const char *parent, const char *parent_format,
	    struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object(), *t = smd_json_copy(target);
	struct worker_job job = { .request = request, .urgent = true };
	CLEANUP_JSON json *result = NULL;
	json *parents = NULL;
	int number = -1;

	if (parent && !(parents = source_of_parent(v->sr, parent, parent_format, &job, err)))
		return -1;
	if (parents)
		smd_json_set(t, "parents", parents);
	if (job_fd(v->fd, &job, &number, err) < 0) {
		worker_job_done(&job);
		return -1;
	}
	smd_json_set_int(t, "fd", number);
	smd_json_set_str(request, "op", "create");
	smd_json_set(request, "target", json_object_get(t));
	return worker_run(v->daemon, &job, &result, err);
}

/* In place: another program may have it open. */
static int
make_in_place(struct new_volume *v, json *target, const char *parent, const char *parent_format,
	      struct smd_error *err)
{
	const struct smd_sr_driver *driver = v->sr->driver;
	int in_use = smd_image_lock(v->fd, true, v->name, err);
	bool has_data = false;

	if (in_use < 0 || (in_use == 0 && look_for_data(v, target, parent != NULL, &has_data, err) < 0))
		return -1;
	if (in_use == 0 && !has_data &&
	    (new_volume_empty(v, err) < 0 || write_again(v, target, parent, parent_format, err) < 0))
		return -1;
	if (new_volume_sync(v, err) < 0)
		return -1;
	return driver->sync_names ? driver->sync_names(v->sr->handle, err) : 0;
}

int
volume_make_again(struct sr *sr, const char *name, json *target, const char *parent,
		  const char *parent_format, struct smd_error *err)
{
	const struct smd_sr_driver *driver = sr->driver;
	struct smd_error why CLEANUP_ERROR = SMD_ERROR_INIT;
	struct new_volume v CLEANUP_NEW_VOLUME =
		new_volume_named(sr->daemon, sr, name, (uint64_t)smd_json_int(target, "size", 0));
	bool has_row;

	if (volume_has_row(sr->daemon, sr, name, &has_row, err) < 0)
		return -1;
	if (!has_row)
		return 0;
	if (driver->volume_open(sr->handle, name, SMD_SR_OPEN_WRITE, &v.fd, &why) == 0)
		return make_in_place(&v, target, parent, parent_format, err);
	if (why.errnum != ENOENT) {
		smd_error_move(err, &why);
		return -1;
	}
	if (driver->volume_delete(sr->handle, v.tmp, err) < 0 || new_volume_make(&v, err) < 0 ||
	    write_again(&v, target, parent, parent_format, err) < 0)
		return -1;
	return new_volume_publish(&v, err);
}
