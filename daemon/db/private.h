/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of daemon/db share. sqlite3.h is met here and nowhere else.
 */
#ifndef SMD_DAEMON_DB_PRIVATE_H
#define SMD_DAEMON_DB_PRIVATE_H

#include <pthread.h>
#include <sqlite3.h>

#include "daemon/db/db.h"

/* One numbered step of schema/db, embedded at build time. */
struct db_step {
	unsigned number;
	const char *name;
	const char *sql;
};
extern const struct db_step db_steps[];		/* in order; ended by a NULL sql */

#define DB_READERS_MAX 2	/* that are kept */
#define DB_LOG_SIZE 16777216	/* that the log has when it begins anew; see DB_PRAGMAS */

struct db_class;

struct db_field {
	const struct api_field *api;
	/* Stored: its place in the SELECT of a record. */
	int column;
	/* Stored pointer that a derived field mirrors: whose objects it changes. */
	struct db_class *target;
	/* Derived: the rows and their pointer; NULL where the API lacks the class. */
	struct db_class *from;
	struct db_field *pointer;
	sqlite3_stmt *get, *set, *find, *find_null, *pairs;
	json *dflt;		/* what a row gets that is not told; NULL: derived */
	char *dflt_text;	/* the same as its column has it; NULL: a number */
};

/* A statement that makes so many rows, and what it was told of each. */
struct db_inserter {
	sqlite3_stmt *stmt;	/* NULL: not prepared yet */
	size_t n_rows;
	uint64_t *told;		/* [row][field]: n_told when it was told another value than the
				 * default; 0: it has the default */
	uint64_t n_told;	/* how often it was told of rows */
};

enum db_class_stmt {
	DB_STMT_DELETE, DB_STMT_TOUCH, DB_STMT_GENERATIONS, DB_STMT_RECORD,
	DB_STMT_REFS, DB_STMT_COUNT, DB_STMT_CHANGES, DB_STMT_CHANGE,
	DB_STMT_DELETIONS, DB_N_CLASS_STMTS
};

struct db_class {
	const struct api_class *api;
	struct db_field *fields;
	size_t n_fields;
	sqlite3_stmt *stmts[DB_N_CLASS_STMTS];
	uint64_t changed;	/* last generation given out to this class; db.lock */
	uint64_t n_changes;	/* … and how many were; db.lock */
	uint64_t published;	/* … and committed; db.event_lock */
	struct db_inserter one, many;	/* db.lock */
	int64_t count;		/* of rows, at generation `counted` */
	uint64_t counted;
};

enum db_stmt {
	DB_STMT_BEGIN, DB_STMT_COMMIT, DB_STMT_ROLLBACK, DB_STMT_SAVEPOINT, DB_STMT_RELEASE,
	DB_STMT_ROLLBACK_TO, DB_STMT_LOG_DELETION, DB_STMT_TRIM_DELETIONS, DB_STMT_META_SET,
	DB_STMT_JOB_PUT, DB_STMT_JOB_DELETE, DB_STMT_JOBS, DB_STMT_JOB_GET, DB_STMT_TREE_SET,
	DB_STMT_TREE_CLEAR, DB_STMT_TREE_PARENT, DB_STMT_TREE_CHILDREN, DB_STMT_TREE_UNMANAGED,
	DB_STMT_CBT_SET, DB_STMT_CBT_CLEAR, DB_STMT_CBT_GET, DB_STMT_CBT_CHILDREN, DB_STMT_CBT_LOGS,
	DB_STMT_SR_SIZE, DB_STMT_SR_GROWS, DB_N_STMTS
};

struct db {
	pthread_mutex_t lock;		/* recursive; held from the outermost begin to its end */
	sqlite3 *sql;
	char *path;
	char *failure;			/* set once, when the disk failed; db_failure */
	int failure_errnum;
	sqlite3_stmt *stmts[DB_N_STMTS];
	struct json_tokener *tokener;
	struct db_class *classes;
	size_t n_classes;
	int depth;			/* of transactions */
	bool durable;			/* the open transaction */
	unsigned n_calls;		/* within a transaction, that are parts of it (db_begin_call) */
	int changes;			/* sqlite's count before the outermost of them */
	int torn;			/* depth of the one with a call that failed half way; 0: none */
	uint64_t generation;		/* the last one given out */
	/* The last one that was pointed at and touched in the open transaction: nobody sees
	 * it between, so that once is enough for all that point at it. */
	const struct db_class *touched_class;	/* NULL: none */
	char *touched;
	uint64_t deletions_lost;	/* up to here the log of deletions was trimmed */
	int64_t n_deletions;

	const struct api_class *const *api;
	pthread_mutex_t readers_lock;	/* guards the two below */
	struct db *readers[DB_READERS_MAX];	/* idle */
	size_t n_readers;

	_Atomic uint64_t commits;	/* that wrote to the log; counted under lock */
	_Atomic int log_pages;		/* after the last of them; 0: few enough */
	sqlite3 *checkpointer;		/* db_checkpoint's own; NULL: not open yet */
	pthread_mutex_t sync_lock;	/* guards what follows; no other is taken with it */
	pthread_cond_t sync_ended;
	uint64_t synced;		/* of commits: those that are on the disk */
	bool syncing;			/* somebody waits for the disk, for all who came before */
	int sync_errnum;		/* of the first one that failed, which is the last */
	int log_fd;			/* the write-ahead log, for its syncs; -1: not open yet */

	pthread_mutex_t event_lock;	/* taken after lock, never before */
	pthread_cond_t event_cond;
	uint64_t published;		/* the last one committed */
	uint64_t n_wakes;
};

/* db.c ------------------------------------------------------------------------- */

/* One without a connection. */
struct db *db_new(const char *path);
/* db_open for tables and steps other than smd's own. */
int db_open_with(const char *path, const struct api_class *const *api,
		 const struct db_step *steps, struct db **ret, struct smd_error *err);
/* A call of its own: DURABLE outside a transaction, a part of it inside. One that fails in
 * there after it has changed something is not undone by itself: the transaction, or the
 * nested one, cannot be committed any more. Within a call no transaction is begun. */
int db_begin_call(struct db *db, struct smd_error *err);
int db_end_call(struct db *db, int result, struct smd_error *err);
/* INTERNAL_ERROR with sqlite's words. A sync that failed is db_disk_fail. Returns -1. */
int db_fail(struct db *db, const char *what, struct smd_error *err);
/* The statement of a slot, prepared at first use, reset and with no bindings. fmt is
 * sqlite3_mprintf's (%w in double quotes: an identifier). NULL: *err is set. */
sqlite3_stmt *db_prepare(struct db *db, sqlite3_stmt **slot, struct smd_error *err,
			 const char *fmt, ...);
/* 1: a row, 0: done, -1. */
int db_step(struct db *db, sqlite3_stmt *stmt, struct smd_error *err);
/* Run a statement that gives no row. */
int db_run(struct db *db, sqlite3_stmt *stmt, struct smd_error *err);
void db_bind_text(sqlite3_stmt *stmt, int n, const char *text);
const char *db_column_text(sqlite3_stmt *stmt, int n);

static inline void
cleanup_stmt(sqlite3_stmt **stmt)
{
	if (*stmt)
		sqlite3_reset(*stmt);
}
/* A statement is reset where its scope ends: one left in the middle of its rows
 * would hold a read transaction open. */
#define DB_STMT CLEANUP(cleanup_stmt) sqlite3_stmt

static inline void
cleanup_db_unlock(struct db **db)
{
	if (*db)
		pthread_mutex_unlock(&(*db)->lock);
}
#define DB_LOCK_SCOPE(db) \
	CLEANUP(cleanup_db_unlock) __attribute__((unused)) struct db *db_lock_scope_ = (db); \
	pthread_mutex_lock(&db_lock_scope_->lock)

/* disk.c ----------------------------------------------------------------------- */

/* A sync failed, with this errno: from now on db_failure. Returns -1. */
int db_disk_fail(struct db *db, int errnum, struct smd_error *err);
/* 0, or -1 with the disk's failure. */
int db_disk_check(struct db *db, struct smd_error *err);
/* Open: what the database says, and what a restart will act on, is on the disk. */
int db_disk_start(struct db *db, struct smd_error *err);
int db_disk_sync_directory(struct db *db, struct smd_error *err);
/* Without the lock: return when so many commits are on the disk. Who comes while another
 * one waits for the disk shares the next sync with all who came then. */
int db_disk_sync_log(struct db *db, uint64_t commits, struct smd_error *err);

/* tables.c --------------------------------------------------------------------- */

int db_tables_init(struct db *db, const struct api_class *const *api, struct smd_error *err);
void db_tables_done(struct db *db);
int db_tables_check(struct db *db, struct smd_error *err);
int db_upgrade(struct db *db, const char *path, const struct db_step *steps,
	       struct smd_error *err);
/* A stored class, a field of it; INTERNAL_ERROR, NULL. */
struct db_class *db_class(struct db *db, const char *name, struct smd_error *err);
struct db_field *db_field(struct db_class *cls, const char *name, struct smd_error *err);
const char *db_column_type(const struct api_type *type);	/* TEXT, INTEGER, REAL */

/* object.c --------------------------------------------------------------------- */

/* What a column is told. */
struct db_value {
	enum { DB_INTEGER, DB_REAL, DB_TEXT } is;
	int64_t integer;
	double real;
	const char *text;
	size_t len;
	char *printed;		/* to be freed; NULL: the text is not its own */
};
static inline void
cleanup_value(struct db_value *value)
{
	free(value->printed);
}
#define CLEANUP_VALUE CLEANUP(cleanup_value)
int db_value(const struct api_field *field, json *value, struct db_value *ret,
	     struct smd_error *err);
int db_bind_value(sqlite3_stmt *stmt, int n, const struct api_field *field,
		  const struct db_value *value, struct smd_error *err);
int db_column(struct db *db, sqlite3_stmt *stmt, int n, const struct api_field *field,
	      json **ret, struct smd_error *err);
/* What a SELECT of records asks for: `ref, "uuid", …` ends up in columns 0, 1, …,
 * n: then the two generations. The caller frees. */
char *db_record_columns(const struct db_class *cls);
int db_created_column(const struct db_class *cls);

/* Inverse fields, looked up one by one until that is slower than all at once. */
struct db_inverses {
	json **all;		/* per field of the class; NULL: not loaded */
	unsigned n_asked;
};
/* The record in the current row of a SELECT of db_record_columns. */
int db_row_record(struct db *db, struct db_class *cls, sqlite3_stmt *stmt,
		  struct db_inverses *inverses, json **ret, struct smd_error *err);

/* The rows an expression can select: one look into an index where it has a column's
 * equality, else all; columns are db_record_columns'. The caller finalizes. */
struct db_where;
sqlite3_stmt *db_where_stmt(struct db *db, struct db_class *cls, const struct db_where *where,
			    struct smd_error *err);

/* insert.c --------------------------------------------------------------------- */

struct db_made_value {
	struct db_field *field;
	struct db_value value;
};

struct db_made {
	struct db_class *cls;
	const char *ref;
	json *record;		/* whose texts the values have; NULL: a model's, and its own */
	size_t n;
	struct db_made_value values[];	/* of the fields that do not take their defaults */
};

#define DB_ROWS_A_STATEMENT 20	/* of many: to begin and end one costs as much as a row */

void db_inserter_done(struct db_inserter *inserter);
/* NULL: its field takes the default. */
const struct db_value *db_made_value(const struct db_made *made, const struct db_field *field);

/* sizes.c ---------------------------------------------------------------------- */

/* These rows were made. Of other classes than VDI: nothing. */
int db_sizes_made(struct db *db, struct db_made *const *made, size_t n, struct smd_error *err);

/* derived.c -------------------------------------------------------------------- */

int db_inverse(struct db *db, struct db_class *cls, struct db_field *field, const char *ref,
	       struct db_inverses *inverses, json **ret, struct smd_error *err);
void db_inverses_done(const struct db_class *cls, struct db_inverses *inverses);
/* A stored pointer had this value or has it now: the object pointed at changed. */
int db_touch_target(struct db *db, struct db_field *field, const char *ref,
		    struct smd_error *err);

/* where.c ---------------------------------------------------------------------- */

int db_where_parse(const char *text, const struct db_class *cls, struct db_where **ret,
		   struct smd_error *err);
void db_where_free(struct db_where *where);
bool db_where_match(const struct db_where *where, const char *ref, json *record);
/* An equality of a text column that every match must meet, for an index. */
bool db_where_equal(const struct db_where *where, const struct db_field **ret_field,
		    const char **ret_text);

/* events.c --------------------------------------------------------------------- */

int db_events_init(struct db *db, struct smd_error *err);
uint64_t db_next_generation(struct db *db, struct db_class *cls);
int db_log_deletion(struct db *db, struct db_class *cls, const char *ref, uint64_t created,
		    struct smd_error *err);
void db_publish(struct db *db);		/* after a commit, under lock */

#endif
