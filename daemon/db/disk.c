/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The database and its disk: syncs, checkpoints, and what happens when one fails.
 *
 * After a failed sync the kernel takes the pages for clean, whether they reached
 * the disk or not. A second sync then succeeds and proves nothing, and a page that
 * is read again may be an old one, which sqlite would not notice: it checks the
 * log's checksums only when it opens the database. So the first failure is the
 * last: no change, no checkpoint, not even the one sqlite makes when it closes. The
 * next open reads the log with its checksums, up to what is really there, and the
 * full checkpoint below writes every page of it afresh before anybody acts on it.
 */
#include "daemon/db/private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mem.h"

/* Of log: four times sqlite's own, which would be reached by each twentieth change of a
 * chain, or by 1000 new rows; the log's limit (DB_PRAGMAS). */
#define CHECKPOINT_PAGES 4000
/* Whoever commits waits for it then: they write faster than others can follow. */
#define CHECKPOINT_PAGES_MAX (4 * CHECKPOINT_PAGES)
/* Where the disk has less its log takes what it needs. */
#define LOG_ROOM_MIN (16 * DB_LOG_SIZE)

/* The directory of the database; the caller frees. */
static char *
directory_of(struct db *db)
{
	const char *slash = strrchr(db->path, '/');

	if (!slash)
		return smd_strdup(".");
	return smd_strndup(db->path, slash == db->path ? 1 : (size_t)(slash - db->path));
}

int
db_disk_fail(struct db *db, int errnum, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);

	if (!db->failure) {
		CLEANUP_FREE char *dir = directory_of(db);

		db->failure_errnum = errnum ? errnum : EIO;
		db->failure = smd_asprintf("the disk under the database in %s failed: %s; nothing"
					   " can be changed before smd has been started again",
					   dir, strerror(db->failure_errnum));
		sqlite3_db_config(db->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	}
	return db_disk_check(db, err);
}

int
db_disk_check(struct db *db, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);

	if (!db->failure)
		return 0;
	smd_fail_INTERNAL_ERROR(err, db->failure, "%s", db->failure);
	err->errnum = db->failure_errnum;
	return -1;
}

const char *
db_failure(struct db *db)
{
	DB_LOCK_SCOPE(db);

	return db->failure;
}

static int
last_errno(sqlite3_file *file)
{
	int errnum = 0;

	file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &errnum);
	return errnum;
}

/* One of the connection's files: SQLITE_FCNTL_FILE_POINTER, …_JOURNAL_POINTER. */
static int
sync_file(struct db *db, int which, struct smd_error *err)
{
	sqlite3_file *file = NULL;

	if (sqlite3_file_control(db->sql, "main", which, &file) != SQLITE_OK)
		return db_fail(db, "its files", err);
	if (!file || !file->pMethods)
		return 0;
	if (file->pMethods->xSync(file, SQLITE_SYNC_NORMAL) != SQLITE_OK)
		return db_disk_fail(db, last_errno(file), err);
	return 0;
}

/* ---- The log ---- */

static int
write_zeroes(int fd, off_t from, off_t to)
{
	static const char zeroes[65536];

	while (from < to) {
		size_t n = to - from < (off_t)sizeof zeroes ? (size_t)(to - from) : sizeof zeroes;
		ssize_t written = pwrite(fd, zeroes, n, from);

		if (written <= 0)
			return -1;
		from += written;
	}
	return 0;
}

/* What lies behind the last commit is no frame of sqlite's, whatever it is. Blocks that are only
 * allocated would not do: the file system notes each one's first write. */
void
db_reserve_log(struct db *db)
{
	CLEANUP_FREE char *path = smd_asprintf("%s-wal", db->path);
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	struct statvfs room;
	struct stat st;
	DB_LOCK_SCOPE(db);

	if (fd < 0 || fstat(fd, &st) < 0 || fstatvfs(fd, &room) < 0 ||
	    room.f_bavail < LOG_ROOM_MIN / room.f_frsize)
		return;
	if (write_zeroes(fd, st.st_size, DB_LOG_SIZE) < 0 && ftruncate(fd, st.st_size) < 0)
		smd_log(SMD_LOG_DEBUG, "database: room for its log: %s", strerror(errno));
}

/* A descriptor of our own: sqlite's belongs to whoever holds the lock. sync_lock. */
static int
open_log(struct db *db)
{
	CLEANUP_FREE char *path = NULL;

	if (db->log_fd >= 0)
		return 0;
	path = smd_asprintf("%s-wal", db->path);
	db->log_fd = open(path, O_RDONLY | O_CLOEXEC);
	return db->log_fd >= 0 ? 0 : -1;
}

/* 0, or the errno. sync_lock, which is let go meanwhile. */
static int
sync_for_all(struct db *db)
{
	uint64_t upto;
	int errnum;

	if (open_log(db) < 0)
		return errno;
	db->syncing = true;
	pthread_mutex_unlock(&db->sync_lock);
	upto = db->commits;
	errnum = fdatasync(db->log_fd) == 0 ? 0 : errno;
	pthread_mutex_lock(&db->sync_lock);
	db->syncing = false;
	if (errnum == 0)
		db->synced = upto;
	pthread_cond_broadcast(&db->sync_ended);
	return errnum;
}

/* That it is written proves nothing: whose sync comes says whether it was. */
void
db_write_behind(struct db *db)
{
	int fd;

	{
		LOCK_SCOPE(&db->sync_lock);
		fd = open_log(db) < 0 ? -1 : db->log_fd;
	}
	if (fd >= 0)
		sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

/* The connection is at synchronous=NORMAL: a commit appends to the log and does not
 * wait for the disk, which a kill of the process survives. A durable one syncs the
 * log here, as synchronous=FULL would have done; sqlite lets nobody change that
 * setting inside a transaction, and a nested begin may ask for it late. */
int
db_disk_sync_log(struct db *db, uint64_t commits, struct smd_error *err)
{
	int errnum;

	pthread_mutex_lock(&db->sync_lock);
	while (db->synced < commits && db->sync_errnum == 0) {
		if (!db->syncing)
			db->sync_errnum = sync_for_all(db);
		else
			pthread_cond_wait(&db->sync_ended, &db->sync_lock);
	}
	errnum = db->synced < commits ? db->sync_errnum : 0;
	pthread_mutex_unlock(&db->sync_lock);
	return errnum ? db_disk_fail(db, errnum, err) : 0;
}

/* By the database's connection or one of its own. Nobody's call fails with it, but the
 * database does where the disk did. */
static void
checkpoint(struct db *db, sqlite3 *sql)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (sqlite3_wal_checkpoint_v2(sql, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) ==
		    SQLITE_OK ||
	    sqlite3_errcode(sql) == SQLITE_BUSY)
		return;
	smd_log(SMD_LOG_DEBUG, "database: checkpoint: %s", sqlite3_errmsg(sql));
	if (sqlite3_extended_errcode(sql) == SQLITE_IOERR_FSYNC)
		db_disk_fail(db, sqlite3_system_errno(sql), &err);
}

/* A commit has written to the log. In place of sqlite's automatic checkpoint, which tells
 * nobody that a sync failed. */
static int
on_commit(void *opaque, sqlite3 *sql, const char *name, int n_pages)
{
	struct db *db = opaque;

	(void)name;
	db->commits++;
	db->log_pages = n_pages;
	if (n_pages >= CHECKPOINT_PAGES_MAX && !db->failure)
		checkpoint(db, sql);
	return SQLITE_OK;
}

/* It knows of the log once it has read something; not even at its end does it act by
 * itself. */
static bool
open_checkpointer(struct db *db)
{
	if (db->checkpointer)
		return true;
	if (sqlite3_open_v2(db->path, &db->checkpointer,
			    SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK &&
	    sqlite3_extended_result_codes(db->checkpointer, 1) == SQLITE_OK &&
	    sqlite3_db_config(db->checkpointer, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) ==
	    SQLITE_OK &&
	    sqlite3_exec(db->checkpointer, "PRAGMA schema_version", NULL, NULL, NULL) == SQLITE_OK)
		return true;
	smd_log(SMD_LOG_DEBUG, "database: a connection for checkpoints: %s",
		sqlite3_errmsg(db->checkpointer));
	sqlite3_close(db->checkpointer);
	db->checkpointer = NULL;
	return false;
}

void
db_checkpoint(struct db *db)
{
	if (db->log_pages < CHECKPOINT_PAGES || db_failure(db) || !open_checkpointer(db))
		return;
	db->log_pages = 0;	/* until somebody adds to it */
	checkpoint(db, db->checkpointer);
}

int
db_disk_start(struct db *db, struct smd_error *err)
{
	sqlite3_extended_result_codes(db->sql, 1);
	sqlite3_wal_hook(db->sql, on_commit, db);
	if (sqlite3_wal_checkpoint_v2(db->sql, "main", SQLITE_CHECKPOINT_FULL, NULL, NULL) !=
	    SQLITE_OK)
		return db_fail(db, "checkpoint", err);
	return sync_file(db, SQLITE_FCNTL_FILE_POINTER, err);
}

int
db_disk_sync_directory(struct db *db, struct smd_error *err)
{
	CLEANUP_FREE char *dir = directory_of(db);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd >= 0 ? fsync(fd) : -1, errnum = errno;

	if (fd >= 0 && rc != 0 && errnum == EINVAL)
		rc = 0;		/* a filesystem that syncs no directories */
	if (fd >= 0)
		close(fd);
	return rc == 0 ? 0 : db_disk_fail(db, errnum, err);
}
