/* SPDX-License-Identifier: BSD-2-Clause */
/* What an image is, and its fields as `vhd-util read -p` has them. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "plugins/format/vhd/vhd.h"

static bool
all_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

static void
put_string(FILE *f, const char *key, const char *s, size_t len)
{
	fprintf(f, "%s\t\"", key);
	for (size_t i = 0; i < len && s[i]; i++) {
		uint8_t c = (uint8_t)s[i];

		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(f, "\\u%04x", c);
		else
			putc(c, f);
	}
	fputs("\"\n", f);
}

static void
put_uuid(FILE *f, const char *key, const uint8_t u[16])
{
	fprintf(f, "%s\t\"", key);
	for (int i = 0; i < 16; i++)
		fprintf(f, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
	fputs("\"\n", f);
}

/* Four bytes of a tool's name; what is no ASCII becomes '?'. */
static void
put_tag(FILE *f, const char *key, uint32_t tag)
{
	char s[4];

	smd_store_be32((uint8_t *)s, tag);
	for (int i = 0; i < 4; i++)
		if (s[i] != 0 && !isprint((unsigned char)s[i]))
			s[i] = '?';
	put_string(f, key, s, 4);
}

static const char *
type_name(uint32_t type)
{
	return type == VHD_TYPE_FIXED ? "fixed" :
	       type == VHD_TYPE_DYNAMIC ? "dynamic" : "differencing";
}

static void
footer_details(FILE *f, const struct vhd_footer *t)
{
	fprintf(f, "subformat\t\"%s\"\n", type_name(t->type));
	fprintf(f, "features\t%" PRIu32 "\n", t->features);
	fprintf(f, "version\t\"%u.%u\"\n", t->version >> 16, t->version & 0xffff);
	if (t->type != VHD_TYPE_FIXED)
		fprintf(f, "data-offset\t%" PRIu64 "\n", t->data_offset);
	fprintf(f, "timestamp\t%" PRIu64 "\n", t->timestamp + VHD_EPOCH_UNIX);
	put_tag(f, "creator-application", t->creator_app);
	fprintf(f, "creator-version\t\"%u.%u\"\n", t->creator_version >> 16,
		t->creator_version & 0xffff);
	put_tag(f, "creator-os", t->creator_os);
	fprintf(f, "original-size\t%" PRIu64 "\n", t->original_size);
	fprintf(f, "current-size\t%" PRIu64 "\n", t->current_size);
	fprintf(f, "geometry\t\"%u/%u/%u\"\n", t->geometry.cylinders, t->geometry.heads,
		t->geometry.sectors);
	put_uuid(f, "uuid", t->uuid);
	fprintf(f, "saved-state\t%s\n", t->saved_state ? "true" : "false");
	fprintf(f, "hidden\t%u\n", t->hidden);
}

static void
header_details(FILE *f, const struct vhd *v)
{
	const struct vhd_header *h = &v->header;

	fprintf(f, "header-version\t\"%u.%u\"\n", h->version >> 16, h->version & 0xffff);
	fprintf(f, "table-offset\t%" PRIu64 "\n", h->bat_offset);
	fprintf(f, "max-table-entries\t%" PRIu32 "\n", h->n_entries);
	fprintf(f, "block-size\t%" PRIu32 "\n", h->block_size);
	fprintf(f, "allocated-blocks\t%" PRIu32 "\n", v->n_allocated);
	if (v->footer.type == VHD_TYPE_DIFFERENCING) {
		put_string(f, "parent-name", v->parent_name, sizeof v->parent_name);
		put_uuid(f, "parent-uuid", h->parent_uuid);
		fprintf(f, "parent-timestamp\t%" PRIu64 "\n",
			h->parent_timestamp + VHD_EPOCH_UNIX);
	}
	fprintf(f, "batmap\t%s\n", v->batmap.valid ? "true" : "false");
	if (v->batmap.valid) {
		fprintf(f, "batmap-offset\t%" PRIu64 "\n", v->batmap.map_offset);
		fprintf(f, "batmap-version\t\"%u.%u\"\n", v->batmap.version >> 16,
			v->batmap.version & 0xffff);
		fprintf(f, "batmap-marker\t%u\n", v->batmap.header[28]);
	}
}

static int
details_make(const struct vhd *v, char **ret, struct smd_error *err)
{
	size_t len;
	FILE *f = open_memstream(ret, &len);

	if (!f)
		return vhd_no_memory(v->io, err);
	footer_details(f, &v->footer);
	if (!vhd_is_fixed(v))
		header_details(f, v);
	if (fclose(f) != 0)
		return vhd_no_memory(v->io, err);
	return 0;
}

static void
parent_info(const struct vhd *v, struct smd_image_info *ret)
{
	ret->flags |= SMD_INFO_HAS_PARENT;
	memcpy(ret->parent_uuid, v->header.parent_uuid, 16);
	memcpy(ret->parent_name, v->parent_name, sizeof ret->parent_name);
	/* XenServer: a raw parent has no uuid. */
	strcpy(ret->parent_format, all_zero(v->header.parent_uuid, 16) ? "raw" : "vhd");
}

int
vhd_info(void *img, struct smd_image_info *ret, struct smd_error *err)
{
	const struct vhd *v = img;

	memset(ret, 0, sizeof *ret);
	ret->virtual_size = v->footer.current_size;
	ret->write_unit = VHD_SECTOR;
	ret->alloc_unit = vhd_is_fixed(v) ? VHD_BLOCK_SIZE : v->header.block_size;
	ret->host_align = vhd_is_fixed(v) || v->aligned ? VHD_PAGE : VHD_SECTOR;
	memcpy(ret->uuid, v->footer.uuid, 16);
	if (v->footer.type == VHD_TYPE_DIFFERENCING)
		parent_info(v, ret);
	if (v->footer.hidden)
		ret->flags |= SMD_INFO_HIDDEN;
	if (v->degraded)
		ret->flags |= SMD_INFO_DEGRADED | SMD_INFO_READ_ONLY;
	if (!vhd_is_fixed(v) && v->header.block_size != VHD_BLOCK_SIZE)
		ret->flags |= SMD_INFO_READ_ONLY;
	return v->look ? 0 : details_make(v, &ret->details, err);
}
