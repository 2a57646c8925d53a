/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the parts of SR.scan share: scan.c finds out what there is and brings the trees in order,
 * scan-known.c sees to the volumes and rows that were known, scan-new.c makes rows of the others.
 *
 * Threads: one for a scan, under its SR's scan_lock.
 */
#ifndef SMD_DAEMON_SR_SCAN_IMPL_H
#define SMD_DAEMON_SR_SCAN_IMPL_H

#include "daemon/db/db.h"
#include "daemon/sr/images.h"
#include "daemon/sr/internal.h"
#include "daemon/sr/names.h"

/* In a VDI's sm_config: why its image cannot be used. */
#define IMAGE_ERROR_KEY "image-error"
/* Found hidden, and to become an inner node once nothing unreadable may lie on it. */
#define HIDDEN_KEY "hidden-image"

/* A volume of the SR, and the row it has or gets. */
struct node {
	json *row;		/* as it was; borrowed; NULL: nobody knows the volume */
	char *ref;		/* NULL: none yet */
	struct listed *listed;
	bool at_work;		/* a job's: to be left alone */
	bool left_out;		/* it gets no row */
	size_t n_child_rows;	/* of the images that lie on it */
	bool recorded;		/* without a row: in the SR's records, as … */
	bool parent_recorded;	/* … what it lies on, */
	bool unmanaged;		/* … nobody's disk */
	char *snapshot_of;	/* uuid, from its record; NULL: none */
};

struct scan {
	struct sr *sr;
	struct db *db;
	struct listed *listed;	/* what there is, in the driver's order */
	size_t n_listed;
	struct names volumes;	/* locations: their places in listed */
	json *rows;		/* {ref: row} of before */
	size_t n;
	struct image *images;
	struct node *nodes;	/* of images[i] */
	struct names places;	/* of images, by location and by ref; empty: nobody has asked yet */
	json *orphans;		/* {name: why it is no VDI} */
	bool introduced;	/* rows, which are durable only with settle_all */
	uint64_t n_before;	/* changes of VDIs, when it began */
	uint64_t n_changes;	/* … and by the introduction of rows */
	json *doubts;		/* formats with an image that may lie on any other of its kind */
	json *allowed;		/* operations of a new row that no record tells of; NULL: not known */
};

static inline struct node *
node_of(struct scan *scan, const struct image *image)
{
	return &scan->nodes[image - scan->images];
}

/* Something is being done to the VDI. */
static inline bool
row_is_busy(json *row)
{
	json *current = smd_json_member(row, "current_operations");

	return current && json_object_object_length(current) > 0;
}

/* Changes of VDIs, whoever made them. */
static inline uint64_t
scan_count_changes(const struct scan *scan)
{
	uint64_t generation;

	return db_count_changes(scan->db, "VDI", &generation);
}

/* The volume gets no row, and why. */
void scan_orphan(struct scan *scan, const struct image *image, const char *why);
/* Why, such as of a copy made by hand. */
#define KNOWN_ALREADY "its VDI is known already, with another volume"

/* In a transaction: say what lies on what, where both have a row that is as it was seen. */
int scan_link_parent(struct scan *scan, const struct image *image, struct smd_error *err);

/* scan-known.c: bring the rows there are up to date; those without a volume go or are flagged. */
int scan_refresh_rows(struct scan *scan, struct smd_error *err);

/* scan-new.c: a row for each image without one that is not left out, parents first. They are
 * durable only with what is committed next. */
int scan_introduce(struct scan *scan, struct smd_error *err);

#endif
