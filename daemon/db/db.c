/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/db/private.h"

#include <assert.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/mem.h"
#include "common/uuid.h"

#define DB_TEXT_OF(macro) DB_TEXT_OF_(macro)
#define DB_TEXT_OF_(text) #text
/* The cache in KiB; a log that one large transaction made long shrinks again; what a
 * nested transaction may undo is kept in memory and not in a file. */
#define DB_PRAGMAS \
	"PRAGMA journal_mode = WAL;" \
	"PRAGMA synchronous = NORMAL;" \
	"PRAGMA cache_size = -65536;" \
	"PRAGMA journal_size_limit = " DB_TEXT_OF(DB_LOG_SIZE) ";" \
	"PRAGMA temp_store = MEMORY;"
#define DB_BUSY_MS 10000	/* somebody else may look at the file with sqlite3(1) */

int
db_fail(struct db *db, const char *what, struct smd_error *err)
{
	CLEANUP_FREE char *text = smd_asprintf("database: %s: %s", what, sqlite3_errmsg(db->sql));

	if (sqlite3_extended_errcode(db->sql) == SQLITE_IOERR_FSYNC)
		return db_disk_fail(db, sqlite3_system_errno(db->sql), err);
	return smd_fail_INTERNAL_ERROR(err, text, "%s", text);
}

sqlite3_stmt *
db_prepare(struct db *db, sqlite3_stmt **slot, struct smd_error *err, const char *fmt, ...)
{
	va_list ap;
	char *text;
	int rc;

	if (*slot) {
		sqlite3_reset(*slot);
		sqlite3_clear_bindings(*slot);
		return *slot;
	}
	va_start(ap, fmt);
	text = sqlite3_vmprintf(fmt, ap);
	va_end(ap);
	rc = sqlite3_prepare_v3(db->sql, text, -1, SQLITE_PREPARE_PERSISTENT, slot, NULL);
	if (rc != SQLITE_OK)
		db_fail(db, text, err);
	sqlite3_free(text);
	return rc == SQLITE_OK ? *slot : NULL;
}

int
db_step(struct db *db, sqlite3_stmt *stmt, struct smd_error *err)
{
	switch (sqlite3_step(stmt)) {
	case SQLITE_ROW:
		return 1;
	case SQLITE_DONE:
		return 0;
	default:
		return db_fail(db, sqlite3_sql(stmt), err);
	}
}

int
db_run(struct db *db, sqlite3_stmt *stmt, struct smd_error *err)
{
	int rc;

	if (!stmt)
		return -1;
	rc = db_step(db, stmt, err);
	sqlite3_reset(stmt);
	return rc < 0 ? -1 : 0;
}

void
db_bind_text(sqlite3_stmt *stmt, int n, const char *text)
{
	sqlite3_bind_text(stmt, n, text, -1, SQLITE_TRANSIENT);
}

const char *
db_column_text(sqlite3_stmt *stmt, int n)
{
	const unsigned char *text = sqlite3_column_text(stmt, n);

	return text ? (const char *)text : "";
}

/* ---- Transactions -------------------------------------------------------------- */

static int
run_plain(struct db *db, enum db_stmt which, const char *text, struct smd_error *err)
{
	return db_run(db, db_prepare(db, &db->stmts[which], err, "%s", text), err);
}

static int
begin_locked(struct db *db, bool durable, struct smd_error *err)
{
	int rc;

	assert(db->n_calls == 0);
	if (db->depth == 0) {
		rc = db_disk_check(db, err) != 0 ? -1 :
		     run_plain(db, DB_STMT_BEGIN, "BEGIN IMMEDIATE", err);
		db->durable = false;
		db->touched_class = NULL;
	} else {
		rc = run_plain(db, DB_STMT_SAVEPOINT, "SAVEPOINT nested", err);
	}
	if (rc != 0) {
		pthread_mutex_unlock(&db->lock);
		return -1;
	}
	db->depth++;
	db->durable |= durable;
	return 0;
}

int
db_begin(struct db *db, enum db_durability durability, struct smd_error *err)
{
	pthread_mutex_lock(&db->lock);
	return begin_locked(db, durability == DB_DURABLE, err);
}

/* sqlite undoes a whole transaction by itself where the disk is full or fails. What came
 * next would be committed alone. */
static int
check_open(struct db *db, struct smd_error *err)
{
	if (!sqlite3_get_autocommit(db->sql))
		return 0;
	return smd_fail_INTERNAL_ERROR(err, "transaction", "database: what this was to be a part of "
				       "is undone already");
}

/* A savepoint would cost more than most calls: sqlite keeps each page they change. */
int
db_begin_call(struct db *db, struct smd_error *err)
{
	pthread_mutex_lock(&db->lock);
	if (db->depth == 0)
		return begin_locked(db, true, err);
	if (check_open(db, err) != 0) {
		pthread_mutex_unlock(&db->lock);
		return -1;
	}
	if (db->n_calls++ == 0)
		db->changes = sqlite3_total_changes(db->sql);
	return 0;
}

int
db_end_call(struct db *db, int result, struct smd_error *err)
{
	if (db->n_calls == 0)
		return db_end(db, result, err);
	if (result != 0 && sqlite3_total_changes(db->sql) != db->changes && db->torn == 0)
		db->torn = db->depth;
	db->n_calls--;
	pthread_mutex_unlock(&db->lock);
	return result == 0 ? 0 : -1;
}

/* Whether a part of this transaction was done by half. */
static int
check_whole(struct db *db, struct smd_error *err)
{
	if (db->torn != db->depth)
		return 0;
	return smd_fail_INTERNAL_ERROR(err, "transaction", "database: a change failed half way, and "
				       "what it was a part of is undone with it");
}

/* The lock goes before the disk is waited for: others commit meanwhile, and one sync
 * serves all of them. */
int
db_commit(struct db *db, struct smd_error *err)
{
	uint64_t commits;
	bool durable;
	int rc;

	if (check_whole(db, err) != 0) {
		db_rollback(db);
		return -1;
	}
	if (db->depth > 1) {
		db->depth--;
		rc = run_plain(db, DB_STMT_RELEASE, "RELEASE nested", err);
		pthread_mutex_unlock(&db->lock);
		return rc;
	}
	if (run_plain(db, DB_STMT_COMMIT, "COMMIT", err) != 0) {
		db_rollback(db);
		return -1;
	}
	db->depth--;
	commits = db->commits;
	durable = db->durable;
	db_publish(db);
	rc = durable ? db_disk_check(db, err) : 0;
	pthread_mutex_unlock(&db->lock);
	return durable && rc == 0 ? db_disk_sync_log(db, commits, err) : rc;
}

void
db_rollback(struct db *db)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	db->touched_class = NULL;	/* that may be undone */
	if (db->torn == db->depth)
		db->torn = 0;
	if (--db->depth > 0) {
		run_plain(db, DB_STMT_ROLLBACK_TO, "ROLLBACK TO nested", &err);
		smd_error_clear(&err);
		run_plain(db, DB_STMT_RELEASE, "RELEASE nested", &err);
	} else {
		run_plain(db, DB_STMT_ROLLBACK, "ROLLBACK", &err);
	}
	pthread_mutex_unlock(&db->lock);
}

int
db_end(struct db *db, int result, struct smd_error *err)
{
	if (result == 0)
		return db_commit(db, err);
	db_rollback(db);
	return -1;
}

/* ---- Opening ------------------------------------------------------------------- */

static void
locks_init(struct db *db)
{
	pthread_mutexattr_t recursive;
	pthread_condattr_t monotonic;

	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&db->lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	pthread_mutex_init(&db->event_lock, NULL);
	pthread_mutex_init(&db->readers_lock, NULL);
	pthread_mutex_init(&db->sync_lock, NULL);
	pthread_cond_init(&db->sync_ended, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&db->event_cond, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

void
db_close(struct db *db)
{
	if (!db)
		return;
	for (size_t i = 0; i < db->n_readers; i++)
		db_close(db->readers[i]);
	sqlite3_close(db->checkpointer);
	for (size_t i = 0; i < DB_N_STMTS; i++)
		sqlite3_finalize(db->stmts[i]);
	db_tables_done(db);
	sqlite3_close(db->sql);
	if (db->log_fd >= 0)
		close(db->log_fd);
	json_tokener_free(db->tokener);
	free(db->path);
	free(db->failure);
	pthread_cond_destroy(&db->event_cond);
	pthread_mutex_destroy(&db->event_lock);
	free(db->touched);
	pthread_mutex_destroy(&db->readers_lock);
	pthread_cond_destroy(&db->sync_ended);
	pthread_mutex_destroy(&db->sync_lock);
	pthread_mutex_destroy(&db->lock);
	free(db);
}

static void
cleanup_db(struct db **db)
{
	db_close(*db);
}

/* Nobody asks sqlite how much memory it has, and to keep count takes a lock for each piece. */
static void
configure_sqlite(void)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

struct db *
db_new(const char *path)
{
	struct db *db = smd_calloc(1, sizeof *db);

	locks_init(db);
	db->path = smd_strdup(path);
	db->log_fd = -1;
	db->tokener = json_tokener_new_ex(API_DEPTH_MAX);
	return db;
}

int
db_open_with(const char *path, const struct api_class *const *api, const struct db_step *steps,
	     struct db **ret, struct smd_error *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	CLEANUP(cleanup_db) struct db *db = db_new(path);
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;

	db->api = api;
	pthread_once(&once, configure_sqlite);
	if (sqlite3_open_v2(path, &db->sql, flags, NULL) != SQLITE_OK) {
		db_fail(db, "open", err);
		return smd_error_prefix(err, "%s", path);
	}
	sqlite3_busy_timeout(db->sql, DB_BUSY_MS);
	if (sqlite3_exec(db->sql, DB_PRAGMAS, NULL, NULL, NULL) != SQLITE_OK) {
		db_fail(db, "write-ahead log", err);
		return smd_error_prefix(err, "%s", path);
	}
	if (db_disk_start(db, err) != 0)
		return smd_error_prefix(err, "%s", path);
	if (db_tables_init(db, api, err) != 0 || db_upgrade(db, path, steps, err) != 0 ||
	    db_tables_check(db, err) != 0 || db_events_init(db, err) != 0 ||
	    db_disk_sync_directory(db, err) != 0)
		return -1;
	*ret = TAKE_PTR(db);
	return 0;
}

int
db_open(const char *path, struct db **ret, struct smd_error *err)
{
	return db_open_with(path, api_classes, db_steps, ret, err);
}

/* ---- Small change -------------------------------------------------------------- */

char *
db_ref_of(const uint8_t uuid[16])
{
	return smd_asprintf("OpaqueRef:%s", smd_uuid_from_bytes(uuid).text);
}

char *
db_new_ref(void)
{
	uint8_t uuid[16];

	smd_uuid_new_bytes(uuid);
	return db_ref_of(uuid);
}

char *
db_now(void)
{
	time_t now = time(NULL);
	struct tm tm;
	char text[32];

	gmtime_r(&now, &tm);
	strftime(text, sizeof text, "%Y%m%dT%H:%M:%SZ", &tm);
	return smd_strdup(text);
}
