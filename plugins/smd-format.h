/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contract between smd and an image format. See smd-format(3).
 *
 * A format module answers one question about one image: where in the file does
 * each range of the guest's disk lie? It translates; the host moves the bytes,
 * at the offsets the module names. Chains, conversion, progress, threads and
 * verification are the host's, once for every format.
 *
 * A module is a shared object that includes this header and nothing else of
 * smd's, exports smd_format_init (SMD_REGISTER_FORMAT makes it) and leaves no
 * symbol of smd's undefined: the host's services arrive as a struct, so a unit
 * test or a fuzzer can be the host.
 *
 * History of the ABI
 *   1  (0.1)  first release
 *   1  (0.1)  appended: usage, taken
 *   1  (0.1)  appended: parents
 *   1  (0.1)  a flag of open: SMD_OPEN_SMALL
 *   1  (0.1)  a flag of open: SMD_OPEN_LOOK
 * Members are appended, never reordered or removed; the loader copies the
 * smaller of the two struct sizes over zeroes. SMD_FORMAT_ABI changes only when
 * an old module could no longer be served.
 *
 * Units: every offset, count and size is in bytes and uint64_t.
 * Threads: the host never calls two functions of one image at once, except
 * read_encoded and encode, which may run in parallel with themselves and with the
 * others, and the functions of smd_io, which may be called from any thread. Different images
 * are independent: a module has no writable globals.
 * Errors: a function returns 0, or -1 after exactly one of smd_fail() or a
 * failed call of the host's that took the same err. Nothing is reported twice.
 * Input is hostile: bounds before use, limits before allocation. A size from
 * the image never sizes an allocation above SMD_ALLOC_MAX.
 */
#ifndef SMD_FORMAT_H
#define SMD_FORMAT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SMD_FORMAT_ABI 1
#define SMD_ALLOC_MAX (32u << 20)
#define SMD_SECTOR 512u			/* guest offsets are multiples of it */

struct smd_error;			/* opaque here */

/*
 * Why an image is refused. The class is part of the API: it is the second
 * parameter of IMAGE_CORRUPT and IMAGE_UNSUPPORTED and the "reason" of
 * smd-img's JSON. IO is not the image's fault; it becomes IMAGE_IO.
 */
#define SMD_REASONS(X)								\
	X(IO, "reading or writing failed")					\
	X(BAD_MAGIC, "not the declared format at all")				\
	X(BAD_VERSION, "version unknown or unsupported")			\
	X(TRUNCATED, "the file ends inside a structure or the data")		\
	X(BAD_HEADER, "a header field is invalid, or fields disagree")		\
	X(BAD_SIZE, "virtual size zero, or no multiple of 512")			\
	X(SIZE_LIMIT, "virtual size over the format's or the policy's limit")	\
	X(BAD_CLUSTER_SIZE, "cluster size out of range")			\
	X(BAD_BLOCK_SIZE, "block size out of range or no power of two")		\
	X(BAD_REFCOUNT_ORDER, "refcount width out of range")			\
	X(UNKNOWN_INCOMPAT, "an unknown incompatible feature is set")		\
	X(UNSUPPORTED, "a known feature that is deliberately not supported")	\
	X(CORRUPT_BIT, "marked corrupt by its last writer")			\
	X(TABLE_TOO_LARGE, "a declared table size is over the limit")		\
	X(TABLE_MISALIGNED, "a table's offset is not aligned")			\
	X(TABLE_BOUNDS, "a table wraps or passes the end of the file")		\
	X(TABLE_OVERLAP, "two structures, or a structure and data, share bytes") \
	X(L1_TOO_SMALL, "the L1 table or BAT cannot cover the virtual size")	\
	X(RESERVED_BITS, "reserved bits are set in a table entry")		\
	X(BAD_L2_ENTRY, "an L2 entry contradicts itself")			\
	X(DATA_MISALIGNED, "a data offset is not aligned")			\
	X(DATA_BOUNDS, "a data offset passes the end of the file")		\
	X(DATA_OVERLAP, "two blocks, or a block and metadata, share bytes")	\
	X(DUP_REF, "one host cluster is referenced twice from one L1 tree")	\
	X(DECOMPRESS, "a compressed cluster does not decode to a full cluster")	\
	X(SNAPSHOT_TABLE, "the snapshot table is malformed")			\
	X(BITMAP_DIR, "the bitmap directory or a bitmap table is malformed")	\
	X(EXT_OVERRUN, "a header extension runs past its area")			\
	X(EXT_DUP, "a header extension appears twice")				\
	X(REFCOUNT_LOW, "a cluster in use has too small a refcount")		\
	X(COPIED_FLAG, "the refcount-is-one flag disagrees with the refcount")	\
	X(BACKING_NAME, "the backing name field is malformed")			\
	X(BACKING_FORMAT, "the backing format is missing, unknown or wrong")	\
	X(EXTERNAL_REF, "refers to another file in a way that is forbidden")	\
	X(MISSING_PARENT, "the parent does not exist")				\
	X(PARENT_MISMATCH, "the parent found is not the recorded one")		\
	X(CHAIN_CYCLE, "an image is its own ancestor")				\
	X(CHAIN_DEPTH, "the chain is longer than allowed")			\
	X(BAD_COOKIE, "a cookie is missing where one must be")			\
	X(BAD_CHECKSUM, "a checksum is wrong")					\
	X(AMBIGUOUS, "two authoritative copies of a structure disagree")	\
	X(LOCATOR_BOUNDS, "a parent locator is outside the file or too large")	\
	X(FORMAT_MISMATCH, "declared format and contents differ")		\
	X(NOT_REGULAR, "not a regular file or block device")			\
	X(NEEDS_REPAIR, "readable, but must be repaired before it is written")	\
	X(LEAK, "space is counted as used that nothing uses")

enum smd_reason {
#define SMD_REASON_ENUM(name, text) SMD_REASON_##name,
	SMD_REASONS(SMD_REASON_ENUM)
#undef SMD_REASON_ENUM
	SMD_N_REASONS
};

/*
 * A store of bytes: a file, a block device, memory, a network block device.
 * A module never knows which. Calls are complete or fail (err set): there are
 * no short reads. Threads: any, in parallel.
 */
struct smd_io;
struct smd_io_ops {
	/* Read count bytes; a range past the end fails with TRUNCATED. */
	int (*pread)(struct smd_io *io, void *buf, size_t count, uint64_t offset,
		     struct smd_error *err);
	/* Write count bytes. Past the end grows the store where it can grow; a
	 * gap reads as zeroes. */
	int (*pwrite)(struct smd_io *io, const void *buf, size_t count, uint64_t offset,
		      struct smd_error *err);
	/* Make the range read as zeroes, as cheaply as the store can (a hole
	 * where there are holes). Never grows the store. */
	int (*zero)(struct smd_io *io, uint64_t offset, uint64_t count, struct smd_error *err);
	/* Set the size; new bytes read as zeroes. SMD_IO_CAN_GROW only. */
	int (*truncate)(struct smd_io *io, uint64_t size, struct smd_error *err);
	/* Return when everything written before the call survives power loss. */
	int (*flush)(struct smd_io *io, struct smd_error *err);
	/* Take the space for a range now, so that writes to it can't run out of
	 * room; it reads as before. NULL: the store has no such thing. */
	int (*allocate)(struct smd_io *io, uint64_t offset, uint64_t count,
			struct smd_error *err);
};

#define SMD_IO_WRITABLE 0x1u
#define SMD_IO_CAN_GROW 0x2u	/* size follows writes and truncate; else it is fixed */

struct smd_io {
	const struct smd_io_ops *ops;
	const char *name;	/* for messages only: may be anything a person knows it by */
	uint32_t flags;
	uint64_t size;		/* now; the host keeps it true. Read it between calls only */
};

/* What the host lends a module. struct_size guards appended members. */
struct smd_format_host {
	uint32_t abi;
	uint32_t struct_size;
	/* Set *err: the code follows from reason (IMAGE_IO, IMAGE_UNSUPPORTED for
	 * BAD_VERSION, UNKNOWN_INCOMPAT, UNSUPPORTED, CORRUPT_BIT, SIZE_LIMIT,
	 * EXTERNAL_REF; else IMAGE_CORRUPT), its parameters are image and the
	 * reason's name. An err that is set stays as it is. */
	void (*fail)(struct smd_error *err, enum smd_reason reason, const char *image,
		     const char *fmt, va_list ap);
	void (*debug)(const char *fmt, va_list ap);
};

/* Set by smd_format_init; one per module, so hidden. */
extern const struct smd_format_host *smd_format_host __attribute__((visibility("hidden")));

/* return smd_fail(err, SMD_REASON_BAD_HEADER, io->name, "…", …); always -1.
 * The message names the value and the limit it broke. */
__attribute__((format(printf, 4, 5), unused)) static int
smd_fail(struct smd_error *err, enum smd_reason reason, const char *image, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(smd_format_host->fail)(err, reason, image, fmt, ap);	/* cmocka has a macro fail */
	va_end(ap);
	return -1;
}

/* ---- What an image is ------------------------------------------------------ */

#define SMD_NAME_MAX 1024u		/* bytes of a parent's name, with its NUL */

struct smd_image_info {
	uint64_t virtual_size;	/* exact, as the guest sees it */
	/* Writes of whole units need nothing read first: an allocation unit for
	 * formats that copy on write (a qcow2 cluster, or subcluster), the sector
	 * where sectors are tracked one by one. A power of two. */
	uint64_t write_unit;
	/* Best granule for bulk work (a qcow2 cluster, a VHD block). A power of
	 * two, a multiple of write_unit. */
	uint64_t alloc_unit;
	uint64_t host_align;	/* data offsets are multiples of it (1: unknown) */
	uint32_t flags;		/* SMD_INFO_* */
	uint8_t uuid[16];	/* the image's own, where the format has one; else zero */
	/* The parent an image names: data to report, never a name to open. */
	uint8_t parent_uuid[16];
	char parent_name[SMD_NAME_MAX];		/* "": none recorded. UTF-8, may hold anything */
	char parent_format[32];			/* "": not recorded */
	uint64_t n_snapshots;			/* internal ones */
	/* Details for a person, "cluster_size\t65536\ncompat\t1.1\n…": a key, a
	 * tab, a JSON value and a newline each, in the field's own terms; the
	 * host frees it with free(). NULL: nothing to add. */
	char *details;
};

#define SMD_INFO_HAS_PARENT 0x1u	/* EXTENT_PARENT is possible: a parent is needed */
#define SMD_INFO_HIDDEN 0x2u		/* marked as an inner node of a chain */
#define SMD_INFO_DIRTY 0x4u		/* not closed cleanly; reads are right */
#define SMD_INFO_READ_ONLY 0x8u		/* may not be written, whatever was asked */
#define SMD_INFO_COMPRESSED 0x10u	/* may hold encoded extents */
#define SMD_INFO_DEGRADED 0x20u		/* one copy of something is damaged: repair advised */

/* ---- Where the guest's bytes lie -------------------------------------------- */

enum smd_extent_kind {
	SMD_EXTENT_DATA,	/* at host_offset of this image's io, all of it inside the store:
				 * past the end of a file cut short a module says ZERO, or
				 * refuses the image */
	SMD_EXTENT_ZERO,	/* reads as zeroes, whatever a parent says */
	SMD_EXTENT_PARENT,	/* not here: ask the parent; zeroes without one or past its end */
	SMD_EXTENT_ENCODED,	/* compressed: ask read_encoded. Whole alloc_units, or the
				 * last one cut by the virtual size */
};

struct smd_extent {
	enum smd_extent_kind kind;
	uint64_t offset;	/* guest */
	uint64_t count;		/* > 0 */
	uint64_t host_offset;	/* DATA only */
};

/* Takes the extents, in order and without gaps. 0, or -1 with the host's err
 * set: the module then returns -1 at once. */
typedef int smd_extent_fn(void *opaque, const struct smd_extent *extent, struct smd_error *err);

/* ---- Where writes go --------------------------------------------------------- */

enum smd_place_kind {
	SMD_PLACE_IN_PLACE,	/* valid data of this range is there: any sector may be overwritten */
	SMD_PLACE_FRESH,	/* new space, contents undefined: every byte must be written */
	SMD_PLACE_FRESH_ZEROED,	/* new space that reads as zeroes: zeroes need not be written.
				 * The module has grown the store to hold it */
};

struct smd_place {
	enum smd_place_kind kind;
	uint64_t offset;	/* guest */
	uint64_t count;
	uint64_t host_offset;
};
typedef int smd_place_fn(void *opaque, const struct smd_place *place, struct smd_error *err);

/* ---- Making images ------------------------------------------------------------ */

/* A create option, as data: smd-img -o NAME=VALUE, the API's sm_config and the
 * man page come from it. */
enum smd_option_type { SMD_OPTION_SIZE, SMD_OPTION_INT, SMD_OPTION_BOOL, SMD_OPTION_ENUM };
struct smd_option {
	const char *name;		/* qemu-img's spelling where it has one */
	enum smd_option_type type;
	const char *dflt;		/* as text */
	const char *values;		/* ENUM: "a|b|c"; SIZE and INT: "min..max", plain numbers,
					 * or NULL */
	const char *doc;
};

struct smd_create {
	uint64_t virtual_size;		/* a multiple of size_unit; may be 0: BAD_SIZE where that
					 * makes no image */
	/* n_options pairs of names and values, checked by the host against
	 * smd_format.options (type, range), sizes as plain numbers of bytes; absent
	 * ones mean the default. A rule that spans options, or "a power of two", is
	 * the module's to check. */
	size_t n_options;
	const char *const *option_names;
	const char *const *option_values;
	/* Overlay: the parent. NULL: none. */
	const char *parent_name;
	const char *parent_format;
	uint8_t parent_uuid[16];
	uint64_t parent_virtual_size;
	uint32_t timestamp_unix;	/* now, so that a module has no clock */
	uint8_t uuid[16];		/* random, so that a module has no entropy */
};

/* What an image of this size with this much data would need. */
struct smd_measure {
	uint64_t required;		/* bytes taken for data_size of data, holes taking none */
	uint64_t fully_allocated;	/* bytes of file when every byte is written */
};

/* A store gives space in pages: what is in one of them takes all of it. */
#define SMD_PAGE 4096u

/* How the space of an image goes with what its disk holds. */
struct smd_usage {
	/* The module says, of an image made with such params: */
	uint64_t write_unit, alloc_unit;	/* what info would say */
	uint64_t table;		/* the bytes of the disk that a table is for which is made with
				 * the first unit in them; 0: there are none */
	bool zero_takes_unit;	/* zeroes over a parent's data are written as data */
	/* The host has counted, of what is to be written: */
	uint64_t pages;		/* of SMD_PAGE bytes of the disk, that are not zero */
	uint64_t units;		/* alloc_units with any */
	uint64_t tables;
	uint64_t start, end;	/* the disk's range that all of it lies in */
};
struct smd_taken {
	uint64_t size;		/* bytes of the file */
	uint64_t allocated;	/* of its pages, where holes take nothing */
};

/* One piece of a stream, in the order of the bytes of the result. */
enum smd_piece_kind { SMD_PIECE_BYTES, SMD_PIECE_GUEST, SMD_PIECE_ZERO };
struct smd_piece {
	enum smd_piece_kind kind;
	const void *bytes;	/* BYTES: valid during the call */
	uint64_t count;		/* all kinds */
	uint64_t guest_offset;	/* GUEST: copy [guest_offset, + count) of the disk here;
				 * past the virtual size it is zeroes */
};
typedef int smd_piece_fn(void *opaque, const struct smd_piece *piece, struct smd_error *err);

/* ---- Checking ------------------------------------------------------------------ */

enum smd_finding_kind {
	SMD_FINDING_CORRUPTION,	/* data lost or in danger */
	SMD_FINDING_LEAK,	/* space nobody uses */
	SMD_FINDING_DEGRADED,	/* a redundant copy is damaged; everything readable */
};

struct smd_finding {
	enum smd_finding_kind kind;
	enum smd_reason reason;
	bool repairable;	/* repair would mend it without guessing */
	bool repaired;		/* and has */
	const char *text;	/* one line, valid during the call */
};
typedef void smd_finding_fn(void *opaque, const struct smd_finding *finding);

struct smd_check {
	uint64_t total_units;		/* allocation units in the virtual disk */
	uint64_t allocated_units;	/* of them, with data here */
	uint64_t fragmented_units;
	uint64_t compressed_units;
	uint64_t image_end_offset;	/* first byte after the last in use */
};

#define SMD_REPAIR_NONE 0u
#define SMD_REPAIR_LEAKS 1u	/* give leaked space back */
#define SMD_REPAIR_ALL 2u	/* whatever is safe; the rest is reported and left alone */
#define SMD_REPAIR_DRY_RUN 0x100u	/* say what would be done, write nothing */

/* ---- The module ------------------------------------------------------------------ */

#define SMD_OPEN_WRITE 0x1u
/* The image came from outside: refuse what a managed image may have and a
 * foreign one must not (a named parent is still only reported). */
#define SMD_OPEN_FOREIGN 0x2u
/* What encode makes is to be small rather than quickly made. */
#define SMD_OPEN_SMALL 0x4u
/* Info alone is asked for, without details; the image is then closed. What is refused
 * without this is refused with it, as far as it takes no table that info doesn't need. */
#define SMD_OPEN_LOOK 0x8u
/* Shrinking in resize is wanted. */
#define SMD_RESIZE_SHRINK 0x1u
/* zero(): give the space back where the format can. */
#define SMD_ZERO_UNMAP 0x1u

#define SMD_CAP_WRITE 0x1u		/* reserve, commit, abandon, zero, flush */
#define SMD_CAP_CREATE 0x2u		/* create, measure */
#define SMD_CAP_RESIZE 0x4u
#define SMD_CAP_PARENT 0x8u		/* overlays: create with a parent, set_parent */
#define SMD_CAP_CHECK 0x10u
#define SMD_CAP_STREAM 0x20u
#define SMD_CAP_HIDDEN 0x40u		/* set_hidden */
#define SMD_CAP_PROBE 0x80u		/* probe: the format has a signature. raw has none */
#define SMD_CAP_NEEDS_GROW 0x100u	/* images need a store that grows with them */
#define SMD_CAP_SNAPSHOTS 0x200u	/* internal snapshots: snapshot_list/create/delete/apply */
#define SMD_CAP_ENCODE 0x400u		/* compressed units: encode, write_encoded */

struct smd_snapshot {
	const char *id;			/* bytes, NUL-terminated; valid during the call */
	const char *name;
	uint64_t virtual_size;
	uint64_t vm_state_size;
	uint64_t date_ns;		/* since 1970 */
};
typedef int smd_snapshot_fn(void *opaque, const struct smd_snapshot *snapshot,
			    struct smd_error *err);

struct smd_format {
	uint32_t abi;		/* SMD_FORMAT_ABI at build time */
	uint32_t struct_size;	/* sizeof(struct smd_format) at build time */
	const char *name;	/* as the API spells it, and the suffix of file names: "vhd" */
	const char *alias;	/* another tool's name for it ("vpc"); NULL: none */
	const char *doc;	/* one line */
	uint64_t caps;		/* SMD_CAP_*; a callback behind no cap is required */
	uint64_t max_virtual_size;
	uint64_t size_unit;	/* created virtual sizes are multiples of it; 1: any */
	const struct smd_option *options;	/* ended by a NULL name; NULL: none */

	/* How sure: 0 not this format .. 100 certain, from the first head_len and
	 * last tail_len bytes of a store of size bytes. Only ever used to refuse,
	 * never to choose. CAP_PROBE. */
	int (*probe)(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len,
		     uint64_t size);

	/* Write a new image over io (empty where it can grow; else with anything in
	 * it, but for both its ends, which are zeroes). On return it is written, not
	 * flushed. The host calls it with a parent only with CAP_PARENT. CAP_CREATE.
	 * Errors: SIZE_LIMIT, BAD_SIZE, IO. */
	int (*create)(struct smd_io *io, const struct smd_create *params, struct smd_error *err);

	/* File bytes that an image made with params needs when data_size bytes in
	 * n_extents runs of the disk hold data. An upper bound. CAP_CREATE. */
	int (*measure)(const struct smd_create *params, uint64_t data_size, uint64_t n_extents,
		       struct smd_measure *ret, struct smd_error *err);

	/* Check the headers and tables needed to answer for the image, and make
	 * *ret_img. Opening writes nothing. io outlives the image. */
	int (*open)(struct smd_io *io, uint32_t flags, void **ret_img, struct smd_error *err);

	/* Free the image. Unflushed changes may be lost: call flush first. */
	void (*close)(void *img);

	/* Fill *ret, which the host has zeroed. */
	int (*info)(void *img, struct smd_image_info *ret, struct smd_error *err);

	/* Describe [offset, offset + count) of the guest's view through add(), in
	 * order and without gaps, adjacent like runs merged where that is free.
	 * Units: multiples of 512; the host checked the range against the virtual
	 * size rounded up to 512. Errors: any reason, IO. */
	int (*extents)(void *img, uint64_t offset, uint64_t count,
		       smd_extent_fn *add, void *opaque, struct smd_error *err);

	/* Decode the encoded alloc_unit that starts at guest offset into buf, which
	 * has room for alloc_unit bytes. May run in parallel with everything but
	 * close; the host does not write to the unit meanwhile. Required when info
	 * says COMPRESSED. Errors: DECOMPRESS, IO. */
	int (*read_encoded)(void *img, uint64_t offset, void *buf, struct smd_error *err);

	/* Say where a write to [offset, offset + count) goes, allocating where
	 * nothing is. The range is cut at 512 bytes; where the image has no data of
	 * its own for a write_unit, the host asks for the whole unit (it reads the
	 * rest of it from the merged view first), the last unit of the disk
	 * excepted, whose part past the end the host leaves unwritten.
	 * A range cut inside a unit whose data is shared (a snapshot has it too) gets
	 * FRESH as its answer: the host abandons it and asks for the whole unit.
	 * Nothing is visible yet. *ret_res is handed to commit or abandon, which
	 * free it; on failure nothing is reserved. Several reservations may be
	 * open, never for the same unit. After a crash before commit the space may
	 * be leaked, no more. CAP_WRITE. */
	int (*reserve)(void *img, uint64_t offset, uint64_t count,
		       smd_place_fn *add, void *opaque, void **ret_res, struct smd_error *err);

	/* The host has written the data: publish the mapping. Afterwards extents
	 * shows it; it is durable after flush. The module writes the pointers only
	 * after the data they point at is durable (it calls io->flush, now or when
	 * it writes its tables back). Frees res also on failure. */
	int (*commit)(void *img, void *res, struct smd_error *err);
	void (*abandon)(void *img, void *res);

	/* Make whole write_units of the range read as zeroes without data; the last
	 * may be cut where the disk ends. Returns 0 done, 1 "write zeroes yourself"
	 * (the format has no way here), -1. A count of 0 asks which of the two. */
	int (*zero)(void *img, uint64_t offset, uint64_t count, uint32_t flags,
		    struct smd_error *err);

	/* Everything committed is durable when this returns: data first, then the
	 * metadata that points at it, then whatever points at that. Calls
	 * io->flush as often as the order needs. */
	int (*flush)(void *img, struct smd_error *err);

	/* Change the virtual size. A crash leaves the old or the new size. New
	 * space reads as zeroes. Shrinking without SMD_RESIZE_SHRINK fails with
	 * BAD_SIZE. Durable on return. CAP_RESIZE. */
	int (*resize)(void *img, uint64_t virtual_size, uint32_t flags, struct smd_error *err);

	/* Record another parent (NULL name: none). One atomic step. CAP_PARENT. */
	int (*set_parent)(void *img, const char *name, const char *format,
			  const uint8_t uuid[16], struct smd_error *err);

	/* Mark the image as an inner node of a chain, or not. CAP_HIDDEN. */
	int (*set_hidden)(void *img, bool hidden, struct smd_error *err);

	/* Check everything, on an io that need not open cleanly; report through
	 * found(). Work is bounded by the file's size, memory by a counter per
	 * allocation unit of the file. Returns 0 when the check ran to its end
	 * (whatever it found), -1 when it could not. CAP_CHECK. */
	int (*check)(struct smd_io *io, uint32_t repair, smd_finding_fn *found, void *opaque,
		     struct smd_check *ret, struct smd_error *err);

	/* The image as a sequence of pieces in file order, for a disk whose data
	 * lies in the given extents (sorted, disjoint, DATA only; each GUEST piece
	 * may cover more, in whole alloc_units). Nothing is read or written here:
	 * a pipe can carry the result. CAP_STREAM. */
	int (*stream)(const struct smd_create *params, const struct smd_extent *data, size_t n_data,
		      smd_piece_fn *emit, void *opaque, struct smd_error *err);

	/* Internal snapshots. id or name selects one. CAP_SNAPSHOTS. */
	int (*snapshot_list)(void *img, smd_snapshot_fn *add, void *opaque, struct smd_error *err);
	int (*snapshot_create)(void *img, const char *name, uint64_t date_ns, struct smd_error *err);
	int (*snapshot_delete)(void *img, const char *id_or_name, struct smd_error *err);
	int (*snapshot_apply)(void *img, const char *id_or_name, struct smd_error *err);

	/* Encode the alloc_unit in buf into out; *ret_len <= out_room, which is less
	 * than an alloc_unit. Returns 0, 1 "it does not shrink: write it as it is", or
	 * -1. Touches no file and no table; may run in parallel with everything but
	 * close. CAP_ENCODE. Errors: IO. */
	int (*encode)(void *img, const void *buf, void *out, size_t out_room, size_t *ret_len,
		      struct smd_error *err);

	/* Take space for the encoded alloc_unit that starts at guest offset, write it
	 * there and publish the mapping, in place of what the unit had. What encode
	 * made of a part of a disk that ends in the unit is zeroes behind the end.
	 * No reservation is open for the unit. Returns 0, 1 "no way to have it
	 * encoded: write it as it is" (nothing changed), or -1. Durable after flush;
	 * pointers are written only after the data are durable, as with commit, and
	 * a crash before that leaks the space at most. CAP_ENCODE. Errors: IO. */
	int (*write_encoded)(void *img, uint64_t offset, const void *data, size_t len,
			     struct smd_error *err);

	/* What an image of exactly this content takes, in two steps: usage sets its
	 * members of *ret; taken gets them back with what the host has counted by
	 * them. Of an image that is written once, from its beginning to its end.
	 * Both or none: without them the host goes by measure, a bound. CAP_CREATE.
	 * Errors: as of create. */
	int (*usage)(const struct smd_create *params, struct smd_usage *ret,
		     struct smd_error *err);
	int (*taken)(const struct smd_create *params, const struct smd_usage *usage,
		     struct smd_taken *ret, struct smd_error *err);

	/* The formats besides its own on which its images can lie, ended by a NULL
	 * name: those whose name they can record. NULL: any. CAP_PARENT. */
	const char *const *parents;
	/* --- ABI 1 ends here: append below, never reorder, never remove. --- */
};

/* The one exported symbol. Returns the module's table, or NULL when it cannot
 * be served by this host. */
typedef const struct smd_format *smd_format_init_fn(const struct smd_format_host *host);
extern smd_format_init_fn smd_format_init;

/* SMD_REGISTER_FORMAT(vhd_format), in one source file of the module. */
#define SMD_REGISTER_FORMAT(format)						\
	const struct smd_format_host *smd_format_host;				\
	__attribute__((visibility("default"))) const struct smd_format *	\
	smd_format_init(const struct smd_format_host *host)			\
	{									\
		static struct smd_format registered;				\
										\
		smd_format_host = host;						\
		registered = (format);						\
		registered.abi = SMD_FORMAT_ABI;				\
		registered.struct_size = sizeof registered;			\
		return &registered;						\
	}

#ifdef __cplusplus
}
#endif

#endif
