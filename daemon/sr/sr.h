/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Storage: the SR drivers found, the SRs attached, and what VDIs need of both.
 *
 * Threads: any. An attached SR is reference-counted: sr_use keeps it attached
 * until sr_release.
 */
#ifndef SMD_DAEMON_SR_H
#define SMD_DAEMON_SR_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/daemon.h"
#include "plugins/smd-sr.h"

/* Load the drivers of dirs, ask a worker for the formats, write the SM rows
 * (add, update, remove), re-attach the PBDs that were attached. */
int storage_start(struct daemon *daemon, const char *sr_dirs, const char *format_dirs,
		  struct smd_error *err);
void storage_stop(struct daemon *daemon);

/* The driver of an SR type; SR_UNKNOWN_DRIVER. */
int sr_driver(struct daemon *daemon, const char *type, const struct smd_sr_driver **ret,
	      struct smd_error *err);
/* What the loaded modules say of themselves (common/image/ops.h, smd_op_formats). */
json *storage_formats(struct daemon *daemon);			/* borrowed */
json *storage_format(struct daemon *daemon, const char *name);	/* borrowed; NULL: not loaded */

/* Their names, with commas between them, for a message; the caller's. */
char *storage_format_names(struct daemon *daemon);

/* Whether a format has a capability, by its name there: "parent", "stream" … */
bool storage_format_can(struct daemon *daemon, const char *name, const char *cap);

const char *storage_format_dirs(struct daemon *daemon);	/* where workers find the modules */

struct sr;			/* an attached SR, in use */
/* SR_NOT_ATTACHED [sr], SR_HAS_NO_PBDS [sr]. */
int sr_use(struct daemon *daemon, const char *sr_ref, struct sr **ret, struct smd_error *err);
void sr_hold(struct sr *sr);	/* once more, of one in use */
void sr_release(struct sr *sr);
const struct smd_sr_driver *sr_get_driver(struct sr *sr);
void *sr_handle(struct sr *sr);	/* what the driver's functions take */
const char *sr_uuid(struct sr *sr);
const char *sr_ref(struct sr *sr);

int pbd_attach(struct daemon *daemon, const char *pbd_ref, struct smd_error *err);
int pbd_detach(struct daemon *daemon, const char *pbd_ref, struct smd_error *err);

/* Formats the SR takes (lower case, its preference first); empty: undeclared. */
int sr_formats(struct daemon *daemon, const char *sr_ref, json **ret, struct smd_error *err);
/* The format a disk of this size gets when asked for `asked` ("" for none, any case;
 * of several, with commas between them, the first that can be): checked against the
 * SR's list (VDI_INCOMPATIBLE_TYPE) and the format's limits (VDI_TOO_LARGE names what
 * would fit). vdi_ref: the disk that moves, "" for a new one. The caller frees *ret. */
int sr_choose_format(struct daemon *daemon, const char *sr_ref, const char *asked,
		     uint64_t virtual_size, const char *vdi_ref, char **ret,
		     struct smd_error *err);
/* The format of an image that is to lie on one of this format: the same, or on what
 * nothing of its kind can lie on (raw) the first of the SR's that can, and holds the
 * size. SR_OPERATION_NOT_SUPPORTED [sr] where there is none. The caller frees *ret. */
int sr_choose_overlay_format(struct daemon *daemon, const char *sr_ref, const char *parent_format,
			     uint64_t virtual_size, const char *vdi_ref, char **ret,
			     struct smd_error *err);
/* What the SR has free is less than bytes: SR_FULL [requested, maximum]. */
int sr_check_room(struct sr *sr, uint64_t bytes, struct smd_error *err);
/* Whether volumes of both can share extents; a may be b. */
bool sr_shares(struct sr *a, struct sr *b);

/* Operations in progress (current_operations of VDI and SR), xapi's order of
 * checks: OTHER_OPERATION_IN_PROGRESS names who. key: the task, or a ref made for
 * the purpose. op_end of an object that is gone is fine. */
int op_begin(struct daemon *daemon, const char *cls, const char *ref, const char *operation,
	     const char *key, struct smd_error *err);
/* Whether it could begin now. */
int op_check(struct daemon *daemon, const char *cls, const char *ref, const char *operation,
	     struct smd_error *err);
void op_end(struct daemon *daemon, const char *cls, const char *ref, const char *key);
/* The operations of one call, ended together. */
struct op_set {
	struct daemon *daemon;
	char *key;
	size_t n;
	struct op_of {
		const char *cls;
		char *ref;
	} *ops;
};
/* task_ref: NULL where the call has none. */
void op_set_init(struct op_set *set, struct daemon *daemon, const char *task_ref);
int op_set_begin(struct op_set *set, const char *cls, const char *ref, const char *operation,
		 struct smd_error *err);
/* The same of one that is over in milliseconds, as a rule: it keeps others out as any, but
 * neither its object's row nor its task's says so before somebody is kept out (op_begin) or it
 * has lasted (ops_show). Not in a transaction. */
int op_set_begin_brief(struct op_set *set, const char *cls, const char *ref,
		       const char *operation, struct smd_error *err);
/* For who reads current_operations to decide: the row says all that runs on the object. */
int op_show(struct daemon *daemon, const char *cls, const char *ref, struct smd_error *err);
/* The rows say what began so long ago. */
void ops_show(struct daemon *daemon, unsigned after_ms);
/* End those of a class. */
void op_set_leave(struct op_set *set, const char *cls);
/* In a transaction: as op_set_done, if it is committed, which op_set_keep then takes for
 * done. */
void op_set_end(struct op_set *set);
/* They outlive this run: their job goes on at the next start, which begins them anew. */
void op_set_keep(struct op_set *set);
void op_set_done(struct op_set *set);
#define CLEANUP_OPS CLEANUP(op_set_done)

/* Store allowed_operations afresh. */
void op_refresh(struct daemon *daemon, const char *cls, const char *ref);
/* allowed_operations of a VDI about to have this row: a new reference. */
json *op_allowed_of_new(struct sr *sr, json *row);

/* Sizes of the SR row from the driver. */
int sr_update_stats(struct daemon *daemon, const char *sr_ref, struct smd_error *err);
/* In two steps, for a transaction of the caller's: the driver is asked before it. */
int sr_measure(struct sr *sr, struct smd_sr_stat *ret, struct smd_error *err);
int sr_store_stats(struct daemon *daemon, const char *sr_ref, const struct smd_sr_stat *stat,
		   struct smd_error *err);
/* Reconcile the rows with the volumes; a broken image is flagged, never fatal. */
int sr_scan(struct daemon *daemon, const char *sr_ref, struct smd_error *err);
/* {volume: why it is no VDI} of what a scan would leave alone now; a new reference. */
int sr_orphans(struct daemon *daemon, const char *sr_ref, json **ret, struct smd_error *err);


/* Read one VDI's sizes and state afresh; row: as it is now. */
int vdi_refresh(struct sr *sr, const char *vdi_ref, json *row, struct smd_error *err);

#endif
