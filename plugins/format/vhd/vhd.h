/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The VHD format, inside its module.
 *
 * On disk (Virtual Hard Disk Image Format Specification 1.0; all integers big
 * endian, sectors of 512 bytes): a fixed disk is data and a footer. A dynamic or
 * differencing one is
 *
 *   0        copy of the footer
 *   512      dynamic disk header, 1024 bytes, where footer.data_offset says
 *   ...      block allocation table (BAT): a u32 sector number per block
 *   ...      batmap, where XenServer's tapdisk ("tap") is the creator
 *   ...      parent locators of a differencing disk
 *   ...      blocks: a sector bitmap, padded to sectors, and the data
 *   end-512  footer
 *
 * Functions return 0, or -1 with *err set. Those that take a struct vhd_fault
 * return VHD_FAULT where the image is wrong: open makes that an error, check
 * a finding.
 */
#ifndef SMD_PLUGINS_FORMAT_VHD_VHD_H
#define SMD_PLUGINS_FORMAT_VHD_VHD_H

#include <inttypes.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/smd-format.h"

#define VHD_SECTOR 512u
#define VHD_MAX_SIZE (UINT64_C(2040) << 30)	/* 0xFF000000 sectors */
#define VHD_BLOCK_SIZE (UINT64_C(2) << 20)	/* the one size that is written */
#define VHD_BLOCK_SIZE_MIN 512u
#define VHD_BLOCK_SIZE_MAX (256u << 20)
/* Some SRs preallocate the table for 2 TiB, a little more than a disk may have. */
#define VHD_TABLE_COVER_MAX (UINT64_C(2) << 40)
#define VHD_BAT_UNUSED UINT32_MAX
#define VHD_PAGE 4096u				/* what block data is aligned to */
#define VHD_EPOCH_UNIX UINT64_C(946684800)	/* 2000-01-01T00:00Z */

/* ---- Faults ---- */

#define VHD_FAULT 1

struct vhd_fault {
	enum smd_reason reason;
	char text[256];
};

/* Fill in f; always VHD_FAULT. */
__attribute__((format(printf, 3, 4))) int
vhd_fault(struct vhd_fault *f, enum smd_reason reason, const char *fmt, ...);

/* -1 with *err from f where ret is VHD_FAULT, else ret as it is. */
int vhd_fault_fail(int ret, const struct vhd_fault *f, const struct smd_io *io,
		   struct smd_error *err);

/* ---- Footer ("Hard Disk Footer Format") ---- */

#define VHD_FOOTER_SIZE 512u
#define VHD_TYPE_FIXED 2u
#define VHD_TYPE_DYNAMIC 3u
#define VHD_TYPE_DIFFERENCING 4u
#define VHD_NO_OFFSET UINT64_MAX

#define VHD_APP_TAP 0x74617000u			/* "tap\0": XenServer, and smd */
#define VHD_APP_WIN 0x77696e20u			/* "win ": Microsoft */
#define VHD_TAP_VERSION_0_1 0x00000001u		/* little-endian bitmaps */
#define VHD_TAP_VERSION_1_1 0x00010001u
#define VHD_TAP_VERSION_1_3 0x00010003u

struct vhd_geometry {
	uint16_t cylinders;
	uint8_t heads;
	uint8_t sectors;
};

struct vhd_footer {
	uint8_t raw[VHD_FOOTER_SIZE];	/* what is or goes on disk */
	uint32_t features;
	uint32_t version;
	uint64_t data_offset;
	uint32_t timestamp;
	uint32_t creator_app;
	uint32_t creator_version;
	uint32_t creator_os;
	uint64_t original_size;
	uint64_t current_size;
	struct vhd_geometry geometry;
	uint32_t type;
	uint32_t checksum;
	uint8_t uuid[16];
	uint8_t saved_state;
	uint8_t hidden;			/* tapdisk's extension */
};

/* The two copies, as they are. state: -1 good, else a reason. */
struct vhd_footers {
	struct vhd_footer head, tail;
	int head_state, tail_state;
	uint64_t tail_offset;	/* of the last 512 (or 511) bytes */
	uint64_t end;		/* data and metadata end here at the latest */
};

/* Ones' complement of the sum of len bytes, the u32 at field counted as 0. */
uint32_t vhd_checksum(const uint8_t *p, size_t len, size_t field);

/* CHS by the specification's appendix; never above the size. */
struct vhd_geometry vhd_geometry_of(uint64_t size);
uint64_t vhd_geometry_size(struct vhd_geometry g);

/* -1 and *ret filled, or BAD_COOKIE or BAD_CHECKSUM. */
int vhd_footer_parse(const uint8_t raw[VHD_FOOTER_SIZE], struct vhd_footer *ret);

/* Make raw say what the other members say, checksum included. */
void vhd_footer_seal(struct vhd_footer *footer);

int vhd_footers_read(struct smd_io *io, struct vhd_footers *ret, struct smd_error *err);

/* The footer that counts and whether a copy is damaged; checks its fields. */
int vhd_footers_choose(struct vhd_footers *f, uint64_t io_size, struct vhd_footer *ret,
		       bool *ret_degraded, struct vhd_fault *fault);
int vhd_footer_check(const struct vhd_footer *footer, uint64_t tail_offset,
		     struct vhd_fault *fault);

static inline bool
vhd_is_tap(const struct vhd_footer *f)
{
	return f->creator_app == VHD_APP_TAP && f->creator_version > VHD_TAP_VERSION_0_1;
}

/* ---- Dynamic disk header ---- */

#define VHD_HEADER_SIZE 1024u
#define VHD_N_LOCATORS 8u
#define VHD_PARENT_NAME_SIZE 512u
#define VHD_LOCATOR_MAX 65536u		/* bytes of a locator that is read */

#define VHD_LOCATOR_W2RU 0x57327275u	/* UTF-16LE, relative */
#define VHD_LOCATOR_W2KU 0x57326b75u	/* UTF-16LE, absolute; XenServer: relative */
#define VHD_LOCATOR_MACX 0x4d616358u	/* UTF-8 URL */

struct vhd_locator {
	uint32_t code;		/* 0: none */
	uint32_t space;		/* sectors where < 512, else bytes */
	uint32_t length;
	uint64_t offset;
};

struct vhd_header {
	uint8_t raw[VHD_HEADER_SIZE];
	uint64_t data_offset;
	uint64_t bat_offset;
	uint32_t version;
	uint32_t n_entries;
	uint32_t block_size;
	uint32_t checksum;
	uint8_t parent_uuid[16];
	uint32_t parent_timestamp;
	struct vhd_locator locators[VHD_N_LOCATORS];
};

/* Bytes of the file a locator has for itself. */
uint64_t vhd_locator_room(const struct vhd_locator *l);

int vhd_header_parse(const uint8_t raw[VHD_HEADER_SIZE], struct vhd_header *ret,
		     struct vhd_fault *fault);
/* The header alone, then with what else the file holds before end. */
int vhd_header_check(const struct vhd_header *h, const struct vhd_footer *f, uint64_t end,
		     struct vhd_fault *fault);
void vhd_header_seal(struct vhd_header *h);

/* ---- Journal: several places of the metadata changed as one ---- */

#define VHD_JOURNAL_RECORDS 16u

struct vhd_record {
	uint64_t offset;
	uint32_t count;
	int fill;		/* a byte to repeat; -1: data */
	const uint8_t *data;	/* within bytes of the journal, or the caller's */
};

struct vhd_journal {
	uint64_t offset;
	uint32_t size;		/* 0: no journal */
	uint8_t *bytes;
	uint32_t n_records;
	struct vhd_record records[VHD_JOURNAL_RECORDS];
	struct vhd_footer footer;	/* the footer after it */
};

/* Only the footer's copy at the start may name a journal. Take the name away from one
 * that was found elsewhere, before it is written there. */
void vhd_footer_strip(struct vhd_footer *f);

/* The journal that the copy of the footer points at; size 0 where it names none. */
int vhd_journal_read(struct smd_io *io, const struct vhd_footer *head, struct vhd_journal *ret,
		     struct vhd_fault *fault, struct smd_error *err);
void vhd_journal_done(struct vhd_journal *j);

/* pread of metadata as it is once the journal has been carried out. */
int vhd_meta_pread(struct smd_io *io, const struct vhd_journal *j, void *buf, size_t count,
		   uint64_t offset, struct smd_error *err);

/* Carry out a journal that is on disk. data_end: where the footer goes. */
int vhd_journal_apply(struct smd_io *io, const struct vhd_journal *j, uint64_t data_end,
		      struct smd_error *err);

/* Change footer and records as one: after a crash all of it is there, or
 * nothing. Durable on return. Nothing in use lies at or after busy_end before,
 * or data_end afterwards, but the footer. Where it fails all is as it was, but if
 * *ret_begun: who opens the store next may find what is wanted. */
int vhd_journal_commit(struct smd_io *io, const struct vhd_footer *before,
		       const struct vhd_footer *after, const struct vhd_record *records,
		       uint32_t n_records, uint64_t busy_end, uint64_t data_end,
		       bool *ret_begun, struct smd_error *err);

/* ---- BAT ---- */

struct vhd_area {
	uint64_t start, end;
};
#define VHD_AREAS_MAX (3u + VHD_N_LOCATORS)

/* Read n entries into ret (host order). */
int vhd_bat_read(struct smd_io *io, const struct vhd_journal *j, uint64_t offset, uint32_t n,
		 uint32_t **ret, struct smd_error *err);

/* Footer copy, header, BAT and locators; returns how many. */
unsigned vhd_metadata_areas(const struct vhd_footer *f, const struct vhd_header *h,
			    struct vhd_area areas[VHD_AREAS_MAX]);

/* Whether all blocks lie before end, clear of the areas and of each other.
 * ret_data_end: the first byte after the last block, 0 without one. */
int vhd_bat_check(const uint32_t *bat, uint32_t n, uint64_t block_size,
		  const struct vhd_area *areas, unsigned n_areas, uint64_t end,
		  uint64_t *ret_data_end, struct vhd_fault *fault);

/* ---- Batmap (XenServer): a bit per block whose bitmap is all ones ---- */

#define VHD_BATMAP_COOKIE "tdbatmap"
#define VHD_BATMAP_VERSION_SIGNED 0x00010001u
#define VHD_BATMAP_VERSION 0x00010002u

struct vhd_batmap {
	bool valid;		/* on disk, and may be used */
	uint64_t header_offset;
	uint8_t header[VHD_SECTOR];
	uint64_t map_offset;
	uint32_t version;
	uint32_t n_sectors;	/* that are stored and summed */
	uint8_t *map;		/* on disk, less bits that were cleared */
	uint8_t *next;		/* to be on disk once the bitmaps are */
	uint32_t clear_lo, clear_hi;	/* sectors of map to write, lo < hi */
	uint32_t set_lo, set_hi;	/* sectors of next that differ from map */
};

/* Where the batmap's header is, for a table at bat_offset of n_entries. */
uint64_t vhd_batmap_offset(uint64_t bat_offset, uint32_t n_entries);
/* Sectors of map that readers and writers of XenServer use for a disk of this
 * size: fewer than it needs just above each 8 GiB. */
uint32_t vhd_batmap_sectors(uint64_t size);
/* Sectors of the file it has room for. */
uint32_t vhd_batmap_room(uint32_t n_entries);
/* Over zeroes, or over a header whose marker and key hash stay. */
void vhd_batmap_header_make(uint8_t header[VHD_SECTOR], uint64_t map_offset, uint32_t n_entries,
			    const uint8_t *map, uint32_t n_sectors);
/* Leaves valid false where there is none or it is damaged; text says why. */
int vhd_batmap_read(struct smd_io *io, const struct vhd_footer *f, const struct vhd_header *h,
		    uint64_t end, struct vhd_batmap *ret, const char **ret_text,
		    struct smd_error *err);
/* The first byte after the sectors it has for itself. */
uint64_t vhd_batmap_end(const struct vhd_batmap *b);
bool vhd_batmap_test(const struct vhd_batmap *b, uint32_t block);
void vhd_batmap_clear(struct vhd_batmap *b, uint32_t block);
void vhd_batmap_set(struct vhd_batmap *b, uint32_t block);
/* Before bitmaps lose bits; after they gained them. */
int vhd_batmap_write_cleared(struct vhd_batmap *b, struct smd_io *io, struct smd_error *err);
int vhd_batmap_write_set(struct vhd_batmap *b, struct smd_io *io, struct smd_error *err);
void vhd_batmap_done(struct vhd_batmap *b);

/* ---- Sector bitmaps, cached ---- */

struct vhd_bitmap {
	uint32_t block;
	bool used, dirty;
	bool recent;		/* asked for since the hand last came by */
	uint8_t *bits;
	uint32_t next;		/* in its hash chain; UINT32_MAX ends it */
};

struct vhd_bitmaps {
	uint32_t n_slots;	/* a power of two */
	uint32_t n_dirty;	/* never above half the slots */
	uint32_t hand;		/* where the search for a victim goes on */
	uint32_t *heads;	/* hash chains, n_slots of them */
	struct vhd_bitmap *slots;
	size_t size;		/* bytes of a bitmap, padding included */
};

/* Bytes of the bitmap of a block, padded to sectors. */
static inline uint64_t
vhd_bitmap_size(uint64_t block_size)
{
	return ((block_size / VHD_SECTOR + 7) / 8 + VHD_SECTOR - 1) & ~(uint64_t)(VHD_SECTOR - 1);
}

static inline bool
vhd_bit(const uint8_t *bits, uint64_t i)
{
	return bits[i / 8] & (0x80u >> (i % 8));
}

/* The first index from i on, below end, whose bit is not value; else end. */
uint64_t vhd_bits_run(const uint8_t *bits, uint64_t i, uint64_t end, bool value);
void vhd_bits_assign(uint8_t *bits, uint64_t i, uint64_t end, bool value);
bool vhd_bits_full(const uint8_t *bits, uint64_t n);

/* ---- An open image ---- */

/* A block that has a place but no BAT entry yet. */
struct vhd_pending {
	uint32_t block;
	uint32_t bat_sector;
	uint32_t n_reservations;
};

struct vhd {
	struct smd_io *io;
	bool write;		/* opened for writing */
	bool look;		/* no batmap, no caches: SMD_OPEN_LOOK */
	bool failed;		/* what is on disk is unknown: nothing more is written */
	bool trust_batmap;
	bool degraded;
	struct vhd_footer footer;
	uint64_t tail_offset;	/* of the footer at the end */
	bool footer_dirty;

	/* Dynamic and differencing only. */
	struct vhd_header header;
	struct vhd_journal journal;	/* one that a crash left; read only then */
	uint32_t n_blocks;		/* that the virtual size needs */
	uint32_t n_allocated;
	uint32_t *bat;			/* as committed */
	uint8_t *bat_dirty;		/* a bit per sector of the BAT */
	bool any_bat_dirty;
	uint64_t bitmap_size;
	uint64_t meta_end;
	uint64_t data_end;		/* after the last block, pending ones included */
	bool aligned;			/* all data on 4 KiB boundaries */
	struct vhd_bitmaps bitmaps;
	struct vhd_batmap batmap;
	uint8_t *ones;			/* a bitmap of a full block */
	struct vhd_pending *pending;
	size_t n_pending, pending_room;
	uint32_t *spare;		/* places that were abandoned, to be zeroed and reused */
	size_t n_spare, spare_room;
	char parent_name[SMD_NAME_MAX];
};

static inline bool
vhd_is_fixed(const struct vhd *v)
{
	return v->footer.type == VHD_TYPE_FIXED;
}

static inline uint64_t
vhd_block_file_size(const struct vhd *v)
{
	return v->bitmap_size + v->header.block_size;
}

static inline uint64_t
vhd_data_offset(const struct vhd *v, uint32_t bat_sector)
{
	return (uint64_t)bat_sector * VHD_SECTOR + v->bitmap_size;
}

/* Fill in *v, zeroed but for io, from the image, checking everything but the
 * bitmaps. ret_batmap: what is wrong with the batmap, NULL: nothing. */
int vhd_load(struct vhd *v, struct vhd_footers *ret_footers, const char **ret_batmap,
	     struct vhd_fault *fault, struct smd_error *err);
void vhd_unload(struct vhd *v);
/* The first byte after the metadata, which new blocks stay behind. */
uint64_t vhd_meta_end(const struct vhd *v);

int vhd_bitmap_get(struct vhd *v, uint32_t block, uint32_t bat_sector, bool fresh,
		   struct vhd_bitmap **ret, struct smd_error *err);
int vhd_bitmaps_init(struct vhd_bitmaps *b, size_t bitmap_size);
/* All of them, written or not. */
void vhd_bitmaps_forget(struct vhd_bitmaps *b);
void vhd_bitmaps_done(struct vhd_bitmaps *b);
int vhd_bitmaps_write(struct vhd *v, struct smd_error *err);

void vhd_bat_set(struct vhd *v, uint32_t block, uint32_t bat_sector);
int vhd_bat_write(struct vhd *v, struct smd_error *err);

/* The place of a new block at the end, data on a 4 KiB boundary, zeroed. */
int vhd_block_place(struct vhd *v, uint32_t *ret_bat_sector, struct smd_error *err);

/* Whether it may be written; what every change begins with. */
int vhd_write_begin(const struct vhd *v, struct smd_error *err);
/* A flush that fails may have dropped what was written: trying again might lose
 * it quietly. */
int vhd_flush_io(struct vhd *v, struct smd_error *err);

/* Changes of the metadata wait for writes that have a place only. */
static inline int
vhd_no_pending(const struct vhd *v, struct smd_error *err)
{
	if (v->n_pending == 0)
		return 0;
	return smd_fail(err, SMD_REASON_IO, v->io->name, "busy: %zu blocks are being written",
			v->n_pending);
}

/* Have no block in [start, end): those there move to the end. Durable. */
int vhd_blocks_move_away(struct vhd *v, uint64_t start, uint64_t end, struct smd_error *err);
/* v->footer and header as the journal has left them on disk. */
void vhd_metadata_changed(struct vhd *v, const struct vhd_footer *footer,
			  const struct vhd_header *header, uint64_t data_end);

/* ---- Parent locators ---- */

/* A parent's name as written: UTF-16BE in the header, a sector per locator. */
struct vhd_parent_text {
	uint8_t header_name[VHD_PARENT_NAME_SIZE];
	uint8_t macx[VHD_SECTOR], w2ku[VHD_SECTOR], w2ru[VHD_SECTOR];
	uint32_t macx_size, w2_size;
};

int vhd_parent_text(const char *name, const struct smd_io *io, struct vhd_parent_text *ret,
		    struct smd_error *err);
/* The name in W2ru, else MacX, else the header, else W2ku, a leading "./"
 * dropped; "" where there is none. */
int vhd_parent_name_read(struct smd_io *io, const struct vhd_journal *j,
			 const struct vhd_header *h, char ret[SMD_NAME_MAX],
			 struct smd_error *err);
/* Have the header name this parent with locators at offset, 3 sectors. */
void vhd_parent_put(struct vhd_header *h, const struct vhd_parent_text *text,
		    const uint8_t uuid[16], uint64_t offset);

/* ---- Layout of images we make ---- */

#define VHD_OWN_HEADER_OFFSET 512u
#define VHD_OWN_LOCATORS_OFFSET 1536u	/* to 3071; 4096 on is for others' hints */
#define VHD_OWN_BAT_OFFSET 16384u

enum vhd_subformat { VHD_DYNAMIC, VHD_FIXED };

struct vhd_layout {
	enum vhd_subformat subformat;
	bool batmap;
	uint32_t n_entries;
	uint64_t bat_size;	/* padded to sectors */
	uint64_t batmap_offset;
	uint64_t meta_end;
	struct vhd_footer footer;
	struct vhd_header header;	/* not fixed */
	struct vhd_parent_text parent;	/* differencing */
};

/* Everything about a new image but its BAT and data. io names it, or NULL. */
int vhd_layout(const struct smd_create *params, const struct smd_io *io, struct vhd_layout *ret,
	       struct smd_error *err);
/* The metadata [0, meta_end) of an image with this BAT (disk order) and map. */
void vhd_layout_fill(const struct vhd_layout *l, const uint8_t *bat, const uint8_t *map,
		     uint8_t *buf);
/* Where a block could begin at or after offset so that its data is aligned. */
uint64_t vhd_align_block(uint64_t offset, uint64_t bitmap_size);

extern const struct smd_option vhd_options[];

/* ---- Callbacks of the contract ---- */

int vhd_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len,
	      uint64_t size);
int vhd_create(struct smd_io *io, const struct smd_create *params, struct smd_error *err);
int vhd_measure(const struct smd_create *params, uint64_t data_size, uint64_t n_extents,
		struct smd_measure *ret, struct smd_error *err);
int vhd_usage(const struct smd_create *params, struct smd_usage *ret, struct smd_error *err);
int vhd_taken(const struct smd_create *params, const struct smd_usage *usage,
	      struct smd_taken *ret, struct smd_error *err);
int vhd_open(struct smd_io *io, uint32_t flags, void **ret_img, struct smd_error *err);
void vhd_close(void *img);
int vhd_info(void *img, struct smd_image_info *ret, struct smd_error *err);
int vhd_extents(void *img, uint64_t offset, uint64_t count, smd_extent_fn *add, void *opaque,
		struct smd_error *err);
int vhd_reserve(void *img, uint64_t offset, uint64_t count, smd_place_fn *add, void *opaque,
		void **ret_res, struct smd_error *err);
int vhd_commit(void *img, void *res, struct smd_error *err);
void vhd_abandon(void *img, void *res);
int vhd_zero(void *img, uint64_t offset, uint64_t count, uint32_t flags, struct smd_error *err);
int vhd_flush(void *img, struct smd_error *err);
int vhd_resize(void *img, uint64_t virtual_size, uint32_t flags, struct smd_error *err);
int vhd_set_parent(void *img, const char *name, const char *format, const uint8_t uuid[16],
		   struct smd_error *err);
int vhd_set_hidden(void *img, bool hidden, struct smd_error *err);
int vhd_check(struct smd_io *io, uint32_t repair, smd_finding_fn *found, void *opaque,
	      struct smd_check *ret, struct smd_error *err);
int vhd_stream(const struct smd_create *params, const struct smd_extent *data, size_t n_data,
	       smd_piece_fn *emit, void *opaque, struct smd_error *err);

/* ---- Calls of the io ---- */

static inline int
vhd_pread(struct smd_io *io, void *buf, size_t count, uint64_t offset, struct smd_error *err)
{
	return io->ops->pread(io, buf, count, offset, err);
}

static inline int
vhd_pwrite(struct smd_io *io, const void *buf, size_t count, uint64_t offset,
	   struct smd_error *err)
{
	return io->ops->pwrite(io, buf, count, offset, err);
}

static inline int
vhd_io_flush(struct smd_io *io, struct smd_error *err)
{
	return io->ops->flush(io, err);
}

static inline int
vhd_no_memory(const struct smd_io *io, struct smd_error *err)
{
	return smd_fail(err, SMD_REASON_IO, io ? io->name : "vhd", "out of memory");
}

#endif
