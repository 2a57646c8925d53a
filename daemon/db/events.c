/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Generations and what follows from them: changes since one, waiting for more.
 *
 * Each change is given the next generation. Who waits looks at one number per
 * class in memory, and asks the database only when it has moved.
 */
#include "daemon/db/private.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "common/mem.h"

#define DB_DELETIONS_MAX 10000		/* kept in the log */
#define DB_DELETIONS_SLACK 1000		/* beyond it before it is trimmed */

/* A commit that was not durable may be lost with the power, and its generations
 * with it; a start leaps over all that could have been given out since. */
#define DB_START_LEAP (UINT64_C(1) << 20)

uint64_t
db_next_generation(struct db *db, struct db_class *cls)
{
	cls->changed = ++db->generation;
	cls->n_changes++;
	return cls->changed;
}

uint64_t
db_count_changes(struct db *db, const char *class_name, uint64_t *ret_generation)
{
	struct smd_error none CLEANUP_ERROR = SMD_ERROR_INIT;
	DB_LOCK_SCOPE(db);
	struct db_class *cls = db_class(db, class_name, &none);

	*ret_generation = db->generation;
	return cls ? cls->n_changes : 0;
}

uint64_t
db_generation(struct db *db)
{
	LOCK_SCOPE(&db->event_lock);

	return db->published;
}

void
db_publish(struct db *db)
{
	LOCK_SCOPE(&db->event_lock);

	if (db->published == db->generation)
		return;
	db->published = db->generation;
	for (size_t i = 0; i < db->n_classes; i++)
		db->classes[i].published = db->classes[i].changed;
	pthread_cond_broadcast(&db->event_cond);
}

/* ---- Start --------------------------------------------------------------------- */

static int
query_number(struct db *db, struct smd_error *err, int64_t *ret, const char *fmt, const char *arg)
{
	sqlite3_stmt *stmt = NULL;
	int rc = -1;

	if (db_prepare(db, &stmt, err, fmt, arg)) {
		rc = db_step(db, stmt, err);
		*ret = rc == 1 ? sqlite3_column_int64(stmt, 0) : 0;
	}
	sqlite3_finalize(stmt);
	return rc < 0 ? -1 : 0;
}

int
db_events_init(struct db *db, struct smd_error *err)
{
	int64_t last, lost;

	if (query_number(db, err, &last, "SELECT max(gen) FROM deleted", "") != 0 ||
	    query_number(db, err, &db->n_deletions, "SELECT count(*) FROM deleted", "") != 0 ||
	    query_number(db, err, &lost, "SELECT value FROM meta WHERE key = '%q'",
			 "deletions_lost") != 0)
		return -1;
	db->deletions_lost = (uint64_t)lost;
	db->generation = (uint64_t)(last > lost ? last : lost);
	for (size_t i = 0; i < db->n_classes; i++) {
		if (query_number(db, err, &last, "SELECT max(modified_gen) FROM \"%w\"",
				 db->classes[i].api->name) != 0)
			return -1;
		db->classes[i].changed = db->classes[i].published = (uint64_t)last;
		if ((uint64_t)last > db->generation)
			db->generation = (uint64_t)last;
	}
	db->generation = (db->generation / DB_START_LEAP + 1) * DB_START_LEAP;
	db->published = db->generation;
	return 0;
}

/* ---- The log of deletions ------------------------------------------------------ */

static int
trim_deletions(struct db *db, struct smd_error *err)
{
	int64_t upto;
	sqlite3_stmt *stmt;

	if (query_number(db, err, &upto, "SELECT gen FROM deleted ORDER BY gen DESC LIMIT 1 OFFSET %s",
			 SMD_U64(DB_DELETIONS_MAX)) != 0)
		return -1;
	db->n_deletions = DB_DELETIONS_MAX;
	if ((uint64_t)upto <= db->deletions_lost)
		return 0;	/* the count was too high: deletions that were rolled back */
	stmt = db_prepare(db, &db->stmts[DB_STMT_TRIM_DELETIONS], err,
			  "DELETE FROM deleted WHERE gen <= ?");
	if (!stmt)
		return -1;
	sqlite3_bind_int64(stmt, 1, upto);
	if (db_run(db, stmt, err) != 0)
		return -1;
	stmt = db_prepare(db, &db->stmts[DB_STMT_META_SET], err,
			  "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)");
	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, "deletions_lost");
	sqlite3_bind_int64(stmt, 2, upto);
	db->deletions_lost = (uint64_t)upto;
	return db_run(db, stmt, err);
}

int
db_log_deletion(struct db *db, struct db_class *cls, const char *ref, uint64_t created,
		struct smd_error *err)
{
	sqlite3_stmt *stmt = db_prepare(db, &db->stmts[DB_STMT_LOG_DELETION], err,
			"INSERT INTO deleted (gen, created_gen, cls, ref) VALUES (?, ?, ?, ?)");

	if (!stmt)
		return -1;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)db_next_generation(db, cls));
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)created);
	db_bind_text(stmt, 3, cls->api->name);
	db_bind_text(stmt, 4, ref);
	if (db_run(db, stmt, err) != 0)
		return -1;
	if (++db->n_deletions > DB_DELETIONS_MAX + DB_DELETIONS_SLACK)
		return trim_deletions(db, err);
	return 0;
}

/* ---- Changes ------------------------------------------------------------------- */

struct change_list {
	struct db_change *items;
	size_t n, allocated;
};

static void
change_list_done(struct change_list *list)
{
	for (size_t i = 0; i < list->n; i++) {
		free((char *)list->items[i].ref);
		json_object_put(list->items[i].record);
	}
	free(list->items);
}

static struct db_change *
change_list_add(struct change_list *list, struct db_class *cls, const char *ref)
{
	struct db_change *change;

	if (list->n == list->allocated) {
		list->allocated = list->allocated ? 2 * list->allocated : 64;
		list->items = smd_reallocarray(list->items, list->allocated, sizeof *list->items);
	}
	change = &list->items[list->n++];
	*change = (struct db_change){ .cls = cls->api, .ref = smd_strdup(ref) };
	return change;
}

/* ref NULL: the whole class. */
static sqlite3_stmt *
changes_stmt(struct db *db, struct db_class *cls, uint64_t since, const char *ref,
	     struct smd_error *err)
{
	sqlite3_stmt **slot = &cls->stmts[ref ? DB_STMT_CHANGE : DB_STMT_CHANGES];
	CLEANUP_FREE char *columns = *slot ? NULL : db_record_columns(cls);
	sqlite3_stmt *stmt = db_prepare(db, slot, err,
			"SELECT %s FROM \"%w\" WHERE modified_gen > ? %s ORDER BY modified_gen",
			columns, cls->api->name, ref ? "AND ref = ?" : "");

	if (!stmt)
		return NULL;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)since);
	if (ref)
		db_bind_text(stmt, 2, ref);
	return stmt;
}

static int
read_changes(struct db *db, struct db_class *cls, uint64_t since, const char *ref,
	     struct change_list *list, struct smd_error *err)
{
	DB_STMT *stmt = changes_stmt(db, cls, since, ref, err);
	int created = db_created_column(cls);
	struct db_inverses inverses = { 0 };
	int rc = stmt ? 0 : -1;

	while (rc == 0 && (rc = db_step(db, stmt, err)) == 1) {
		struct db_change *change = change_list_add(list, cls, db_column_text(stmt, 0));
		uint64_t created_gen = (uint64_t)sqlite3_column_int64(stmt, created);

		change->what = created_gen > since ? DB_ADDED : DB_MODIFIED;
		change->generation = (uint64_t)sqlite3_column_int64(stmt, created + 1);
		rc = db_row_record(db, cls, stmt, &inverses, &change->record, err);
	}
	db_inverses_done(cls, &inverses);
	return rc;
}

static int
read_deletions(struct db *db, struct db_class *cls, uint64_t since, const char *ref,
	       struct change_list *list, struct smd_error *err)
{
	DB_STMT *stmt = db_prepare(db, &cls->stmts[DB_STMT_DELETIONS], err,
			"SELECT ref, gen FROM deleted WHERE gen > ?1 AND created_gen <= ?1"
			" AND cls = ?2 ORDER BY gen");
	int rc;

	if (!stmt)
		return -1;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)since);
	db_bind_text(stmt, 2, cls->api->name);
	while ((rc = db_step(db, stmt, err)) == 1) {
		struct db_change *change;

		if (ref && strcmp(ref, db_column_text(stmt, 0)) != 0)
			continue;
		change = change_list_add(list, cls, db_column_text(stmt, 0));
		change->what = DB_DELETED;
		change->generation = (uint64_t)sqlite3_column_int64(stmt, 1);
	}
	return rc;
}

static int
read_class(struct db *db, struct db_class *cls, uint64_t since, const char *ref,
	   struct change_list *list, struct smd_error *err)
{
	if (read_changes(db, cls, since, ref, list, err) != 0)
		return -1;
	return read_deletions(db, cls, since, ref, list, err);
}

static bool
interested(const struct db_interest *interest, const struct db_class *cls)
{
	return !interest->cls || interest->cls == cls->api;
}

/* Whether an earlier interest asked for the same object. */
static bool
asked_before(const struct db_interest *interests, size_t n, const struct db_class *cls)
{
	for (size_t i = 0; i < n; i++) {
		if (interested(&interests[i], cls) && strcmp(interests[i].ref, interests[n].ref) == 0)
			return true;
	}
	return false;
}

static int
read_interests(struct db *db, struct db_class *cls, uint64_t since,
	       const struct db_interest *interests, size_t n, struct change_list *list,
	       struct smd_error *err)
{
	for (size_t i = 0; i < n; i++) {
		if (interested(&interests[i], cls) && !interests[i].ref)
			return read_class(db, cls, since, NULL, list, err);
	}
	for (size_t i = 0; i < n; i++) {
		if (!interested(&interests[i], cls) || asked_before(interests, i, cls))
			continue;
		if (read_class(db, cls, since, interests[i].ref, list, err) != 0)
			return -1;
	}
	return 0;
}

static int
read_all(struct db *db, uint64_t since, const struct db_interest *interests, size_t n,
	 struct change_list *list, uint64_t *ret_generation, bool *ret_lost, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);

	*ret_generation = db->generation;
	*ret_lost = since != 0 && (since < db->deletions_lost || since > db->generation);
	for (size_t i = 0; i < db->n_classes && !*ret_lost; i++) {
		struct db_class *cls = &db->classes[i];

		if (cls->changed <= since || cls->api->flags & API_NO_EVENTS)
			continue;
		if (read_interests(db, cls, since, interests, n, list, err) != 0)
			return -1;
	}
	return 0;
}

int
db_changes(struct db *db, uint64_t since, const struct db_interest *interests,
	   size_t n_interests, db_change_fn *each, void *opaque, uint64_t *ret_generation,
	   bool *ret_lost, struct smd_error *err)
{
	CLEANUP(change_list_done) struct change_list list = { 0 };

	if (read_all(db, since, interests, n_interests, &list, ret_generation, ret_lost, err) != 0)
		return -1;
	for (int what = DB_ADDED; what <= DB_DELETED; what++) {
		for (size_t i = 0; i < list.n; i++) {
			if ((int)list.items[i].what == what)
				each(opaque, &list.items[i]);
		}
	}
	return 0;
}

/* ---- Counts and waiting -------------------------------------------------------- */

static int
count_rows(struct db *db, struct db_class *cls, struct smd_error *err)
{
	DB_STMT *stmt = NULL;

	if (cls->counted == cls->changed && cls->counted != 0)
		return 0;
	stmt = db_prepare(db, &cls->stmts[DB_STMT_COUNT], err, "SELECT count(*) FROM \"%w\"",
			  cls->api->name);
	if (!stmt || db_step(db, stmt, err) < 0)
		return -1;
	cls->count = sqlite3_column_int64(stmt, 0);
	cls->counted = cls->changed;
	return 0;
}

int
db_counts(struct db *db, json **ret, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	CLEANUP_JSON json *counts = json_object_new_object();

	for (size_t i = 0; i < db->n_classes; i++) {
		struct db_class *cls = &db->classes[i];
		CLEANUP_FREE char *name = smd_strdup(cls->api->name);

		if (cls->api->flags & API_NO_EVENTS)
			continue;
		if (count_rows(db, cls, err) != 0)
			return -1;
		for (char *c = name; *c; c++)
			*c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 'a' - 'A' : *c);
		smd_json_set_int(counts, name, cls->count);
	}
	*ret = TAKE_PTR(counts);
	return 0;
}

static bool
concerned(struct db *db, uint64_t since, const struct db_interest *interests, size_t n)
{
	for (size_t i = 0; i < db->n_classes; i++) {
		struct db_class *cls = &db->classes[i];

		if (cls->published <= since || cls->api->flags & API_NO_EVENTS)
			continue;
		for (size_t j = 0; j < n; j++) {
			if (interested(&interests[j], cls))
				return true;
		}
	}
	return false;
}

static struct timespec
deadline_after(uint64_t ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += (time_t)(ms / 1000);
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

bool
db_concerned(struct db *db, uint64_t since, const struct db_interest *interests,
	     size_t n_interests)
{
	LOCK_SCOPE(&db->event_lock);

	return concerned(db, since, interests, n_interests);
}

int
db_wait(struct db *db, uint64_t since, const struct db_interest *interests, size_t n_interests,
	uint64_t timeout_ms, uint64_t *wakes)
{
	struct timespec deadline = deadline_after(timeout_ms);
	bool over = false;
	LOCK_SCOPE(&db->event_lock);

	for (;;) {
		if (*wakes != db->n_wakes) {
			*wakes = db->n_wakes;
			return 0;
		}
		if (concerned(db, since, interests, n_interests))
			return 1;
		if (over)
			return 0;
		over = pthread_cond_timedwait(&db->event_cond, &db->event_lock, &deadline) ==
		       ETIMEDOUT;
	}
}

void
db_wake(struct db *db)
{
	LOCK_SCOPE(&db->event_lock);

	db->n_wakes++;
	pthread_cond_broadcast(&db->event_cond);
}
