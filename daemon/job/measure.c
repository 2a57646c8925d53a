/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/measure.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/carry.h"
#include "daemon/job/move.h"

struct answer {
	struct daemon *daemon;
	json *map;
	json *formats, *obstacles;
};

static void
answer_init(struct answer *a, struct daemon *daemon)
{
	*a = (struct answer){
		.daemon = daemon, .map = json_object_new_object(),
		.formats = json_object_new_array(), .obstacles = json_object_new_array(),
	};
}

static void
answer_done(struct answer *a)
{
	json_object_put(a->map);
	json_object_put(a->formats);
	json_object_put(a->obstacles);
}

static void
put_number(struct answer *a, const char *key, uint64_t value)
{
	CLEANUP_FREE char *text = smd_asprintf("%" PRIu64, value);

	smd_json_set_str(a->map, key, text);
}

static void
put_error(json *object, const struct smd_error *err)
{
	json *params = json_object_new_array();

	for (char **p = err->params; p && *p; p++)
		json_object_array_add(params, json_object_new_string(*p));
	smd_json_set_str(object, "code", err->code);
	smd_json_set(object, "params", params);
	smd_json_set_str(object, "message", err->message ? err->message : "");
}

/* What the call would fail with here; said once. */
static void
put_obstacle(struct answer *a, struct smd_error *err)
{
	json *object = json_object_new_object();

	put_error(object, err);
	smd_error_clear(err);
	for (size_t i = 0; i < json_object_array_length(a->obstacles); i++) {
		if (json_object_equal(json_object_array_get_idx(a->obstacles, i), object)) {
			json_object_put(object);
			return;
		}
	}
	json_object_array_add(a->obstacles, object);
}

/* r of a step of the call. */
static int
step(struct answer *a, int r, struct smd_error *err)
{
	if (r < 0)
		put_obstacle(a, err);
	return r;
}

static void
put_text(struct answer *a, const char *key, json *list)
{
	smd_json_set_str(a->map, key, json_object_to_json_string_ext(
				 list, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static json *
answer_take(struct answer *a)
{
	bool fits = json_object_array_length(a->obstacles) == 0;

	smd_json_set_str(a->map, "fits", fits ? "true" : "false");
	put_text(a, "formats", a->formats);
	put_text(a, "obstacles", a->obstacles);
	return json_object_get(a->map);
}

/* ---- Every format ---- */

/* Whether the disk would fit in a format, and what it takes: entry says so. */
typedef int format_fn(void *opaque, const char *format, json *entry, struct smd_error *err);

static void
try_formats(struct answer *a, format_fn *try, void *opaque)
{
	json *list = storage_formats(a->daemon);

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		const char *name = smd_json_str(json_object_array_get_idx(list, i), "name", "");
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		json *entry = json_object_new_object();
		bool fits;

		smd_json_set_str(entry, "format", name);
		fits = try(opaque, name, entry, &err) == 0;
		smd_json_set_bool(entry, "fits", fits);
		if (!fits)
			put_error(entry, &err);
		json_object_array_add(a->formats, entry);
	}
}

static json *
format_entry(struct answer *a, const char *format)
{
	for (size_t i = 0; i < json_object_array_length(a->formats); i++) {
		json *entry = json_object_array_get_idx(a->formats, i);

		if (strcmp(smd_json_str(entry, "format", ""), format) == 0)
			return entry;
	}
	return NULL;
}

/* What was found of the format that is taken is the answer. */
static void
put_chosen(struct answer *a, const char *format, bool same_sr)
{
	json *entry = format_entry(a, format), *reason;
	uint64_t required, shared, peak;

	smd_json_set_str(a->map, "format", format);
	if (!entry)
		return;
	if (smd_json_member(entry, "bytes-required")) {
		required = (uint64_t)smd_json_int(entry, "bytes-required", 0);
		shared = (uint64_t)smd_json_int(entry, "bytes-shared", 0);
		peak = (uint64_t)smd_json_int(entry, "peak", (int64_t)required);
		put_number(a, "bytes-required", required);
		if (shared > 0)
			put_number(a, "bytes-shared", shared);
		put_number(a, "peak-destination", peak);
		put_number(a, "peak-source", same_sr ? peak : 0);
	}
	if (smd_json_bool(entry, "fits", false))
		return;
	reason = json_object_new_object();
	smd_json_set(reason, "code", json_object_get(smd_json_member(entry, "code")));
	smd_json_set(reason, "params", json_object_get(smd_json_member(entry, "params")));
	smd_json_set(reason, "message", json_object_get(smd_json_member(entry, "message")));
	json_object_array_add(a->obstacles, reason);
}

static void
put_free(struct answer *a, const char *key, struct sr *sr)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_sr_stat stat = { 0 };

	if (step(a, sr_get_driver(sr)->stat(sr_handle(sr), &stat, &err), &err) == 0)
		put_number(a, key, stat.free);
}

/* ---- A move ---- */

struct move_of {
	struct answer answer;
	struct carry carry;		/* of VDI.pool_migrate; its SRs are VDI.copy's too */
	bool copy;			/* VDI.copy is meant */
	const char *base_ref, *into_ref;	/* its base_vdi and into_vdi; "": none */
	struct disk source, base, into;
	struct move move;		/* of VDI.copy */
	struct plan plan;		/* of the last format that could be measured */
};

static int
plan_copy(struct move_of *m, const char *format, struct plan *plan, struct smd_error *err)
{
	const struct carry *c = &m->carry;
	CLEANUP_FREE char *chosen = NULL;

	*plan = (struct plan){
		.daemon = c->daemon, .from = c->from, .to = c->to, .exact = c->exact,
	};
	if (*m->into_ref && strcmp(format, m->into.format) != 0)
		return smd_fail_VDI_INCOMPATIBLE_TYPE(err, SMD_PARAMS(m->into_ref, format),
						      "VDI %s stays %s, whatever is copied into it",
						      m->into.uuid, m->into.format);
	if (!*m->into_ref && sr_choose_format(c->daemon, sr_ref(c->to), format,
					      m->source.virtual_size, c->vdi_ref, &chosen, err) < 0)
		return -1;
	m->move.format = format;
	m->move.virtual_size = *m->into_ref ? m->into.virtual_size
					    : format_round_size(c->daemon, format,
								m->source.virtual_size);
	return move_plan(&m->move, plan, err);
}

static int
try_move(void *opaque, const char *format, json *entry, struct smd_error *err)
{
	struct move_of *m = opaque;
	struct plan plan;

	if ((m->copy ? plan_copy(m, format, &plan, err)
		     : carry_needs(&m->carry, format, &plan, err)) < 0)
		return -1;
	m->plan = plan;
	smd_json_set_int(entry, "bytes-required", (int64_t)plan.required);
	if (plan.shared > 0) {
		smd_json_set_int(entry, "bytes-shared", (int64_t)plan.shared);
		smd_json_set_int(entry, "peak", (int64_t)plan_needs(&plan));
	}
	return plan_room(&plan, err);
}

/* At the rate that copies had before, unless the caller wants them slower. */
static void
put_time(struct move_of *m)
{
	const struct carry *c = &m->carry;
	uint64_t rate = plan_rate(c->daemon, sr_uuid(c->from), sr_ref(c->to));
	uint64_t bytes = m->plan.data * (c->verify ? 2 : 1);

	if (rate == 0)
		return;
	put_number(&m->answer, "bytes-per-second", rate);
	if (c->bytes_per_second && c->bytes_per_second < rate)
		rate = c->bytes_per_second;
	put_number(&m->answer, "seconds", bytes / rate + (bytes % rate != 0));
}

/* As VDI.copy's. */
static int
open_copy(struct move_of *m, struct smd_error *err)
{
	struct carry *c = &m->carry;

	m->move = (struct move){
		.daemon = c->daemon, .task_ref = c->task_ref, .source = &m->source, .sr = c->to,
		.base = *m->base_ref ? &m->base : NULL,
	};
	if (disk_open(c->daemon, &m->source, false, "copy", err) < 0 ||
	    (*m->base_ref && (disk_open(c->daemon, &m->base, false, "copy", err) < 0 ||
			      move_check_base(&m->source, &m->base, err) < 0)))
		return -1;
	if (!*m->into_ref)
		return 0;
	if (move_check_into(&m->source, &m->into, err) < 0)
		return -1;
	return disk_open(c->daemon, &m->into, true, "copy", err);
}

static void
measure_open(struct move_of *m)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct answer *a = &m->answer;
	struct carry *c = &m->carry;
	CLEANUP_FREE char *format = NULL;

	put_free(a, "free-destination", c->to);
	put_free(a, "free-source", c->from);
	if (step(a, m->copy ? open_copy(m, &err) : carry_open(c, &err), &err) < 0)
		return;
	try_formats(a, try_move, m);
	if (m->plan.n > 0) {
		put_number(a, "images", m->plan.n);
		put_number(a, "data-bytes", m->plan.data);
		put_time(m);
	}
	if (*m->into_ref)
		format = smd_strdup(m->into.format);
	if (format || step(a, carry_choose(c, c->asked, &format, &err), &err) == 0)
		put_chosen(a, format, strcmp(sr_ref(c->from), sr_ref(c->to)) == 0);
}

/* VDI.copy's other disks. */
static int
find_disks(struct move_of *m, struct smd_error *err)
{
	struct daemon *daemon = m->carry.daemon;
	struct answer *a = &m->answer;

	if (*m->into_ref) {
		step(a, op_check(daemon, "VDI", m->into_ref, "mirror", err), err);
		if (disk_find(daemon, m->into_ref, &m->into, err) < 0)
			return -1;
	}
	if (*m->base_ref) {
		step(a, op_check(daemon, "VDI", m->base_ref, "copy", err), err);
		if (disk_find(daemon, m->base_ref, &m->base, err) < 0)
			return -1;
		step(a, op_check(daemon, "SR", sr_ref(m->base.sr), "vdi_copy", err), err);
	}
	return 0;
}

/* In the order of the call; where that would wait for nothing more, this goes on as far
 * as it can. */
static void
measure_steps(struct move_of *m, const char *sr)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct answer *a = &m->answer;
	struct carry *c = &m->carry;
	const char *on_sr = m->copy ? "vdi_copy" : "vdi_mirror";
	struct disk *source = &m->source;

	step(a, op_check(c->daemon, "VDI", c->vdi_ref, m->copy ? "copy" : "mirror", &err), &err);
	if (!m->copy)
		step(a, carry_check_untracked(c, &err), &err);
	if (step(a, disk_find(c->daemon, c->vdi_ref, source, &err), &err) < 0 ||
	    step(a, find_disks(m, &err), &err) < 0)
		return;
	if (*m->into_ref)
		sr = sr_ref(m->into.sr);
	put_number(a, "virtual-size", source->virtual_size);
	step(a, op_check(c->daemon, "SR", sr_ref(source->sr), on_sr, &err), &err);
	step(a, op_check(c->daemon, "SR", sr, on_sr, &err), &err);
	if (step(a, sr_use(c->daemon, sr, &c->to, &err), &err) < 0)
		return;
	/* The copy's source keeps its SR. */
	c->from = source->sr;
	if (!m->copy)
		source->sr = NULL;
	measure_open(m);
	if (m->copy)
		c->from = NULL;
	carry_done(c);
}

/* What the options of VDI.copy say besides those of VDI.pool_migrate. */
static int
copy_options(struct move_of *m, json *options, struct smd_error *err)
{
	const char *copy = smd_json_str(options, "copy", "false");

	m->base_ref = smd_json_str(options, "base-vdi", "");
	m->into_ref = smd_json_str(options, "into-vdi", "");
	m->copy = strcmp(copy, "true") == 0 || *m->base_ref || *m->into_ref;
	if (strcmp(copy, "true") != 0 && strcmp(copy, "false") != 0)
		return smd_fail_INVALID_VALUE(err, "copy", copy, "copy is true or false, not \"%s\"",
					      copy);
	if (m->copy && *m->carry.asked)
		return smd_fail_INVALID_VALUE(err, "dest-img-format", m->carry.asked,
					      "VDI.copy takes no format: a new disk gets the SR's "
					      "first that it fits in, and VDI.pool_migrate takes one");
	return 0;
}

static int
check_ref(struct daemon *daemon, const char *cls, const char *ref, struct smd_error *err)
{
	if (!*ref || db_exists(daemon->db, cls, ref))
		return 0;
	return smd_fail_HANDLE_INVALID(err, cls, ref, "there is no %s %s", cls, ref);
}

int
measure_move(struct daemon *daemon, const char *task_ref, const char *vdi_ref,
	     const char *sr_ref, json *options, json **ret, struct smd_error *err)
{
	struct move_of m = {
		.carry = { .daemon = daemon, .task_ref = task_ref, .vdi_ref = vdi_ref },
		.source = DISK_INIT, .base = DISK_INIT, .into = DISK_INIT,
	};

	if (carry_options(&m.carry, options, err) < 0 || copy_options(&m, options, err) < 0 ||
	    check_ref(daemon, "VDI", m.base_ref, err) < 0 ||
	    check_ref(daemon, "VDI", m.into_ref, err) < 0 ||
	    (!*m.into_ref && check_ref(daemon, "SR", sr_ref, err) < 0))
		return -1;
	answer_init(&m.answer, daemon);
	smd_json_set_str(m.answer.map, "exact", m.carry.exact ? "true" : "false");
	measure_steps(&m, sr_ref);
	disk_done(&m.source);
	disk_done(&m.base);
	disk_done(&m.into);
	*ret = answer_take(&m.answer);
	answer_done(&m.answer);
	return 0;
}

/* ---- An image that is to come ---- */

struct arrival {
	struct answer answer;
	const char *sr_ref, *into;	/* into: "" or the VDI it is for */
	struct sr *sr;
	json *options;
	uint64_t virtual_size;
	uint64_t staged;	/* bytes that are there as they came, until they are converted */
};

/* *ret as it was: the option is not there. */
static int
number_option(json *options, const char *key, uint64_t *ret, struct smd_error *err)
{
	const char *text = smd_json_str(options, key, NULL);
	uint64_t value;
	char *end;

	if (!text)
		return 0;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-')
		return smd_fail_INVALID_VALUE(err, key, text, "%s is a number of bytes, not \"%s\"",
					      key, text);
	*ret = value;
	return 0;
}

static int
try_arrival(void *opaque, const char *format, json *entry, struct smd_error *err)
{
	CLEANUP_FREE char *key = smd_asprintf("bytes-%s", format), *chosen = NULL;
	struct arrival *r = opaque;
	struct plan plan = { .daemon = r->answer.daemon, .to = r->sr, .required = UINT64_MAX };

	if (sr_choose_format(r->answer.daemon, r->sr_ref, format, r->virtual_size, r->into, &chosen,
			     err) < 0 ||
	    number_option(r->options, key, &plan.required, err) < 0)
		return -1;
	if (plan.required == UINT64_MAX)
		return 0;
	smd_json_set_int(entry, "bytes-required", (int64_t)plan.required);
	plan.required += r->staged;
	smd_json_set_int(entry, "peak", (int64_t)plan.required);
	return plan_room(&plan, err);
}

/* The disk that is to be filled: *ret_format is what it has. */
static int
check_into(struct arrival *r, char **ret_format, struct smd_error *err)
{
	struct disk disk CLEANUP_DISK = DISK_INIT;
	struct answer *a = &r->answer;

	step(a, op_check(a->daemon, "VDI", r->into, "mirror", err), err);
	if (disk_find(a->daemon, r->into, &disk, err) < 0)
		return -1;
	*ret_format = smd_strdup(disk.format);
	if (smd_json_bool(disk.record, "read_only", false)) {
		smd_fail_VDI_READONLY(err, r->into, "VDI %s is read-only: VDI.set_read_only changes "
				      "that", disk.uuid);
		put_obstacle(a, err);
	}
	if (disk.virtual_size >= r->virtual_size)
		return 0;
	smd_fail_VDI_TOO_SMALL(err, r->into, SMD_U64(r->virtual_size),
			       "VDI %s has %" PRIu64 " bytes and the image %" PRIu64
			       ": VDI.resize makes it larger", disk.uuid, disk.virtual_size,
			       r->virtual_size);
	put_obstacle(a, err);
	return 0;
}

static void
arrival_steps(struct arrival *r, const char *asked)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *own = NULL, *format = NULL;
	struct answer *a = &r->answer;

	step(a, op_check(a->daemon, "SR", r->sr_ref, *r->into ? "vdi_copy" : "vdi_create", &err),
	     &err);
	if (*r->into && step(a, check_into(r, &own, &err), &err) < 0)
		return;
	if (step(a, sr_use(a->daemon, r->sr_ref, &r->sr, &err), &err) < 0)
		return;
	put_number(a, "virtual-size", r->virtual_size);
	put_free(a, "free-destination", r->sr);
	try_formats(a, try_arrival, r);
	if (step(a, sr_choose_format(a->daemon, r->sr_ref, own ? own : asked, r->virtual_size,
				     r->into, &format, &err), &err) == 0)
		put_chosen(a, format, false);
	sr_release(r->sr);
}

int
measure_arrival(struct daemon *daemon, const char *sr_ref, json *options, json **ret,
		struct smd_error *err)
{
	struct arrival r = {
		.sr_ref = sr_ref, .options = options, .into = smd_json_str(options, "into", ""),
	};

	if (number_option(options, "virtual-size", &r.virtual_size, err) < 0 ||
	    number_option(options, "staged", &r.staged, err) < 0)
		return -1;
	if (*r.into && !db_exists(daemon->db, "VDI", r.into))
		return smd_fail_HANDLE_INVALID(err, "VDI", r.into, "there is no VDI %s", r.into);
	answer_init(&r.answer, daemon);
	arrival_steps(&r, smd_json_str(options, "dest-img-format", ""));
	*ret = answer_take(&r.answer);
	answer_done(&r.answer);
	return 0;
}
