/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The qcow2 module's own header: one open image, and who does what to it.
 *
 * Changes are made in memory first: L1 and refcount table whole, L2 tables and
 * refcount blocks in two bounded caches. qcow2_sync (sync.c) writes them back in
 * the one order that a crash cannot hurt; nothing else writes a table that is
 * in use. An image without changes writes nothing.
 *
 * A standard cluster is treated as one subcluster, so that standard and
 * extended L2 entries share all code: struct qcow2_entry has a bit per
 * subcluster, of which a standard one uses the first.
 *
 * Threads: the host serialises all but read_encoded. The image's lock, taken by
 * every callback (module.c), keeps that one away from tables being changed; no
 * function below takes it but qcow2_read_encoded.
 */
#ifndef QCOW2_H
#define QCOW2_H

#include <pthread.h>

#include "plugins/format/qcow2/layout.h"
#include "plugins/smd-format.h"

/* ---- One image -------------------------------------------------------------- */

struct qcow2_header {
	uint32_t version;
	uint64_t backing_offset;
	uint32_t backing_size;
	uint32_t cluster_bits;
	uint64_t size;
	uint32_t crypt_method;
	uint32_t l1_size;
	uint64_t l1_offset;
	uint64_t rt_offset;
	uint32_t rt_clusters;
	uint32_t n_snapshots;
	uint64_t snapshots_offset;
	uint64_t incompatible;
	uint64_t compatible;
	uint64_t autoclear;
	uint32_t refcount_order;
	uint32_t header_length;
	uint8_t compression;
};

/* A header extension; its data is at offset in the image's head. */
struct qcow2_ext {
	uint32_t type;
	uint32_t length;
	uint32_t offset;
};

/* What follows from the header's numbers. */
struct qcow2_geometry {
	uint64_t cluster_size;
	unsigned cluster_bits;
	unsigned n_sub;			/* subclusters in a cluster: 1 or 32 */
	uint64_t sub_size;
	unsigned l2_entry_size;		/* 8 or 16 */
	uint64_t l2_entries;
	uint64_t l2_span;		/* guest bytes below one L2 table */
	unsigned refcount_order;
	uint64_t rb_entries;		/* counts in a refcount block */
	uint64_t refcount_max;
};

struct qcow2_table {
	uint64_t offset;
	uint8_t *data;
	uint32_t dirty_start, dirty_end;	/* bytes; equal: clean */
	struct qcow2_table *hash_next;
	struct qcow2_table *newer, *older;
};

/* Cluster-sized tables by their offset, least recently used first out. */
struct qcow2_cache {
	size_t table_size;
	size_t max;
	size_t n;
	size_t n_dirty;
	size_t n_buckets;
	struct qcow2_table **buckets;
	struct qcow2_table *newest, *oldest;
};

/* An array of 64-bit entries kept whole; [dirty_start, dirty_end) must be written. */
struct qcow2_array {
	uint64_t *entries;
	uint64_t n;
	uint64_t empty_from;		/* entries from here on are 0; 0: not known */
	uint64_t offset;
	uint64_t dirty_start, dirty_end;
};

/* Host clusters whose count goes down by one when the entries that named them
 * are gone from the disk too. */
struct qcow2_free {
	uint64_t cluster;
	uint64_t n;
};

/* A cluster of extended L2 whose first allocation is still under way: a second
 * reservation, for other subclusters of it, must land in the same place. */
struct qcow2_pending {
	uint64_t guest_cluster;
	uint64_t host;
	unsigned users;
	bool published;
};

struct qcow2_codec;
struct qcow2_encoder;

struct qcow2_image {
	struct smd_io *io;
	struct qcow2_header h;
	/* The size in the header on disk while h.size runs ahead of it; 0: h.size. */
	uint64_t held_size;
	struct qcow2_geometry g;
	uint8_t *head;			/* cluster 0 as it is on disk; where nobody can write it
					 * perhaps no more than what it says */
	struct qcow2_ext *exts;
	size_t n_exts;
	uint32_t ext_end;		/* in head: past the end marker */
	char backing_name[SMD_NAME_MAX];
	char backing_format[32];
	bool hidden;

	bool writable;
	bool small;		/* encode for size: SMD_OPEN_SMALL */
	bool look;		/* no tables: SMD_OPEN_LOOK */
	bool write_begun;		/* autoclear bits are off on disk */
	bool failed;			/* a flush failed: what is on disk is unknown */

	struct qcow2_array l1;
	struct qcow2_array rt;		/* entries NULL: not loaded yet */
	struct qcow2_cache l2_cache;
	struct qcow2_cache rb_cache;
	uint64_t alloc_hint;		/* no free cluster below this one */
	uint64_t pack_at;		/* the next compressed byte, inside a host cluster; 0: none open */
	struct qcow2_free *frees;
	size_t n_frees, frees_max;
	struct qcow2_pending *pending;
	size_t n_pending;
	size_t n_reservations;

	pthread_mutex_t lock;
	pthread_mutex_t codec_lock;
	struct qcow2_codec *codecs;	/* idle ones; codec_lock */
	struct qcow2_encoder *encoders;	/* the same */
};

/* ---- open.c -------------------------------------------------------------------- */

/* Load header, extensions and, but for a look, L1, with every check that open makes. */
int qcow2_open(struct smd_io *io, uint32_t flags, struct qcow2_image **ret,
	       struct smd_error *err);
/* The same for check and its repairs: marks an image as writable that open
 * would not, and accepts what open refuses only as a matter of policy. */
int qcow2_open_for_check(struct smd_io *io, struct qcow2_image **ret, struct smd_error *err);
void qcow2_close(struct qcow2_image *img);
static inline void
cleanup_qcow2(struct qcow2_image **img)
{
	qcow2_close(*img);
}
#define CLEANUP_QCOW2 __attribute__((cleanup(cleanup_qcow2)))

void qcow2_geometry_init(struct qcow2_geometry *g, unsigned cluster_bits, bool extended_l2,
			 unsigned refcount_order);

/* ---- header.c ------------------------------------------------------------------ */

int qcow2_header_load(struct qcow2_image *img, struct smd_error *err);
/* Extensions and name as img->head has them. */
int qcow2_head_parse(struct qcow2_image *img, struct smd_error *err);
/* Write a part of cluster 0 that counts at once, and flush it. */
int qcow2_head_write(struct qcow2_image *img, const uint8_t *buf, size_t count, uint64_t offset,
		     struct smd_error *err);
/* Put the numbers of h into the first bytes of buf, version 2 or 3. */
void qcow2_header_encode(const struct qcow2_header *h, uint8_t *buf);
/* Write the header's numbers: one sector, flushed. */
int qcow2_header_write(struct qcow2_image *img, struct smd_error *err);
/* The extension, or NULL. */
const struct qcow2_ext *qcow2_ext_find(const struct qcow2_image *img, uint32_t type);
/* Append an extension at pos of buf (room is the caller's); the new end. */
size_t qcow2_ext_put(uint8_t *buf, size_t pos, uint32_t type, const void *data, uint32_t length);
/* Before the first change: switch off autoclear bits, as we maintain none. */
int qcow2_write_begin(struct qcow2_image *img, struct smd_error *err);
/* Before a change that no disk sees: bitmaps stay valid, they say what changed in
 * the disk; of what else there is nobody knows what it says. */
int qcow2_mark_begin(struct qcow2_image *img, struct smd_error *err);
/* Mark the image corrupt, so that no one writes it before it is checked. err is
 * set already and stays so. */
void qcow2_mark_corrupt(struct qcow2_image *img, struct smd_error *err);

/* ---- header-rewrite.c ------------------------------------------------------------ */

/* Write extensions and backing name anew: the ones given, and all the others
 * verbatim. NULL name: none. The strings are not the image's own. */
int qcow2_header_rewrite(struct qcow2_image *img, const char *name, const char *format,
			 bool hidden, struct smd_error *err);

/* ---- cache.c ------------------------------------------------------------------- */

int qcow2_cache_init(struct qcow2_cache *cache, size_t table_size, size_t max,
		     const struct smd_io *io, struct smd_error *err);
void qcow2_cache_done(struct qcow2_cache *cache);
/* The table at offset if it is in memory, or NULL. */
struct qcow2_table *qcow2_cache_find(struct qcow2_cache *cache, uint64_t offset);
/* The table at offset, read when it is not there. Valid until two more have
 * been asked for. */
int qcow2_cache_get(struct qcow2_cache *cache, struct smd_io *io, uint64_t offset,
		    struct qcow2_table **ret, struct smd_error *err);
/* A table that starts as zeroes, or as copy, wholly dirty. */
int qcow2_cache_new(struct qcow2_cache *cache, const struct smd_io *io, uint64_t offset,
		    const uint8_t *copy, struct qcow2_table **ret, struct smd_error *err);
void qcow2_cache_dirty(struct qcow2_cache *cache, struct qcow2_table *table, size_t offset,
		       size_t count);
/* Forget the table at offset, or all, written or not. */
void qcow2_cache_drop(struct qcow2_cache *cache, uint64_t offset);
void qcow2_cache_drop_all(struct qcow2_cache *cache);
/* Write the dirty tables; they stay dirty until qcow2_cache_clean. */
int qcow2_cache_write(struct qcow2_cache *cache, struct smd_io *io, struct smd_error *err);
void qcow2_cache_clean(struct qcow2_cache *cache);

/* ---- array.c ------------------------------------------------------------------- */

/* Read n big-endian entries at offset. */
int qcow2_array_load(struct qcow2_array *array, struct smd_io *io, uint64_t offset, uint64_t n,
		     struct smd_error *err);
void qcow2_array_set(struct qcow2_array *array, uint64_t index, uint64_t value);
/* Write [start, end) of it. */
int qcow2_array_write(const struct qcow2_array *array, struct smd_io *io, uint64_t start,
		      uint64_t end, struct smd_error *err);
/* Write what is dirty; it stays so until qcow2_array_clean. */
int qcow2_array_write_dirty(const struct qcow2_array *array, struct smd_io *io,
			    struct smd_error *err);
static inline void
qcow2_array_clean(struct qcow2_array *array)
{
	array->dirty_start = array->dirty_end = 0;
}

/* ---- sync.c -------------------------------------------------------------------- */

/* Write everything back, in order. */
int qcow2_sync(struct qcow2_image *img, struct smd_error *err);
/* The same if the caches are so full of changes that the next operation might
 * push one out. Call where no table is held. */
int qcow2_sync_if_full(struct qcow2_image *img, struct smd_error *err);
/* Let go of n clusters from cluster on, once the entries that named them are
 * gone from the disk. Out of memory they are leaked. */
void qcow2_free_later(struct qcow2_image *img, uint64_t cluster, uint64_t n);
/* Give the store back those of the clusters that are counted 0 times. */
int qcow2_punch_unused(struct qcow2_image *img, uint64_t cluster, uint64_t n,
		       struct smd_error *err);
int qcow2_flush_io(struct qcow2_image *img, struct smd_error *err);

/* ---- refcount.c ------------------------------------------------------------------ */

uint64_t qcow2_refcount_load(const uint8_t *rb, unsigned order, uint64_t index);
void qcow2_refcount_store(uint8_t *rb, unsigned order, uint64_t index, uint64_t value);
/* Whether counts [index, index + n) are 0; both are multiples of 8. */
bool qcow2_rb_is_zero(const uint8_t *rb, unsigned order, uint64_t index, uint64_t n);
int qcow2_rt_load(struct qcow2_image *img, struct smd_error *err);
/* A refcount block; *ret NULL where there is none and all its counts are 0. */
int qcow2_rb_get(struct qcow2_image *img, uint64_t block, struct qcow2_table **ret,
		 struct smd_error *err);
int qcow2_refcount_get(struct qcow2_image *img, uint64_t cluster, uint64_t *ret,
		       struct smd_error *err);
/* Set the count of a cluster that a block counts. */
int qcow2_refcount_set(struct qcow2_image *img, uint64_t cluster, uint64_t value,
		       struct smd_error *err);
/* Add delta (+1 or -1) to the counts of n clusters; a count that would leave its
 * range fails with nothing changed for it. */
int qcow2_refcount_add(struct qcow2_image *img, uint64_t cluster, uint64_t n, int delta,
		       struct smd_error *err);
/* Take up to want free clusters in one run, and at least one. */
int qcow2_alloc(struct qcow2_image *img, uint64_t want, uint64_t *ret_host, uint64_t *ret_n,
		struct smd_error *err);
/* Take exactly n clusters in one run. */
int qcow2_alloc_run(struct qcow2_image *img, uint64_t n, uint64_t *ret_host,
		    struct smd_error *err);
/* Refuse, and mark the image corrupt, when [host, host + count) holds metadata. */
int qcow2_overlap_check(struct qcow2_image *img, uint64_t host, uint64_t count,
			struct smd_error *err);

/* ---- l2.c ------------------------------------------------------------------------ */

/* One L2 entry, standard or extended. */
struct qcow2_entry {
	uint64_t host;		/* of the cluster, 0: none; compressed: of its first byte */
	uint64_t compressed_size;	/* at most; 0: not compressed */
	bool copied;
	uint32_t alloc;		/* subclusters with data at host */
	uint32_t zero;		/* subclusters that read as zeroes */
};

/* What is wrong with an entry: the check reports it and goes on, others fail. */
struct qcow2_fault {
	enum smd_reason reason;
	char text[200];
};
/* Always -1. */
__attribute__((format(printf, 3, 4)))
int qcow2_fault(struct qcow2_fault *fault, enum smd_reason reason, const char *fmt, ...);
int qcow2_l1_parse(const struct qcow2_image *img, uint64_t l1_entry, uint64_t *ret,
		   struct qcow2_fault *fault);
int qcow2_entry_parse(const struct qcow2_image *img, const uint8_t *p, struct qcow2_entry *ret,
		      struct qcow2_fault *fault);
void qcow2_entry_encode(const struct qcow2_image *img, const struct qcow2_entry *entry,
			uint8_t *p);
/* All subclusters. */
static inline uint32_t
qcow2_sub_all(const struct qcow2_image *img)
{
	return img->g.n_sub == 1 ? 1 : UINT32_MAX;
}
/* Check an L1 entry and give the L2 table's offset, 0: none. */
int qcow2_l1_decode(const struct qcow2_image *img, uint64_t l1_entry, uint64_t *ret,
		    struct smd_error *err);
/* The L2 table at offset, with its bounds checked. */
int qcow2_l2_get(struct qcow2_image *img, uint64_t offset, struct qcow2_table **ret,
		 struct smd_error *err);
int qcow2_entry_decode(const struct qcow2_image *img, const uint8_t *p, struct qcow2_entry *ret,
		       struct smd_error *err);
/* The entry of a guest cluster. */
int qcow2_lookup(struct qcow2_image *img, uint64_t guest_cluster, struct qcow2_entry *ret,
		 struct smd_error *err);
/* Change it, with its L2 table made or copied where that is needed. */
int qcow2_entry_set(struct qcow2_image *img, uint64_t guest_cluster,
		    const struct qcow2_entry *entry, struct smd_error *err);
/* Host clusters that an entry holds a count of: [*ret, + *ret_n). */
void qcow2_entry_clusters(const struct qcow2_image *img, const struct qcow2_entry *entry,
			  uint64_t *ret, uint64_t *ret_n);
int qcow2_extents(struct qcow2_image *img, uint64_t offset, uint64_t count,
		  smd_extent_fn *add, void *opaque, struct smd_error *err);

/* ---- compress.c -------------------------------------------------------------------- */

/* Decode the cluster that a compressed entry names, or one that the end of the
 * file cuts. */
int qcow2_decode(struct qcow2_image *img, const struct qcow2_entry *entry, uint8_t *buf,
		 struct smd_error *err);
int qcow2_read_encoded(void *opaque, uint64_t offset, void *buf, struct smd_error *err);
void qcow2_codecs_free(struct qcow2_image *img);

/* ---- encode.c ---------------------------------------------------------------------- */

/* Touches nothing of the image but the idle encoders. */
int qcow2_encode(void *opaque, const void *buf, void *out, size_t out_room, size_t *ret_len,
		 struct smd_error *err);
int qcow2_write_encoded(struct qcow2_image *img, uint64_t offset, const void *data, size_t len,
			struct smd_error *err);
void qcow2_encoders_free(struct qcow2_image *img);

/* ---- write.c ------------------------------------------------------------------------ */

struct qcow2_reservation;
int qcow2_reserve(struct qcow2_image *img, uint64_t offset, uint64_t count, smd_place_fn *add,
		  void *opaque, struct qcow2_reservation **ret, struct smd_error *err);
int qcow2_commit(struct qcow2_image *img, struct qcow2_reservation *res, struct smd_error *err);
void qcow2_abandon(struct qcow2_image *img, struct qcow2_reservation *res);

/* ---- zero.c -------------------------------------------------------------------------- */

int qcow2_zero(struct qcow2_image *img, uint64_t offset, uint64_t count, uint32_t flags,
	       struct smd_error *err);

/* ---- resize.c -------------------------------------------------------------------------- */

int qcow2_resize(struct qcow2_image *img, uint64_t virtual_size, uint32_t flags,
		 struct smd_error *err);

/* ---- snapshot-table.c --------------------------------------------------------------------- */

struct qcow2_snapshot {
	uint64_t table_offset;	/* of the entry within the table */
	uint64_t entry_size;	/* with its padding */
	uint64_t l1_offset;
	uint32_t l1_size;
	uint64_t virtual_size;
	uint64_t vm_state_size;
	uint32_t date_sec, date_nsec;
	char *id, *name;	/* with a NUL behind; may hold others */
	uint16_t id_size, name_size;
};

void qcow2_snapshot_done(struct qcow2_snapshot *snapshot);
/* Read and check the entry at pos of the table; *pos moves to the next. */
int qcow2_snapshot_read(struct qcow2_image *img, uint64_t *pos, struct qcow2_snapshot *ret,
			struct smd_error *err);
/* Check the whole table; *ret_size: its bytes. */
int qcow2_snapshots_check(struct qcow2_image *img, uint64_t *ret_size, struct smd_error *err);
int qcow2_snapshot_list(struct qcow2_image *img, smd_snapshot_fn *add, void *opaque,
			struct smd_error *err);

/* ---- copied.c -------------------------------------------------------------------------------- */

/* Told of n host clusters from first on that something has a count of. */
typedef int qcow2_clusters_fn(struct qcow2_image *img, uint64_t first, uint64_t n,
			      struct smd_error *err);
/* All the clusters that the L2 tables below an L1 name, and with tables each of
 * these itself, behind what it names. */
int qcow2_tree_each(struct qcow2_image *img, const struct qcow2_array *l1, bool tables,
		    qcow2_clusters_fn *fn, struct smd_error *err);
/* Make the copied flags of an L1 table and of the L2 tables below it say whether
 * the refcount is one. */
int qcow2_copied_refresh(struct qcow2_image *img, struct qcow2_array *l1,
			 struct smd_error *err);

/* ---- shadow.c --------------------------------------------------------------------------------- */

/* While it is open: the tables that the header on disk names. */
struct qcow2_shadow {
	struct qcow2_header h;
	struct qcow2_array l1, rt;
};

/* Have img work on copies of the active L1, its L2 tables and the refcounts. All
 * must be written back. Until the switch nothing may be allocated. */
int qcow2_shadow_begin(struct qcow2_image *img, struct qcow2_shadow *shadow,
		       struct smd_error *err);
/* Write the copies back, then img->h. Where that fails all is as it was. */
int qcow2_shadow_switch(struct qcow2_image *img, struct qcow2_shadow *shadow,
			struct smd_error *err);
/* Forget the copies instead. */
void qcow2_shadow_undo(struct qcow2_image *img, struct qcow2_shadow *shadow);
void qcow2_shadow_done(struct qcow2_shadow *shadow);
/* Let go of a table that nothing names any more, and of all that its entries name. */
int qcow2_table_free(struct qcow2_image *img, const struct qcow2_array *table,
		     struct smd_error *err);

/* ---- snapshot.c ---------------------------------------------------------------------------- */

int qcow2_snapshot_create(struct qcow2_image *img, const char *name, uint64_t date_ns,
			  struct smd_error *err);
int qcow2_snapshot_delete(struct qcow2_image *img, const char *id_or_name,
			  struct smd_error *err);
int qcow2_snapshot_apply(struct qcow2_image *img, const char *id_or_name,
			 struct smd_error *err);

/* ---- bitmap.c -------------------------------------------------------------------------------- */

/* Told of every run of bytes the bitmaps occupy. */
typedef int qcow2_range_fn(void *opaque, uint64_t offset, uint64_t count, struct smd_error *err);
/* Check the bitmaps extension, directory and tables; nothing to do where the
 * image has none that are valid. Returns 1 with fault set where they are not. */
int qcow2_bitmaps_walk(struct qcow2_image *img, qcow2_range_fn *range, void *opaque,
		       struct qcow2_fault *fault, struct smd_error *err);

/* ---- create.c, stream.c ------------------------------------------------------------------------ */

extern const struct smd_option qcow2_options[];

/* The options and where a new image's structures lie, in clusters from 0:
 * header, refcount table, refcount blocks, L1. */
struct qcow2_plan {
	struct qcow2_geometry g;
	uint32_t version;
	uint8_t compression;
	bool extended_l2;
	const char *preallocation;
	uint64_t virtual_size;
	uint64_t l1_size;
	uint64_t l1_clusters;
	uint64_t rt_clusters;
	uint64_t rb_clusters;
	uint64_t end;		/* clusters in all */
};
/* extra: clusters that will be in use behind them from the start. */
int qcow2_plan_init(struct qcow2_plan *plan, const struct smd_create *params, uint64_t extra,
		    const char *name, struct smd_error *err);
/* Cluster 0 of a new image. *ret is the caller's, a cluster long. */
int qcow2_plan_header(const struct qcow2_plan *plan, const struct smd_create *params,
		      const char *name, uint8_t **ret, struct smd_error *err);
int qcow2_create(struct smd_io *io, const struct smd_create *params, struct smd_error *err);
int qcow2_measure(const struct smd_create *params, uint64_t data_size, uint64_t n_extents,
		  struct smd_measure *ret, struct smd_error *err);
int qcow2_usage(const struct smd_create *params, struct smd_usage *ret, struct smd_error *err);
int qcow2_taken(const struct smd_create *params, const struct smd_usage *usage,
		struct smd_taken *ret, struct smd_error *err);
int qcow2_stream(const struct smd_create *params, const struct smd_extent *data, size_t n_data,
		 smd_piece_fn *emit, void *opaque, struct smd_error *err);

/* ---- info.c --------------------------------------------------------------------------------------- */

int qcow2_info(struct qcow2_image *img, struct smd_image_info *ret, struct smd_error *err);

/* ---- check.c ---------------------------------------------------------------------------------------- */

int qcow2_check(struct smd_io *io, uint32_t repair, smd_finding_fn *found, void *opaque,
		struct smd_check *ret, struct smd_error *err);

#endif
