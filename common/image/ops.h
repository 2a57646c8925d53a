/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a worker and smd-img both do, on descriptors: one implementation of
 * create, info, convert, check, map, measure, compare, resize. Results are JSON
 * in qemu-img's field names where it has them.
 *
 * Threads: as the copier; the daemon runs these only inside smd-worker.
 */
#ifndef SMD_COMMON_IMAGE_OPS_H
#define SMD_COMMON_IMAGE_OPS_H

#include "common/error.h"
#include "common/image/copy.h"
#include "common/image/format.h"
#include "common/image/measure.h"
#include "common/json.h"

/* An image to open: a chain of descriptors, leaf first. */
struct smd_source {
	size_t n;
	struct {
		int fd;			/* taken over by the operation */
		const char *name;	/* for messages */
		const char *format;	/* declared; never probed */
	} layers[SMD_CHAIN_MAX];
	int direct_fd;	/* merge: of the layer that is written (smd_io_set_direct), taken over as
			 * they are; 0: none */
	bool write;
	bool foreign;	/* from outside: also run the detector, which only refuses */
	bool mend;	/* resize: smd_source_open_mended */
	bool small;	/* SMD_CHAIN_SMALL */
};

/* Open; FORMAT_MISMATCH where a foreign raw image has another format's
 * signature or an image has two. The descriptors are closed either way. */
int smd_source_open(struct smd_source *source, struct smd_chain **ret, struct smd_error *err);

/* The same for writing an image of ours in place: what a job that was cut off left
 * behind is mended first, where an image needs that. */
int smd_source_open_mended(struct smd_source *source, struct smd_chain **ret,
			   struct smd_error *err);

/* The layers alone, not yet a chain; the caller closes their ios. */
int smd_source_layers(struct smd_source *source, struct smd_layer *ret_layers,
		      struct smd_error *err);

/* Refuse an image whose bytes say something else than its declared format. */
int smd_detect_refuse(struct smd_io *io, const struct smd_format *declared,
		      struct smd_error *err);

/* The same for bytes that come in a stream: what formats are told by is in the two
 * ends of a store, of len bytes each (all of a smaller one). */
#define SMD_ENDS_MAX 4096u
struct smd_ends {
	uint8_t head[SMD_ENDS_MAX], tail[SMD_ENDS_MAX];
	size_t len;
	uint64_t size;
};
void smd_ends_add(struct smd_ends *ends, const void *bytes, size_t count);
int smd_detect_refuse_ends(const struct smd_ends *ends, const char *name,
			   const struct smd_format *declared, struct smd_error *err);

struct smd_target {
	int fd;			/* taken over */
	int direct_fd;		/* the same: smd_io_set_direct; 0: none */
	const char *name;
	const char *format;
	struct smd_options options;
	uint64_t virtual_size;
	const char *parent_name, *parent_format;	/* overlay; NULL: none */
	uint8_t parent_uuid[16];
	uint64_t parent_virtual_size;
	/* What the overlay lies over, as a chain: it says the four above (the name
	 * only where none is given); its descriptors are taken over. Convert copies
	 * a delta then: what so many upper layers of the source hold, the others being
	 * known to show what parents shows; 0: what differs from parents, found by
	 * comparing. Measure goes by upper, or counts what differs by the extents. */
	struct smd_source *parents;
	size_t upper;
	/* The sum of the digest of what parents shows, from which that of the new disk is
	 * found; has_below false: not known. */
	struct smd_digest below;
	bool has_below;
	bool no_flush;		/* rather fast than safe: see smd_io_set_no_flush */
};
/* The format's callbacks' view of a target: now, and with a new uuid. */
void smd_target_params(const struct smd_target *target, struct smd_create *ret);
/* Round its virtual size up to what the format can have; SIZE_LIMIT names the limit
 * and the formats that fit. */
int smd_target_round(struct smd_target *target, struct smd_error *err);
int smd_op_create(struct smd_target *target, struct smd_error *err);

/* create + copy + flush; the result has the source's exact size, rounded up to
 * the format's size_unit; over parents it is an overlay. With marks of an earlier run's it goes
 * on with what that left in the target's file, which is not emptied first then; where it
 * cannot, it makes the target anew and says why. *ret: see convert in
 * daemon/worker/protocol.h. */
int smd_op_convert(struct smd_source *source, struct smd_target *target,
		   const struct smd_copy_options *options, json **ret, struct smd_error *err);

/* Make a disk that shows what base shows, onto, show what source shows: only what
 * differs is written. onto is at least as large; the same result. */
int smd_op_update(struct smd_source *source, struct smd_source *base, struct smd_source *onto,
		  const struct smd_copy_options *options, json **ret, struct smd_error *err);

/* {"filename","digest":"xxh3-pages:…","digest_sum","virtual-size"}: the merged view's content. */
int smd_op_checksum(struct smd_source *source, const struct smd_copy_options *options,
		    json **ret, struct smd_error *err);

/* qemu-img info --output=json; "format-specific": {"type", "data": {the module's details}}.
 * Only the leaf is opened: one that needs a parent needs none here. */
int smd_op_info(struct smd_source *source, json **ret, struct smd_error *err);
/* Of all that the size, the parent and the uuids only, and "hidden" and "degraded": a scan
 * asks for them thousands of times. What is false is left out, and where that leaves the size
 * alone, *ret is this number. */
int smd_op_look(struct smd_source *source, json **ret, struct smd_error *err);
/* The same of an io, which stays the caller's. */
int smd_op_look_io(struct smd_io *io, const char *format, json **ret, struct smd_error *err);
#define SMD_CHECK_NO_CHECKER 63		/* qemu-img's exit status */
/* qemu-img check --output=json plus "findings": [{kind, reason, repairable, repaired, text}].
 * *ret_exit: 0 clean, 2 corruption, 3 nothing worse than leaks or a damaged redundant
 * copy, SMD_CHECK_NO_CHECKER the format has none. */
int smd_op_check(int fd, const char *name, const char *format, uint32_t repair,
		 json **ret, int *ret_exit, struct smd_error *err);
int smd_op_map(struct smd_source *source, json **ret, struct smd_error *err);
/* {"required": bytes of the file, "fully-allocated", "allocated": what its pages take,
 * "shareable": of that, what needs no room beside the source where both share extents,
 * "virtual-size": the source's, as the format rounds it, "data"}. The image is as large,
 * and at least as the target says. source NULL: an empty disk of this size. options: exact and
 * progress; the rest is the target's. */
int smd_op_measure(struct smd_source *source, uint64_t virtual_size, struct smd_target *target,
		   struct smd_measure_options *options, json **ret, struct smd_error *err);
int smd_op_resize(struct smd_source *source, uint64_t size, bool shrink, struct smd_error *err);

/* See common/image/merge.h. The source is the child with all its parents; the descriptor
 * of the one that is written (the second layer's for into_parent) allows writing.
 * {"into-parent":N,"into-child":N,"parent-lacks":N}; {"data":N,"written":N,"shared":N,"zero":N}. A parent
 * that was written is marked hidden as the child is. */
int smd_op_merge_measure(struct smd_source *source, json **ret, struct smd_error *err);
int smd_op_merge(struct smd_source *source, bool into_parent,
		 const struct smd_copy_options *options, json **ret, struct smd_error *err);

/* Have an image, the first layer, record the second one as its parent, under this
 * name; with one layer alone, none. Nothing is copied: that both parents show the same is
 * the caller's business. Durable on return; doing it again changes nothing. */
int smd_op_set_parent(struct smd_source *source, const char *name, struct smd_error *err);

/* What an image holds itself, whatever lies below it: {"data":N,"zero":N} bytes. */
int smd_op_own(struct smd_source *source, json **ret, struct smd_error *err);
/* Write to a descriptor, which is taken over, the set of blocks (common/blocks.h) where source may
 * differ from base: where their chains do not lead to the same place of one file,
 * and are not zeroes in both. base NULL: where the first image of source does not
 * leave it to those below; all of one that stands alone. {"size": of the larger disk} */
int smd_op_blocks(struct smd_source *source, struct smd_source *base, int fd, json **ret,
		  struct smd_error *err);
/* Mark an image as an inner node of a chain, or not; nothing where the format has no
 * such mark. Durable on return. */
int smd_op_hide(struct smd_source *source, bool hidden, struct smd_error *err);

/* The formats loaded: [{"name","alias","doc","caps":[…],"max-virtual-size","size-unit",
 * "needs-grow",options:[…]}]. */
json *smd_op_formats(void);

#endif
