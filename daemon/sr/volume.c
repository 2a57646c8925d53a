/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "common/checked.h"
#include "common/lock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/collect.h"
#include "daemon/job/job.h"
#include "daemon/job/stall.h"
#include "daemon/sr/settle.h"
#include "daemon/sr/tree.h"

#define OPEN_TRIES 5
#define LOCK_RETRIES 25
#define LOCK_RETRY_NS 20000000	/* half a second in all */
#define TAKE_RETRIES 1500	/* half a minute */

/* ---- A VDI's volume ---- */

/* The name is what the volume was made as; the key is for volumes that were
 * introduced under another name. */
static char *
format_of_record(json *record)
{
	const char *dot = strrchr(smd_json_str(record, "location", ""), '.');

	if (dot && dot[1])
		return smd_strdup(dot + 1);
	return smd_strdup(smd_json_str(smd_json_member(record, "sm_config"), "image-format", ""));
}

/* record: taken over, in the place of an older one. */
static void
disk_set_record(struct disk *disk, json *record)
{
	json_object_put(disk->record);
	free(disk->format_text);
	disk->record = record;
	disk->uuid = smd_json_str(record, "uuid", "");
	disk->location = smd_json_str(record, "location", "");
	disk->virtual_size = (uint64_t)smd_json_int(record, "virtual_size", 0);
	disk->format_text = format_of_record(record);
	disk->format = disk->format_text;
}

static int
find(struct daemon *daemon, const char *vdi_ref, bool any, struct disk *ret, struct smd_error *err)
{
	struct disk disk CLEANUP_DISK = DISK_INIT;
	json *record;

	if (db_get_record(daemon->db, "VDI", vdi_ref, &record, err) < 0)
		return -1;
	disk.vdi_ref = smd_strdup(vdi_ref);
	disk_set_record(&disk, record);
	if (!any && !smd_json_bool(disk.record, "managed", true))
		return smd_fail_VDI_NOT_MANAGED(err, vdi_ref, "VDI %s is an internal node of a chain",
						disk.uuid);
	if (sr_use(daemon, smd_json_str(disk.record, "SR", ""), &disk.sr, err) < 0)
		return -1;
	*ret = disk;
	disk = (struct disk)DISK_INIT;
	return 0;
}

int
disk_find(struct daemon *daemon, const char *vdi_ref, struct disk *ret, struct smd_error *err)
{
	return find(daemon, vdi_ref, false, ret, err);
}

int
disk_find_node(struct daemon *daemon, const char *vdi_ref, struct disk *ret,
	       struct smd_error *err)
{
	return find(daemon, vdi_ref, true, ret, err);
}

static int
fail_open(struct disk *disk, const char *vdi_ref, const char *name, struct smd_error *open_err,
	  struct smd_error *err)
{
	if (open_err->errnum != ENOENT) {
		smd_error_move(err, open_err);
		return smd_error_prefix(err, "VDI %s", disk->uuid);
	}
	return smd_fail_VDI_MISSING(err, sr_ref(disk->sr), vdi_ref,
				    "SR %s has lost %s, %s VDI %s: bring it back, or VDI.forget",
				    sr_uuid(disk->sr), name, strcmp(vdi_ref, disk->vdi_ref) == 0 ?
				    "the volume of" : "which is below", disk->uuid);
}

/* What the collector has is given to us. Somebody else's lock may be gone in a moment: a
 * program that had a look, a worker that was killed and whose descriptors the kernel has
 * not closed yet. 0 locked, 1 in use, -1. */
static int
lock(struct daemon *daemon, struct disk *disk, int fd, bool write, const char *name,
     struct smd_error *err)
{
	const struct timespec nap = { 0, LOCK_RETRY_NS };
	const char *task = stall_thread_task();
	struct stall_said *before = NULL;
	int r = smd_image_lock(fd, write, name, err);

	if (r == 1)
		before = stall_says(task, 0, "the lock of image %s, which the collector or another "
				    "program has", name);
	for (int naps = 0; r == 1 && naps < LOCK_RETRIES;) {
		/* It may have gone on with another step meanwhile. */
		if (!collect_yield(daemon, sr_ref(disk->sr), name)) {
			nanosleep(&nap, NULL);
			naps++;
		}
		r = smd_image_lock(fd, write, name, err);
	}
	stall_back(task, before);
	return r;
}

int
volume_open(struct sr *sr, const char *name, uint32_t flags, int *ret_fd, struct smd_error *err)
{
	if (settle_wait(sr, name, err) < 0)
		return -1;
	return sr_get_driver(sr)->volume_open(sr_handle(sr), name, flags, ret_fd, err);
}

int
volume_open_stamped(struct sr *sr, const char *name, int *ret_fd, struct smd_sr_volume *ret,
		    char stamp[SMD_SR_STAMP_MAX], struct smd_error *err)
{
	if (settle_wait(sr, name, err) < 0)
		return -1;
	return sr_get_driver(sr)->volume_open_stamped(sr_handle(sr), name, ret_fd, ret, stamp, err);
}

/* One layer: opened and locked. */
static int
layer_open(struct daemon *daemon, struct disk *disk, const struct disk_layer *layer, bool write,
	   const char *operation, int *ret_fd, struct smd_error *err)
{
	struct smd_error open_err CLEANUP_ERROR = SMD_ERROR_INIT;
	int r;

	if (!storage_format(daemon, layer->format)) {
		CLEANUP_FREE char *loaded = storage_format_names(daemon);

		return smd_fail_FORMAT_UNKNOWN(err, layer->format, loaded,
					       "VDI %s is in the format %s, which no loaded module "
					       "reads (loaded: %s)", disk->uuid, layer->format, loaded);
	}
	if (volume_open(disk->sr, layer->name, write ? SMD_SR_OPEN_WRITE : 0, ret_fd, &open_err) < 0)
		return fail_open(disk, layer->vdi_ref, layer->name, &open_err, err);
	r = lock(daemon, disk, *ret_fd, write, layer->name, err);
	if (r == 1)
		return smd_fail_VDI_IN_USE(err, SMD_PARAMS(disk->vdi_ref, operation),
					   "%s of VDI %s is held open by another program: end that "
					   "(lsof of it shows which)", layer->name, disk->uuid);
	return r;
}

/* ---- The chain below ---- */

static void
layers_free(struct disk_layer *layers, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (layers[i].fd >= 0) {
			smd_image_unlock(layers[i].fd);
			close(layers[i].fd);
		}
		free(layers[i].vdi_ref);
		free(layers[i].name);
		free(layers[i].format);
	}
	free(layers);
}

void
disk_close_parents(struct disk *disk)
{
	layers_free(TAKE_PTR(disk->parents), disk->n_parents);
	disk->n_parents = 0;
}

static void
disk_close(struct disk *disk)
{
	if (disk->fd >= 0) {
		smd_image_unlock(disk->fd);
		close(disk->fd);
	}
	disk->fd = -1;
	disk_close_parents(disk);
}

static int
load_parent(struct db *db, struct disk *disk, const char *ref, struct smd_error *err)
{
	struct disk_layer *layer = &disk->parents[disk->n_parents];
	CLEANUP_JSON json *record = NULL;

	if (!db_exists(db, "VDI", ref))
		return smd_fail_VDI_MISSING(err, sr_ref(disk->sr), ref, "SR %s has lost an image below "
					    "VDI %s", sr_uuid(disk->sr), disk->uuid);
	if (db_get_record(db, "VDI", ref, &record, err) < 0)
		return -1;
	layer->vdi_ref = smd_strdup(ref);
	layer->name = smd_strdup(smd_json_str(record, "location", ""));
	layer->format = format_of_record(record);
	layer->fd = -1;
	disk->n_parents++;
	return 0;
}

/* The disk's row and its parents', as they are at one moment. */
static int
load_in_transaction(struct db *db, struct disk *disk, struct smd_error *err)
{
	CLEANUP_JSON json *chain = NULL;
	json *record;
	size_t n;

	if (db_get_record(db, "VDI", disk->vdi_ref, &record, err) < 0)
		return -1;
	disk_set_record(disk, record);
	if (tree_chain(db, disk->vdi_ref, &chain, err) < 0)
		return -1;
	n = json_object_array_length(chain);
	disk->parents = smd_calloc(n, sizeof *disk->parents);
	for (size_t i = 1; i < n; i++) {
		if (load_parent(db, disk, json_object_get_string(json_object_array_get_idx(chain, i)),
				err) < 0)
			return -1;
	}
	return 0;
}

static int
disk_load(struct daemon *daemon, struct disk *disk, struct smd_error *err)
{
	int r;

	disk_close(disk);
	if (db_begin(daemon->db, DB_RELAXED, err) < 0)
		return -1;
	r = load_in_transaction(daemon->db, disk, err);
	db_rollback(daemon->db);
	return r;
}

/* Whether the rows name other volumes by now than those of the disk. */
static bool
disk_moved(struct daemon *daemon, struct disk *disk)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct disk now CLEANUP_DISK = DISK_INIT;
	bool same;

	if (disk_find_node(daemon, disk->vdi_ref, &now, &err) < 0 || disk_load(daemon, &now, &err) < 0)
		return true;
	same = strcmp(now.location, disk->location) == 0 && now.n_parents == disk->n_parents;
	for (size_t i = 0; same && i < now.n_parents; i++)
		same = strcmp(now.parents[i].name, disk->parents[i].name) == 0;
	return !same;
}

static int
check_childless(struct daemon *daemon, struct disk *disk, const char *operation,
		struct smd_error *err)
{
	bool has;

	if (tree_has_children(daemon->db, disk->vdi_ref, &has, err) < 0)
		return -1;
	if (!has)
		return 0;
	return smd_fail_VDI_IN_USE(err, SMD_PARAMS(disk->vdi_ref, operation),
				   "other VDIs lie on VDI %s: it may not change, but VDI.copy and "
				   "VDI.clone make one that may", disk->uuid);
}

static int
open_layers(struct daemon *daemon, struct disk *disk, bool write, const char *operation,
	    struct smd_error *err)
{
	struct disk_layer leaf = { disk->vdi_ref, (char *)disk->location, disk->format_text, -1 };

	if (layer_open(daemon, disk, &leaf, write, operation, &disk->fd, err) < 0)
		return -1;
	for (size_t i = 0; i < disk->n_parents; i++) {
		struct disk_layer *layer = &disk->parents[i];

		if (layer_open(daemon, disk, layer, false, operation, &layer->fd, err) < 0)
			return -1;
	}
	return 0;
}

int
disk_open(struct daemon *daemon, struct disk *disk, bool write, const char *operation,
	  struct smd_error *err)
{
	/* The chain may become another between the look at the rows and the last
	 * lock; under the locks it does not. */
	for (int tries = 0; tries < OPEN_TRIES; tries++) {
		smd_error_clear(err);
		if (disk_load(daemon, disk, err) < 0)
			return -1;
		if (open_layers(daemon, disk, write, operation, err) == 0 &&
		    !disk_moved(daemon, disk))
			return write ? check_childless(daemon, disk, operation, err) : 0;
		if (err->code && !disk_moved(daemon, disk))
			return -1;
	}
	if (err->code)
		return -1;
	return smd_fail_VDI_IN_USE(err, SMD_PARAMS(disk->vdi_ref, operation),
				   "the chain of VDI %s keeps changing: try again", disk->uuid);
}

/* 0 locked, or not there; 1 in use; -1. */
static int
lock_own(struct daemon *daemon, struct disk *disk, struct smd_error *err)
{
	struct smd_error open_err CLEANUP_ERROR = SMD_ERROR_INIT;

	/* It goes, whatever became of it. */
	settle_end(disk->sr, disk->location);
	if (sr_get_driver(disk->sr)->volume_open(sr_handle(disk->sr), disk->location,
						 SMD_SR_OPEN_WRITE, &disk->fd, &open_err) < 0) {
		if (open_err.errnum == ENOENT)
			return 0;
		smd_error_move(err, &open_err);
		return -1;
	}
	return lock(daemon, disk, disk->fd, true, disk->location, err);
}

/* The row as it is now: whether it names another volume than it did. */
static int
reload_row(struct daemon *daemon, struct disk *disk, bool *ret_moved, struct smd_error *err)
{
	CLEANUP_FREE char *before = smd_strdup(disk->location);
	json *record;

	if (db_get_record(daemon->db, "VDI", disk->vdi_ref, &record, err) < 0)
		return -1;
	disk_set_record(disk, record);
	*ret_moved = strcmp(before, disk->location) != 0;
	return 0;
}

int
disk_lock_alone(struct daemon *daemon, struct disk *disk, const char *operation,
		struct smd_error *err)
{
	bool moved;
	int r;

	/* The collector may have given it another image before we had the lock. */
	for (int tries = 0; tries < OPEN_TRIES; tries++) {
		disk_close(disk);
		r = lock_own(daemon, disk, err);
		if (r < 0 || reload_row(daemon, disk, &moved, err) < 0)
			return -1;
		if (r == 0 && !moved)
			return 0;
		if (!moved)
			break;
	}
	return smd_fail_VDI_IN_USE(err, SMD_PARAMS(disk->vdi_ref, operation),
				   "VDI %s is held open by another program: end that (lsof of %s in "
				   "the SR's directory shows it)", disk->uuid, disk->location);
}

int
disk_give_up(struct daemon *daemon, struct disk *disk, bool has_children, const char *operation,
	     char **ret_base, struct smd_error *err)
{
	CLEANUP_FREE char *location = NULL;
	struct db *db = daemon->db;
	bool has_now;

	*ret_base = NULL;
	if (db_get_str(db, "VDI", disk->vdi_ref, "location", &location, err) < 0 ||
	    tree_has_children(db, disk->vdi_ref, &has_now, err) < 0)
		return -1;
	if (strcmp(location, disk->location) != 0 || (has_now && !has_children))
		return smd_fail_VDI_IN_USE(err, SMD_PARAMS(disk->vdi_ref, operation),
					   "the chain of VDI %s has just changed: try again", disk->uuid);
	if (!has_children)
		return job_unpromise(daemon, sr_uuid(disk->sr), disk->location, err);
	return tree_leave_base(db, disk->vdi_ref, volume_allocated(disk->sr, disk->location), ret_base,
			       err);
}

void
disk_unlock(struct disk *disk)
{
	if (disk->fd >= 0)
		smd_image_unlock(disk->fd);
	for (size_t i = 0; i < disk->n_parents; i++) {
		if (disk->parents[i].fd >= 0)
			smd_image_unlock(disk->parents[i].fd);
	}
}

void
disk_done(struct disk *disk)
{
	disk_close(disk);
	sr_release(disk->sr);
	json_object_put(disk->record);
	free(disk->vdi_ref);
	free(disk->format_text);
	*disk = (struct disk)DISK_INIT;
}

/* ---- Requests to a worker ---- */

int
job_fd(int fd, struct worker_job *job, int *ret, struct smd_error *err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return smd_fail_INTERNAL_ERROR(err, "descriptors", "no descriptor left: %s",
					       strerror(errno));
	*ret = worker_fd(job, copy);
	return 0;
}

int
source_add(json *source, int fd, const char *name, const char *format, struct worker_job *job,
	  struct smd_error *err)
{
	json *layer;
	int number = -1;

	if (job_fd(fd, job, &number, err) < 0)
		return -1;
	layer = json_object_new_object();
	smd_json_set_int(layer, "fd", number);
	smd_json_set_str(layer, "name", name);
	smd_json_set_str(layer, "format", format);
	json_object_array_add(smd_json_member(source, "layers"), layer);
	return 0;
}

json *
source_of_fd(int fd, const char *name, const char *format, bool write, bool foreign,
	     struct worker_job *job, struct smd_error *err)
{
	CLEANUP_JSON json *source = json_object_new_object();

	smd_json_set(source, "layers", json_object_new_array());
	smd_json_set_bool(source, "write", write);
	smd_json_set_bool(source, "foreign", foreign);
	if (source_add(source, fd, name, format, job, err) < 0)
		return NULL;
	return TAKE_PTR(source);
}

json *
disk_source(struct disk *disk, struct worker_job *job, bool write, struct smd_error *err)
{
	CLEANUP_JSON json *source = source_of_fd(disk->fd, disk->location, disk->format, write, false,
						 job, err);

	for (size_t i = 0; source && i < disk->n_parents; i++) {
		const struct disk_layer *layer = &disk->parents[i];

		if (source_add(source, layer->fd, layer->name, layer->format, job, err) < 0)
			return NULL;
	}
	return TAKE_PTR(source);
}

json *
target_of_fd(int fd, const char *name, const char *format, uint64_t size,
	     struct worker_job *job, struct smd_error *err)
{
	json *target;
	int number = -1;

	if (fd >= 0 && job_fd(fd, job, &number, err) < 0)
		return NULL;
	target = json_object_new_object();
	if (number >= 0)
		smd_json_set_int(target, "fd", number);
	smd_json_set_str(target, "name", name);
	smd_json_set_str(target, "format", format);
	smd_json_set_int(target, "size", (int64_t)size);
	smd_json_set(target, "options", json_object_new_object());
	return target;
}

int
volume_info(struct daemon *daemon, struct sr *sr, const char *name, const char *format,
	    json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .urgent = true,
				  .seconds = WORKER_QUESTION_SECONDS };
	CLEANUP_CLOSE int fd = -1;
	json *source;

	if (volume_open(sr, name, 0, &fd, err) < 0)
		return -1;
	source = source_of_fd(fd, name, format, false, false, &job, err);
	if (!source)
		return -1;
	smd_json_set_str(request, "op", "info");
	smd_json_set(request, "source", source);
	return worker_run(daemon, &job, ret, err);
}

bool
volume_name_parse(const char *name, struct smd_uuid_text *ret_uuid, const char **ret_format)
{
	if (strlen(name) < SMD_UUID_LEN + 2 || name[SMD_UUID_LEN] != '.')
		return false;
	memcpy(ret_uuid->text, name, SMD_UUID_LEN);
	ret_uuid->text[SMD_UUID_LEN] = '\0';
	*ret_format = name + SMD_UUID_LEN + 1;
	return smd_uuid_ok(ret_uuid->text) && !strchr(*ret_format, '.');
}

bool
volume_is_temporary(const char *name)
{
	struct smd_uuid_text uuid;
	const char *format;

	return strncmp(name, VOLUME_TMP_PREFIX, strlen(VOLUME_TMP_PREFIX)) == 0 &&
	       volume_name_parse(name + strlen(VOLUME_TMP_PREFIX), &uuid, &format);
}

int
volume_has_row(struct daemon *daemon, struct sr *sr, const char *name, bool *ret,
	       struct smd_error *err)
{
	struct db *db = daemon->db;
	CLEANUP_JSON json *rows = NULL;

	*ret = false;
	if (db_find(db, "VDI", "location", name, &rows, err) < 0)
		return -1;
	for (size_t i = 0; !*ret && i < json_object_array_length(rows); i++) {
		CLEANUP_FREE char *its_sr = NULL;

		if (db_get_str(db, "VDI", json_object_get_string(json_object_array_get_idx(rows, i)),
			       "SR", &its_sr, err) < 0)
			return -1;
		*ret = strcmp(its_sr, sr_ref(sr)) == 0;
	}
	return 0;
}

/* Another SR may have one there, too. */
static int
check_location(struct daemon *daemon, struct sr *sr, const char *location, struct smd_error *err)
{
	bool taken;

	if (volume_has_row(daemon, sr, location, &taken, err) < 0)
		return -1;
	if (!taken)
		return 0;
	return smd_fail_LOCATION_NOT_UNIQUE(err, sr_ref(sr), location,
					    "the SR has a VDI at %s already", location);
}

int
volume_check_unclaimed(struct daemon *daemon, struct sr *sr, const char *location,
		       const char *uuid, struct smd_error *err)
{
	bool taken;

	if (volume_is_temporary(location) || job_has_volume(daemon->jobs, sr_uuid(sr), location))
		return smd_fail_LOCATION_NOT_UNIQUE(err, sr_ref(sr), location,
						    "%s is of a job that is under way", location);
	if (db_has(daemon->db, "VDI", "location", location, &taken, err) < 0 ||
	    (taken && check_location(daemon, sr, location, err) < 0) ||
	    db_has(daemon->db, "VDI", "uuid", uuid, &taken, err) < 0)
		return -1;
	if (taken)
		return smd_fail_UUID_INVALID(err, "VDI", uuid, "there is a VDI %s already", uuid);
	return 0;
}

int
volume_introduce(struct daemon *daemon, struct sr *sr, const char *ref, json *row,
		 struct smd_error *err)
{
	int r;

	if (db_begin(daemon->db, DB_DURABLE, err) < 0)
		return -1;
	r = volume_check_unclaimed(daemon, sr, smd_json_str(row, "location", ""),
				   smd_json_str(row, "uuid", ""), err);
	if (r == 0)
		r = db_insert(daemon->db, "VDI", ref, row, err);
	return db_end(daemon->db, r, err);
}

struct reaping {
	struct jobs *jobs;
	struct sr *sr;
	size_t n;
	char **names;
};

static int
reap_note(void *opaque, const struct smd_sr_volume *volume, struct smd_error *err)
{
	struct reaping *reaping = opaque;

	(void)err;
	if (!volume_is_temporary(volume->name) ||
	    job_has_volume(reaping->jobs, sr_uuid(reaping->sr), volume->name))
		return 0;
	reaping->names = smd_reallocarray(reaping->names, reaping->n + 1, sizeof(char *));
	reaping->names[reaping->n++] = smd_strdup(volume->name);
	return 0;
}

void
volumes_reap(struct daemon *daemon, struct sr *sr)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct reaping reaping = { daemon->jobs, sr, 0, NULL };
	int r = sr_get_driver(sr)->scan(sr_handle(sr), reap_note, &reaping, &err);

	for (size_t i = 0; i < reaping.n; i++) {
		smd_log(SMD_LOG_NOTICE, "deleting %s, left by a job that ended early",
			reaping.names[i]);
		if (r == 0)
			r = sr_get_driver(sr)->volume_delete(sr_handle(sr), reaping.names[i], &err);
		free(reaping.names[i]);
	}
	free(reaping.names);
	if (r < 0)
		smd_log(SMD_LOG_WARNING, "temporary volumes of SR %s: %s", sr_uuid(sr), err.message);
}

uint64_t
volume_allocated(struct sr *sr, const char *name)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_sr_volume volume = { 0 };

	if (sr_get_driver(sr)->volume_stat(sr_handle(sr), name, &volume, &err) < 0)
		return 0;
	return volume.allocated;
}

int
volume_fail(struct sr *sr, struct smd_error *err)
{
	struct smd_error was CLEANUP_ERROR = SMD_ERROR_INIT;

	if (err->errnum != ENOSPC && err->errnum != EDQUOT)
		return -1;
	smd_error_move(&was, err);
	smd_fail_SR_BACKEND_FAILURE_44(err, "", "There is not enough space", was.message,
				       "SR %s is full: %s", sr_uuid(sr), was.message);
	err->errnum = was.errnum;
	return -1;
}

uint64_t
format_round_size(struct daemon *daemon, const char *format, uint64_t size)
{
	int64_t unit = smd_json_int(storage_format(daemon, format), "size-unit", 1);

	if (unit <= 1 || size % (uint64_t)unit == 0)
		return size;
	return size - size % (uint64_t)unit + (uint64_t)unit;
}

/* ---- A volume in the making ---- */

struct new_volume
new_volume_name(struct daemon *daemon, struct sr *sr, const char *format, uint64_t virtual_size)
{
	struct new_volume v = NEW_VOLUME_INIT;

	v.daemon = daemon;
	v.sr = sr;
	v.uuid = smd_uuid_new();
	v.format = smd_strdup(format);
	v.name = smd_asprintf("%s.%s", v.uuid.text, format);
	v.tmp = smd_asprintf(VOLUME_TMP_PREFIX "%s", v.name);
	v.virtual_size = virtual_size;
	return v;
}

void
new_volume_plan(struct new_volume *v, json **undo)
{
	job_plan_add(undo, sr_uuid(v->sr), v->tmp);
	job_plan_add(undo, sr_uuid(v->sr), v->name);
	v->planned = true;
}

int
new_volume_make(struct new_volume *v, struct smd_error *err)
{
	return sr_get_driver(v->sr)->volume_create(sr_handle(v->sr), v->tmp, 0, &v->fd, err);
}

struct new_volume
new_volume_named(struct daemon *daemon, struct sr *sr, const char *name, uint64_t virtual_size)
{
	struct new_volume v = NEW_VOLUME_INIT;
	const char *format = "";

	v.daemon = daemon;
	v.sr = sr;
	volume_name_parse(name, &v.uuid, &format);
	v.format = smd_strdup(format);
	v.name = smd_strdup(name);
	v.tmp = smd_asprintf(VOLUME_TMP_PREFIX "%s", name);
	v.virtual_size = virtual_size;
	v.planned = true;
	return v;
}

/* 0 open, 1 it is not there. */
static int
open_new(struct new_volume *v, const char *name, unsigned flags, struct smd_error *err)
{
	if (sr_get_driver(v->sr)->volume_open(sr_handle(v->sr), name, flags, &v->fd, err) == 0)
		return 0;
	if (err->errnum != ENOENT)
		return -1;
	smd_error_clear(err);
	return 1;
}

int
new_volume_find(struct new_volume *v, struct smd_error *err)
{
	int r = open_new(v, v->name, 0, err);

	v->published = r == 0;
	return r < 0 ? -1 : 0;
}

int
new_volume_take(struct new_volume *v, struct smd_error *err)
{
	const struct timespec nap = { 0, LOCK_RETRY_NS };
	int r;

	if (v->fd >= 0)
		return 0;
	r = open_new(v, v->tmp, SMD_SR_OPEN_WRITE, err);
	if (r < 0 || (r == 1 && new_volume_make(v, err) < 0))
		return -1;
	r = smd_image_lock(v->fd, true, v->tmp, err);
	for (int naps = 0; r == 1 && naps < TAKE_RETRIES; naps++) {
		nanosleep(&nap, NULL);
		r = smd_image_lock(v->fd, true, v->tmp, err);
	}
	if (r == 1)
		smd_fail_INTERNAL_ERROR(err, v->tmp, "another program has %s open", v->tmp);
	if (r == 0)
		return 0;
	close(v->fd);
	v->fd = -1;
	return -1;
}

int
new_volume_empty(struct new_volume *v, struct smd_error *err)
{
	/* A device has a size of its own. */
	if (ftruncate(v->fd, 0) == 0 || errno == EINVAL)
		return 0;
	return smd_fail_IMAGE_IO(err, v->tmp, "emptying %s: %s", v->tmp, strerror(errno));
}

int
new_volume_begin(struct daemon *daemon, const char *kind, struct sr *sr, const char *format,
		 uint64_t virtual_size, struct sr *old_sr, const char *old,
		 struct new_volume *ret, struct smd_error *err)
{
	struct new_volume v CLEANUP_NEW_VOLUME = new_volume_name(daemon, sr, format, virtual_size);
	CLEANUP_JSON json *undo = NULL, *redo = NULL;

	if (old)
		job_plan_add(&redo, sr_uuid(old_sr), old);
	new_volume_plan(&v, &undo);
	if (job_begin(daemon, &(struct job_plan){ kind, undo, redo, NULL }, &v.job_id, err) < 0 ||
	    new_volume_make(&v, err) < 0)
		return -1;
	*ret = v;
	v = (struct new_volume)NEW_VOLUME_INIT;
	return 0;
}

int
new_volume_sync(struct new_volume *v, struct smd_error *err)
{
	if (fdatasync(v->fd) == 0)
		return 0;
	return smd_fail_IMAGE_IO(err, v->name, "%s: fdatasync: %s", v->name, strerror(errno));
}

int
new_volume_publish(struct new_volume *v, struct smd_error *err)
{
	/* Whoever wrote it has flushed it, mostly; its times are nobody's concern. */
	if (new_volume_sync(v, err) < 0 ||
	    sr_get_driver(v->sr)->volume_rename(sr_handle(v->sr), v->tmp, v->name, err) < 0)
		return -1;
	v->published = true;
	smd_image_unlock(v->fd);
	return 0;
}

uint64_t
new_volume_allocated(const struct new_volume *v)
{
	return volume_allocated(v->sr, v->published ? v->name : v->tmp);
}

int
new_volume_give(struct new_volume *v, const char *vdi_ref, struct smd_error *err)
{
	struct db *db = v->daemon->db;

	if (db_set_str(db, "VDI", vdi_ref, "location", v->name, err) < 0 ||
	    db_set_int(db, "VDI", vdi_ref, "physical_utilisation",
		       (int64_t)new_volume_allocated(v), err) < 0 ||
	    db_set_int(db, "VDI", vdi_ref, "virtual_size", (int64_t)v->virtual_size, err) < 0 ||
	    db_map_set(db, "VDI", vdi_ref, "sm_config", "image-format", v->format, err) < 0)
		return -1;
	return db_map_remove(db, "VDI", vdi_ref, "sm_config", "image-error", err);
}

int
new_volume_committed(struct new_volume *v, struct smd_error *err)
{
	return job_committed(v->daemon, v->job_id, err);
}

static void
delete_unpublished(struct new_volume *v)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (sr_get_driver(v->sr)->volume_delete(sr_handle(v->sr), v->tmp, &err) < 0)
		smd_log(SMD_LOG_WARNING, "%s of SR %s is left over until the SR is attached again: %s",
			v->tmp, sr_uuid(v->sr), err.message);
}

void
new_volume_done(struct new_volume *v)
{
	if (v->fd >= 0) {
		close(v->fd);
		if (!v->planned && !v->published)
			delete_unpublished(v);
	}
	if (v->job_id)
		job_end(v->daemon, v->job_id);
	free(v->job_id);
	free(v->name);
	free(v->tmp);
	free(v->format);
	*v = (struct new_volume)NEW_VOLUME_INIT;
}

int
volume_delete_begin(struct daemon *daemon, const char *kind, struct sr *sr, const char *name,
		    char **ret_job, struct smd_error *err)
{
	CLEANUP_JSON json *redo = NULL;

	job_plan_add(&redo, sr_uuid(sr), name);
	return job_begin(daemon, &(struct job_plan){ kind, NULL, redo, NULL }, ret_job, err);
}
