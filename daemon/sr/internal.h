/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by the files of daemon/sr only. */
#ifndef SMD_DAEMON_SR_INTERNAL_H
#define SMD_DAEMON_SR_INTERNAL_H

#include <pthread.h>

#include "daemon/sr/sr.h"

struct driver {
	struct driver *next;
	struct smd_sr_driver d;		/* copied: members this host does not know are left out,
					 * those the driver does not know are zero */
	char *path;
};

struct sr {
	struct sr *next;
	struct daemon *daemon;
	char *ref, *uuid, *pbd_ref;
	const struct smd_sr_driver *driver;
	void *handle;
	struct settler *settler;	/* settle.c */
	unsigned uses;			/* guarded by storage.lock */
	bool closing;			/* guarded by storage.lock */
	pthread_mutex_t scan_lock;	/* one scan at a time; guards looks */
	struct looks *looks;		/* what the last scan saw */
	uint64_t rest_generation;	/* of the rows when a scan left nothing to do; 0: it did;
					 * scan_lock */
	pthread_mutex_t cbt_lock;	/* daemon/sr/cbt.h; never taken in a transaction */
	pthread_mutex_t records_lock;	/* guards what follows; never taken in a transaction */
	json *records;			/* {location: record as text}, see records.c */
	uint64_t records_generation;	/* of the rows that are in them; 0: not yet */
	bool records_changed;		/* since they were saved */
	bool records_unread;		/* what is there could not be used: it is left alone */
	json *orphans;			/* {volume: why it is no VDI}, of the last scan; may be NULL */
};

struct storage {
	struct driver *drivers;		/* const after storage_start */
	json *formats;			/* const after storage_start: by name */
	char *format_dirs;
	pthread_mutex_t attach_lock;	/* one attach or detach at a time */
	pthread_mutex_t lock;		/* guards attached and each sr's uses, closing */
	pthread_cond_t released;
	struct sr *attached;
	pthread_mutex_t keeper_lock;	/* guards stopping, trim_ms */
	pthread_cond_t keeper_wake;
	pthread_t keeper;		/* saves the records of SRs that changed */
	bool keeper_runs, stopping;
	uint64_t trim_ms;		/* when memory is given back; 0: nothing to give */
};

/* driver.c */
int drivers_load(struct storage *storage, const char *dirs, struct smd_error *err);
int drivers_publish(struct daemon *daemon, struct smd_error *err);	/* the SM rows */

/* formats.c */
int formats_ask(struct daemon *daemon, struct smd_error *err);
/* Names a driver's SRs can hold; NULL: undeclared. New reference. */
json *formats_of_driver(struct storage *storage, const struct smd_sr_driver *driver);

/* op.c */
int ops_reset(struct daemon *daemon, const char *cls, struct smd_error *err);

/* vbd.c: VDI_IN_USE [vdi, operation], OTHER_OPERATION_IN_PROGRESS. */
int vbd_check_operation(struct db *db, const char *vdi, const char *operation,
			struct smd_error *err);

/* records.c */
void records_load(struct sr *sr);
struct record_look {
	bool tells_parent;	/* what the volume lies on, or that it lies on nothing */
	char *parent;		/* that volume's name, which the caller frees; NULL: nothing */
	bool unmanaged;
};
/* Whether there is a record of the volume, and what a scan asks of it. */
bool records_look(struct sr *sr, const char *location, struct record_look *ret);
void keeper_start(struct daemon *daemon);
void keeper_stop(struct storage *storage);
/* Much memory was let go in small pieces: it goes back to the system, soon. */
void keeper_trims(struct storage *storage);

#endif
