/* SPDX-License-Identifier: BSD-2-Clause */
/* The SRs attached: start, stop, attach, detach, use. */
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/collect.h"
#include "daemon/job/job.h"
#include "daemon/job/lasting.h"
#include "daemon/job/process.h"
#include "daemon/sr/internal.h"
#include "daemon/sr/look.h"
#include "daemon/sr/settle.h"
#include "daemon/sr/volume.h"

/* ---- Using an attached SR ---- */

static int
fail_not_attached(struct daemon *daemon, const char *ref, struct smd_error *err)
{
	CLEANUP_JSON json *pbds = NULL;
	CLEANUP_FREE char *uuid = NULL;

	if (db_get_str(daemon->db, "SR", ref, "uuid", &uuid, err) < 0 ||
	    db_find(daemon->db, "PBD", "SR", ref, &pbds, err) < 0)
		return -1;
	if (json_object_array_length(pbds) == 0)
		return smd_fail_SR_HAS_NO_PBDS(err, ref, "SR %s has no PBD: make one with PBD.create "
					       "and plug it", uuid);
	return smd_fail_SR_NOT_ATTACHED(err, ref, "SR %s is not attached: plug its PBD first", uuid);
}

int
sr_use(struct daemon *daemon, const char *ref, struct sr **ret, struct smd_error *err)
{
	struct storage *storage = daemon->storage;

	pthread_mutex_lock(&storage->lock);
	for (struct sr *sr = storage->attached; sr; sr = sr->next) {
		if (!sr->closing && strcmp(sr->ref, ref) == 0) {
			sr->uses++;
			pthread_mutex_unlock(&storage->lock);
			*ret = sr;
			return 0;
		}
	}
	pthread_mutex_unlock(&storage->lock);
	return fail_not_attached(daemon, ref, err);
}

void
sr_hold(struct sr *sr)
{
	LOCK_SCOPE(&sr->daemon->storage->lock);
	sr->uses++;
}

void
sr_release(struct sr *sr)
{
	struct storage *storage;

	if (!sr)
		return;
	storage = sr->daemon->storage;
	LOCK_SCOPE(&storage->lock);
	sr->uses--;
	pthread_cond_broadcast(&storage->released);
}

const struct smd_sr_driver *
sr_get_driver(struct sr *sr)
{
	return sr->driver;
}

void *
sr_handle(struct sr *sr)
{
	return sr->handle;
}

const char *
sr_uuid(struct sr *sr)
{
	return sr->uuid;
}

const char *
sr_ref(struct sr *sr)
{
	return sr->ref;
}

int
sr_check_room(struct sr *sr, uint64_t bytes, struct smd_error *err)
{
	struct smd_sr_stat stat = { 0 };

	if (sr->driver->stat(sr->handle, &stat, err) < 0)
		return -1;
	if (bytes > stat.free)
		return smd_fail_SR_FULL(err, SMD_U64(bytes), SMD_U64(stat.free),
					"SR %s has %" PRIu64 " bytes free and %" PRIu64
					" are needed: make room, take another SR or another format "
					"(VDI.measure says what each takes)", sr->uuid, stat.free,
					bytes);
	return 0;
}

bool
sr_shares(struct sr *a, struct sr *b)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	char in_a[SMD_SR_SHARES_MAX] = "", in_b[SMD_SR_SHARES_MAX] = "";

	return a->driver == b->driver && a->driver->shares &&
	       a->driver->shares(a->handle, in_a, &err) == 0 &&
	       a->driver->shares(b->handle, in_b, &err) == 0 &&
	       *in_a && strcmp(in_a, in_b) == 0;
}

int
sr_measure(struct sr *sr, struct smd_sr_stat *ret, struct smd_error *err)
{
	*ret = (struct smd_sr_stat){ 0 };
	return sr->driver->stat(sr->handle, ret, err);
}

int
sr_store_stats(struct daemon *daemon, const char *ref, const struct smd_sr_stat *stat,
	       struct smd_error *err)
{
	struct db *db = daemon->db;
	int64_t sum = 0;

	if (db_sr_size(db, ref, &sum, err) < 0 ||
	    db_set_int(db, "SR", ref, "physical_size", (int64_t)stat->total, err) < 0 ||
	    db_set_int(db, "SR", ref, "physical_utilisation",
		       (int64_t)(stat->used ? stat->used : stat->total - stat->free), err) < 0)
		return -1;
	return db_set_int(db, "SR", ref, "virtual_allocation", sum, err);
}

int
sr_update_stats(struct daemon *daemon, const char *ref, struct smd_error *err)
{
	struct smd_sr_stat stat;
	struct sr *sr;
	int r;

	if (sr_use(daemon, ref, &sr, err) < 0)
		return -1;
	r = sr_measure(sr, &stat, err);
	sr_release(sr);
	if (r < 0 || db_begin(daemon->db, DB_RELAXED, err) < 0)
		return -1;
	return db_end(daemon->db, sr_store_stats(daemon, ref, &stat, err), err);
}

/* ---- device_config for a driver ---- */

void
sr_config_init(struct smd_sr_config *config, json *device_config)
{
	size_t n = (size_t)json_object_object_length(device_config), i = 0;
	const char **keys = smd_calloc(n + 1, sizeof *keys);
	const char **values = smd_calloc(n + 1, sizeof *values);

	json_object_object_foreach(device_config, key, value) {
		keys[i] = key;
		values[i++] = json_object_get_string(value);
	}
	*config = (struct smd_sr_config){ n, keys, values };
}

void
sr_config_done(struct smd_sr_config *config)
{
	free((void *)config->keys);
	free((void *)config->values);
}

/* ---- Attach and detach ---- */

static void
sr_free(struct sr *sr)
{
	if (!sr)
		return;
	free(sr->ref);
	free(sr->uuid);
	free(sr->pbd_ref);
	looks_free(sr->looks);
	settler_free(sr->settler);
	json_object_put(sr->orphans);
	json_object_put(sr->records);
	pthread_mutex_destroy(&sr->scan_lock);
	pthread_mutex_destroy(&sr->cbt_lock);
	pthread_mutex_destroy(&sr->records_lock);
	free(sr);
}

static void
cleanup_sr_free(struct sr **sr)
{
	sr_free(*sr);
}

static struct sr *
find_attached(struct storage *storage, const char *ref)
{
	LOCK_SCOPE(&storage->lock);
	for (struct sr *sr = storage->attached; sr; sr = sr->next) {
		if (strcmp(sr->ref, ref) == 0)
			return sr;
	}
	return NULL;
}

/* Everything of an SR but its place in the list. */
int
sr_open(struct daemon *daemon, json *pbd, const char *pbd_ref, struct sr **ret,
	struct smd_error *err)
{
	CLEANUP(cleanup_sr_free) struct sr *sr = smd_calloc(1, sizeof *sr);
	CLEANUP_FREE char *type = NULL;
	struct smd_sr_config config;
	int r;

	pthread_mutex_init(&sr->records_lock, NULL);
	pthread_mutex_init(&sr->scan_lock, NULL);
	pthread_mutex_init(&sr->cbt_lock, NULL);
	sr->daemon = daemon;
	sr->settler = settler_new();
	sr->ref = smd_strdup(smd_json_str(pbd, "SR", ""));
	sr->pbd_ref = smd_strdup(pbd_ref);
	if (db_get_str(daemon->db, "SR", sr->ref, "uuid", &sr->uuid, err) < 0 ||
	    db_get_str(daemon->db, "SR", sr->ref, "type", &type, err) < 0 ||
	    sr_driver(daemon, type, &sr->driver, err) < 0)
		return -1;
	sr_config_init(&config, smd_json_member(pbd, "device_config"));
	r = sr->driver->attach(sr->uuid, &config, &sr->handle, err);
	sr_config_done(&config);
	if (r < 0)
		return -1;
	job_recover(daemon, sr);
	volumes_reap(daemon, sr);
	*ret = TAKE_PTR(sr);
	return 0;
}

void
sr_close(struct sr *sr)
{
	/* They may have its images open. */
	process_left_are_gone();
	sr->driver->detach(sr->handle);
	sr_free(sr);
}

void
sr_close_destroyed(struct sr *sr)
{
	sr_free(sr);
}

static void
list_add(struct storage *storage, struct sr *sr)
{
	LOCK_SCOPE(&storage->lock);
	sr->next = storage->attached;
	storage->attached = sr;
}

/* Wait until nobody uses the SR any more, and take it from the list. */
static void
list_remove(struct storage *storage, struct sr *sr)
{
	struct sr **p = &storage->attached;

	LOCK_SCOPE(&storage->lock);
	sr->closing = true;
	while (sr->uses > 0)
		pthread_cond_wait(&storage->released, &storage->lock);
	while (*p != sr)
		p = &(*p)->next;
	*p = sr->next;
}

static int
attach_locked(struct daemon *daemon, json *pbd, const char *pbd_ref, struct smd_error *err)
{
	struct smd_error stats_err CLEANUP_ERROR = SMD_ERROR_INIT;
	const char *ref = smd_json_str(pbd, "SR", "");
	struct sr *sr = NULL;

	if (!find_attached(daemon->storage, ref) && sr_open(daemon, pbd, pbd_ref, &sr, err) < 0)
		return -1;
	if (sr) {
		records_load(sr);
		list_add(daemon->storage, sr);
	}
	/* Fails where the PBD was destroyed meanwhile. */
	if (db_set_bool(daemon->db, "PBD", pbd_ref, "currently_attached", true, err) < 0) {
		if (sr) {
			list_remove(daemon->storage, sr);
			sr_close(sr);
		}
		return -1;
	}
	if (sr)
		smd_log(SMD_LOG_INFO, "SR %s is attached", sr->uuid);
	collect_kick(daemon, ref);
	op_refresh(daemon, "SR", ref);
	if (sr_update_stats(daemon, ref, &stats_err) < 0)
		smd_log(SMD_LOG_WARNING, "sizes of an SR: %s", stats_err.message);
	return 0;
}

int
pbd_attach(struct daemon *daemon, const char *pbd_ref, struct smd_error *err)
{
	CLEANUP_JSON json *pbd = NULL;
	CLEANUP_FREE char *key = db_new_ref();
	const char *ref;
	int r;

	LOCK_SCOPE(&daemon->storage->attach_lock);
	if (db_get_record(daemon->db, "PBD", pbd_ref, &pbd, err) < 0)
		return -1;
	ref = smd_json_str(pbd, "SR", "");
	if (find_attached(daemon->storage, ref))
		return attach_locked(daemon, pbd, pbd_ref, err);
	if (op_begin(daemon, "SR", ref, "plug", key, err) < 0)
		return -1;
	r = attach_locked(daemon, pbd, pbd_ref, err);
	op_end(daemon, "SR", ref, key);
	if (r == 0)
		jobs_kick(daemon);
	return r;
}

int
pbd_detach(struct daemon *daemon, const char *pbd_ref, struct smd_error *err)
{
	CLEANUP_FREE char *ref = NULL, *key = db_new_ref();
	struct sr *sr;
	int r;

	LOCK_SCOPE(&daemon->storage->attach_lock);
	if (db_get_str(daemon->db, "PBD", pbd_ref, "SR", &ref, err) < 0)
		return -1;
	sr = find_attached(daemon->storage, ref);
	if (!sr)
		return db_set_bool(daemon->db, "PBD", pbd_ref, "currently_attached", false, err);
	if (op_begin(daemon, "SR", ref, "unplug", key, err) < 0)
		return -1;
	r = db_set_bool(daemon->db, "PBD", pbd_ref, "currently_attached", false, err);
	if (r == 0) {
		collect_leave(daemon, ref);
		list_remove(daemon->storage, sr);
		records_save(sr);
		smd_log(SMD_LOG_INFO, "SR %s is detached", sr->uuid);
		sr_close(sr);
	}
	op_end(daemon, "SR", ref, key);
	return r;
}

/* ---- Start and stop ---- */

/* An SR that cannot be attached now must not keep the daemon from serving the rest. */
static int
reattach(struct daemon *daemon, struct smd_error *err)
{
	CLEANUP_JSON json *pbds = NULL;

	if (db_all_records(daemon->db, "PBD", NULL, &pbds, err) < 0)
		return -1;
	json_object_object_foreach(pbds, ref, pbd) {
		struct smd_error attach_err CLEANUP_ERROR = SMD_ERROR_INIT;

		if (!smd_json_bool(pbd, "currently_attached", false) ||
		    strcmp(smd_json_str(pbd, "host", ""), daemon->host_ref) != 0)
			continue;
		if (pbd_attach(daemon, ref, &attach_err) == 0)
			continue;
		smd_log(SMD_LOG_ERR, "PBD %s stays unplugged: %s", smd_json_str(pbd, "uuid", ""),
			attach_err.message);
		if (db_set_bool(daemon->db, "PBD", ref, "currently_attached", false, err) < 0)
			return -1;
		op_refresh(daemon, "SR", smd_json_str(pbd, "SR", ""));
	}
	return 0;
}

static bool
was_resized(json *vdi)
{
	json_object_object_foreach(smd_json_member(vdi, "current_operations"), key, value) {
		(void)key;
		if (strcmp(json_object_get_string(value), "resize") == 0)
			return true;
	}
	return false;
}

/* VDIs that a crash found in the middle of a resize: the image alone knows whether it
 * has grown, the row may be behind. Their operations are cleared after this, so that
 * another crash changes nothing. */
static int
refresh_resized(struct daemon *daemon, struct smd_error *err)
{
	CLEANUP_JSON json *vdis = NULL;

	if (db_all_records(daemon->db, "VDI", NULL, &vdis, err) < 0)
		return -1;
	json_object_object_foreach(vdis, ref, vdi) {
		struct smd_error vdi_err CLEANUP_ERROR = SMD_ERROR_INIT;
		struct sr *sr = NULL;

		if (!was_resized(vdi))
			continue;
		if (sr_use(daemon, smd_json_str(vdi, "SR", ""), &sr, &vdi_err) == 0) {
			vdi_refresh(sr, ref, vdi, &vdi_err);
			sr_release(sr);
		}
		if (vdi_err.code)
			smd_log(SMD_LOG_WARNING, "the size of VDI %s is to be found by SR.scan: %s", ref,
				vdi_err.message);
	}
	return 0;
}

int
storage_start(struct daemon *daemon, const char *sr_dirs, const char *format_dirs,
	      struct smd_error *err)
{
	struct storage *storage = smd_calloc(1, sizeof *storage);

	pthread_mutex_init(&storage->attach_lock, NULL);
	pthread_mutex_init(&storage->lock, NULL);
	pthread_cond_init(&storage->released, NULL);
	pthread_mutex_init(&storage->keeper_lock, NULL);
	pthread_cond_init(&storage->keeper_wake, NULL);
	storage->format_dirs = smd_strdup(format_dirs);
	daemon->storage = storage;
	if (drivers_load(storage, sr_dirs, err) < 0 || formats_ask(daemon, err) < 0 ||
	    drivers_publish(daemon, err) < 0 || ops_reset(daemon, "SR", err) < 0 ||
	    reattach(daemon, err) < 0 || refresh_resized(daemon, err) < 0 ||
	    ops_reset(daemon, "VDI", err) < 0) {
		storage_stop(daemon);
		return -1;
	}
	keeper_start(daemon);
	return 0;
}

void
storage_stop(struct daemon *daemon)
{
	struct storage *storage = daemon->storage;

	if (!storage)
		return;
	keeper_stop(storage);
	while (storage->attached) {
		struct sr *sr = storage->attached;

		list_remove(storage, sr);
		records_save(sr);
		sr_close(sr);
	}
	/* The modules stay mapped: their strings may still be in use. */
	while (storage->drivers) {
		struct driver *d = storage->drivers;

		storage->drivers = d->next;
		free(d->path);
		free(d);
	}
	json_object_put(storage->formats);
	free(storage->format_dirs);
	pthread_cond_destroy(&storage->keeper_wake);
	pthread_mutex_destroy(&storage->keeper_lock);
	pthread_cond_destroy(&storage->released);
	pthread_mutex_destroy(&storage->lock);
	pthread_mutex_destroy(&storage->attach_lock);
	free(storage);
	daemon->storage = NULL;
}

const char *
storage_format_dirs(struct daemon *daemon)
{
	return daemon->storage->format_dirs;
}
