/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/look.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "common/lock.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/thread.h"
#include "daemon/job/process.h"
#include "daemon/job/stall.h"
#include "daemon/job/stayer.h"
#include "daemon/job/worker.h"
#include "daemon/sr/internal.h"
#include "daemon/sr/names.h"
#include "daemon/sr/showing.h"
#include "daemon/sr/volume.h"

#define BATCH_MAX 240	/* images a worker is asked about; the daemon has them open */
_Static_assert(BATCH_MAX <= PROCESS_FDS_MAX, "a descriptor each");

#define LOOK_NO_TEXTS \
	.why = "", .uuid = "", .parent_uuid = "", .parent_name = "", .parent_format = ""

struct looks {
	char *locations;		/* one behind the other */
	struct looked {
		const char *location;
		struct look *look;	/* NULL: nothing can be said */
	} *list;
	size_t n;
	size_t next;			/* in the list: who asks mostly asks in its order */
	struct names index;		/* of locations; empty: somebody has yet to ask in another */
};

struct question {
	const char *location, *format;	/* borrowed */
	struct look **place;		/* where the answer goes */
	struct listed *listed;		/* NULL: it is in no list */
};

/* Volumes to ask a worker about. */
struct batch {
	struct sr *sr;
	bool unless_written;	/* by another: who does may be in the middle of a change */
	size_t n;
	struct question questions[BATCH_MAX];
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

static void
tell(struct listed *listed, const struct smd_sr_volume *volume)
{
	listed->allocated = (int64_t)volume->allocated;
	listed->is_told = true;
}

/* The stamp is of before the look: what changes meanwhile is looked at again. */
static int
open_listed(struct sr *sr, struct listed *listed, int *ret_fd, struct smd_error *err)
{
	struct smd_sr_volume volume;

	if (volume_open_stamped(sr, listed->location, ret_fd, &volume, listed->stamp, err) < 0)
		return -1;
	tell(listed, &volume);
	return 0;
}

/* One that is not opened, or cannot be. It may be gone. */
static void
tell_unopened(struct sr *sr, struct listed *listed)
{
	struct smd_error gone CLEANUP_ERROR = SMD_ERROR_INIT, none CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_sr_volume volume;

	if (!sr->driver->volume_stamp ||
	    sr->driver->volume_stamp(sr->handle, listed->location, listed->stamp, &none) < 0)
		listed->stamp[0] = '\0';
	if (sr->driver->volume_stat(sr->handle, listed->location, &volume, &gone) == 0)
		tell(listed, &volume);
}

static int
open_asked(struct sr *sr, const struct question *question, int *ret_fd, struct smd_error *err)
{
	if (question->listed && !question->listed->is_told)
		return open_listed(sr, question->listed, ret_fd, err);
	return volume_open(sr, question->location, 0, ret_fd, err);
}

/* Open a volume for the worker; false: it is not asked about. */
static bool
open_volume(const struct batch *batch, const struct question *question, int *ret_fd)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_CLOSE int fd = -1;

	look_free(TAKE_PTR(*question->place));	/* where it is asked about again */
	if (open_asked(batch->sr, question, &fd, &err) < 0) {
		if (question->listed && !question->listed->is_told)
			tell_unopened(batch->sr, question->listed);
		*question->place = look_of_error(&err);
		return false;
	}
	if (batch->unless_written && smd_image_has_writer(fd))
		return false;
	*ret_fd = TAKE_FD(fd);
	return true;
}

static void
add_image(const struct question *question, int fd, struct worker_job *job, json *images)
{
	json *image = json_object_new_object();

	smd_json_set_int(image, "fd", worker_fd(job, fd));
	smd_json_set_str(image, "name", question->location);
	smd_json_set_str(image, "format", question->format);
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
take_answers(struct sr *sr, json *result, const struct question *const *asked, size_t n)
{
	json *images = smd_json_member(result, "images");

	for (size_t i = 0; i < n; i++)
		*asked[i]->place = look_of_info(sr, json_object_array_get_idx(images, i));
}

static int ask(struct batch *batch, struct smd_error *err);

/* A worker that dies of one image answers for none: the others are asked again. */
static int
ask_halves(const struct batch *batch, struct smd_error *err)
{
	struct batch half = { .sr = batch->sr, .unless_written = batch->unless_written };
	size_t first = batch->n / 2;

	half.n = first;
	memcpy(half.questions, batch->questions, first * sizeof half.questions[0]);
	if (ask(&half, err) < 0)
		return -1;
	half.n = batch->n - first;
	memcpy(half.questions, batch->questions + first, half.n * sizeof half.questions[0]);
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
	const struct question *asked[BATCH_MAX];
	size_t n = 0;

	smd_json_set_str(request, "op", "look");
	smd_json_set(request, "images", images);
	for (size_t i = 0; i < batch->n; i++) {
		const struct question *question = &batch->questions[i];
		int fd;

		if (open_volume(batch, question, &fd)) {
			add_image(question, fd, &job, images);
			asked[n++] = question;
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
		*asked[0]->place = look_of_error(&worker_err);
		return 0;
	}
	take_answers(batch->sr, result, asked, n);
	return 0;
}

/* ---- Asking a worker that stays ---- */

#define FORMATS_SHOWN 8u	/* others' images are looked at by their files */
#define TRIAL 16u		/* images that are shown before a format is judged */

struct asker {
	struct stayer *stayer;		/* NULL: there is none, or shall be none */
	struct showing *showing;	/* NULL: it gets the files */
	struct tally {
		const char *format;	/* borrowed */
		size_t n_shown, n_lacked;	/* in vain, the latter */
	} tallies[FORMATS_SHOWN];
};

/* NULL: there are too many. */
static struct tally *
tally_of(struct asker *asker, const char *format)
{
	for (struct tally *t = asker->tallies; t < asker->tallies + FORMATS_SHOWN; t++) {
		if (!t->format)
			t->format = format;
		if (strcmp(t->format, format) == 0)
			return t;
	}
	return NULL;
}

/* Mostly in vain, as with VHDs, whose tables are large: it would cost more than it saves. */
static bool
shown_in_vain(const struct tally *t)
{
	return t->n_shown >= TRIAL && t->n_lacked > t->n_shown / 2;
}

static void
asker_end(struct asker *asker)
{
	stayer_end(asker->stayer);
	showing_free(asker->showing);
	*asker = (struct asker){ .stayer = NULL };
}

static void
asker_start(struct asker *asker, struct daemon *daemon)
{
	asker->showing = showing_new();
	asker->stayer = stayer_start(daemon, "looks", false,
				     asker->showing ? showing_fd(asker->showing) : -1);
	if (!asker->stayer)
		asker_end(asker);
}

/* NULL: it did not answer, or not so many. */
static json *
stayer_answer(struct stayer *stayer, const int *fds, size_t n_fds, json *packet, size_t n)
{
	CLEANUP_JSON json *answer = stayer_ask(stayer, fds, n_fds, packet,
					       WORKER_QUESTION_SECONDS * 1000, NULL, NULL);
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;

	return answer && check_answer(answer, n, &ignored) == 0 ? TAKE_PTR(answer) : NULL;
}

/* Give it the files. False: it did not answer, and shall be ended. */
static bool
ask_with_files(struct stayer *stayer, const struct batch *batch)
{
	CLEANUP_JSON json *words = json_object_new_array_ext(2 * BATCH_MAX), *answer = NULL;
	const struct question *asked[BATCH_MAX];
	int fds[BATCH_MAX];
	size_t n = 0;

	for (size_t i = 0; i < batch->n; i++) {
		const struct question *question = &batch->questions[i];

		if (!open_volume(batch, question, &fds[n]))
			continue;
		json_object_array_add(words, json_object_new_string(question->format));
		json_object_array_add(words, json_object_new_string(question->location));
		asked[n++] = question;
	}
	if (n == 0)
		return true;
	answer = stayer_answer(stayer, fds, n, words, n);
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	if (answer)
		take_answers(batch->sr, answer, asked, n);
	return answer;
}

/* How many images of a batch are shown; the others are added to the rest. */
static size_t
show_batch(struct asker *asker, const struct batch *batch, const struct question **asked,
	   struct batch *rest)
{
	size_t n = 0;

	for (size_t i = 0; i < batch->n; i++) {
		const struct question *q = &batch->questions[i];
		struct tally *tally = tally_of(asker, q->format);
		bool show = tally && !shown_in_vain(tally);
		CLEANUP_CLOSE int fd = -1;

		if (show && !open_volume(batch, q, &fd))
			continue;
		if (show && showing_put(asker->showing, n, fd, q->location, q->format)) {
			tally->n_shown++;
			asked[n++] = q;
		} else {
			rest->questions[rest->n++] = *q;
		}
	}
	return n;
}

/* Show it what the images begin with. Those that it needs more of are the rest of the batch.
 * False: it did not answer. */
static bool
ask_by_heads(struct asker *asker, struct batch *batch)
{
	struct batch rest = { .sr = batch->sr, .unless_written = batch->unless_written };
	const struct question *asked[BATCH_MAX];
	CLEANUP_JSON json *packet = NULL, *answer = NULL;
	struct stall_said *before;
	json *images;
	size_t n;

	before = stall_says(stall_thread_task(), 0, "reading what the images of SR %s begin with",
			    batch->sr->uuid);
	n = show_batch(asker, batch, asked, &rest);
	stall_back(stall_thread_task(), before);
	packet = json_object_new_int64((int64_t)n);
	if (n > 0)
		answer = stayer_answer(asker->stayer, NULL, 0, packet, n);
	if (n > 0 && !answer)
		return false;
	images = smd_json_member(answer, "images");
	for (size_t i = 0; i < n; i++) {
		json *info = json_object_array_get_idx(images, i);

		if (info) {
			*asked[i]->place = look_of_info(batch->sr, info);
			continue;
		}
		tally_of(asker, asked[i]->format)->n_lacked++;
		rest.questions[rest.n++] = *asked[i];
	}
	smd_log(SMD_LOG_DEBUG, "SR %s: the files of %zu of %zu images are looked at",
		batch->sr->uuid, rest.n, batch->n);
	*batch = rest;
	return true;
}

/* False: it did not answer, and shall be ended; what it has answered is not in the batch. */
static bool
ask_stayer(struct asker *asker, struct batch *batch)
{
	return (!asker->showing || ask_by_heads(asker, batch)) &&
	       ask_with_files(asker->stayer, batch);
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
	const char *format = look_format(sr, location);
	struct batch batch = { .sr = sr, .n = 1, .questions = { { location, format, &look, NULL } } };

	if (!format)
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
		look_free(looks->list[i].look);
	free(looks->list);
	free(looks->locations);
	names_done(&looks->index);
	free(looks);
}

static void
cleanup_looks(struct looks **looks)
{
	looks_free(*looks);
}

static bool
looks_find(struct looks *looks, const char *location, size_t *ret_at)
{
	if (!looks->index.table) {
		for (size_t i = 0; i < looks->n; i++)
			names_add(&looks->index, looks->list[i].location, i);
	}
	return names_find(&looks->index, location, ret_at);
}

/* NULL: it was not there to be looked at. */
static struct look **
looks_place(struct looks *looks, const char *location)
{
	size_t at;

	if (!looks)
		return NULL;
	at = looks->next;
	if ((at >= looks->n || strcmp(looks->list[at].location, location) != 0) &&
	    !looks_find(looks, location, &at))
		return NULL;
	looks->next = at + 1;
	return &looks->list[at].look;
}

const struct look *
looks_get(struct looks *looks, const char *location)
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

/* One worker that stays for the batches of this scan, which are of one SR, on the processors of
 * the thread that asks it. Where it is of no
 * use, the batch has one of its own, which says why, or which image is to blame. */
static int
ask_one(struct asking *asking, struct batch *batch, struct asker *asker, struct smd_error *err)
{
	if (!asker->stayer && asking->n > WORKERS)
		asker_start(asker, asking->daemon);
	if (asker->stayer && ask_stayer(asker, batch))
		return 0;
	asker_end(asker);
	return ask(batch, err);
}

static void *
ask_on(void *opaque)
{
	struct asking *asking = opaque;
	struct asker asker = { .stayer = NULL };
	struct batch *batch;

	while ((batch = next_batch(asking))) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

		if (ask_one(asking, batch, &asker, &err) == 0)
			continue;
		LOCK_SCOPE(&asking->lock);
		if (!asking->err.code)
			smd_error_move(&asking->err, &err);
	}
	asker_end(&asker);
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
	       smd_thread_create_apart(&threads[n_threads], ask_on, &asking) == 0)
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
batches_add(struct sr *sr, const struct question *question, struct batch **batches, size_t *n)
{
	struct batch *last = *n > 0 ? &(*batches)[*n - 1] : NULL;

	if (!last || last->n == BATCH_MAX) {
		*batches = smd_reallocarray(*batches, *n + 1, sizeof **batches);
		last = &(*batches)[(*n)++];
		*last = (struct batch){ .sr = sr, .unless_written = true };
	}
	last->questions[last->n++] = *question;
}

static int
look_at_changed(struct sr *sr, struct looks *old, struct looks *looks,
		struct listed *const *volumes, struct smd_error *err)
{
	CLEANUP_FREE struct batch *batches = NULL;
	struct question question = { NULL, NULL, NULL, NULL };
	size_t n = 0;

	for (size_t i = 0; i < looks->n; i++) {
		if (take_known(old, volumes[i], &looks->list[i].look))
			continue;
		question.location = volumes[i]->location;
		question.format = volumes[i]->format;
		question.place = &looks->list[i].look;
		question.listed = volumes[i];
		if (question.format)
			batches_add(sr, &question, &batches, &n);
		else
			looks->list[i].look = look_at_name(question.location);
	}
	if (ask_all(sr->daemon, batches, n, err) < 0)
		return -1;
	for (size_t i = 0; i < looks->n; i++) {
		struct look *look = looks->list[i].look;

		if (!volumes[i]->is_told)
			tell_unopened(sr, volumes[i]);
		if (!look)
			continue;
		if (*volumes[i]->stamp)
			stamp_copy(look->stamp, volumes[i]->stamp);
		look->allocated = volumes[i]->allocated;
	}
	return 0;
}

static void
looks_name(struct looks *looks, struct listed *const *volumes, size_t n)
{
	size_t size = 0;
	char *next;

	for (size_t i = 0; i < n; i++)
		size += strlen(volumes[i]->location) + 1;
	looks->list = smd_calloc(n + 1, sizeof *looks->list);
	next = looks->locations = smd_malloc(size + 1);
	for (; looks->n < n; looks->n++) {
		looks->list[looks->n].location = next;
		next = stpcpy(next, volumes[looks->n]->location) + 1;
	}
}

int
looks_refresh(struct sr *sr, struct looks **looks, struct listed *const *volumes, size_t n,
	      struct smd_error *err)
{
	CLEANUP(cleanup_looks) struct looks *now = smd_calloc(1, sizeof *now);
	CLEANUP(cleanup_looks) struct looks *old = NULL;

	looks_name(now, volumes, n);
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

static int
add_name(void *opaque, const struct smd_sr_volume *volume, struct smd_error *err)
{
	const struct unstamped *u = opaque;

	return u->add(u->opaque, volume, NULL, err);
}

int
volumes_list(struct sr *sr, bool to_open, smd_sr_stamped_fn *add, void *opaque,
	     struct smd_error *err)
{
	struct unstamped u = { sr, add, opaque };

	if (to_open && sr->driver->scan_names)
		return sr->driver->scan_names(sr->handle, add_name, &u, err);
	if (sr->driver->scan_stamped)
		return sr->driver->scan_stamped(sr->handle, add, opaque, err);
	return sr->driver->scan(sr->handle, add_with_stamp, &u, err);
}

struct holding {
	struct looks *looks;
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
looks_hold(struct sr *sr, struct looks *looks)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct holding h = { .looks = looks };

	if (!looks || (!sr->driver->scan_stamped && !sr->driver->volume_stamp))
		return false;
	return volumes_list(sr, false, compare, &h, &err) == 0 && !h.differs && h.n == looks->n;
}
