/* SPDX-License-Identifier: BSD-2-Clause */
/* Changes of what is tracked: planned from the images, written to logs, committed with
 * whatever makes them necessary. */
#include <string.h>

#include "common/checked.h"
#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/job.h"
#include "daemon/sr/cbt-impl.h"
#include "daemon/sr/internal.h"

/* What becomes of one VDI's row. */
struct cbt_entry {
	char *vdi_ref;
	char *parent;		/* "": none; NULL: not tracked any more */
	char *old_log;		/* to be deleted; "": none */
	bool keeps_log;		/* the old one stays */
	bool has_set;		/* a new one comes */
	struct cbt_set set;
	struct new_volume log;	/* of the change's job */
};

/* ---- Entries ---- */

void
cbt_begin(struct cbt_change *c, struct daemon *daemon, struct sr *sr)
{
	*c = (struct cbt_change){ .daemon = daemon, .sr = sr };
	pthread_mutex_lock(&sr->cbt_lock);
}

void
cbt_begin_for(struct cbt_change *c, struct daemon *daemon, const struct disk *disk)
{
	if (!c->sr && smd_json_bool(disk->record, "cbt_enabled", false))
		cbt_begin(c, daemon, disk->sr);
}

static struct cbt_entry *
add(struct cbt_change *c, const char *ref, const char *parent, const char *old_log)
{
	struct cbt_entry *e;

	c->entries = smd_reallocarray(c->entries, c->n + 1, sizeof *c->entries);
	e = &c->entries[c->n++];
	*e = (struct cbt_entry){ .log = NEW_VOLUME_INIT };
	e->vdi_ref = smd_strdup(ref);
	e->parent = smd_strdup(parent);
	e->old_log = smd_strdup(old_log);
	return e;
}

void
cbt_done(struct cbt_change *c)
{
	if (!c->sr)
		return;
	for (size_t i = 0; i < c->n; i++) {
		struct cbt_entry *e = &c->entries[i];

		new_volume_done(&e->log);
		cbt_set_done(&e->set);
		free(e->vdi_ref);
		free(e->parent);
		free(e->old_log);
	}
	free(c->entries);
	if (c->job_id)
		job_end(c->daemon, c->job_id);
	free(c->job_id);
	pthread_mutex_unlock(&c->sr->cbt_lock);
	*c = (struct cbt_change)CBT_CHANGE_INIT;
}

static struct cbt_look
look(const struct cbt_change *c)
{
	return (struct cbt_look){ c->daemon, c->sr };
}

/* ---- Plans ---- */

/* Whether a VDI's changes are in its log and its image, not in two VDIs' images. */
static int
is_logged(struct cbt_change *c, const struct cbt_state *state, bool *ret, struct smd_error *err)
{
	bool has = true;

	if (*state->parent && cbt_has_data(c->daemon->db, state->parent, &has, err) < 0)
		return -1;
	*ret = *state->parent && !has;
	return 0;
}

int
cbt_plan_overlay(struct cbt_change *c, struct disk *disk, bool kept, const char *snapshot,
		 struct smd_error *err)
{
	struct cbt_state state CLEANUP_CBT_STATE = { .parent = NULL };
	struct cbt_look at = look(c);
	struct cbt_entry *e;
	bool logged;

	if (!c->sr)
		return 0;
	if (cbt_state_load(c->daemon->db, disk->vdi_ref, &state, err) < 0 || !state.tracked)
		return err->code ? -1 : 0;
	if (is_logged(c, &state, &logged, err) < 0)
		return -1;
	if (snapshot) {
		/* It ends what was counted, and the disk counts from it. */
		add(c, disk->vdi_ref, snapshot, state.log);
		e = add(c, snapshot, state.parent, "");
	} else if (logged && !kept) {
		e = add(c, disk->vdi_ref, state.parent, state.log);
	} else {
		return 0;
	}
	e->has_set = logged;
	return logged ? cbt_step(&at, disk->vdi_ref, false, disk, &e->set, err) : 0;
}

int
cbt_plan_revert(struct cbt_change *c, struct disk *disk, struct disk *snapshot, bool kept,
		struct smd_error *err)
{
	struct cbt_state state CLEANUP_CBT_STATE = { .parent = NULL };
	struct cbt_state other CLEANUP_CBT_STATE = { .parent = NULL };
	struct cbt_entry *e;
	bool logged;

	if (!c->sr)
		return 0;
	if (cbt_plan_overlay(c, snapshot, kept, NULL, err) < 0 ||
	    cbt_state_load(c->daemon->db, disk->vdi_ref, &state, err) < 0 || !state.tracked)
		return err->code ? -1 : 0;
	if (cbt_state_load(c->daemon->db, snapshot->vdi_ref, &other, err) < 0 ||
	    is_logged(c, &state, &logged, err) < 0)
		return -1;
	if (other.tracked) {
		add(c, disk->vdi_ref, snapshot->vdi_ref, state.log);
	} else if (logged) {
		/* Nobody knows what the snapshot has to do with what is counted from. */
		e = add(c, disk->vdi_ref, state.parent, state.log);
		e->has_set = true;
		return cbt_set_init(&e->set, smd_max_u64(disk->virtual_size, snapshot->virtual_size),
				    true, err);
	}
	return 0;
}

/* A VDI that counts from one that goes counts from the one before. */
static int
plan_heir(struct cbt_change *c, const char *ref, const char *before, struct smd_error *err)
{
	struct cbt_state state CLEANUP_CBT_STATE = { .parent = NULL };
	struct cbt_look at = look(c);
	struct cbt_entry *e;
	bool has, before_has = false;

	if (cbt_state_load(c->daemon->db, ref, &state, err) < 0 ||
	    cbt_has_data(c->daemon->db, ref, &has, err) < 0 ||
	    (*before && cbt_has_data(c->daemon->db, before, &before_has, err) < 0))
		return -1;
	e = add(c, ref, before, state.log);
	/* Without data the log is its volume. */
	e->keeps_log = !*before && !has;
	e->has_set = *before && !(has && before_has);
	return e->has_set ? cbt_way(&at, before, ref, has, &e->set, err) : 0;
}

static int
each_heir(struct cbt_change *c, const char *ref, const char *before,
	  int (*plan)(struct cbt_change *c, const char *ref, const char *before,
		      struct smd_error *err), struct smd_error *err)
{
	CLEANUP_JSON json *heirs = NULL;

	if (db_cbt_children(c->daemon->db, ref, &heirs, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(heirs); i++) {
		if (plan(c, json_object_get_string(json_object_array_get_idx(heirs, i)), before,
			 err) < 0)
			return -1;
	}
	return 0;
}

int
cbt_plan_destroy(struct cbt_change *c, const char *ref, struct smd_error *err)
{
	struct cbt_state state CLEANUP_CBT_STATE = { .parent = NULL };

	if (!c->sr)
		return 0;
	if (cbt_state_load(c->daemon->db, ref, &state, err) < 0 || !state.tracked)
		return err->code ? -1 : 0;
	if (each_heir(c, ref, state.parent, plan_heir, err) < 0)
		return -1;
	add(c, ref, NULL, state.log);
	return 0;
}

/* A VDI that counts from one whose data goes: what the images say now is written down,
 * but for its own, which goes on saying it. */
static int
plan_bereft(struct cbt_change *c, const char *ref, const char *from, struct smd_error *err)
{
	struct cbt_look at = look(c);
	struct cbt_entry *e;
	bool has;

	if (cbt_has_data(c->daemon->db, ref, &has, err) < 0)
		return -1;
	if (!has)
		return 0;	/* it has its log */
	e = add(c, ref, from, "");
	e->has_set = true;
	return cbt_way(&at, from, ref, true, &e->set, err);
}

int
cbt_plan_data_destroy(struct cbt_change *c, const char *ref, struct smd_error *err)
{
	struct cbt_state state CLEANUP_CBT_STATE = { .parent = NULL };
	struct cbt_look at = look(c);
	struct cbt_entry *e;
	int64_t size;

	if (cbt_state_load(c->daemon->db, ref, &state, err) < 0 ||
	    db_get_int(c->daemon->db, "VDI", ref, "virtual_size", &size, err) < 0)
		return -1;
	if (!state.tracked)
		return smd_fail_VDI_NO_CBT_METADATA(err, ref, "VDI %s is not tracked", ref);
	if (each_heir(c, ref, ref, plan_bereft, err) < 0)
		return -1;
	e = add(c, ref, state.parent, state.log);
	e->has_set = true;
	if (!*state.parent)
		return cbt_set_init(&e->set, (uint64_t)size, false, err);
	return cbt_step(&at, ref, false, NULL, &e->set, err);
}

int
cbt_plan_enable(struct cbt_change *c, const char *ref, bool enabled, struct smd_error *err)
{
	struct cbt_state state CLEANUP_CBT_STATE = { .parent = NULL };

	if (cbt_state_load(c->daemon->db, ref, &state, err) < 0)
		return -1;
	if (enabled && !state.tracked)
		add(c, ref, "", "");
	if (!enabled && state.tracked)
		add(c, ref, NULL, state.log);
	return 0;
}

/* ---- Logs ---- */

static int
plan_job(struct cbt_change *c, const char *kind, struct smd_error *err)
{
	CLEANUP_JSON json *undo = NULL, *redo = NULL;

	for (size_t i = 0; i < c->n; i++) {
		struct cbt_entry *e = &c->entries[i];

		if (e->has_set) {
			e->log = new_volume_name(c->daemon, c->sr, CBT_LOG_SUFFIX, e->set.size);
			new_volume_plan(&e->log, &undo);
		}
		if (*e->old_log && !e->keeps_log)
			job_plan_add(&redo, sr_uuid(c->sr), e->old_log);
	}
	if (!undo && !redo)
		return 0;
	return job_begin(c->daemon, &(struct job_plan){ kind, undo, redo, NULL }, &c->job_id, err);
}

static int
write_log(struct cbt_change *c, struct cbt_entry *e, struct smd_error *err)
{
	struct smd_error none CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *uuid = NULL;

	if (*e->parent)
		db_get_str(c->daemon->db, "VDI", e->parent, "uuid", &uuid, &none);
	if (new_volume_make(&e->log, err) < 0 ||
	    cbt_log_write(e->log.fd, e->log.name, uuid ? uuid : "", &e->set, err) < 0)
		return volume_fail(c->sr, err);
	return new_volume_publish(&e->log, err);
}

int
cbt_make(struct cbt_change *c, const char *kind, struct smd_error *err)
{
	if (plan_job(c, kind, err) < 0)
		return -1;
	for (size_t i = 0; i < c->n; i++) {
		if (c->entries[i].has_set && write_log(c, &c->entries[i], err) < 0)
			return -1;
	}
	return 0;
}

/* ---- Rows ---- */

static int
commit_entry(struct cbt_change *c, struct cbt_entry *e, struct smd_error *err)
{
	const char *log = e->has_set ? e->log.name : e->keeps_log ? e->old_log : "";
	struct db *db = c->daemon->db;
	const char *parent = e->parent;
	bool has;

	if (!db_exists(db, "VDI", e->vdi_ref))
		return 0;	/* forgotten meanwhile */
	if (!e->parent)
		return db_cbt_clear(db, e->vdi_ref, err);
	if (!db_exists(db, "VDI", parent))
		parent = "";
	if (db_cbt_set(db, e->vdi_ref, parent, log, err) < 0 ||
	    cbt_has_data(db, e->vdi_ref, &has, err) < 0)
		return -1;
	return has ? 0 : db_set_str(db, "VDI", e->vdi_ref, "location", log, err);
}

int
cbt_commit(struct cbt_change *c, struct smd_error *err)
{
	for (size_t i = 0; i < c->n; i++) {
		if (commit_entry(c, &c->entries[i], err) < 0)
			return -1;
	}
	return c->job_id ? job_committed(c->daemon, c->job_id, err) : 0;
}
