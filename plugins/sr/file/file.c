/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugins/sr/file/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"

#define LOCK_TRIES 40		/* of 50 ms: an smd that was killed may still be going */

static int
config_location(const struct smd_sr_config *config, const char **ret, struct smd_error *err)
{
	for (size_t i = 0; i < config->n; i++) {
		if (strcmp(config->keys[i], "location") != 0)
			continue;
		if (config->values[i][0] != '/')
			return smd_sr_fail(err, SMD_SR_FAIL_NO_LOCATION, 0,
					   "device-config location \"%s\" is not an absolute path",
					   config->values[i]);
		*ret = config->values[i];
		return 0;
	}
	return smd_sr_fail(err, SMD_SR_FAIL_NO_LOCATION, 0,
			   "device-config needs location, the directory of the SR");
}

/* Only what may be there before an SR is made: nothing, a new file system's own
 * directory, or what a crash of create left. -1 with errno. */
static int
dir_is_free(int dir_fd, bool *ret)
{
	int fd = file_open_beneath(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	*ret = true;
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    strcmp(entry->d_name, "lost+found") != 0 &&
		    strcmp(entry->d_name, FILE_MARKER ".tmp") != 0)
			*ret = false;
	}
	closedir(dir);
	return 0;
}

/* fsync the directory that holds path, so that path itself survives. */
static int
sync_parent(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	CLEANUP_CLOSE int fd = -1;
	char *slash;

	if (!copy)
		return -1;
	while ((slash = strrchr(copy, '/')) && slash != copy && slash[1] == '\0')
		*slash = '\0';
	slash = strrchr(copy, '/');
	if (slash == copy)
		slash++;
	*slash = '\0';
	fd = open(copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -1 : fsync(fd);
}

static int
file_create(const char *sr_uuid, const struct smd_sr_config *config, struct smd_error *err)
{
	CLEANUP_CLOSE int dir = -1;
	char text[FILE_UUID_LEN + 2];
	const char *location;
	bool is_free;

	if (config_location(config, &location, err) < 0)
		return -1;
	if (mkdir(location, 0700) == 0) {
		if (sync_parent(location) < 0)
			return smd_sr_fail(err, SMD_SR_FAIL_CREATE_SR, errno,
					   "%s: cannot sync its parent", location);
	} else if (errno != EEXIST) {
		return smd_sr_fail(err, SMD_SR_FAIL_CREATE_SR, errno, "%s: cannot make it", location);
	}
	dir = open(location, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || dir_is_free(dir, &is_free) < 0)
		return smd_sr_fail(err, SMD_SR_FAIL_CREATE_SR, errno, "%s: cannot open it", location);
	if (!is_free)
		return smd_sr_fail(err, SMD_SR_FAIL_CREATE_SR, 0,
				   "%s: the directory is not empty (SR.introduce takes an SR that is there)",
				   location);
	snprintf(text, sizeof text, "%s\n", sr_uuid);
	if (file_replace(dir, FILE_MARKER, text, strlen(text)) < 0)
		return smd_sr_fail(err, SMD_SR_FAIL_CREATE_SR, errno, "%s: cannot write %s",
				   location, FILE_MARKER);
	return 0;
}

/* The uuid a directory is marked with; "" when it is not an SR. *ret_fd may be
 * NULL. -1 with errno. */
static int
read_marker(int dir, char ret_uuid[FILE_UUID_LEN + 1], int *ret_fd)
{
	CLEANUP_CLOSE int fd = file_open_beneath(dir, FILE_MARKER, O_RDONLY, 0);
	char text[FILE_UUID_LEN + 1];
	ssize_t n;

	ret_uuid[0] = '\0';
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	n = read(fd, text, sizeof text);
	if (n < 0)
		return -1;
	if (n != (ssize_t)sizeof text || text[FILE_UUID_LEN] != '\n')
		return 0;
	memcpy(ret_uuid, text, FILE_UUID_LEN);
	ret_uuid[FILE_UUID_LEN] = '\0';
	if (ret_fd)
		*ret_fd = TAKE_FD(fd);
	return 0;
}

/* 0, or -1 with errno; EWOULDBLOCK: somebody else has the SR. */
static int
lock_marker(int fd)
{
	const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };

	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -1;
		nanosleep(&pause, NULL);
	}
	errno = EWOULDBLOCK;
	return -1;
}

static void
file_detach(void *opaque)
{
	struct file_sr *sr = opaque;

	if (!sr)
		return;
	if (sr->marker >= 0) {
		flock(sr->marker, LOCK_UN);	/* also where a forked process still has it */
		close(sr->marker);
	}
	if (sr->dir >= 0)
		close(sr->dir);
	free(sr->location);
	free(sr);
}

static void
cleanup_sr(struct file_sr **sr)
{
	file_detach(*sr);
}

static int
check_marker(const struct file_sr *sr, const char *sr_uuid, struct smd_error *err)
{
	if (sr->uuid[0] == '\0')
		return smd_sr_fail(err, SMD_SR_FAIL_SR_UNAVAILABLE, 0,
				   "%s: not an SR (no %s); is its file system mounted?",
				   sr->location, FILE_MARKER);
	if (strcmp(sr->uuid, sr_uuid) != 0)
		return smd_sr_fail(err, SMD_SR_FAIL_SR_UNAVAILABLE, 0,
				   "%s: holds the SR %s, not %s", sr->location, sr->uuid, sr_uuid);
	return 0;
}

static int
file_attach(const char *sr_uuid, const struct smd_sr_config *config, void **ret_sr,
	    struct smd_error *err)
{
	CLEANUP(cleanup_sr) struct file_sr *sr = NULL;
	const char *location;

	if (config_location(config, &location, err) < 0)
		return -1;
	sr = calloc(1, sizeof *sr);
	if (!sr)
		return smd_sr_fail(err, SMD_SR_FAIL_SR_UNAVAILABLE, ENOMEM, "%s", location);
	sr->marker = -1;
	sr->location = strdup(location);
	sr->dir = open(location, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!sr->location || sr->dir < 0 || read_marker(sr->dir, sr->uuid, &sr->marker) < 0)
		return smd_sr_fail(err, SMD_SR_FAIL_SR_UNAVAILABLE, errno, "%s: cannot open it",
				   location);
	if (check_marker(sr, sr_uuid, err) < 0)
		return -1;
	if (lock_marker(sr->marker) < 0)
		return smd_sr_fail(err, errno == EWOULDBLOCK ? SMD_SR_FAIL_IN_USE
				   : SMD_SR_FAIL_SR_UNAVAILABLE, errno,
				   "%s: another daemon has this SR attached", location);
	*ret_sr = TAKE_PTR(sr);
	return 0;
}

static int
refuse_volume(void *opaque, const struct smd_sr_volume *volume, struct smd_error *err)
{
	const struct file_sr *sr = opaque;

	return smd_sr_fail(err, SMD_SR_FAIL_NOT_EMPTY, 0, "%s: holds %s", sr->location,
			   volume->name);
}

/* The marker goes last of what is ours; the directory stays where it is a mount
 * point or holds somebody else's files. */
static int
file_destroy(void *opaque, struct smd_error *err)
{
	struct file_sr *sr = opaque;

	if (file_scan(sr, refuse_volume, sr, err) < 0)
		return -1;
	unlinkat(sr->dir, FILE_RECORDS ".tmp", 0);
	unlinkat(sr->dir, FILE_MARKER ".tmp", 0);
	if ((unlinkat(sr->dir, FILE_RECORDS, 0) < 0 && errno != ENOENT) ||
	    (unlinkat(sr->dir, FILE_MARKER, 0) < 0 && errno != ENOENT) || fsync(sr->dir) < 0)
		return smd_sr_fail(err, SMD_SR_FAIL_DELETE_SR, errno, "%s: cannot clear it",
				   sr->location);
	if (rmdir(sr->location) == 0)
		sync_parent(sr->location);
	file_detach(sr);
	return 0;
}

static int
file_stat(void *opaque, struct smd_sr_stat *ret, struct smd_error *err)
{
	struct file_sr *sr = opaque;
	struct statvfs st;

	if (fstatvfs(sr->dir, &st) < 0)
		return smd_sr_fail(err, SMD_SR_FAIL_SR_UNAVAILABLE, errno, "%s: cannot be measured",
				   sr->location);
	ret->total = (uint64_t)st.f_blocks * st.f_frsize;
	ret->free = (uint64_t)st.f_bavail * st.f_frsize;
	ret->used = (uint64_t)(st.f_blocks - st.f_bfree) * st.f_frsize;
	return 0;
}

/* Report path if it is an SR. */
static int
probe_dir(int dir, const char *path, smd_sr_found_fn *found, void *opaque, struct smd_error *err)
{
	const struct smd_sr_config config = {
		1, (const char *const[]){ "location" }, &path,
	};
	char uuid[FILE_UUID_LEN + 1];
	struct statvfs st;

	if (read_marker(dir, uuid, NULL) < 0 || uuid[0] == '\0' || fstatvfs(dir, &st) < 0)
		return 0;
	return found(opaque, uuid, &config, (uint64_t)st.f_blocks * st.f_frsize, err);
}

/* location itself, and the directories in it. */
static int
file_probe(const struct smd_sr_config *config, smd_sr_found_fn *found, void *opaque,
	   struct smd_error *err)
{
	CLEANUP_CLOSE int fd = -1;
	const char *location;
	DIR *dir;
	int r;

	if (config_location(config, &location, err) < 0)
		return -1;
	fd = open(location, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return smd_sr_fail(err, SMD_SR_FAIL_SR_UNAVAILABLE, errno, "%s: cannot open it",
				   location);
	r = probe_dir(fd, location, found, opaque, err);
	dir = r < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return r;
	TAKE_FD(fd);
	while (r == 0) {
		struct dirent *entry = readdir(dir);
		CLEANUP_CLOSE int sub = -1;
		char path[4096];

		if (!entry)
			break;
		if (entry->d_name[0] == '.' ||
		    (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) ||
		    (size_t)snprintf(path, sizeof path, "%s/%s", location, entry->d_name) >=
		    sizeof path)
			continue;
		sub = file_open_beneath(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY, 0);
		if (sub >= 0)
			r = probe_dir(sub, path, found, opaque, err);
	}
	closedir(dir);
	return r;
}

static const struct smd_sr_key file_keys[] = {
	{ "location", "absolute path of the directory of the SR", true },
	{ NULL, NULL, false },
};

static const char *const file_features[] = {
	"SR_CREATE", "SR_DELETE", "SR_ATTACH", "SR_DETACH", "SR_PROBE", "SR_SCAN", "SR_UPDATE",
	"VDI_CREATE", "VDI_DELETE", "VDI_INTRODUCE", "VDI_RESIZE", "VDI_UPDATE",
	"VDI_SNAPSHOT", "VDI_CLONE", "VDI_REVERT", "VDI_CONFIG_CBT",
	"LARGE_VDI", "THIN_PROVISIONING", NULL,
};

/* Any format that is loaded. */
static const char *const file_formats[] = { NULL };

static const struct smd_sr_driver file_driver = {
	.type = "file",
	.name_label = "Directory",
	.name_description = "SR in a directory of a file system: each volume is a file",
	.vendor = "smd",
	.copyright = "The smd authors; BSD-2-Clause",
	.version = "1.0",
	.required_api_version = "1.0",
	.configuration = file_keys,
	.features = file_features,
	.formats = file_formats,
	.caps = SMD_SR_CAN_GROW,
	.max_volume_size = 0,
	.create = file_create,
	.attach = file_attach,
	.detach = file_detach,
	.destroy = file_destroy,
	.stat = file_stat,
	.scan = file_scan,
	.probe = file_probe,
	.volume_create = file_volume_create,
	.volume_open = file_volume_open,
	.volume_stat = file_volume_stat,
	.volume_rename = file_volume_rename,
	.volume_delete = file_volume_delete,
	.records_load = file_records_load,
	.records_save = file_records_save,
	.volume_stamp = file_volume_stamp,
	.shares = file_shares,
	.scan_stamped = file_scan_stamped,
	.volume_rename_soon = file_volume_rename_soon,
	.sync_names = file_sync_names,
	.scan_names = file_scan_names,
	.volume_open_stamped = file_volume_open_stamped,
};
SMD_REGISTER_SR(file_driver)
