/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/look.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/lock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/job/process.h"
#include "daemon/job/stayer.h"
#include "daemon/job/worker.h"
#include "daemon/sr/internal.h"
#include "daemon/sr/volume.h"

#define BATCH_MAX 240	/* images a worker is asked about; the daemon has them open */
_Static_assert(BATCH_MAX <= PROCESS_FDS_MAX, "a descriptor each");

#define LOOK_NO_TEXTS \
	.why = "", .uuid = "", .parent_uuid = "", .parent_name = "", .parent_format = ""

struct looks {
	json *index;			/* {location: its place in list} */
	struct look **list;		/* NULL where nothing can be said */
	size_t n;
};

/* Volumes to ask a worker about. */
struct batch {
	struct sr *sr;
	bool unless_written;	/* by another: who does may be in the middle of a change */
	size_t n;
	const char *locations[BATCH_MAX];	/* borrowed */
	struct look **places[BATCH_MAX];	/* where each answer goes */
};

void
look_free(struct look *look)
{
	free(look);
}

/* Most have no texts, and "" takes no room. */
static const char *
put_text(char **at, const char *text)
{
	size_t size = strlen(text) + 1;

	if (size == 1)
		return "";
	memcpy(*at, text, size);
	*at += size;
	return *at - size;
}

/* One that says the same; its texts are behind it. */
static struct look *
look_new(const struct look *said)
{
	struct look *look = smd_malloc(sizeof *look + strlen(said->why) + strlen(said->uuid) +
				       strlen(said->parent_uuid) + strlen(said->parent_name) +
				       strlen(said->parent_format) + 5);
	char *at = (char *)(look + 1);

	*look = *said;
	look->why = put_text(&at, said->why);
	look->uuid = put_text(&at, said->uuid);
	look->parent_uuid = put_text(&at, said->parent_uuid);
	look->parent_name = put_text(&at, said->parent_name);
	look->parent_format = put_text(&at, said->parent_format);
	return look;
}

static struct look *
look_why(const char *why)
{
	struct look said = { LOOK_NO_TEXTS };

	said.why = why;
	return look_new(&said);
}

const char *
look_format(struct sr *sr, const char *location)
{
	const char *dot = strrchr(location, '.');

	return dot && dot[1] ? smd_json_str(storage_format(sr->daemon, dot + 1), "name", NULL) : NULL;
}

/* ---- What a worker answers ---- */

/* NULL: the trouble is not the image's (it vanished, or too many files are open). */
static struct look *
look_of_error(const struct smd_error *err)
{
	CLEANUP_FREE char *why = NULL;

	if (err->errnum == ENOENT || err->errnum == EMFILE || err->errnum == ENFILE)
		return NULL;
	if (smd_error_is(err, SMD_E_IMAGE_CORRUPT) || smd_error_is(err, SMD_E_IMAGE_UNSUPPORTED))
		why = smd_asprintf("%s %s: %s", err->code, err->params[1], err->message);
	else
		why = smd_asprintf("%s: %s", err->code, err->message);
	return look_why(why);
}

/* Other programs have names of their own for some formats. */
static const char *
our_name(struct sr *sr, const char *format)
{
	json *formats = storage_formats(sr->daemon);

	for (size_t i = 0; i < json_object_array_length(formats); i++) {
		json *entry = json_object_array_get_idx(formats, i);
		const char *alias = smd_json_str(entry, "alias", "");

		if (*alias && strcmp(alias, format) == 0)
			return smd_json_str(entry, "name", format);
	}
	return format;
}

/* An answer that is a number is the size of an image that says no more. */
static struct look *
look_of_info(struct sr *sr, json *info)
{
	bool sized = json_object_is_type(info, json_type_int);
	json *error = sized ? NULL : smd_json_member(info, "error");
	struct look said = { LOOK_NO_TEXTS };

	if (error) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

		smd_json_to_error(error, &err);
		return look_of_error(&err);
	}
	if (sized) {
		said.virtual_size = (uint64_t)json_object_get_int64(info);
		return look_new(&said);
	}
	said.virtual_size = (uint64_t)smd_json_int(info, "virtual-size", 0);
	said.hidden = smd_json_bool(info, "hidden", false);
	said.degraded = smd_json_bool(info, "degraded", false);
	said.has_parent = smd_json_bool(info, "has-parent", false);
	said.uuid = smd_json_str(info, "uuid", "");
	said.parent_uuid = smd_json_str(info, "parent-uuid", "");
	said.parent_name = smd_json_str(info, "backing-filename", "");
	said.parent_format = our_name(sr, smd_json_str(info, "backing-filename-format", ""));
	return look_new(&said);
}

/* ---- Asking ---- */

/* Open a volume for the worker; false: it is not asked about. */
static bool
open_volume(const struct batch *batch, size_t i, int *ret_fd)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const char *location = batch->locations[i];
	struct sr *sr = batch->sr;
	CLEANUP_CLOSE int fd = -1;

	if (volume_open(sr, location, 0, &fd, &err) < 0) {
		look_free(*batch->places[i]);	/* where it is asked about again */
		*batch->places[i] = look_of_error(&err);
		return false;
	}
	if (batch->unless_written && smd_image_has_writer(fd))
		return false;
	*ret_fd = TAKE_FD(fd);
	return true;
}

static void
add_image(struct sr *sr, const char *location, int fd, struct worker_job *job, json *images)
{
	json *image = json_object_new_object();

	smd_json_set_int(image, "fd", worker_fd(job, fd));
	smd_json_set_str(image, "name", location);
	smd_json_set_str(image, "format", look_format(sr, location));
	json_object_array_add(images, image);
}

/* Whether an end of a worker is the fault of what it read. */
static bool
was_started(const struct smd_error *err)
{
	return !smd_error_is(err, SMD_E_JOB_WORKER_FAILED) || strncmp(err->params[1], "it could", 8);
}

static int
check_answer(json *result, size_t n, struct smd_error *err)
{
	json *images = smd_json_member(result, "images");

	if (json_object_is_type(images, json_type_array) && json_object_array_length(images) == n)
		return 0;
	return smd_fail_JOB_WORKER_FAILED(err, "look", "its answer makes no sense",
					  "look: the worker's answer makes no sense");
}

static void
take_answers(struct sr *sr, json *result, struct look ***asked, size_t n)
{
	json *images = smd_json_member(result, "images");

	for (size_t i = 0; i < n; i++)
		*asked[i] = look_of_info(sr, json_object_array_get_idx(images, i));
}

static int ask(struct batch *batch, struct smd_error *err);

/* A worker that dies of one image answers for none: the others are asked again. */
static int
ask_halves(const struct batch *batch, struct smd_error *err)
{
	struct batch half = { .sr = batch->sr, .unless_written = batch->unless_written };
	size_t first = batch->n / 2;

	half.n = first;
	memcpy(half.locations, batch->locations, first * sizeof half.locations[0]);
	memcpy(half.places, batch->places, first * sizeof half.places[0]);
	if (ask(&half, err) < 0)
		return -1;
	half.n = batch->n - first;
	memcpy(half.locations, batch->locations + first, half.n * sizeof half.locations[0]);
	memcpy(half.places, batch->places + first, half.n * sizeof half.places[0]);
	return ask(&half, err);
}

static int
ask(struct batch *batch, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .urgent = true,
				  .seconds = WORKER_QUESTION_SECONDS };
	struct smd_error worker_err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *result = NULL;
	json *images = json_object_new_array();
	struct look **asked[BATCH_MAX];
	size_t n = 0;

	smd_json_set_str(request, "op", "look");
	smd_json_set(request, "images", images);
	for (size_t i = 0; i < batch->n; i++) {
		int fd;

		if (open_volume(batch, i, &fd)) {
			add_image(batch->sr, batch->locations[i], fd, &job, images);
			asked[n++] = batch->places[i];
		}
	}
	if (n == 0)
		return 0;
	if (worker_run(batch->sr->daemon, &job, &result, &worker_err) < 0 ||
	    check_answer(result, n, &worker_err) < 0) {
		if (!was_started(&worker_err)) {
			smd_error_move(err, &worker_err);
			return -1;
		}
		if (batch->n > 1)
			return ask_halves(batch, err);
		*asked[0] = look_of_error(&worker_err);
		return 0;
	}
	take_answers(batch->sr, result, asked, n);
	return 0;
}

/* The same of a worker that stays. False: it did not answer, and shall be ended. */
static bool
ask_stayer(struct stayer *stayer, const struct batch *batch)
{
	CLEANUP_JSON json *words = json_object_new_array_ext(2 * BATCH_MAX), *answer = NULL;
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	struct look **asked[BATCH_MAX];
	int fds[BATCH_MAX];
	size_t n = 0;

	for (size_t i = 0; i < batch->n; i++) {
		const char *location = batch->locations[i];

		if (!open_volume(batch, i, &fds[n]))
			continue;
		json_object_array_add(words, json_object_new_string(look_format(batch->sr, location)));
		json_object_array_add(words, json_object_new_string(location));
		asked[n++] = batch->places[i];
	}
	if (n == 0)
		return true;
	answer = stayer_ask(stayer, fds, n, words, WORKER_QUESTION_SECONDS * 1000, NULL, NULL);
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	if (!answer || check_answer(answer, n, &ignored) < 0)
		return false;
	take_answers(batch->sr, answer, asked, n);
	return true;
}

/* ---- One, many ---- */

/* What can be said of a volume without a worker. */
static struct look *
look_at_name(const char *location)
{
	const char *dot = strrchr(location, '.');
	CLEANUP_FREE char *why = NULL;

	if (!dot || !dot[1])
		return look_why("FORMAT_UNKNOWN: its name ends in no format");
	why = smd_asprintf("FORMAT_UNKNOWN: no module for the format %s is loaded", dot + 1);
	return look_why(why);
}

int
look_at(struct sr *sr, const char *location, struct look **ret, struct smd_error *err)
{
	struct look *look = NULL;
	struct batch batch = { .sr = sr, .n = 1, .locations = { location }, .places = { &look } };

	if (!look_format(sr, location))
		look = look_at_name(location);
	else if (ask(&batch, err) < 0)
		return -1;
	*ret = look;
	return 0;
}

void
looks_free(struct looks *looks)
{
	if (!looks)
		return;
	for (size_t i = 0; i < looks->n; i++)
		look_free(looks->list[i]);
	free(looks->list);
	json_object_put(looks->index);
	free(looks);
}

static void
cleanup_looks(struct looks **looks)
{
	looks_free(*looks);
}

static struct look **
looks_place(const struct looks *looks, const char *location)
{
	json *at;

	if (!looks || !json_object_object_get_ex(looks->index, location, &at))
		return NULL;
	return &looks->list[json_object_get_int64(at)];
}

const struct look *
looks_get(const struct looks *looks, const char *location)
{
	struct look **place = looks_place(looks, location);

	return place ? *place : NULL;
}

/* Take over what is known of a volume that is as it was; false: look at it. */
static bool
take_known(struct looks *old, const struct listed *volume, struct look **place)
{
	struct look **known = looks_place(old, volume->location);

	if (!known || !*known || !*volume->stamp || strcmp((*known)->stamp, volume->stamp) != 0)
		return false;
	*place = TAKE_PTR(*known);
	return true;
}

/* ---- Many batches, by more than one worker at a time ---- */

#define WORKERS 2

struct asking {
	struct daemon *daemon;
	struct batch *batches;
	size_t n;
	pthread_mutex_t lock;	/* what follows */
	size_t next;
	struct smd_error err;	/* of the first that failed: no more are begun */
};

static struct batch *
next_batch(struct asking *asking)
{
	LOCK_SCOPE(&asking->lock);
	return asking->next < asking->n && !asking->err.code ? &asking->batches[asking->next++] : NULL;
}

/* One worker that stays for the batches of this scan, which are of one SR. Where it is of no
 * use, the batch has one of its own, which says why, or which image is to blame. */
static int
ask_one(struct asking *asking, struct batch *batch, struct stayer **stayer, struct smd_error *err)
{
	if (!*stayer && asking->n > WORKERS)
		*stayer = stayer_start(asking->daemon, "looks", false);
	if (*stayer && ask_stayer(*stayer, batch))
		return 0;
	stayer_end(TAKE_PTR(*stayer));
	return ask(batch, err);
}

static void *
ask_on(void *opaque)
{
	struct asking *asking = opaque;
	struct stayer *stayer = NULL;
	struct batch *batch;

	while ((batch = next_batch(asking))) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

		if (ask_one(asking, batch, &stayer, &err) == 0)
			continue;
		LOCK_SCOPE(&asking->lock);
		if (!asking->err.code)
			smd_error_move(&asking->err, &err);
	}
	stayer_end(stayer);
	return NULL;
}

static int
ask_all(struct daemon *daemon, struct batch *batches, size_t n, struct smd_error *err)
{
	struct asking asking = { .daemon = daemon, .batches = batches, .n = n,
				 .err = SMD_ERROR_INIT };
	pthread_t threads[WORKERS - 1];
	size_t n_threads = 0;

	pthread_mutex_init(&asking.lock, NULL);
	while (n_threads + 1 < WORKERS && n_threads + 1 < n &&
	       pthread_create(&threads[n_threads], NULL, ask_on, &asking) == 0)
		n_threads++;
	ask_on(&asking);
	while (n_threads > 0)
		pthread_join(threads[--n_threads], NULL);
	pthread_mutex_destroy(&asking.lock);
	if (!asking.err.code)
		return 0;
	smd_error_move(err, &asking.err);
	return -1;
}

/* Put off what is to be asked about a volume. */
static void
batches_add(struct sr *sr, const char *location, struct look **place, struct batch **batches,
	    size_t *n)
{
	struct batch *last = *n > 0 ? &(*batches)[*n - 1] : NULL;

	if (!last || last->n == BATCH_MAX) {
		*batches = smd_reallocarray(*batches, *n + 1, sizeof **batches);
		last = &(*batches)[(*n)++];
		*last = (struct batch){ .sr = sr, .unless_written = true };
	}
	last->locations[last->n] = location;
	last->places[last->n++] = place;
}

/* The stamp is of before the look: what changes meanwhile is looked at again. */
static int
look_at_changed(struct sr *sr, struct looks *old, struct looks *looks,
		const struct listed *const *volumes, struct smd_error *err)
{
	CLEANUP_FREE struct batch *batches = NULL;
	size_t n = 0;

	for (size_t i = 0; i < looks->n; i++) {
		const char *location = volumes[i]->location;

		if (take_known(old, volumes[i], &looks->list[i]))
			continue;
		if (!look_format(sr, location))
			looks->list[i] = look_at_name(location);
		else
			batches_add(sr, location, &looks->list[i], &batches, &n);
	}
	if (ask_all(sr->daemon, batches, n, err) < 0)
		return -1;
	for (size_t i = 0; i < looks->n; i++) {
		struct look *look = looks->list[i];

		if (!look)
			continue;
		if (*volumes[i]->stamp)
			snprintf(look->stamp, sizeof look->stamp, "%s", volumes[i]->stamp);
		look->allocated = volumes[i]->allocated;
	}
	return 0;
}

int
looks_refresh(struct sr *sr, struct looks **looks, const struct listed *const *volumes, size_t n,
	      struct smd_error *err)
{
	CLEANUP(cleanup_looks) struct looks *now = smd_calloc(1, sizeof *now);
	CLEANUP(cleanup_looks) struct looks *old = NULL;

	now->index = json_object_new_object();
	now->list = smd_calloc(n + 1, sizeof *now->list);
	for (; now->n < n; now->n++)
		json_object_object_add_ex(now->index, volumes[now->n]->location,
					  json_object_new_int64((int64_t)now->n),
					  JSON_C_OBJECT_ADD_KEY_IS_NEW);
	if (look_at_changed(sr, *looks, now, volumes, err) < 0)
		return -1;
	old = *looks;
	*looks = TAKE_PTR(now);
	return 0;
}

/* ---- As they are listed ---- */

struct unstamped {
	struct sr *sr;
	smd_sr_stamped_fn *add;
	void *opaque;
};

static int
add_with_stamp(void *opaque, const struct smd_sr_volume *volume, struct smd_error *err)
{
	struct smd_error none CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct unstamped *u = opaque;
	struct sr *sr = u->sr;
	char stamp[SMD_SR_STAMP_MAX] = "";

	if (sr->driver->volume_stamp &&
	    sr->driver->volume_stamp(sr->handle, volume->name, stamp, &none) < 0)
		stamp[0] = '\0';
	return u->add(u->opaque, volume, stamp, err);
}

int
volumes_list(struct sr *sr, smd_sr_stamped_fn *add, void *opaque, struct smd_error *err)
{
	struct unstamped u = { sr, add, opaque };

	if (sr->driver->scan_stamped)
		return sr->driver->scan_stamped(sr->handle, add, opaque, err);
	return sr->driver->scan(sr->handle, add_with_stamp, &u, err);
}

struct holding {
	const struct looks *looks;
	size_t n;
	bool differs;
};

static int
compare(void *opaque, const struct smd_sr_volume *volume, const char *stamp, struct smd_error *err)
{
	struct holding *h = opaque;
	const struct look *look = looks_get(h->looks, volume->name);

	(void)err;
	h->n++;
	if (!look || !*look->stamp || look->allocated != (int64_t)volume->allocated ||
	    strcmp(look->stamp, stamp) != 0)
		h->differs = true;
	return 0;
}

bool
looks_hold(struct sr *sr, const struct looks *looks)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct holding h = { .looks = looks };

	if (!looks || (!sr->driver->scan_stamped && !sr->driver->volume_stamp))
		return false;
	return volumes_list(sr, compare, &h, &err) == 0 && !h.differs && h.n == looks->n;
}
