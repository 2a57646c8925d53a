/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where writes go. reserve takes host clusters, the host writes data there,
 * commit puts them into L2. Data that is ours alone is written in place; a
 * cluster that a snapshot has too, or that is compressed, moves: what the write
 * does not cover is then copied here, before the host is told.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

/* n clusters from guest_cluster on that commit maps to host on. */
struct item {
	uint64_t guest_cluster;
	uint64_t n;
	uint64_t host;
	bool moves;		/* host was taken for it: abandon gives it back */
};

struct qcow2_reservation {
	uint64_t offset, count;
	struct item *items;
	size_t n_items, max_items;
};

static int
item_add(struct qcow2_image *img, struct qcow2_reservation *res, struct item item,
	 struct smd_error *err)
{
	struct item *last = res->n_items ? &res->items[res->n_items - 1] : NULL;
	size_t max = res->max_items ? res->max_items * 2 : 8;
	struct item *items;

	if (last && last->moves == item.moves &&
	    last->guest_cluster + last->n == item.guest_cluster &&
	    last->host + (last->n << img->g.cluster_bits) == item.host) {
		last->n += item.n;
		return 0;
	}
	if (res->n_items == res->max_items) {
		items = realloc(res->items, max * sizeof *items);
		if (!items)
			return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
		res->items = items;
		res->max_items = max;
	}
	res->items[res->n_items++] = item;
	return 0;
}

static void
reservation_free(struct qcow2_image *img, struct qcow2_reservation *res)
{
	img->n_reservations--;
	free(res->items);
	free(res);
}

/* ---- Clusters of extended L2 that two reservations share --------------------- */

static struct qcow2_pending *
pending_find(struct qcow2_image *img, uint64_t guest_cluster)
{
	for (size_t i = 0; i < img->n_pending; i++)
		if (img->pending[i].guest_cluster == guest_cluster)
			return &img->pending[i];
	return NULL;
}

static int
pending_add(struct qcow2_image *img, uint64_t guest_cluster, uint64_t host,
	    struct smd_error *err)
{
	struct qcow2_pending *pending;

	if (img->g.n_sub == 1)
		return 0;
	pending = realloc(img->pending, (img->n_pending + 1) * sizeof *pending);
	if (!pending)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	pending[img->n_pending++] = (struct qcow2_pending){ guest_cluster, host, 1, false };
	img->pending = pending;
	return 0;
}

/* One user less. Returns whether the cluster has neither users nor an entry. */
static bool
pending_drop(struct qcow2_image *img, uint64_t guest_cluster)
{
	struct qcow2_pending *pending = pending_find(img, guest_cluster);
	bool unused;

	if (!pending)
		return true;
	if (--pending->users > 0)
		return false;
	unused = !pending->published;
	*pending = img->pending[--img->n_pending];
	return unused;
}

/* ---- Filling what the host will not write ------------------------------------- */

struct fill {
	struct qcow2_image *img;
	const struct qcow2_entry *old;
	uint64_t host;		/* the cluster's new place */
	bool moves;
	bool zeroed;		/* it reads as zeroes already */
	uint64_t start, end;	/* within the cluster: what the host writes */
	uint8_t *buf;		/* the old data, once they were needed */
};

static bool
has_data(const struct fill *f, uint32_t bit)
{
	return f->old->compressed_size != 0 || (f->old->alloc & bit);
}

static int
fill_piece(struct fill *f, uint64_t start, uint64_t end, uint32_t bit, struct smd_error *err)
{
	struct qcow2_image *img = f->img;

	if (start >= end || (!has_data(f, bit) && f->zeroed))
		return 0;
	if (!has_data(f, bit) && !(f->old->zero & bit) && img->backing_name[0])
		return smd_fail(err, SMD_REASON_IO, img->io->name,
				"a write where only the parent has data must cover whole units");
	if (!f->buf) {
		f->buf = calloc(1, img->g.cluster_size);
		if (!f->buf)
			return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
		if ((f->old->compressed_size || f->old->alloc) &&
		    qcow2_decode(img, f->old, f->buf, err) < 0)
			return -1;
	}
	if (!has_data(f, bit))
		memset(f->buf + start, 0, end - start);
	return img->io->ops->pwrite(img->io, f->buf + start, end - start, f->host + start, err);
}

static int
fill_unit(struct fill *f, uint64_t start, uint64_t end, uint32_t bit, struct smd_error *err)
{
	bool outside = end <= f->start || start >= f->end;

	if (!f->moves && (outside || has_data(f, bit)))
		return 0;
	if (outside && !has_data(f, bit))
		return 0;
	/* Another reservation may take over the cluster when this one is
	 * abandoned (struct qcow2_pending): the old data must all be there. */
	if (outside || (f->img->g.n_sub > 1 && has_data(f, bit)))
		return fill_piece(f, start, end, bit, err);
	if (fill_piece(f, start, smd_max_u64(start, f->start), bit, err) < 0)
		return -1;
	return fill_piece(f, smd_min_u64(end, f->end), end, bit, err);
}

static int
fill_cluster(struct qcow2_image *img, uint64_t guest_cluster, struct fill *f,
	     struct smd_error *err)
{
	uint64_t limit = smd_min_u64(img->g.cluster_size,
				     img->h.size - (guest_cluster << img->g.cluster_bits));
	int r = 0;

	for (unsigned i = 0; r == 0 && i < img->g.n_sub; i++) {
		uint64_t start = i * img->g.sub_size;

		r = fill_unit(f, smd_min_u64(start, limit),
			      smd_min_u64(start + img->g.sub_size, limit), UINT32_C(1) << i, err);
	}
	free(f->buf);
	f->buf = NULL;
	return r;
}

/* ---- Reserve -------------------------------------------------------------------- */

struct reserving {
	struct qcow2_image *img;
	struct qcow2_reservation *res;
	uint64_t old_size;	/* of the store; what is past it reads as zeroes */
	struct smd_place place;	/* not told yet; count 0: none */
	smd_place_fn *add;
	void *opaque;
};

static int
place_end(struct reserving *r, struct smd_error *err)
{
	struct smd_place place = r->place;

	r->place.count = 0;
	return place.count == 0 ? 0 : r->add(r->opaque, &place, err);
}

static int
place_add(struct reserving *r, enum smd_place_kind kind, uint64_t offset, uint64_t count,
	  uint64_t host, struct smd_error *err)
{
	if (r->place.count != 0 && r->place.kind == kind &&
	    r->place.host_offset + r->place.count == host) {
		r->place.count += count;
		return 0;
	}
	if (place_end(r, err) < 0)
		return -1;
	r->place = (struct smd_place){ kind, offset, count, host };
	return 0;
}

/* The part of a guest cluster that the reservation covers. */
static void
covered(const struct qcow2_image *img, const struct qcow2_reservation *res,
	uint64_t guest_cluster, uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t at = guest_cluster << img->g.cluster_bits;

	*ret_start = smd_max_u64(at, res->offset) - at;
	*ret_end = smd_min_u64(at + img->g.cluster_size, res->offset + res->count) - at;
}

static uint32_t
covered_subs(const struct qcow2_image *img, const struct qcow2_reservation *res,
	     uint64_t guest_cluster)
{
	uint64_t start, end;
	uint32_t mask = 0;

	covered(img, res, guest_cluster, &start, &end);
	for (uint64_t i = start / img->g.sub_size; i * img->g.sub_size < end; i++)
		mask |= UINT32_C(1) << i;
	return mask;
}

static bool
must_move(const struct qcow2_entry *entry)
{
	return entry->host == 0 || !entry->copied || entry->compressed_size != 0;
}

/* A cluster whose host cluster is ours alone. */
static int
reserve_in_place(struct reserving *r, uint64_t guest_cluster, const struct qcow2_entry *entry,
		 struct smd_error *err)
{
	struct qcow2_image *img = r->img;
	struct fill fill = { .img = img, .old = entry, .host = entry->host };
	uint32_t subs = covered_subs(img, r->res, guest_cluster);
	uint64_t at = guest_cluster << img->g.cluster_bits;

	covered(img, r->res, guest_cluster, &fill.start, &fill.end);
	if (qcow2_overlap_check(img, entry->host, img->g.cluster_size, err) < 0)
		return -1;
	if ((subs & ~entry->alloc) != 0 &&
	    (item_add(img, r->res, (struct item){ guest_cluster, 1, entry->host, false },
		      err) < 0 || fill_cluster(img, guest_cluster, &fill, err) < 0))
		return -1;
	for (uint64_t pos = fill.start, end; pos < fill.end; pos = end) {
		uint32_t bit = UINT32_C(1) << pos / img->g.sub_size;

		end = smd_min_u64(fill.end, (pos / img->g.sub_size + 1) * img->g.sub_size);
		if (place_add(r, entry->alloc & bit ? SMD_PLACE_IN_PLACE : SMD_PLACE_FRESH,
			      at + pos, end - pos, entry->host + pos, err) < 0)
			return -1;
	}
	return 0;
}

/* A cluster that moves to host. */
static int
reserve_moved(struct reserving *r, uint64_t guest_cluster, uint64_t host, bool new_place,
	      struct smd_error *err)
{
	struct qcow2_image *img = r->img;
	struct qcow2_entry old = { 0 };
	struct fill fill = { .img = img, .old = &old, .host = host, .moves = true,
			     .zeroed = new_place && host >= r->old_size };
	bool zeroed;

	covered(img, r->res, guest_cluster, &fill.start, &fill.end);
	if (new_place && (qcow2_lookup(img, guest_cluster, &old, err) < 0 ||
			  fill_cluster(img, guest_cluster, &fill, err) < 0))
		return -1;
	/* With subclusters, all old data are there now. */
	zeroed = fill.zeroed && (img->g.n_sub == 1 || (!old.alloc && !old.compressed_size));
	return place_add(r, zeroed ? SMD_PLACE_FRESH_ZEROED : SMD_PLACE_FRESH,
			 (guest_cluster << img->g.cluster_bits) + fill.start,
			 fill.end - fill.start, host + fill.start, err);
}

/* How many clusters from first on, before end, must move and are nobody's yet. */
static int
count_moving(struct qcow2_image *img, uint64_t first, uint64_t end, uint64_t *ret,
	     struct smd_error *err)
{
	struct qcow2_entry entry;
	uint64_t cluster = first;

	for (; cluster < end; cluster++) {
		if (qcow2_lookup(img, cluster, &entry, err) < 0)
			return -1;
		if (!must_move(&entry) || pending_find(img, cluster))
			break;
	}
	*ret = cluster - first;
	return 0;
}

/* The store must reach the end of every cluster that has data: readers are told so, and
 * the last bytes of a zeroed place need not be written. Nobody writes past its end
 * meanwhile: the places of others were reserved before, and are in it. */
static int
reach(struct qcow2_image *img, uint64_t end, struct smd_error *err)
{
	return end <= img->io->size ? 0 : img->io->ops->truncate(img->io, end, err);
}

static int
reserve_moving(struct reserving *r, uint64_t first, uint64_t want, uint64_t *ret_n,
	       struct smd_error *err)
{
	struct qcow2_image *img = r->img;
	uint64_t host, n;

	if (qcow2_alloc(img, want, &host, &n, err) < 0)
		return -1;
	if (item_add(img, r->res, (struct item){ first, n, host, true }, err) < 0) {
		qcow2_refcount_add(img, host >> img->g.cluster_bits, n, -1, err);
		return -1;
	}
	if (reach(img, host + (n << img->g.cluster_bits), err) < 0)
		return -1;
	for (uint64_t i = 0; i < n; i++)
		if (pending_add(img, first + i, host + (i << img->g.cluster_bits), err) < 0 ||
		    reserve_moved(r, first + i, host + (i << img->g.cluster_bits), true, err) < 0)
			return -1;
	*ret_n = n;
	return 0;
}

/* The next cluster or clusters of the range. */
static int
reserve_some(struct reserving *r, uint64_t cluster, uint64_t end, uint64_t *ret_n,
	     struct smd_error *err)
{
	struct qcow2_image *img = r->img;
	struct qcow2_pending *pending = pending_find(img, cluster);
	struct qcow2_entry entry;
	uint64_t want;

	*ret_n = 1;
	if (qcow2_lookup(img, cluster, &entry, err) < 0)
		return -1;
	if (!must_move(&entry))
		return reserve_in_place(r, cluster, &entry, err);
	if (pending) {
		if (item_add(img, r->res, (struct item){ cluster, 1, pending->host, true },
			     err) < 0)
			return -1;
		pending->users++;
		return reserve_moved(r, cluster, pending->host, false, err);
	}
	if (count_moving(img, cluster, end, &want, err) < 0)
		return -1;
	return reserve_moving(r, cluster, want, ret_n, err);
}

int
qcow2_reserve(struct qcow2_image *img, uint64_t offset, uint64_t count, smd_place_fn *add,
	      void *opaque, struct qcow2_reservation **ret, struct smd_error *err)
{
	struct reserving r = { .img = img, .add = add, .opaque = opaque };
	uint64_t cluster = offset >> img->g.cluster_bits, n;
	uint64_t end = (offset + count + img->g.cluster_size - 1) >> img->g.cluster_bits;

	if (qcow2_write_begin(img, err) < 0 || qcow2_sync_if_full(img, err) < 0)
		return -1;
	r.old_size = img->io->size;
	r.res = calloc(1, sizeof *r.res);
	if (!r.res)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	r.res->offset = offset;
	r.res->count = count;
	img->n_reservations++;
	for (; cluster < end; cluster += n)
		if (reserve_some(&r, cluster, end, &n, err) < 0)
			goto fail;
	if (place_end(&r, err) < 0)
		goto fail;
	*ret = r.res;
	return 0;
fail:
	qcow2_abandon(img, r.res);
	return -1;
}

/* ---- Commit and abandon ------------------------------------------------------------ */

static int
publish(struct qcow2_image *img, const struct qcow2_reservation *res, uint64_t guest_cluster,
	uint64_t host, struct smd_error *err)
{
	struct qcow2_pending *pending = pending_find(img, guest_cluster);
	uint32_t subs = covered_subs(img, res, guest_cluster);
	struct qcow2_entry entry;
	uint64_t old, n_old;

	if (qcow2_lookup(img, guest_cluster, &entry, err) < 0)
		return -1;
	qcow2_entry_clusters(img, &entry, &old, &n_old);
	if (entry.host == host)
		n_old = 0;
	if (entry.compressed_size != 0)
		entry.alloc = qcow2_sub_all(img);
	entry.host = host;
	entry.compressed_size = 0;
	entry.alloc |= subs;
	entry.zero &= ~subs;
	if (qcow2_entry_set(img, guest_cluster, &entry, err) < 0)
		return -1;
	if (pending)
		pending->published = true;
	qcow2_free_later(img, old, n_old);
	return 0;
}

/* Give back the clusters of an item from its skip-th on. */
static void
item_abandon(struct qcow2_image *img, const struct item *item, uint64_t skip)
{
	for (uint64_t i = skip; item->moves && i < item->n; i++)
		if (pending_drop(img, item->guest_cluster + i))
			qcow2_free_later(img, (item->host >> img->g.cluster_bits) + i, 1);
}

int
qcow2_commit(struct qcow2_image *img, struct qcow2_reservation *res, struct smd_error *err)
{
	uint64_t n = 0;
	size_t i = 0;
	int r = 0;

	for (; r == 0 && i < res->n_items; i++)
		for (n = 0; r == 0 && n < res->items[i].n; n++) {
			const struct item *item = &res->items[i];
			uint64_t host = item->host + (n << img->g.cluster_bits);

			r = publish(img, res, item->guest_cluster + n, host, err);
			if (r == 0 && item->moves)
				pending_drop(img, item->guest_cluster + n);
		}
	if (r < 0 && i > 0)
		item_abandon(img, &res->items[i - 1], n - 1);
	for (; r < 0 && i < res->n_items; i++)
		item_abandon(img, &res->items[i], 0);
	reservation_free(img, res);
	return r;
}

void
qcow2_abandon(struct qcow2_image *img, struct qcow2_reservation *res)
{
	for (size_t i = 0; i < res->n_items; i++)
		item_abandon(img, &res->items[i], 0);
	reservation_free(img, res);
}
