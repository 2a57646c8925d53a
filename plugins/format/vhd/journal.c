/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changing the footer and other metadata as one, within the file.
 *
 *   records and a footer after all data | the footer's copy, pointing at them |
 *   the records in their places, both ends' footer | the new copy | cut off
 *
 * The copy of the footer is one sector, and so is whole or not there: until it
 * points at the journal nothing has changed, from then on readers see the
 * journal's bytes in their places. Its pointer lies in bytes the specification
 * reserves (448 to 467 of the copy, never of the footer at the end), which makes
 * other readers refuse or ignore it; the guest cannot write there.
 *
 * Layout: "smdvhdj1", size u32, n_records u32, checksum u32, 4 bytes 0, the
 * uuid; from 64, 16 bytes a record: offset u64, count u32, fill byte + 1 or 0;
 * at 512 the footer to be, at 1024 the data of records that have some. The
 * footer is without its cookie: a file that ends after a torn write of the
 * journal must not end with one.
 */
#include <stdlib.h>

#include "plugins/format/vhd/vhd.h"

#define JOURNAL_MAGIC "smdvhdj1"
#define JOURNAL_MAX (1u << 20)
#define FILL_CHUNK (256u << 10)

enum {
	POINTER_MAGIC = 448,
	POINTER_OFFSET = 456,
	POINTER_SIZE = 464,
	POINTER_END = 468,
	JOURNAL_SIZE = 8,
	JOURNAL_N_RECORDS = 12,
	JOURNAL_CHECKSUM = 16,
	JOURNAL_UUID = 24,
	JOURNAL_RECORDS = 64,
	JOURNAL_RECORD_STEP = 16,
	JOURNAL_FOOTER = 512,
	JOURNAL_DATA = 1024,
};

void
vhd_footer_strip(struct vhd_footer *f)
{
	if (memcmp(f->raw + POINTER_MAGIC, JOURNAL_MAGIC, 8) != 0)
		return;
	memset(f->raw + POINTER_MAGIC, 0, POINTER_END - POINTER_MAGIC);
	vhd_footer_seal(f);
}

static bool
footer_decode(const uint8_t *p, struct vhd_footer *ret)
{
	uint8_t raw[VHD_FOOTER_SIZE];

	memcpy(raw, p, sizeof raw);
	memcpy(raw, "conectix", 8);
	if (vhd_footer_parse(raw, ret) != -1)
		return false;
	vhd_footer_strip(ret);
	return true;
}

static int
broken(struct vhd_fault *fault, uint64_t offset)
{
	return vhd_fault(fault, SMD_REASON_BAD_HEADER,
			 "the journal that the footer's copy names at %" PRIu64 " is damaged",
			 offset);
}

/* A record may only touch what it has in the file, and no footer's copy. */
static bool
records_decode(struct vhd_journal *j, uint64_t io_size)
{
	uint64_t at = JOURNAL_DATA;

	j->n_records = smd_load_be32(j->bytes + JOURNAL_N_RECORDS);
	if (j->n_records > VHD_JOURNAL_RECORDS)
		return false;
	for (uint32_t i = 0; i < j->n_records; i++) {
		const uint8_t *p = j->bytes + JOURNAL_RECORDS + i * JOURNAL_RECORD_STEP;
		struct vhd_record *r = &j->records[i];

		r->offset = smd_load_be64(p);
		r->count = smd_load_be32(p + 8);
		r->fill = (int)(smd_load_be32(p + 12) & 0x1ff) - 1;
		r->data = j->bytes + at;
		if (r->offset < VHD_FOOTER_SIZE || !smd_range_ok(r->offset, r->count, io_size))
			return false;
		if (r->fill < 0 && !smd_range_ok(at, r->count, j->size))
			return false;
		at += r->fill < 0 ? r->count : 0;
	}
	return true;
}

int
vhd_journal_read(struct smd_io *io, const struct vhd_footer *head, struct vhd_journal *ret,
		 struct vhd_fault *fault, struct smd_error *err)
{
	struct vhd_journal *j = ret;

	memset(j, 0, sizeof *j);
	if (memcmp(head->raw + POINTER_MAGIC, JOURNAL_MAGIC, 8) != 0)
		return 0;
	j->offset = smd_load_be64(head->raw + POINTER_OFFSET);
	j->size = smd_load_be32(head->raw + POINTER_SIZE);
	if (j->size < JOURNAL_DATA || j->size > JOURNAL_MAX ||
	    !smd_range_ok(j->offset, j->size, io->size))
		return broken(fault, j->offset);
	j->bytes = malloc(j->size);
	if (!j->bytes)
		return vhd_no_memory(io, err);
	if (vhd_pread(io, j->bytes, j->size, j->offset, err) < 0)
		return -1;
	if (memcmp(j->bytes, JOURNAL_MAGIC, 8) != 0 ||
	    smd_load_be32(j->bytes + JOURNAL_SIZE) != j->size ||
	    memcmp(j->bytes + JOURNAL_UUID, head->uuid, 16) != 0 ||
	    smd_load_be32(j->bytes + JOURNAL_CHECKSUM) !=
		    vhd_checksum(j->bytes, j->size, JOURNAL_CHECKSUM) ||
	    !footer_decode(j->bytes + JOURNAL_FOOTER, &j->footer) ||
	    !records_decode(j, io->size))
		return broken(fault, j->offset);
	return 0;
}

void
vhd_journal_done(struct vhd_journal *j)
{
	free(j->bytes);
	memset(j, 0, sizeof *j);
}

int
vhd_meta_pread(struct smd_io *io, const struct vhd_journal *j, void *buf, size_t count,
	       uint64_t offset, struct smd_error *err)
{
	if (vhd_pread(io, buf, count, offset, err) < 0)
		return -1;
	for (uint32_t i = 0; j && i < j->n_records; i++) {
		const struct vhd_record *r = &j->records[i];
		uint64_t start = smd_max_u64(offset, r->offset);
		uint64_t end = smd_min_u64(offset + count, r->offset + r->count);

		if (start >= end)
			continue;
		if (r->fill < 0)
			memcpy((uint8_t *)buf + (start - offset), r->data + (start - r->offset),
			       end - start);
		else
			memset((uint8_t *)buf + (start - offset), r->fill, end - start);
	}
	return 0;
}

static int
fill_write(struct smd_io *io, const struct vhd_record *r, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = malloc(FILL_CHUNK);

	if (!buf)
		return vhd_no_memory(io, err);
	memset(buf, r->fill, FILL_CHUNK);
	for (uint64_t done = 0; done < r->count;) {
		size_t n = (size_t)smd_min_u64(FILL_CHUNK, r->count - done);

		if (vhd_pwrite(io, buf, n, r->offset + done, err) < 0)
			return -1;
		done += n;
	}
	return 0;
}

int
vhd_journal_apply(struct smd_io *io, const struct vhd_journal *j, uint64_t data_end,
		  struct smd_error *err)
{
	const uint8_t *footer = j->footer.raw;
	bool grows = io->flags & SMD_IO_CAN_GROW;

	for (uint32_t i = 0; i < j->n_records; i++) {
		const struct vhd_record *r = &j->records[i];
		int ret = r->fill < 0 ? vhd_pwrite(io, r->data, r->count, r->offset, err)
				      : fill_write(io, r, err);

		if (ret < 0)
			return -1;
	}
	if (vhd_pwrite(io, footer, VHD_FOOTER_SIZE, io->size - VHD_FOOTER_SIZE, err) < 0 ||
	    (grows && vhd_pwrite(io, footer, VHD_FOOTER_SIZE, data_end, err) < 0) ||
	    vhd_io_flush(io, err) < 0 ||
	    vhd_pwrite(io, footer, VHD_FOOTER_SIZE, 0, err) < 0 ||
	    vhd_io_flush(io, err) < 0)
		return -1;
	if (grows && io->ops->truncate(io, data_end + VHD_FOOTER_SIZE, err) < 0)
		return -1;
	return vhd_io_flush(io, err);
}

/* The bytes of a journal; NULL: no memory. */
static uint8_t *
journal_encode(const struct vhd_footer *after, const struct vhd_record *records,
	       uint32_t n_records, uint32_t size)
{
	uint8_t *p = calloc(1, size);
	uint64_t at = JOURNAL_DATA;

	if (!p)
		return NULL;
	memcpy(p, JOURNAL_MAGIC, 8);
	smd_store_be32(p + JOURNAL_SIZE, size);
	smd_store_be32(p + JOURNAL_N_RECORDS, n_records);
	memcpy(p + JOURNAL_UUID, after->uuid, 16);
	memcpy(p + JOURNAL_FOOTER + 8, after->raw + 8, VHD_FOOTER_SIZE - 8);
	for (uint32_t i = 0; i < n_records; i++) {
		uint8_t *r = p + JOURNAL_RECORDS + i * JOURNAL_RECORD_STEP;

		smd_store_be64(r, records[i].offset);
		smd_store_be32(r + 8, records[i].count);
		smd_store_be32(r + 12, (uint32_t)(records[i].fill + 1));
		if (records[i].fill < 0) {
			memcpy(p + at, records[i].data, records[i].count);
			at += records[i].count;
		}
	}
	smd_store_be32(p + JOURNAL_CHECKSUM, vhd_checksum(p, size, JOURNAL_CHECKSUM));
	return p;
}

/* Past the old and the new end where the store grows, else in the slack before
 * the footer. */
static int
journal_place(struct smd_io *io, uint32_t size, uint64_t busy_end, uint64_t *ret,
	      struct smd_error *err)
{
	uint64_t at;

	if (io->flags & SMD_IO_CAN_GROW) {
		at = smd_max_u64(io->size, busy_end + VHD_FOOTER_SIZE);
		*ret = (at + VHD_SECTOR - 1) / VHD_SECTOR * VHD_SECTOR;
		return 0;
	}
	at = (io->size - VHD_FOOTER_SIZE) / VHD_SECTOR * VHD_SECTOR;
	if (at < busy_end || at - busy_end < size)
		return smd_fail(err, SMD_REASON_IO, io->name,
				"no room: a change of the metadata needs %" PRIu32
				" bytes of slack before the footer: put the image in a larger "
				"store", size);
	*ret = at - size;
	return 0;
}

int
vhd_journal_commit(struct smd_io *io, const struct vhd_footer *before,
		   const struct vhd_footer *after, const struct vhd_record *records,
		   uint32_t n_records, uint64_t busy_end, uint64_t data_end,
		   bool *ret_begun, struct smd_error *err)
{
	struct vhd_journal j = { .footer = *after, .n_records = n_records };
	CLEANUP_FREE uint8_t *bytes = NULL;
	struct vhd_footer head = *before;
	uint64_t size = JOURNAL_DATA, old_end = io->size;
	int ret;

	for (uint32_t i = 0; i < n_records; i++) {
		size += records[i].fill < 0 ? records[i].count : 0;
		j.records[i] = records[i];
	}
	size = (size + VHD_SECTOR - 1) / VHD_SECTOR * VHD_SECTOR;
	busy_end = smd_max_u64(busy_end, data_end);
	if (journal_place(io, (uint32_t)size, busy_end, &j.offset, err) < 0)
		return -1;
	bytes = journal_encode(after, records, n_records, (uint32_t)size);
	if (!bytes)
		return vhd_no_memory(io, err);
	*ret_begun = false;
	ret = vhd_pwrite(io, bytes, size, j.offset, err);
	if (ret == 0 && io->flags & SMD_IO_CAN_GROW)
		ret = vhd_pwrite(io, before->raw, VHD_FOOTER_SIZE, j.offset + size, err);
	if (ret < 0) {
		if (io->flags & SMD_IO_CAN_GROW)
			io->ops->truncate(io, old_end, err);
		return -1;
	}
	*ret_begun = true;
	if (vhd_io_flush(io, err) < 0)
		return -1;
	memcpy(head.raw + POINTER_MAGIC, JOURNAL_MAGIC, 8);
	smd_store_be64(head.raw + POINTER_OFFSET, j.offset);
	smd_store_be32(head.raw + POINTER_SIZE, (uint32_t)size);
	vhd_footer_seal(&head);
	if (vhd_pwrite(io, head.raw, VHD_FOOTER_SIZE, 0, err) < 0 || vhd_io_flush(io, err) < 0)
		return -1;
	return vhd_journal_apply(io, &j, data_end, err);
}
