/* SPDX-License-Identifier: BSD-2-Clause */
/* "Hard Disk Footer Format", and how XenServer and others fill it. */
#include "plugins/format/vhd/vhd.h"

enum {
	FOOTER_COOKIE = 0,
	FOOTER_FEATURES = 8,
	FOOTER_VERSION = 12,
	FOOTER_DATA_OFFSET = 16,
	FOOTER_TIMESTAMP = 24,
	FOOTER_CREATOR_APP = 28,
	FOOTER_CREATOR_VERSION = 32,
	FOOTER_CREATOR_OS = 36,
	FOOTER_ORIGINAL_SIZE = 40,
	FOOTER_CURRENT_SIZE = 48,
	FOOTER_CYLINDERS = 56,
	FOOTER_HEADS = 58,
	FOOTER_SECTORS = 59,
	FOOTER_TYPE = 60,
	FOOTER_CHECKSUM = 64,
	FOOTER_UUID = 68,
	FOOTER_SAVED_STATE = 84,
	FOOTER_HIDDEN = 85,
};

uint32_t
vhd_checksum(const uint8_t *p, size_t len, size_t field)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += p[i];
	for (size_t i = field; i < field + 4 && i < len; i++)
		sum -= p[i];
	return ~sum;
}

struct vhd_geometry
vhd_geometry_of(uint64_t size)
{
	uint64_t sectors = size / VHD_SECTOR, cth;
	uint32_t spt = 17, heads;

	if (sectors > 65535u * 16 * 255)
		sectors = 65535u * 16 * 255;
	if (sectors >= 65535u * 16 * 63) {
		spt = 255;
		heads = 16;
		cth = sectors / spt;
	} else {
		cth = sectors / spt;
		heads = (uint32_t)smd_max_u64(4, (cth + 1023) / 1024);
		if (cth >= heads * 1024u || heads > 16) {
			spt = 31;
			heads = 16;
			cth = sectors / spt;
		}
		if (cth >= heads * 1024u) {
			spt = 63;
			heads = 16;
			cth = sectors / spt;
		}
	}
	return (struct vhd_geometry){ (uint16_t)(cth / heads), (uint8_t)heads, (uint8_t)spt };
}

uint64_t
vhd_geometry_size(struct vhd_geometry g)
{
	return (uint64_t)g.cylinders * g.heads * g.sectors * VHD_SECTOR;
}

static void
footer_decode(const uint8_t *p, struct vhd_footer *ret)
{
	memcpy(ret->raw, p, VHD_FOOTER_SIZE);
	ret->features = smd_load_be32(p + FOOTER_FEATURES);
	ret->version = smd_load_be32(p + FOOTER_VERSION);
	ret->data_offset = smd_load_be64(p + FOOTER_DATA_OFFSET);
	ret->timestamp = smd_load_be32(p + FOOTER_TIMESTAMP);
	ret->creator_app = smd_load_be32(p + FOOTER_CREATOR_APP);
	ret->creator_version = smd_load_be32(p + FOOTER_CREATOR_VERSION);
	ret->creator_os = smd_load_be32(p + FOOTER_CREATOR_OS);
	ret->original_size = smd_load_be64(p + FOOTER_ORIGINAL_SIZE);
	ret->current_size = smd_load_be64(p + FOOTER_CURRENT_SIZE);
	ret->geometry.cylinders = smd_load_be16(p + FOOTER_CYLINDERS);
	ret->geometry.heads = p[FOOTER_HEADS];
	ret->geometry.sectors = p[FOOTER_SECTORS];
	ret->type = smd_load_be32(p + FOOTER_TYPE);
	ret->checksum = smd_load_be32(p + FOOTER_CHECKSUM);
	memcpy(ret->uuid, p + FOOTER_UUID, 16);
	ret->saved_state = p[FOOTER_SAVED_STATE];
	ret->hidden = p[FOOTER_HIDDEN];
}

int
vhd_footer_parse(const uint8_t raw[VHD_FOOTER_SIZE], struct vhd_footer *ret)
{
	uint32_t sum = vhd_checksum(raw, VHD_FOOTER_SIZE, FOOTER_CHECKSUM);
	struct vhd_footer f;

	footer_decode(raw, &f);
	if (memcmp(raw, "conectix", 8) != 0)
		return SMD_REASON_BAD_COOKIE;
	/* tapdisk 1.1 set the hidden byte after it had summed. */
	if (f.checksum != sum &&
	    !(f.creator_app == VHD_APP_TAP && f.creator_version == VHD_TAP_VERSION_1_1 &&
	      f.checksum == sum + f.hidden))
		return SMD_REASON_BAD_CHECKSUM;
	*ret = f;
	return -1;
}

void
vhd_footer_seal(struct vhd_footer *f)
{
	uint8_t *p = f->raw;

	memcpy(p, "conectix", 8);
	smd_store_be32(p + FOOTER_FEATURES, f->features);
	smd_store_be32(p + FOOTER_VERSION, f->version);
	smd_store_be64(p + FOOTER_DATA_OFFSET, f->data_offset);
	smd_store_be32(p + FOOTER_TIMESTAMP, f->timestamp);
	smd_store_be32(p + FOOTER_CREATOR_APP, f->creator_app);
	smd_store_be32(p + FOOTER_CREATOR_VERSION, f->creator_version);
	smd_store_be32(p + FOOTER_CREATOR_OS, f->creator_os);
	smd_store_be64(p + FOOTER_ORIGINAL_SIZE, f->original_size);
	smd_store_be64(p + FOOTER_CURRENT_SIZE, f->current_size);
	smd_store_be16(p + FOOTER_CYLINDERS, f->geometry.cylinders);
	p[FOOTER_HEADS] = f->geometry.heads;
	p[FOOTER_SECTORS] = f->geometry.sectors;
	smd_store_be32(p + FOOTER_TYPE, f->type);
	memcpy(p + FOOTER_UUID, f->uuid, 16);
	p[FOOTER_SAVED_STATE] = f->saved_state;
	p[FOOTER_HIDDEN] = f->hidden;
	f->checksum = vhd_checksum(p, VHD_FOOTER_SIZE, FOOTER_CHECKSUM);
	smd_store_be32(p + FOOTER_CHECKSUM, f->checksum);
}

/* Early Virtual PC wrote a footer of 511 bytes; images are whole sectors else. */
static int
tail_read(struct smd_io *io, struct vhd_footers *ret, struct smd_error *err)
{
	uint64_t size = io->size;
	size_t len = size % VHD_SECTOR == VHD_FOOTER_SIZE - 1 ? VHD_FOOTER_SIZE - 1 : VHD_FOOTER_SIZE;
	uint8_t raw[VHD_FOOTER_SIZE] = { 0 };

	ret->tail_state = SMD_REASON_TRUNCATED;
	if (size < len)
		return 0;
	ret->tail_offset = size - len;
	if (vhd_pread(io, raw, len, ret->tail_offset, err) < 0)
		return -1;
	ret->tail_state = vhd_footer_parse(raw, &ret->tail);
	if (ret->tail_state == -1)
		vhd_footer_strip(&ret->tail);
	return 0;
}

int
vhd_footers_read(struct smd_io *io, struct vhd_footers *ret, struct smd_error *err)
{
	uint8_t raw[VHD_FOOTER_SIZE];

	memset(ret, 0, sizeof *ret);
	ret->head_state = SMD_REASON_TRUNCATED;
	if (tail_read(io, ret, err) < 0)
		return -1;
	/* A file that is one footer has no copy of it. */
	if (io->size >= 2 * VHD_FOOTER_SIZE) {
		if (vhd_pread(io, raw, sizeof raw, 0, err) < 0)
			return -1;
		ret->head_state = vhd_footer_parse(raw, &ret->head);
	}
	ret->end = ret->tail_state == -1 ? ret->tail_offset : io->size;
	return 0;
}

static int
both_damaged(const struct vhd_footers *f, struct vhd_fault *fault)
{
	if (f->tail_state == SMD_REASON_BAD_CHECKSUM || f->head_state == SMD_REASON_BAD_CHECKSUM)
		return vhd_fault(fault, SMD_REASON_BAD_CHECKSUM,
				 "the checksum of the footer is wrong, and no copy is whole");
	return vhd_fault(fault, SMD_REASON_BAD_COOKIE,
			 "no footer \"conectix\" at the end, nor a copy at the start");
}

static bool
copies_agree(const struct vhd_footer *a, const struct vhd_footer *b)
{
	return memcmp(a->uuid, b->uuid, 16) == 0 && a->current_size == b->current_size &&
	       a->type == b->type && a->data_offset == b->data_offset;
}

/*
 * The tail counts. A tail of a fixed disk is all there is: its sector 0 is the
 * guest's, whatever it looks like.
 */
int
vhd_footers_choose(struct vhd_footers *f, uint64_t io_size, struct vhd_footer *ret,
		   bool *ret_degraded, struct vhd_fault *fault)
{
	bool head = f->head_state == -1, tail = f->tail_state == -1;

	if (io_size < VHD_SECTOR + VHD_FOOTER_SIZE - 1)
		return vhd_fault(fault, SMD_REASON_TRUNCATED,
				 "%" PRIu64 " bytes are less than a sector and a footer", io_size);
	if (!head && !tail)
		return both_damaged(f, fault);
	if (!tail && f->head.type == VHD_TYPE_FIXED)
		return vhd_fault(fault, SMD_REASON_TRUNCATED,
				 "a fixed disk that does not end with its footer");
	if (head && tail && f->tail.type != VHD_TYPE_FIXED && !copies_agree(&f->head, &f->tail))
		return vhd_fault(fault, SMD_REASON_AMBIGUOUS,
				 "the footer and its copy disagree on uuid, size, type or header: "
				 "take another copy");
	*ret = tail ? f->tail : f->head;
	*ret_degraded = !tail || (!head && f->tail.type != VHD_TYPE_FIXED);
	return 0;
}

int
vhd_footer_check(const struct vhd_footer *f, uint64_t tail_offset, struct vhd_fault *fault)
{
	if (f->version >> 16 != 1)
		return vhd_fault(fault, SMD_REASON_BAD_VERSION,
				 "footer version 0x%08" PRIx32 ", not 1.x", f->version);
	if (f->creator_app == VHD_APP_TAP && f->creator_version == VHD_TAP_VERSION_0_1)
		return vhd_fault(fault, SMD_REASON_UNSUPPORTED,
				 "tapdisk 0.1 images have little-endian bitmaps, which are not read: "
				 "convert it with what made it");
	if (f->type < VHD_TYPE_FIXED || f->type > VHD_TYPE_DIFFERENCING)
		return vhd_fault(fault, SMD_REASON_UNSUPPORTED,
				 "disk type %" PRIu32 " is none of 2, fixed, 3, dynamic, and 4, "
				 "differencing: it is damaged, or no hard disk: take another copy",
				 f->type);
	if (f->current_size == 0 || f->current_size % VHD_SECTOR)
		return vhd_fault(fault, SMD_REASON_BAD_SIZE,
				 "virtual size %" PRIu64 " is no multiple of 512 above 0: it is "
				 "damaged, or what made it errs: take another copy",
				 f->current_size);
	if (f->current_size > VHD_MAX_SIZE)
		return vhd_fault(fault, SMD_REASON_SIZE_LIMIT,
				 "virtual size %" PRIu64 " is over VHD's limit of %" PRIu64
				 " (2040 GiB): what made it can convert it to another format",
				 f->current_size, VHD_MAX_SIZE);
	if (f->type == VHD_TYPE_FIXED && f->current_size > tail_offset)
		return vhd_fault(fault, SMD_REASON_TRUNCATED,
				 "a fixed disk of %" PRIu64 " bytes has %" PRIu64 " before its footer",
				 f->current_size, tail_offset);
	return 0;
}

int
vhd_probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len,
	  uint64_t size)
{
	struct vhd_footer f;
	int sure = 0;

	if (head_len >= VHD_FOOTER_SIZE) {
		int state = vhd_footer_parse(head, &f);

		sure = state == -1 ? 100 : state == SMD_REASON_BAD_CHECKSUM ? 80 : 0;
	}
	if (tail_len >= VHD_FOOTER_SIZE) {
		uint8_t raw[VHD_FOOTER_SIZE] = { 0 };
		size_t len = VHD_FOOTER_SIZE - (size % VHD_SECTOR == VHD_FOOTER_SIZE - 1);
		int state;

		memcpy(raw, tail + tail_len - len, len);
		state = vhd_footer_parse(raw, &f);
		if (state == -1)
			sure = 100;
		else if (state == SMD_REASON_BAD_CHECKSUM && sure < 80)
			sure = 80;
	}
	return sure;
}
