/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The volumes behind VDIs: opening one for a worker, and making one so that it
 * is either there whole or not at all.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_SR_VOLUME_H
#define SMD_DAEMON_SR_VOLUME_H

#include "common/error.h"
#include "common/json.h"
#include "common/uuid.h"
#include "daemon/daemon.h"
#include "daemon/job/worker.h"
#include "daemon/sr/sr.h"

/* Before the name of a volume in the making. */
#define VOLUME_TMP_PREFIX "tmp-"

/* The driver's volume_open; of a new volume, once it is durable (daemon/sr/settle.h). Not in
 * a transaction. */
int volume_open(struct sr *sr, const char *name, uint32_t flags, int *ret_fd,
		struct smd_error *err);
/* The same, for reading, with what the driver says of it then (smd-sr.h); stamp "": nothing. */
int volume_open_stamped(struct sr *sr, const char *name, int *ret_fd, struct smd_sr_volume *ret,
			char stamp[SMD_SR_STAMP_MAX], struct smd_error *err);

/* ---- A VDI's volume, open ---- */

/* An image below a disk's own. */
struct disk_layer {
	char *vdi_ref, *name, *format;
	int fd;
};

struct disk {
	struct sr *sr;
	char *vdi_ref;
	json *record;			/* the VDI's row */
	const char *uuid, *location, *format;	/* of the record, or parsed from it */
	char *format_text;
	uint64_t virtual_size;
	int fd;				/* the leaf's; -1: not open */
	size_t n_parents;		/* the rest of an open disk's chain, nearest first */
	struct disk_layer *parents;
};
#define DISK_INIT { .fd = -1 }

/* The row and the SR, without opening: SR_NOT_ATTACHED. disk_find: of what clients
 * may name, VDI_NOT_MANAGED; disk_find_node: of any node of a chain. */
int disk_find(struct daemon *daemon, const char *vdi_ref, struct disk *ret, struct smd_error *err);
int disk_find_node(struct daemon *daemon, const char *vdi_ref, struct disk *ret,
		   struct smd_error *err);
/* Open it and every layer below it, and take the image locks (write: of the leaf
 * alone, for a disk that no other one lies on): VDI_MISSING, VDI_IN_USE [vdi,
 * operation]; FORMAT_UNKNOWN where no module serves a format. While it is open, its
 * chain stays as it is. The record is read afresh. */
int disk_open(struct daemon *daemon, struct disk *disk, bool write, const char *operation,
	      struct smd_error *err);
/* The disk's own image goes: nobody may have it open, gone already is fine. The record is
 * read afresh. */
int disk_lock_alone(struct daemon *daemon, struct disk *disk, const char *operation,
		    struct smd_error *err);
/* In the transaction that takes the disk's volume from it. Where others lie on it
 * (has_children, as the plan found), the volume goes on under a hidden row, *ret_base,
 * which the caller frees; else NULL: the job deletes it. VDI_IN_USE where that has
 * changed since. */
int disk_give_up(struct daemon *daemon, struct disk *disk, bool has_children,
		 const char *operation, char **ret_base, struct smd_error *err);
/* Close the layers below it: for who has them open and locked themselves. */
void disk_close_parents(struct disk *disk);
/* Others may have it, though it is not closed yet. */
void disk_unlock(struct disk *disk);
void disk_done(struct disk *disk);
#define CLEANUP_DISK CLEANUP(disk_done)

/* *ret: the number of a descriptor of the job's own, for one that stays the caller's. */
int job_fd(int fd, struct worker_job *job, int *ret, struct smd_error *err);
/* The request's S of an open disk, all its layers; the job gets descriptors of its own. */
json *disk_source(struct disk *disk, struct worker_job *job, bool write, struct smd_error *err);
/* The same of any descriptor, which it borrows. */
json *source_of_fd(int fd, const char *name, const char *format, bool write, bool foreign,
		   struct worker_job *job, struct smd_error *err);
/* One more layer of it, below those it has. */
int source_add(json *source, int fd, const char *name, const char *format,
	       struct worker_job *job, struct smd_error *err);
/* T. options: NULL or the format's options. fd -1: none (measure). */
json *target_of_fd(int fd, const char *name, const char *format, uint64_t size,
		   struct worker_job *job, struct smd_error *err);

/* What a worker says of an image (qemu-img info's members). */
int volume_info(struct daemon *daemon, struct sr *sr, const char *name, const char *format,
		json **ret, struct smd_error *err);
/* "<uuid>.<format>": false for any other name. */
bool volume_name_parse(const char *name, struct smd_uuid_text *ret_uuid, const char **ret_format);
/* A name as new_volume_begin makes it; others are somebody's own. */
bool volume_is_temporary(const char *name);
/* The row of a volume that nobody has yet: LOCATION_NOT_UNIQUE where the SR has a VDI
 * there or a job is at work on it, UUID_INVALID where the uuid is taken. */
int volume_introduce(struct daemon *daemon, struct sr *sr, const char *ref, json *row,
		     struct smd_error *err);
/* Its checks, for a caller who makes the row in the same transaction. */
int volume_check_unclaimed(struct daemon *daemon, struct sr *sr, const char *location,
			   const char *uuid, struct smd_error *err);
/* Delete what a crash left under temporary names and no job goes on with; the SR is
 * nobody's else. */
void volumes_reap(struct daemon *daemon, struct sr *sr);
/* Whether a VDI of the SR has it. */
int volume_has_row(struct daemon *daemon, struct sr *sr, const char *name, bool *ret,
		   struct smd_error *err);
uint64_t volume_allocated(struct sr *sr, const char *name);
/* A worker's error that began with a full file system says so: SR_FULL is known
 * before the work, SR_BACKEND_FAILURE_44 when it happens in its middle. Returns -1. */
int volume_fail(struct sr *sr, struct smd_error *err);

/* ---- A volume in the making ---- */

struct new_volume {
	struct daemon *daemon;
	struct sr *sr;			/* borrowed */
	struct smd_uuid_text uuid;	/* in its name; a new VDI's */
	char *name, *tmp;
	char *format;
	uint64_t virtual_size;
	char *job_id;
	int fd;
	bool planned;			/* a job deletes it; else new_volume_done, until it is
					 * published */
	bool published;
};
#define NEW_VOLUME_INIT { .fd = -1 }

/* Write the job's plan, whose undo deletes the new volume and whose redo deletes
 * old (in old_sr; NULL: none), then make the volume under a temporary name. */
int new_volume_begin(struct daemon *daemon, const char *kind, struct sr *sr, const char *format,
		     uint64_t virtual_size, struct sr *old_sr, const char *old,
		     struct new_volume *ret, struct smd_error *err);
/* In parts, for a job of the caller's: the names, which its undo deletes; the volume. Where
 * there is no plan, what a kill leaves of it goes at the next start. */
struct new_volume new_volume_name(struct daemon *daemon, struct sr *sr, const char *format,
				  uint64_t virtual_size);
void new_volume_plan(struct new_volume *v, json **undo);
int new_volume_make(struct new_volume *v, struct smd_error *err);
/* Of a job that is taken up again: with the names it had. */
struct new_volume new_volume_named(struct daemon *daemon, struct sr *sr, const char *name,
				   uint64_t virtual_size);
/* Whether it was published: then it is open, to be read. */
int new_volume_find(struct new_volume *v, struct smd_error *err);
/* Where it is not open yet: open what there is of it, or make it; and lock it, so that no
 * worker of a daemon that was killed writes to it any more. Publishing unlocks it. */
int new_volume_take(struct new_volume *v, struct smd_error *err);
/* One that is open: what a worker left in it goes. */
int new_volume_empty(struct new_volume *v, struct smd_error *err);
/* All written: have it on the disk. */
int new_volume_sync(struct new_volume *v, struct smd_error *err);
/* And give it its name. */
int new_volume_publish(struct new_volume *v, struct smd_error *err);
uint64_t new_volume_allocated(const struct new_volume *v);
/* In a transaction: it is the VDI's from now on, in the place of what the VDI had. */
int new_volume_give(struct new_volume *v, const char *vdi_ref, struct smd_error *err);
/* In the transaction that makes it a VDI's. */
int new_volume_committed(struct new_volume *v, struct smd_error *err);
/* Undo or finish, as the journal says. */
void new_volume_done(struct new_volume *v);
#define CLEANUP_NEW_VOLUME CLEANUP(new_volume_done)

/* What sizes the format can have: size rounded up to its unit. */
uint64_t format_round_size(struct daemon *daemon, const char *format, uint64_t size);

/* A volume that must vanish with the row: the same journal, nothing made. */
int volume_delete_begin(struct daemon *daemon, const char *kind, struct sr *sr,
			const char *name, char **ret_job, struct smd_error *err);

/* records.c: the record of a volume that is being introduced, over its row
 * (snapshot_of is a uuid in it still), and forgetting one that is destroyed. */
bool records_apply(struct sr *sr, const char *location, json *row);	/* false: there is none */
/* Beside the volumes, as the rows are now; not in a transaction. Else it is done within
 * seconds of a change: whoever takes a row away and leaves its volume does it first. */
void records_save(struct sr *sr);
void records_forget(struct sr *sr, const char *location);

/* storage.c: for PBD.plug and SR.create, SR.probe, SR.destroy. */
void sr_config_init(struct smd_sr_config *config, json *device_config);
void sr_config_done(struct smd_sr_config *config);
/* An SR opened for one caller alone, not in the list of those attached. */
int sr_open(struct daemon *daemon, json *pbd, const char *pbd_ref, struct sr **ret,
	    struct smd_error *err);
void sr_close(struct sr *sr);
/* After the driver's destroy: the handle is gone already. */
void sr_close_destroyed(struct sr *sr);

#endif
