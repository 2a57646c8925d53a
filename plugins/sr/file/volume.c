/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugins/sr/file/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/thread.h"

#define STAMP_SECONDS 2		/* times of a file may be that coarse (NFS, FAT) */

int
file_open_beneath(int dir, const char *name, uint64_t flags, uint64_t mode)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
			   RESOLVE_NO_XDEV,
	};

	return (int)syscall(SYS_openat2, dir, name, &how, sizeof how);
}

bool
file_name_ok(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				  "0123456789._-");

	return len > 0 && len <= FILE_NAME_MAX && name[len] == '\0' && name[0] != '.';
}

static int
check_name(const struct file_sr *sr, const char *name, struct smd_error *err)
{
	if (file_name_ok(name))
		return 0;
	return smd_sr_fail(err, SMD_SR_FAIL_OTHER, EINVAL,
			   "%s: \"%.200s\" is no name for a volume", sr->location, name);
}

/* ENOSPC and its kin have a code of their own, whatever was being done. */
static int
fail_errno(const struct file_sr *sr, const char *name, enum smd_sr_failure failure, int errnum,
	   const char *what, struct smd_error *err)
{
	if (errnum == ENOSPC || errnum == EDQUOT)
		failure = SMD_SR_FAIL_NO_SPACE;
	else if (errnum == EEXIST)
		failure = SMD_SR_FAIL_VOLUME_EXISTS;
	return smd_sr_fail(err, failure, errnum, "%s/%s: cannot %s", sr->location, name, what);
}

int
file_replace(int dir, const char *name, const char *text, size_t len)
{
	CLEANUP_CLOSE int fd = -1;
	char tmp[64];

	snprintf(tmp, sizeof tmp, "%s.tmp", name);
	if (unlinkat(dir, tmp, 0) < 0 && errno != ENOENT)
		return -1;
	fd = file_open_beneath(dir, tmp, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return -1;
	for (size_t done = 0; done < len; ) {
		ssize_t n = write(fd, text + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		done += (size_t)n;
	}
	if (fsync(fd) < 0 || renameat(dir, tmp, dir, name) < 0)
		return -1;
	return fsync(dir);
}

static void
volume_from_stat(struct smd_sr_volume *v, const char *name, const struct stat *st)
{
	v->name = name;
	v->size = (uint64_t)st->st_size;
	v->allocated = (uint64_t)st->st_blocks * 512;
}

/* Whether a change from now on would show as another time. */
static bool
long_ago(const struct timespec *then, time_t now)
{
	return then->tv_sec < now - STAMP_SECONDS;
}

/* printf would take most of a scan that finds nothing new. Returns what follows. */
static char *
put_hex(char *at, uint64_t value, char end)
{
	int digits = 1;

	while (digits < 16 && value >> (4 * digits))
		digits++;
	for (int i = digits; i-- > 0; value >>= 4)
		at[i] = "0123456789abcdef"[value & 0xf];
	at[digits] = end;
	return at + digits + (end != '\0');
}

/* ctime too: nobody sets that one. */
static void
stamp_from_stat(char ret[SMD_SR_STAMP_MAX], const struct stat *st)
{
	const uint64_t parts[] = {
		st->st_ino, (uint64_t)st->st_size, (uint64_t)st->st_mtim.tv_sec,
		(uint64_t)st->st_mtim.tv_nsec, (uint64_t)st->st_ctim.tv_sec,
		(uint64_t)st->st_ctim.tv_nsec,
	};
	struct timespec now;
	char *at = ret;

	_Static_assert(sizeof parts / sizeof parts[0] * 17 <= SMD_SR_STAMP_MAX, "room for all");
	clock_gettime(CLOCK_REALTIME, &now);
	if (long_ago(&st->st_mtim, now.tv_sec) && long_ago(&st->st_ctim, now.tv_sec)) {
		for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
			at = put_hex(at, parts[i], "  . ."[i]);
	}
	*at = '\0';
}

/* ---- Listing -------------------------------------------------------------------- */

/* Who lists: one of the two adds, which differ in what they are told. Nearly all of the time
 * goes to the kernel's answers of what each name is, and it answers two threads at once:
 * each takes some names, looks at them, and tells of them. */
struct listing {
	struct file_sr *sr;
	smd_sr_volume_fn *add;
	smd_sr_stamped_fn *add_stamped;
	bool names_only;		/* where the directory tells what each name is */
	void *opaque;
	pthread_mutex_t read_lock;	/* guards dir */
	DIR *dir;
	pthread_mutex_t add_lock;	/* one call of add at a time; guards what follows */
	bool failed;
	bool untyped;			/* the directory does not tell what all names are */
	struct smd_error *err;
};

/* What a name in the directory is. */
struct entry {
	char name[NAME_MAX + 1];
	unsigned char type;		/* DT_*: as the directory has it */
	bool is_volume;
	struct smd_sr_volume volume;
	char stamp[SMD_SR_STAMP_MAX];
};

#define ENTRIES 64u	/* taken at once; a directory of fewer is not worth a thread */

/* The next ones; fewer than ENTRIES: there are no more. -1 with errno. */
static int
read_entries(struct listing *listing, struct entry *entries)
{
	LOCK_SCOPE(&listing->read_lock);
	int n = 0;

	while (n < (int)ENTRIES) {
		struct dirent *entry;

		errno = 0;
		entry = readdir(listing->dir);
		if (!entry)
			return errno ? -1 : n;
		if (entry->d_name[0] == '.')
			continue;
		memcpy(entries[n].name, entry->d_name, strlen(entry->d_name) + 1);
		entries[n++].type = entry->d_type;
	}
	return n;
}

/* What vanishes meanwhile was not there; other kinds are not ours. A file whose name is
 * none for a volume is for the host to report. */
static void
look_at_entry(const struct listing *listing, struct entry *entry)
{
	bool known = listing->names_only && entry->type != DT_UNKNOWN;
	struct stat st;

	entry->is_volume = known ? entry->type == DT_REG :
			   fstatat(listing->sr->dir, entry->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			   S_ISREG(st.st_mode);
	entry->volume = (struct smd_sr_volume){ .name = entry->name };
	if (entry->is_volume && !listing->names_only)
		volume_from_stat(&entry->volume, entry->name, &st);
	if (entry->is_volume && listing->add_stamped)
		stamp_from_stat(entry->stamp, &st);
}

/* n < 0: they could not be read. Whether to go on. */
static bool
add_entries(struct listing *listing, const struct entry *entries, int n, int errnum)
{
	LOCK_SCOPE(&listing->add_lock);
	int r = 0;

	if (listing->failed)
		return false;
	if (n < 0)
		r = smd_sr_fail(listing->err, SMD_SR_FAIL_SCAN, errnum, "%s: cannot list",
				listing->sr->location);
	for (int i = 0; r == 0 && i < n; i++) {
		const struct entry *e = &entries[i];

		listing->untyped = listing->untyped || e->type == DT_UNKNOWN;
		if (!e->is_volume)
			continue;
		r = listing->add ? listing->add(listing->opaque, &e->volume, listing->err) :
		    listing->add_stamped(listing->opaque, &e->volume, e->stamp, listing->err);
	}
	listing->failed = r != 0;
	return r == 0 && n == (int)ENTRIES;
}

/* Whether there is more. */
static bool
list_some(struct listing *listing)
{
	struct entry entries[ENTRIES];
	int n = read_entries(listing, entries), errnum = errno;

	for (int i = 0; i < n; i++)
		look_at_entry(listing, &entries[i]);
	return add_entries(listing, entries, n, errnum);
}

static void *
list_on(void *opaque)
{
	while (list_some(opaque))
		;
	return NULL;
}

static int
list(struct listing *listing, struct smd_error *err)
{
	int fd = file_open_beneath(listing->sr->dir, ".", O_RDONLY | O_DIRECTORY, 0);
	pthread_t thread;
	bool helped;

	listing->err = err;
	listing->dir = fd < 0 ? NULL : fdopendir(fd);
	if (!listing->dir) {
		smd_sr_fail(err, SMD_SR_FAIL_SCAN, errno, "%s: cannot list",
			    listing->sr->location);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	pthread_mutex_init(&listing->read_lock, NULL);
	pthread_mutex_init(&listing->add_lock, NULL);
	if (list_some(listing)) {
		helped = (!listing->names_only || listing->untyped) &&
			 smd_thread_create_apart(&thread, list_on, listing) == 0;
		list_on(listing);
		if (helped)
			pthread_join(thread, NULL);
	}
	pthread_mutex_destroy(&listing->add_lock);
	pthread_mutex_destroy(&listing->read_lock);
	closedir(listing->dir);
	return listing->failed ? -1 : 0;
}

int
file_scan(void *sr, smd_sr_volume_fn *add, void *opaque, struct smd_error *err)
{
	return list(&(struct listing){ .sr = sr, .add = add, .opaque = opaque }, err);
}

int
file_scan_stamped(void *sr, smd_sr_stamped_fn *add, void *opaque, struct smd_error *err)
{
	return list(&(struct listing){ .sr = sr, .add_stamped = add, .opaque = opaque }, err);
}

int
file_scan_names(void *sr, smd_sr_volume_fn *add, void *opaque, struct smd_error *err)
{
	return list(&(struct listing){ .sr = sr, .add = add, .names_only = true, .opaque = opaque },
		    err);
}

int
file_volume_create(void *opaque, const char *name, uint64_t size, int *ret_fd,
		   struct smd_error *err)
{
	struct file_sr *sr = opaque;
	CLEANUP_CLOSE int fd = -1;

	if (check_name(sr, name, err) < 0)
		return -1;
	if (size > INT64_MAX)
		return smd_sr_fail(err, SMD_SR_FAIL_CREATE_VOLUME, EFBIG, "%s/%s: too large",
				   sr->location, name);
	fd = file_open_beneath(sr->dir, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return fail_errno(sr, name, SMD_SR_FAIL_CREATE_VOLUME, errno, "create", err);
	if (size > 0 && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size) < 0 &&
	    errno != EOPNOTSUPP) {
		int errnum = errno;

		unlinkat(sr->dir, name, 0);
		return fail_errno(sr, name, SMD_SR_FAIL_CREATE_VOLUME, errnum, "reserve room", err);
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int
open_regular(struct file_sr *sr, const char *name, uint32_t flags, int *ret_fd,
	     struct stat *ret_st, struct smd_error *err)
{
	CLEANUP_CLOSE int fd = -1;

	if (check_name(sr, name, err) < 0)
		return -1;
	fd = file_open_beneath(sr->dir, name, flags & SMD_SR_OPEN_WRITE ? O_RDWR : O_RDONLY, 0);
	if (fd < 0)
		return fail_errno(sr, name, SMD_SR_FAIL_VOLUME_UNAVAILABLE, errno, "open", err);
	if (fstat(fd, ret_st) < 0 || !S_ISREG(ret_st->st_mode))
		return smd_sr_fail(err, SMD_SR_FAIL_VOLUME_UNAVAILABLE, 0,
				   "%s/%s: not a regular file", sr->location, name);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int
file_volume_open(void *sr, const char *name, uint32_t flags, int *ret_fd, struct smd_error *err)
{
	struct stat st;

	return open_regular(sr, name, flags, ret_fd, &st, err);
}

int
file_volume_open_stamped(void *sr, const char *name, int *ret_fd, struct smd_sr_volume *ret,
			 char stamp[SMD_SR_STAMP_MAX], struct smd_error *err)
{
	struct stat st;

	if (open_regular(sr, name, 0, ret_fd, &st, err) < 0)
		return -1;
	volume_from_stat(ret, name, &st);
	stamp_from_stat(stamp, &st);
	return 0;
}

int
file_volume_stat(void *opaque, const char *name, struct smd_sr_volume *ret, struct smd_error *err)
{
	struct file_sr *sr = opaque;
	struct stat st;

	if (check_name(sr, name, err) < 0)
		return -1;
	if (fstatat(sr->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail_errno(sr, name, SMD_SR_FAIL_VOLUME_UNAVAILABLE, errno, "look at", err);
	if (!S_ISREG(st.st_mode))
		return smd_sr_fail(err, SMD_SR_FAIL_VOLUME_UNAVAILABLE, 0,
				   "%s/%s: not a regular file", sr->location, name);
	volume_from_stat(ret, name, &st);
	return 0;
}

int
file_volume_stamp(void *opaque, const char *name, char ret[SMD_SR_STAMP_MAX],
		  struct smd_error *err)
{
	struct file_sr *sr = opaque;
	struct stat st;

	if (check_name(sr, name, err) < 0)
		return -1;
	if (fstatat(sr->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail_errno(sr, name, SMD_SR_FAIL_VOLUME_UNAVAILABLE, errno, "look at", err);
	stamp_from_stat(ret, &st);
	return 0;
}

/* A file without a name says what its file system can: there is nothing in it to share. */
int
file_shares(void *opaque, char ret[SMD_SR_SHARES_MAX], struct smd_error *err)
{
	struct file_sr *sr = opaque;
	CLEANUP_CLOSE int fd = openat(sr->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct file_clone_range range = { .src_fd = fd };
	struct stat st;

	(void)err;
	ret[0] = '\0';
	if (fd >= 0 && fstat(fd, &st) == 0 && ioctl(fd, FICLONERANGE, &range) == 0)
		snprintf(ret, SMD_SR_SHARES_MAX, "%jx", (uintmax_t)st.st_dev);
	return 0;
}

int
file_volume_rename_soon(void *opaque, const char *from, const char *to, struct smd_error *err)
{
	struct file_sr *sr = opaque;
	int r;

	if (check_name(sr, from, err) < 0 || check_name(sr, to, err) < 0)
		return -1;
	r = renameat2(sr->dir, from, sr->dir, to, RENAME_NOREPLACE);
	/* File systems without that flag (NFS among them): a link fails where the
	 * name exists, and a crash leaves both names for one file. */
	if (r < 0 && (errno == EINVAL || errno == ENOSYS)) {
		r = linkat(sr->dir, from, sr->dir, to, 0);
		if (r == 0)
			r = unlinkat(sr->dir, from, 0);
	}
	if (r < 0)
		return fail_errno(sr, from, SMD_SR_FAIL_VOLUME_UNAVAILABLE, errno, "rename", err);
	return 0;
}

int
file_sync_names(void *opaque, struct smd_error *err)
{
	struct file_sr *sr = opaque;

	if (fsync(sr->dir) < 0)
		return fail_errno(sr, ".", SMD_SR_FAIL_OTHER, errno, "sync", err);
	return 0;
}

int
file_volume_rename(void *opaque, const char *from, const char *to, struct smd_error *err)
{
	if (file_volume_rename_soon(opaque, from, to, err) < 0)
		return -1;
	return file_sync_names(opaque, err);
}

int
file_volume_delete(void *opaque, const char *name, struct smd_error *err)
{
	struct file_sr *sr = opaque;

	if (check_name(sr, name, err) < 0)
		return -1;
	if (unlinkat(sr->dir, name, 0) < 0) {
		if (errno == ENOENT)
			return 0;
		return fail_errno(sr, name, SMD_SR_FAIL_DELETE_VOLUME, errno, "delete", err);
	}
	if (fsync(sr->dir) < 0)
		return fail_errno(sr, name, SMD_SR_FAIL_DELETE_VOLUME, errno, "sync", err);
	return 0;
}

int
file_records_load(void *opaque, char **ret_text, struct smd_error *err)
{
	struct file_sr *sr = opaque;
	CLEANUP_CLOSE int fd = file_open_beneath(sr->dir, FILE_RECORDS, O_RDONLY, 0);
	CLEANUP_FREE char *text = NULL;
	size_t len = 0;
	struct stat st;

	if (fd < 0 && errno == ENOENT) {
		*ret_text = NULL;
		return 0;
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail_errno(sr, FILE_RECORDS, SMD_SR_FAIL_OTHER, errno, "open", err);
	if (!S_ISREG(st.st_mode) || st.st_size > (off_t)FILE_RECORDS_MAX)
		return smd_sr_fail(err, SMD_SR_FAIL_OTHER, 0, "%s/%s: not a file of at most %u bytes",
				   sr->location, FILE_RECORDS, FILE_RECORDS_MAX);
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return fail_errno(sr, FILE_RECORDS, SMD_SR_FAIL_OTHER, ENOMEM, "read", err);
	while (len < (size_t)st.st_size) {
		ssize_t n = read(fd, text + len, (size_t)st.st_size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail_errno(sr, FILE_RECORDS, SMD_SR_FAIL_OTHER, errno, "read", err);
		if (n == 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	*ret_text = TAKE_PTR(text);
	return 0;
}

int
file_records_save(void *opaque, const char *text, struct smd_error *err)
{
	struct file_sr *sr = opaque;

	if (file_replace(sr->dir, FILE_RECORDS, text, strlen(text)) < 0)
		return fail_errno(sr, FILE_RECORDS, SMD_SR_FAIL_OTHER, errno, "write", err);
	return 0;
}
