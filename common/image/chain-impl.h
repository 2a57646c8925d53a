/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The chain's insides, for chain*.c and the copier.
 */
#ifndef SMD_COMMON_IMAGE_CHAIN_IMPL_H
#define SMD_COMMON_IMAGE_CHAIN_IMPL_H

#include <pthread.h>

#include "common/checked.h"
#include "common/image/chain.h"
#include "common/image/format.h"
#include "common/image/io-queue.h"

struct chain_layer {
	const struct smd_format *format;
	struct smd_io *io;
	void *img;
	struct smd_image_info info;
	pthread_mutex_t lock;	/* held around every call into img but read_encoded and encode */
};

/* A write under way; writers of the same unit wait for each other. */
struct chain_writer {
	uint64_t start, end;
	struct chain_writer *next;
};

struct smd_chain {
	size_t n;
	bool writable;
	/* What a write must cover whole where the leaf has nothing: a write_unit,
	 * or an alloc_unit where units may be encoded. */
	uint64_t unit;
	pthread_mutex_t writers_lock;	/* guards writers */
	pthread_cond_t writers_changed;
	struct chain_writer *writers;
	struct chain_layer layers[];
};

static inline struct chain_layer *
chain_leaf(struct smd_chain *chain)
{
	return &chain->layers[0];
}

/* Ask the leaf where a write goes, keeping the answer. Freed by the caller. */
struct chain_places {
	struct smd_place *list;
	size_t n, room;
	void *res;
};
int chain_reserve(struct smd_chain *chain, uint64_t offset, uint64_t count,
		  struct chain_places *places, struct smd_error *err);
int chain_commit(struct smd_chain *chain, struct chain_places *places, struct smd_error *err);
void chain_abandon(struct smd_chain *chain, struct chain_places *places);
/* 0 written, 1 it must be written as it is, -1. */
int chain_write_encoded(struct smd_chain *chain, uint64_t offset, const void *data, size_t len,
			struct smd_error *err);
void chain_places_free(struct chain_places *places);

/* A write of whole units that is under way while its thread goes on, past the page cache. Its
 * units are its own until it ends: the thread must not write to them before. */
struct chain_write {
	struct chain_writer writer;
	struct chain_places places;
	struct smd_writes writes;
};
/* 1: not this way, for parts of it are no whole units. buf stays as it is until the end. */
int chain_write_begin(struct smd_chain *chain, struct chain_write *write, struct smd_queue *queue,
		      const void *buf, uint64_t count, uint64_t offset, struct smd_error *err);
/* Wait for it; the leaf has it then, unless r < 0 says that it is given up: then r is returned. */
int chain_write_end(struct smd_chain *chain, struct chain_write *write, struct smd_queue *queue,
		    int r, struct smd_error *err);

/* Read what a run describes, [run->offset, + run->count), into buf. */
int chain_read_run(struct smd_chain *chain, const struct smd_run *run, void *buf,
		   struct smd_error *err);

/* Zeroes of the leaf's own, where its parents show zeroes too. */
int chain_zero_own(struct smd_chain *chain, uint64_t offset, uint64_t count,
		   struct smd_error *err);

/* The view of n layers alone, from first on; [offset, end) may lie past their ends.
 * What they leave to layers below is PARENT (ZERO, where there are none), and runs
 * of two layers stay apart: run.layer says whose a ZERO is. Unlike the merged view. */
int chain_extents_of(struct smd_chain *chain, size_t first, size_t n, uint64_t offset,
		     uint64_t end, smd_run_fn *add, void *opaque, struct smd_error *err);

/* Whether the leaf's parents have anything but zeroes in [offset, end), which may
 * lie past the leaf's own end. */
int chain_below_shows(struct smd_chain *chain, uint64_t offset, uint64_t end, bool *ret,
		      struct smd_error *err);

#endif
