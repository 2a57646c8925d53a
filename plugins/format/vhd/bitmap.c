/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sector bitmaps ("Data Blocks"): most significant bit first, 1: the sector is
 * in this file. A bounded cache, evicted by a clock hand; dirty ones are
 * written by flush alone, which knows the order.
 */
#include <stdlib.h>

#include "plugins/format/vhd/vhd.h"

#define CACHE_BYTES (2u << 20)
#define CACHE_SLOTS_MIN 8u
#define CACHE_SLOTS_MAX 4096u

uint64_t
vhd_bits_run(const uint8_t *bits, uint64_t i, uint64_t end, bool value)
{
	const uint8_t same = value ? 0xff : 0;

	while (i < end) {
		if (i % 8 == 0 && bits[i / 8] == same) {
			i += 8;
			continue;
		}
		if (vhd_bit(bits, i) != value)
			return i;
		i++;
	}
	return end;
}

void
vhd_bits_assign(uint8_t *bits, uint64_t i, uint64_t end, bool value)
{
	while (i < end) {
		if (i % 8 == 0 && end - i >= 8) {
			uint64_t n = (end - i) / 8;

			memset(bits + i / 8, value ? 0xff : 0, n);
			i += n * 8;
			continue;
		}
		if (value)
			bits[i / 8] |= (uint8_t)(0x80u >> (i % 8));
		else
			bits[i / 8] &= (uint8_t)~(0x80u >> (i % 8));
		i++;
	}
}

bool
vhd_bits_full(const uint8_t *bits, uint64_t n)
{
	return vhd_bits_run(bits, 0, n, true) == n;
}

int
vhd_bitmaps_init(struct vhd_bitmaps *b, size_t bitmap_size)
{
	b->size = bitmap_size;
	b->n_slots = CACHE_SLOTS_MAX;
	while (b->n_slots > CACHE_SLOTS_MIN && (uint64_t)b->n_slots * bitmap_size > CACHE_BYTES)
		b->n_slots /= 2;
	b->slots = calloc(b->n_slots, sizeof *b->slots);
	b->heads = malloc(b->n_slots * sizeof *b->heads);
	if (!b->slots || !b->heads)
		return -1;
	memset(b->heads, 0xff, b->n_slots * sizeof *b->heads);
	return 0;
}

void
vhd_bitmaps_forget(struct vhd_bitmaps *b)
{
	for (uint32_t i = 0; i < b->n_slots; i++)
		b->slots[i].used = b->slots[i].dirty = false;
	memset(b->heads, 0xff, b->n_slots * sizeof *b->heads);
	b->n_dirty = 0;
}

void
vhd_bitmaps_done(struct vhd_bitmaps *b)
{
	for (uint32_t i = 0; b->slots && i < b->n_slots; i++)
		free(b->slots[i].bits);
	free(b->slots);
	free(b->heads);
	memset(b, 0, sizeof *b);
}

static struct vhd_bitmap *
cache_find(struct vhd_bitmaps *b, uint32_t block)
{
	uint32_t i = b->heads[block & (b->n_slots - 1)];

	while (i != UINT32_MAX && b->slots[i].block != block)
		i = b->slots[i].next;
	return i == UINT32_MAX ? NULL : &b->slots[i];
}

static void
cache_unlink(struct vhd_bitmaps *b, struct vhd_bitmap *m)
{
	uint32_t *link = &b->heads[m->block & (b->n_slots - 1)];

	while (&b->slots[*link] != m)
		link = &b->slots[*link].next;
	*link = m->next;
	m->used = false;
}

static void
cache_link(struct vhd_bitmaps *b, struct vhd_bitmap *m, uint32_t block)
{
	uint32_t *head = &b->heads[block & (b->n_slots - 1)];

	m->block = block;
	m->used = true;
	m->next = *head;
	*head = (uint32_t)(m - b->slots);
}

/* At most half are dirty, so the hand finds one within two rounds. */
static struct vhd_bitmap *
cache_victim(struct vhd_bitmaps *b)
{
	for (;;) {
		struct vhd_bitmap *m = &b->slots[b->hand];

		b->hand = (b->hand + 1) & (b->n_slots - 1);
		if (m->used && (m->dirty || m->recent)) {
			m->recent = false;
			continue;
		}
		if (m->used)
			cache_unlink(b, m);
		return m;
	}
}

int
vhd_bitmap_get(struct vhd *v, uint32_t block, uint32_t bat_sector, bool fresh,
	       struct vhd_bitmap **ret, struct smd_error *err)
{
	struct vhd_bitmaps *b = &v->bitmaps;
	struct vhd_bitmap *m = cache_find(b, block);

	if (!m) {
		m = cache_victim(b);
		if (!m->bits && !(m->bits = malloc(b->size)))
			return vhd_no_memory(v->io, err);
		if (fresh)
			memset(m->bits, 0, b->size);
		else if (vhd_pread(v->io, m->bits, b->size, (uint64_t)bat_sector * VHD_SECTOR,
				   err) < 0)
			return -1;
		cache_link(b, m, block);
	}
	m->recent = true;
	*ret = m;
	return 0;
}

int
vhd_bitmaps_write(struct vhd *v, struct smd_error *err)
{
	struct vhd_bitmaps *b = &v->bitmaps;

	for (uint32_t i = 0; i < b->n_slots && b->n_dirty > 0; i++) {
		struct vhd_bitmap *m = &b->slots[i];

		if (!m->dirty)
			continue;
		if (vhd_pwrite(v->io, m->bits, b->size,
			       (uint64_t)v->bat[m->block] * VHD_SECTOR, err) < 0)
			return -1;
		if (vhd_bits_full(m->bits, v->header.block_size / VHD_SECTOR))
			vhd_batmap_set(&v->batmap, m->block);
		m->dirty = false;
		b->n_dirty--;
	}
	return 0;
}
