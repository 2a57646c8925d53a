/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The database of objects: one table per stored class of the API, one column
 * per stored field, sqlite3 in WAL mode. Every row carries created_gen and
 * modified_gen of one monotone generation; deletions go to a bounded log. That
 * is all event.from needs. A change and its event are one transaction.
 *
 * Records and values are JSON in schema/api.h's normal form. Derived fields
 * (SR.VDIs) are answered from the rows that point here; changing such a pointer
 * also counts as a change of the object pointed at.
 *
 * Threads: any. There is one connection with one lock; db_begin takes it until
 * commit or rollback, and nests (the outermost decides). Nothing slow is done
 * between them.
 * Errors: HANDLE_INVALID [class, ref] for a row that is gone, UUID_INVALID,
 * INTERNAL_ERROR for the database's own troubles.
 *
 * A sync that fails may have lost what was written, and no later one would say so:
 * whether a commit whose sync failed is on the disk, nobody knows before the
 * database is opened again, which reads it with its checksums and writes all of it
 * anew. Until then nothing can be changed (db_failure), and nobody may act on what
 * the journal says.
 */
#ifndef SMD_DAEMON_DB_H
#define SMD_DAEMON_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/json.h"
#include "schema/api.h"

struct db;

/* Open or make path, make durable what it says, apply the numbered steps of schema/db in one transaction,
 * check the columns against the API's tables. A newer database is refused. */
int db_open(const char *path, struct db **ret, struct smd_error *err);
void db_close(struct db *db);
/* Bring what the log has grown to into the database, where that is much. For one thread, now
 * and then: others read and write meanwhile. */
void db_checkpoint(struct db *db);
/* Take the room that the log is going to need now: a durable commit to a log that grows waits for
 * the file system, too. Right behind db_open; where there is little room, nothing. */
void db_reserve_log(struct db *db);
/* Have the disk begin with what was committed: much of it, which a durable commit is going to
 * follow. */
void db_write_behind(struct db *db);
/* Why nothing can be changed any more: the disk of the database failed. NULL: it did
 * not. For a person, names the place and the reason; it lives as long as db does. */
const char *db_failure(struct db *db);

/* DURABLE: survives power loss when commit returns (the log is synced). RELAXED:
 * survives a kill of the process only (progress and the like). A nested DURABLE
 * makes all durable. A commit that fails has rolled back, or db_failure says that
 * nobody knows. */
enum db_durability { DB_RELAXED, DB_DURABLE };
int db_begin(struct db *db, enum db_durability durability, struct smd_error *err);
int db_commit(struct db *db, struct smd_error *err);
void db_rollback(struct db *db);
/* Commit what went well (result 0), else roll back: returns what the caller should. */
int db_end(struct db *db, int result, struct smd_error *err);

/* Single calls outside a transaction are transactions of their own (DURABLE).
 * record: members by field name, absent ones take the field's default; an absent
 * or empty uuid is made. Where there is a row with its uuid, nothing is changed:
 * UUID_INVALID. What has an API_GOES_WITH field that points to a deleted object is
 * deleted with it. */
int db_insert(struct db *db, const char *cls, const char *ref, json *record,
	      struct smd_error *err);
/* The same in two steps: the first takes no lock. The record is not changed any more; where
 * two rows share a member, one thread makes and frees both. */
struct db_made;
int db_make(struct db *db, const char *cls, const char *ref, json *record,
	    struct db_made **ret, struct smd_error *err);
/* Another row like one that was made, but for some of the fields that this one was told: of a
 * field of numbers the integer, else the text. Takes no lock; its other values are the model's,
 * which must live as long. */
struct db_difference {
	const char *field;
	const char *text;
	int64_t integer;
};
int db_make_like(const struct db_made *model, const char *ref,
		 const struct db_difference *differences, size_t n, struct db_made **ret,
		 struct smd_error *err);
/* Make rows of one class, in order, up to the first whose uuid, or reference, another one has:
 * *ret_n were made. */
int db_insert_made(struct db *db, struct db_made *const *made, size_t n, size_t *ret_n,
		   struct smd_error *err);
void db_made_free(struct db_made *made);
int db_delete(struct db *db, const char *cls, const char *ref, struct smd_error *err);

int db_get_record(struct db *db, const char *cls, const char *ref, json **ret,
		  struct smd_error *err);
int db_get(struct db *db, const char *cls, const char *ref, const char *field, json **ret,
	   struct smd_error *err);
int db_set(struct db *db, const char *cls, const char *ref, const char *field, json *value,
	   struct smd_error *err);
/* The object is changed, though no stored field is: a mod event follows. */
int db_touch(struct db *db, const char *cls, const char *ref, struct smd_error *err);
bool db_exists(struct db *db, const char *cls, const char *ref);

/* Shorthands. get_str gives a string the caller frees, of a STRING, ENUM, REF or
 * DATETIME field; map_get NULL without error where the key is absent. */
int db_get_str(struct db *db, const char *cls, const char *ref, const char *field, char **ret,
	       struct smd_error *err);
int db_get_int(struct db *db, const char *cls, const char *ref, const char *field, int64_t *ret,
	       struct smd_error *err);
int db_get_bool(struct db *db, const char *cls, const char *ref, const char *field, bool *ret,
		struct smd_error *err);
int db_set_str(struct db *db, const char *cls, const char *ref, const char *field,
	       const char *value, struct smd_error *err);
int db_set_int(struct db *db, const char *cls, const char *ref, const char *field, int64_t value,
	       struct smd_error *err);
int db_set_bool(struct db *db, const char *cls, const char *ref, const char *field, bool value,
		struct smd_error *err);
int db_map_get(struct db *db, const char *cls, const char *ref, const char *field,
	       const char *key, char **ret, struct smd_error *err);
int db_map_set(struct db *db, const char *cls, const char *ref, const char *field,
	       const char *key, const char *value, struct smd_error *err);
int db_map_remove(struct db *db, const char *cls, const char *ref, const char *field,
		  const char *key, struct smd_error *err);

/* Refs (a JSON array of strings) of all rows, of those whose field has a value,
 * or of those an expression selects (xapi's get_all_where: INVALID_VALUE). */
int db_all(struct db *db, const char *cls, json **ret, struct smd_error *err);
int db_find(struct db *db, const char *cls, const char *field, const char *value, json **ret,
	    struct smd_error *err);
int db_where(struct db *db, const char *cls, const char *expr, json **ret, struct smd_error *err);
/* Whether db_find would find any. */
int db_has(struct db *db, const char *cls, const char *field, const char *value, bool *ret,
	   struct smd_error *err);
/* What the virtual sizes of an SR's VDIs add up to: at most INT64_MAX. */
int db_sr_size(struct db *db, const char *sr, int64_t *ret, struct smd_error *err);
/* The rows whose REF field points at one object point at another one from now on. */
int db_repoint(struct db *db, const char *cls, const char *field, const char *from_ref,
	       const char *to_ref, struct smd_error *err);
/* {ref: record} of all rows, or of those an expression selects (NULL: all). */
int db_all_records(struct db *db, const char *cls, const char *expr, json **ret,
		   struct smd_error *err);
/* The same rows one by one, of however many, as they are at the first db_rows_next. No
 * writer waits for the reader; it shall not take long all the same: the write-ahead log
 * grows meanwhile. One thread at a time. */
struct db_rows;
int db_rows_open(struct db *db, const char *cls, const char *expr, struct db_rows **ret,
		 struct smd_error *err);
/* 1: a record (a new reference) and its ref, which lives until the next call; 0: no more. */
int db_rows_next(struct db_rows *rows, const char **ret_ref, json **ret_record,
		 struct smd_error *err);
void db_rows_close(struct db_rows *rows);
/* The ref of the one row with this uuid; UUID_INVALID. */
int db_by_uuid(struct db *db, const char *cls, const char *uuid, char **ret,
	       struct smd_error *err);
/* A ref from a ref or a uuid, whichever was given (HTTP handlers take both). */
int db_resolve(struct db *db, const char *cls, const char *ref_or_uuid, char **ret,
	       struct smd_error *err);

/* ---- Events ---- */
uint64_t db_generation(struct db *db);
struct db_change {
	const struct api_class *cls;
	enum { DB_ADDED, DB_MODIFIED, DB_DELETED } what;
	const char *ref;
	json *record;		/* NULL for DELETED; borrowed */
	uint64_t generation;
};
typedef void db_change_fn(void *opaque, const struct db_change *change);
/* Which objects: a class (NULL: all) and a ref in it (NULL: all). */
struct db_interest {
	const struct api_class *cls;
	const char *ref;
};
/* What changed after since, adds first, then mods, then deletions, and up to
 * which generation that is. Made and gone since: nothing. *ret_lost: since is
 * older than the log of deletions reaches, or was never given out. */
int db_changes(struct db *db, uint64_t since, const struct db_interest *interests,
	       size_t n_interests, db_change_fn *each, void *opaque, uint64_t *ret_generation,
	       bool *ret_lost, struct smd_error *err);
/* How many changes of a class's objects there were since the start, those that were undone
 * among them; and the generation of now. In a transaction, with its own up to here: so that
 * who changes objects can tell whether others did meanwhile. */
uint64_t db_count_changes(struct db *db, const char *cls, uint64_t *ret_generation);
/* Number of rows per class: {"vdi": n, …} in lower case, every class with events. */
int db_counts(struct db *db, json **ret, struct smd_error *err);
/* Whether something after since may concern an interest: its class has changed. Looks at
 * memory only. */
bool db_concerned(struct db *db, uint64_t since, const struct db_interest *interests,
		  size_t n_interests);
/* Wait until that is so, db_wake was called more often than *wakes says (which is then
 * brought up to date; 0 to begin with), or the time is over. Returns 1 changed, 0 not. */
int db_wait(struct db *db, uint64_t since, const struct db_interest *interests,
	    size_t n_interests, uint64_t timeout_ms, uint64_t *wakes);
void db_wake(struct db *db);

/* ---- The journal of jobs: rows the API never shows ---- */
int db_job_put(struct db *db, const char *id, json *plan, struct smd_error *err);
int db_job_delete(struct db *db, const char *id, struct smd_error *err);
int db_jobs(struct db *db, json **ret, struct smd_error *err);	/* {id: plan} */
/* NULL: there is none. A new reference. */
int db_job_get(struct db *db, const char *id, json **ret, struct smd_error *err);

/* ---- The tree of disks: which VDI lies on which. For daemon/sr/tree.h alone, which
 * keeps what clients see of it in step. A VDI's place goes with its row. ---- */
int db_tree_set(struct db *db, const char *child, const char *parent,	/* NULL: none */
		struct smd_error *err);
int db_tree_parent(struct db *db, const char *child, char **ret,	/* NULL: none */
		   struct smd_error *err);
int db_tree_children(struct db *db, const char *parent, json **ret, struct smd_error *err);
/* The SR's images that are no client's disk: VDI.managed is false. */
int db_tree_unmanaged(struct db *db, const char *sr, json **ret, struct smd_error *err);

/* ---- Changed block tracking: for daemon/sr/cbt.h alone. "" where there is no parent or
 * no log; a VDI's row goes with it. ---- */
int db_cbt_set(struct db *db, const char *vdi, const char *parent, const char *log,
	       struct smd_error *err);
int db_cbt_clear(struct db *db, const char *vdi, struct smd_error *err);
/* NULL and NULL: the VDI is not tracked. The caller frees. */
int db_cbt_get(struct db *db, const char *vdi, char **ret_parent, char **ret_log,
	       struct smd_error *err);
int db_cbt_children(struct db *db, const char *parent, json **ret, struct smd_error *err);
int db_cbt_logs(struct db *db, const char *sr, json **ret, struct smd_error *err);

/* "OpaqueRef:<random uuid>"; now as "20261121T04:00:00Z". The caller frees. */
char *db_new_ref(void);
/* Of a random uuid that the caller made. Refs have the order of their uuids. */
char *db_ref_of(const uint8_t uuid[16]);
char *db_now(void);

#endif
