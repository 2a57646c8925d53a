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
#include "daemon/job/job.h"
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
	int base_fd;			/* what they lie on; -1: it was not written to */
};

struct settler {
	pthread_mutex_t lock;		/* guards all; none but the jobs' is taken with it */
	pthread_cond_t changed;
	TAILQ_HEAD(, settling) list;
	uint64_t n_promised;		/* ever */
	unsigned n_published;		/* and not taken */
	struct timespec due;		/* of these, in monotonic time */
	unsigned n_waiting;		/* for one of them */
	bool stopping, runs;
	pthread_t thread;
};

static struct settler *
settler_of(struct sr *sr)
{
	return sr->daemon->storage->settler;
}

static void
settling_free(struct settling *s)
{
	for (size_t i = 0; i < s->n; i++) {
		if (s->volumes[i].fd >= 0)
			close(s->volumes[i].fd);
		free(s->volumes[i].name);
	}
	if (s->base_fd >= 0)
		close(s->base_fd);
	sr_release(s->sr);
	free(s->job_id);
	free(s);
}

/* ---- The syncs ---- */

static int
sync_image(int fd, const char *name, struct smd_error *err)
{
	if (fdatasync(fd) == 0)
		return 0;
	return smd_fail_IMAGE_IO(err, name, "%s: fdatasync: %s", name, strerror(errno));
}

static int
sync_images(const struct settling *s, struct smd_error *err)
{
	for (size_t i = 0; i < s->n; i++) {
		if (sync_image(s->volumes[i].fd, s->volumes[i].name, err) < 0)
			return -1;
	}
	return s->base_fd < 0 ? 0 : sync_image(s->base_fd, "what it lies on", err);
}

static void
leave(const struct settling *s, const struct smd_error *err)
{
	smd_log(SMD_LOG_ERR, "%s may not be on the disk of SR %s, and is made again when that is "
		"attached again: %s", s->volumes[0].name, s->sr->uuid, err->message);
	job_leave(s->sr->daemon, s->job_id);
}

/* All of one SR. */
static void
settle(struct settling *const *batch, size_t n)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE struct settling **synced = smd_calloc(n, sizeof *synced);
	CLEANUP_FREE char **ids = smd_calloc(n, sizeof *ids);
	struct sr *sr = batch[0]->sr;
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

/* Those of one SR that are due, into batch, which has room for all there are. lock. */
static size_t
take(struct settler *settler, struct settling **batch)
{
	struct settling *s;
	size_t n = 0;

	TAILQ_FOREACH(s, &settler->list, link) {
		if (s->state != SETTLE_PUBLISHED || (n > 0 && s->sr != batch[0]->sr))
			continue;
		s->state = SETTLE_TAKEN;
		batch[n++] = s;
	}
	settler->n_published -= (unsigned)n;
	return n;
}

/* lock. */
static void
wait_until_due(struct settler *settler)
{
	int r = 0;

	while (r == 0 && !settler->stopping && settler->n_waiting == 0 &&
	       settler->n_published < SETTLE_MAX)
		r = pthread_cond_timedwait(&settler->changed, &settler->lock, &settler->due);
}

/* lock, which is let go meanwhile. */
static void
settle_some(struct settler *settler)
{
	CLEANUP_FREE struct settling **batch = smd_calloc(settler->n_published, sizeof *batch);
	size_t n = take(settler, batch);

	pthread_mutex_unlock(&settler->lock);
	settle(batch, n);
	pthread_mutex_lock(&settler->lock);
	for (size_t i = 0; i < n; i++) {
		TAILQ_REMOVE(&settler->list, batch[i], link);
		settling_free(batch[i]);
	}
	pthread_cond_broadcast(&settler->changed);
}

static void *
settler_main(void *opaque)
{
	struct settler *settler = opaque;

	pthread_mutex_lock(&settler->lock);
	for (;;) {
		if (settler->n_published > 0) {
			wait_until_due(settler);
			settle_some(settler);
		} else if (settler->stopping) {
			break;
		} else {
			pthread_cond_wait(&settler->changed, &settler->lock);
		}
	}
	pthread_mutex_unlock(&settler->lock);
	return NULL;
}

void
settler_start(struct storage *storage)
{
	struct settler *settler = smd_calloc(1, sizeof *settler);
	pthread_condattr_t monotonic;

	pthread_mutex_init(&settler->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&settler->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	TAILQ_INIT(&settler->list);
	settler->runs = pthread_create(&settler->thread, NULL, settler_main, settler) == 0;
	if (!settler->runs)
		smd_log(SMD_LOG_WARNING, "no thread to sync new volumes: each waits for its own");
	storage->settler = settler;
}

void
settler_stop(struct storage *storage)
{
	struct settler *settler = storage->settler;

	if (!settler)
		return;
	if (settler->runs) {
		pthread_mutex_lock(&settler->lock);
		settler->stopping = true;
		pthread_cond_broadcast(&settler->changed);
		pthread_mutex_unlock(&settler->lock);
		pthread_join(settler->thread, NULL);
	}
	pthread_cond_destroy(&settler->changed);
	pthread_mutex_destroy(&settler->lock);
	free(settler);
	storage->settler = NULL;
}

/* ---- New volumes ---- */

int
settle_prepare(struct new_volume *v, size_t n, struct smd_error *err)
{
	struct smd_sr_stat stat;

	if (sr_measure(v->sr, &stat, err) < 0)
		return -1;
	for (size_t i = 0; i < n && stat.free < SETTLE_ROOM; i++) {
		if (new_volume_sync(&v[i], err) < 0)
			return volume_fail(v->sr, err);
	}
	return 0;
}

int
settle_promise(const char *kind, const struct new_volume *v, size_t n, json *redo,
	       struct settling **ret, struct smd_error *err)
{
	struct settler *settler = settler_of(v->sr);
	struct settling *s = smd_calloc(1, sizeof *s);

	assert(n <= SETTLE_VOLUMES);
	s->sr = v->sr;
	s->base_fd = -1;
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

/* Nobody waits for it any more. */
static void
drop(struct settling *s)
{
	struct settler *settler = settler_of(s->sr);

	{
		LOCK_SCOPE(&settler->lock);
		TAILQ_REMOVE(&settler->list, s, link);
		pthread_cond_broadcast(&settler->changed);
	}
	settling_free(s);
}

void
settle_forget(struct settling *s)
{
	if (!s)
		return;
	job_forget(s->sr->daemon, s->job_id);
	drop(s);
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

/* From now on it is the settler's. */
static void
hand_over(struct settler *settler, struct settling *s)
{
	LOCK_SCOPE(&settler->lock);
	while (settler->n_published >= SETTLE_MAX)
		pthread_cond_wait(&settler->changed, &settler->lock);
	s->state = SETTLE_PUBLISHED;
	if (settler->n_published++ > 0)
		return;
	clock_gettime(CLOCK_MONOTONIC, &settler->due);
	settler->due.tv_nsec += SETTLE_NS;
	if (settler->due.tv_nsec >= 1000000000) {
		settler->due.tv_nsec -= 1000000000;
		settler->due.tv_sec++;
	}
	pthread_cond_broadcast(&settler->changed);
}

int
settle_publish(struct settling *s, struct new_volume *v, size_t n, int base_fd,
	       struct smd_error *err)
{
	struct settler *settler = settler_of(s->sr);

	s->base_fd = base_fd;
	for (size_t i = 0; i < n; i++) {
		if (give_name(&v[i], err) < 0) {
			leave(s, err);
			drop(s);
			return -1;
		}
		v[i].published = true;
		s->volumes[i].fd = v[i].fd;
		v[i].fd = -1;
	}
	if (settler->runs) {
		hand_over(settler, s);
		return 0;
	}
	settle(&s, 1);
	drop(s);
	return 0;
}

/* ---- Waiting ---- */

/* Of the SR (name NULL), or of the volume, up to the one of this number. lock. */
static bool
is_settling(const struct settler *settler, const struct sr *sr, const char *name, uint64_t number)
{
	const struct settling *s;

	TAILQ_FOREACH(s, &settler->list, link) {
		if (s->sr != sr || s->number > number)
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
wait_for(struct sr *sr, const char *name)
{
	struct settler *settler = settler_of(sr);
	uint64_t number;

	LOCK_SCOPE(&settler->lock);
	number = settler->n_promised;
	settler->n_waiting++;
	pthread_cond_broadcast(&settler->changed);
	while (is_settling(settler, sr, name, number))
		pthread_cond_wait(&settler->changed, &settler->lock);
	settler->n_waiting--;
}

int
settle_wait(struct sr *sr, const char *name, struct smd_error *err)
{
	struct jobs *jobs = sr->daemon->jobs;

	if (!job_makes_volume(jobs, sr->uuid, name))
		return 0;
	wait_for(sr, name);
	if (!job_makes_volume(jobs, sr->uuid, name))
		return 0;
	return smd_fail_IMAGE_IO(err, name, "%s is new, and the disk of SR %s failed before it had it: "
				 "PBD.unplug and PBD.plug of the SR make it again", name, sr->uuid);
}

void
settle_sr(struct sr *sr)
{
	wait_for(sr, NULL);
}

/* ---- Again ---- */

/* Whether somebody has written to it: another program, for nobody here has. Of an overlay its
 * zeroes tell it, too, for its parent would show. What cannot be read is as new. */
static int
look_for_data(struct new_volume *v, json *target, bool overlay, bool *ret, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .urgent = true };
	struct smd_error why CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *result = NULL;
	json *source = source_of_fd(v->fd, v->name, v->format, false, false, &job, err);

	*ret = false;
	if (!source)
		return -1;
	smd_json_set_str(request, "op", overlay ? "own" : "measure");
	smd_json_set(request, "source", source);
	if (!overlay)
		smd_json_set(request, "target", smd_json_copy(target));
	if (worker_run(v->daemon, &job, &result, &why) == 0)
		*ret = smd_json_int(result, "data", 0) > 0 || smd_json_int(result, "zero", 0) > 0;
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

	if (in_use < 0 || (in_use == 0 && look_for_data(v, target, parent, &has_data, err) < 0))
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
