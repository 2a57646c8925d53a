/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/look-impl.h"

#include <string.h>

#include "common/mem.h"
#include "daemon/sr/internal.h"
#include "daemon/sr/names.h"

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

struct look *
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

struct look *
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

/* ---- What the driver tells ---- */

static void
take_stamp(struct sr *sr, const char *name, char ret[SMD_SR_STAMP_MAX])
{
	struct smd_error none CLEANUP_ERROR = SMD_ERROR_INIT;

	ret[0] = '\0';
	if (sr->driver->volume_stamp &&
	    sr->driver->volume_stamp(sr->handle, name, ret, &none) < 0)
		ret[0] = '\0';
}

void
look_tell(struct listed *listed, const struct smd_sr_volume *volume)
{
	listed->allocated = (int64_t)volume->allocated;
	listed->is_told = true;
}

void
look_tell_unopened(struct sr *sr, struct listed *listed)
{
	struct smd_error gone CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_sr_volume volume;

	take_stamp(sr, listed->location, listed->stamp);
	if (sr->driver->volume_stat(sr->handle, listed->location, &volume, &gone) == 0)
		look_tell(listed, &volume);
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
	struct question question = { location, format, &look, NULL };

	if (!format)
		look = look_at_name(location);
	else if (look_ask(sr, &question, 1, false, err) < 0)
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

	if (!looks || looks->n == 0)
		return NULL;
	at = looks->next % looks->n;	/* the last one's next is the first */
	if (strcmp(looks->list[at].location, location) != 0 && !looks_find(looks, location, &at))
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

static int
look_at_changed(struct sr *sr, struct looks *old, struct looks *looks,
		struct listed *const *volumes, struct smd_error *err)
{
	CLEANUP_FREE struct question *questions = smd_calloc(looks->n + 1, sizeof *questions);
	size_t n = 0;

	for (size_t i = 0; i < looks->n; i++) {
		struct looked *looked = &looks->list[i];

		if (take_known(old, volumes[i], &looked->look))
			continue;
		if (volumes[i]->format)
			questions[n++] = (struct question){ looked->location, volumes[i]->format,
							    &looked->look, volumes[i] };
		else
			looked->look = look_at_name(looked->location);
	}
	if (look_ask(sr, questions, n, true, err) < 0)
		return -1;
	for (size_t i = 0; i < looks->n; i++) {
		struct look *look = looks->list[i].look;

		if (!volumes[i]->is_told)
			look_tell_unopened(sr, volumes[i]);
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
	const struct unstamped *u = opaque;
	char stamp[SMD_SR_STAMP_MAX];

	take_stamp(u->sr, volume->name, stamp);
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
