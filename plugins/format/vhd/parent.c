/* SPDX-License-Identifier: BSD-2-Clause */
/* Another parent, and the mark of an inner node. */
#include "plugins/format/vhd/vhd.h"

#define LOCATORS_SIZE (3 * VHD_SECTOR)

/* Where the three locators are now, if each has a sector. */
static bool
locators_reuse(const struct vhd *v, uint64_t ret[3])
{
	static const uint32_t codes[] = { VHD_LOCATOR_MACX, VHD_LOCATOR_W2KU, VHD_LOCATOR_W2RU };

	if (v->footer.type != VHD_TYPE_DIFFERENCING)
		return false;
	for (unsigned k = 0; k < 3; k++) {
		bool found = false;

		for (unsigned i = 0; i < VHD_N_LOCATORS && !found; i++) {
			const struct vhd_locator *l = &v->header.locators[i];

			found = l->code == codes[k] && vhd_locator_room(l) >= VHD_SECTOR;
			ret[k] = l->offset;
		}
		if (!found)
			return false;
	}
	return true;
}

static bool
area_free(const struct vhd *v, uint64_t start, uint64_t end)
{
	struct vhd_area areas[VHD_AREAS_MAX];
	unsigned n = vhd_metadata_areas(&v->footer, &v->header, areas);

	for (unsigned i = 0; i < n; i++)
		if (start < areas[i].end && areas[i].start < end)
			return false;
	return true;
}

/* Where they are, the room before the BAT that our images have, or behind all
 * metadata, out of which blocks move. */
static int
locators_place(struct vhd *v, uint64_t ret[3], uint64_t *ret_end, struct smd_error *err)
{
	uint64_t at = VHD_OWN_LOCATORS_OFFSET;

	*ret_end = 0;
	if (locators_reuse(v, ret))
		return 0;
	if (v->header.bat_offset < at + LOCATORS_SIZE ||
	    !area_free(v, at, at + LOCATORS_SIZE)) {
		at = v->meta_end;
		*ret_end = at + LOCATORS_SIZE;
		if (vhd_blocks_move_away(v, at, *ret_end, err) < 0)
			return -1;
	}
	for (unsigned k = 0; k < 3; k++)
		ret[k] = at + k * VHD_SECTOR;
	return 0;
}

static int
parent_commit(struct vhd *v, struct vhd_footer *footer, struct vhd_header *header,
	      struct vhd_record *records, uint32_t n_records, struct smd_error *err)
{
	uint64_t busy_end = v->data_end;

	vhd_footer_seal(footer);
	vhd_header_seal(header);
	records[0] = (struct vhd_record){ footer->data_offset, VHD_HEADER_SIZE, -1, header->raw };
	if (vhd_journal_commit(v->io, &v->footer, footer, records, n_records, busy_end, busy_end,
			       &v->failed, err) < 0)
		return -1;
	v->failed = false;
	vhd_metadata_changed(v, footer, header, busy_end);
	v->meta_end = vhd_meta_end(v);
	return vhd_parent_name_read(v->io, NULL, &v->header, v->parent_name, err);
}

static int
parent_remove(struct vhd *v, struct smd_error *err)
{
	static const struct vhd_parent_text none;
	struct vhd_footer footer = v->footer;
	struct vhd_header header = v->header;
	struct vhd_record records[1];
	uint8_t uuid[16] = { 0 };

	footer.type = VHD_TYPE_DYNAMIC;
	vhd_parent_put(&header, &none, uuid, 0);
	memset(header.locators, 0, sizeof header.locators);
	header.parent_timestamp = 0;
	return parent_commit(v, &footer, &header, records, 1, err);
}

int
vhd_set_parent(void *img, const char *name, const char *format, const uint8_t uuid[16],
	       struct smd_error *err)
{
	struct vhd *v = img;
	struct vhd_record records[4];
	struct vhd_parent_text text;
	struct vhd_footer footer;
	struct vhd_header header;
	uint64_t places[3], end;

	/* A raw parent is told by its null uuid. */
	(void)format;
	if (vhd_write_begin(v, err) < 0)
		return -1;
	if (vhd_is_fixed(v))
		return smd_fail(err, SMD_REASON_UNSUPPORTED, v->io->name,
				"a fixed VHD can have no parent: a dynamic one, to which it can be "
				"converted, can");
	if (vhd_no_pending(v, err) < 0 || vhd_flush(v, err) < 0)
		return -1;
	if (!name)
		return parent_remove(v, err);
	if (vhd_parent_text(name, v->io, &text, err) < 0 ||
	    locators_place(v, places, &end, err) < 0)
		return -1;
	footer = v->footer;
	header = v->header;
	footer.type = VHD_TYPE_DIFFERENCING;
	vhd_parent_put(&header, &text, uuid, 0);
	for (unsigned k = 0; k < 3; k++)
		header.locators[k].offset = places[k];
	records[1] = (struct vhd_record){ places[0], VHD_SECTOR, -1, text.macx };
	records[2] = (struct vhd_record){ places[1], VHD_SECTOR, -1, text.w2ku };
	records[3] = (struct vhd_record){ places[2], VHD_SECTOR, -1, text.w2ru };
	return parent_commit(v, &footer, &header, records, 4, err);
}

/* The copy, then the footer, which counts. */
int
vhd_set_hidden(void *img, bool hidden, struct smd_error *err)
{
	struct vhd *v = img;
	struct vhd_footer footer = v->footer;

	if (vhd_write_begin(v, err) < 0 || vhd_flush(v, err) < 0)
		return -1;
	footer.hidden = hidden;
	vhd_footer_seal(&footer);
	if (!vhd_is_fixed(v) &&
	    (vhd_pwrite(v->io, footer.raw, VHD_FOOTER_SIZE, 0, err) < 0 ||
	     vhd_flush_io(v, err) < 0))
		return -1;
	if (vhd_pwrite(v->io, footer.raw, VHD_FOOTER_SIZE, v->tail_offset, err) < 0)
		return -1;
	v->footer = footer;
	return vhd_flush_io(v, err);
}
