/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tree of disks: the image of a VDI may lie on the image of another one of its
 * SR, its parent, and so on down to a base. This is the daemon's truth about it;
 * clients see it mirrored in the child's sm_config:vhd-parent (the parent's uuid),
 * which is never read back: anybody may write there.
 *
 * A parent is never written, resized or deleted while it has children, except by
 * the collector.
 *
 * Threads: any. Within a transaction of the caller's the calls are part of it.
 */
#ifndef SMD_DAEMON_SR_TREE_H
#define SMD_DAEMON_SR_TREE_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/db/db.h"

#define TREE_DEPTH_MAX 30	/* images of a chain, the base among them, as SM has it */
#define TREE_LAYERS_MAX 32	/* what a worker opens: common/image/chain.h's SMD_CHAIN_MAX */
#define TREE_PARENT_KEY "vhd-parent"

/* *ret: the parent's ref, which the caller frees; NULL: a base. The parent's row may
 * be gone. */
int tree_parent(struct db *db, const char *vdi_ref, char **ret, struct smd_error *err);
/* *ret: a new array of refs. */
int tree_children(struct db *db, const char *vdi_ref, json **ret, struct smd_error *err);
int tree_has_children(struct db *db, const char *vdi_ref, bool *ret, struct smd_error *err);
/* *ret: a new array of refs, of the SR's images that are no client's disk. */
int tree_unmanaged(struct db *db, const char *sr_ref, json **ret, struct smd_error *err);

/* *ret: a new array of refs, the VDI first, its base last. A chain that has no end
 * within TREE_LAYERS_MAX is SR_BACKEND_FAILURE_109. */
int tree_chain(struct db *db, const char *vdi_ref, json **ret, struct smd_error *err);
/* The number of images of the chain that ends in the VDI: 1 for a base. */
int tree_depth(struct db *db, const char *vdi_ref, size_t *ret, struct smd_error *err);
/* One image more on top of this VDI would pass TREE_DEPTH_MAX: SR_BACKEND_FAILURE_109. */
int tree_check_depth(struct db *db, const char *parent_ref, struct smd_error *err);

/* parent_ref NULL: none. The two are of one SR, and the parent does not lie on the
 * child. The child's row shows it (sm_config). */
int tree_set_parent(struct db *db, const char *vdi_ref, const char *parent_ref,
		    struct smd_error *err);
/* A new row, a hidden node, takes the VDI's volume, parent and children. In one
 * transaction with what becomes of the VDI, which has no parent and has yet to get
 * another volume, or to go; read_only, if it had children, is over. allocated: the volume's. The caller frees *ret. */
int tree_leave_base(struct db *db, const char *vdi_ref, uint64_t allocated, char **ret,
		    struct smd_error *err);
/* The children of one VDI are another's from now on (NULL: nobody's). */
int tree_move_children(struct db *db, const char *from_ref, const char *to_ref,
		       struct smd_error *err);

/* A VDI's row goes, and its place; its snapshots are nobody's then. */
int tree_drop(struct db *db, const char *vdi_ref, struct smd_error *err);

#endif
