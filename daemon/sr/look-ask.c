/* SPDX-License-Identifier: BSD-2-Clause */
/* Workers are asked about volumes: those that stay, by what many images begin with; others, by
 * their files. */
#include "daemon/sr/look-impl.h"

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
#include "daemon/sr/showing.h"
#include "daemon/sr/volume.h"

#define BATCH_MAX 240	/* images a worker is asked about; the daemon has them open */
_Static_assert(BATCH_MAX <= PROCESS_FDS_MAX, "a descriptor each");

/* Volumes to ask a worker about. */
struct batch {
	struct sr *sr;
	bool unless_written;	/* by another: who does may be in the middle of a change */
	size_t n;
	struct question questions[BATCH_MAX];
};

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

/* The stamp is of before the look: what changes meanwhile is looked at again. */
static int
open_listed(struct sr *sr, struct listed *listed, int *ret_fd, struct smd_error *err)
{
	struct smd_sr_volume volume;

	if (volume_open_stamped(sr, listed->location, ret_fd, &volume, listed->stamp, err) < 0)
		return -1;
	look_tell(listed, &volume);
	return 0;
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
			look_tell_unopened(batch->sr, question->listed);
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

/* ---- Many batches, by more than one worker at a time ---- */

#define WORKERS 2

struct asking {
	struct sr *sr;
	const struct question *questions;
	size_t n;
	bool unless_written;
	pthread_mutex_t lock;	/* what follows */
	size_t next;
	struct smd_error err;	/* of the first that failed: no more are begun */
};

static bool
next_batch(struct asking *asking, struct batch *ret)
{
	LOCK_SCOPE(&asking->lock);
	size_t left = asking->n - asking->next;

	if (left == 0 || asking->err.code)
		return false;
	*ret = (struct batch){ .sr = asking->sr, .unless_written = asking->unless_written,
			       .n = left < BATCH_MAX ? left : BATCH_MAX };
	memcpy(ret->questions, asking->questions + asking->next, ret->n * sizeof ret->questions[0]);
	asking->next += ret->n;
	return true;
}

/* One worker that stays for the batches of this scan, which are of one SR; one that is spawned has
 * the processors of the thread that asks it. Where it is of no use, the batch has one of its own,
 * which says why, or which image is to blame. */
static int
ask_one(struct asking *asking, struct batch *batch, struct asker *asker, struct smd_error *err)
{
	if (!asker->stayer && asking->n > WORKERS * BATCH_MAX)
		asker_start(asker, asking->sr->daemon);
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
	struct batch batch;

	while (next_batch(asking, &batch)) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

		if (ask_one(asking, &batch, &asker, &err) == 0)
			continue;
		LOCK_SCOPE(&asking->lock);
		if (!asking->err.code)
			smd_error_move(&asking->err, &err);
	}
	asker_end(&asker);
	return NULL;
}

int
look_ask(struct sr *sr, const struct question *questions, size_t n, bool unless_written,
	 struct smd_error *err)
{
	struct asking asking = { .sr = sr, .questions = questions, .n = n,
				 .unless_written = unless_written, .err = SMD_ERROR_INIT };
	pthread_t threads[WORKERS - 1];
	size_t n_threads = 0;

	pthread_mutex_init(&asking.lock, NULL);
	while (n_threads + 1 < WORKERS && (n_threads + 1) * BATCH_MAX < n &&
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
