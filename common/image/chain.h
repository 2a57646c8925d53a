/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A chain: a leaf and its parents down to a base, any mix of formats, one
 * merged view. One image is a chain of one. The layers come from whoever built
 * the chain (the daemon's records, or smd-img's command line), never from names
 * in the images; that each names the next is checked where the format knows
 * (PARENT_MISMATCH by uuid).
 *
 * Sizes may grow towards the leaf; past a smaller parent's end reads give
 * zeroes, whatever lies below it. Only the leaf is written.
 *
 * Threads: pread, pwrite, zero and extents may be called from any thread; the
 * chain serialises calls into each module and runs data I/O in parallel.
 */
#ifndef SMD_COMMON_IMAGE_CHAIN_H
#define SMD_COMMON_IMAGE_CHAIN_H

#include "common/error.h"
#include "plugins/smd-format.h"

#define SMD_CHAIN_MAX 32

struct smd_layer {
	const struct smd_format *format;
	struct smd_io *io;		/* the chain owns it once opened */
};

#define SMD_CHAIN_WRITE 0x1u	/* the leaf may be written */
#define SMD_CHAIN_FOREIGN 0x2u	/* the images came from outside: SMD_OPEN_FOREIGN */
#define SMD_CHAIN_SMALL 0x4u	/* the leaf is encoded for size: SMD_OPEN_SMALL */

struct smd_chain;

/* Open the layers, leaf first. A layer that needs a parent must have one, and
 * the reverse: EXTERNAL_REF names what the image asked for. On failure the
 * layers' ios are the caller's still. */
int smd_chain_open(const struct smd_layer *layers, size_t n, uint32_t flags,
		   struct smd_chain **ret, struct smd_error *err);
void smd_chain_close(struct smd_chain *chain);	/* flushes nothing; NULL is fine */
static inline void
cleanup_chain(struct smd_chain **chain)
{
	smd_chain_close(*chain);
}
#define CLEANUP_CHAIN CLEANUP(cleanup_chain)

uint64_t smd_chain_size(const struct smd_chain *chain);		/* the leaf's virtual size */
size_t smd_chain_depth(const struct smd_chain *chain);
const struct smd_image_info *smd_chain_info(const struct smd_chain *chain, size_t layer);
const struct smd_format *smd_chain_format(const struct smd_chain *chain, size_t layer);

/* The store and the module's image of a layer; borrowed. For operations on one
 * image (snapshots, set_parent) while nobody else uses the chain. */
struct smd_io *smd_chain_io(const struct smd_chain *chain, size_t layer);
void *smd_chain_image(const struct smd_chain *chain, size_t layer);

/* The merged view. kind is never PARENT. */
struct smd_run {
	enum smd_extent_kind kind;	/* DATA, ZERO, ENCODED */
	uint64_t offset;
	uint64_t count;
	size_t layer;			/* 0: the leaf */
	struct smd_io *io;		/* DATA: where; borrowed */
	uint64_t host_offset;
	/* The copier's: from the run of data before it this one is parted by holes of the
	 * store alone, if by anything. */
	bool past_hole;
};
typedef int smd_run_fn(void *opaque, const struct smd_run *run, struct smd_error *err);
int smd_chain_extents(struct smd_chain *chain, uint64_t offset, uint64_t count,
		      smd_run_fn *add, void *opaque, struct smd_error *err);

/* Any offset and count within the disk. The last partial sector of a disk whose
 * size is no multiple of 512 is handled here. */
int smd_chain_pread(struct smd_chain *chain, void *buf, size_t count, uint64_t offset,
		    struct smd_error *err);
int smd_chain_pwrite(struct smd_chain *chain, const void *buf, size_t count, uint64_t offset,
		     struct smd_error *err);
/* Reads as zeroes afterwards; unmap: without taking space where possible. */
int smd_chain_zero(struct smd_chain *chain, uint64_t offset, uint64_t count, bool unmap,
		   struct smd_error *err);
int smd_chain_flush(struct smd_chain *chain, struct smd_error *err);
int smd_chain_resize(struct smd_chain *chain, uint64_t size, bool shrink, struct smd_error *err);

#endif
