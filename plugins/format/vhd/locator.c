/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "Parent Locator Entry", and the parent's name in the header. XenServer writes
 * three: MacX, W2ku and W2ru, all of them relative.
 */
#include <stdlib.h>

#include "plugins/format/vhd/vhd.h"

enum { HEADER_PARENT_NAME = 64 };

/* Append c as UTF-8 to ret, which has room for SMD_NAME_MAX - 1 bytes. */
static bool
utf8_put(char *ret, size_t *len, uint32_t c)
{
	char b[4];
	size_t n;

	if (c < 0x80) {
		b[0] = (char)c;
		n = 1;
	} else if (c < 0x800) {
		b[0] = (char)(0xc0 | c >> 6);
		n = 2;
	} else if (c < 0x10000) {
		b[0] = (char)(0xe0 | c >> 12);
		n = 3;
	} else {
		b[0] = (char)(0xf0 | c >> 18);
		n = 4;
	}
	for (size_t i = 1; i < n; i++)
		b[i] = (char)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3f));
	if (*len + n >= SMD_NAME_MAX)
		return false;
	memcpy(ret + *len, b, n);
	*len += n;
	return true;
}

/* Up to a NUL; what is no UTF-16 becomes U+FFFD. */
static void
utf16_decode(const uint8_t *p, size_t len, bool big, char ret[SMD_NAME_MAX])
{
	size_t out = 0;

	for (size_t i = 0; i + 1 < len; i += 2) {
		uint32_t c = big ? p[i] << 8 | p[i + 1] : p[i + 1] << 8 | p[i];

		if (c == 0)
			break;
		if (c >= 0xd800 && c < 0xdc00 && i + 3 < len) {
			uint32_t d = big ? p[i + 2] << 8 | p[i + 3] : p[i + 3] << 8 | p[i + 2];

			if (d >= 0xdc00 && d < 0xe000) {
				c = 0x10000 + ((c - 0xd800) << 10) + (d - 0xdc00);
				i += 2;
			}
		}
		if (c >= 0xd800 && c < 0xe000)
			c = 0xfffd;
		if (!utf8_put(ret, &out, c))
			break;
	}
	ret[out] = '\0';
}

/* One character of s; 0 at its end or where it is no UTF-8. */
static uint32_t
utf8_take(const char **s)
{
	const uint8_t *p = (const uint8_t *)*s;
	uint32_t c = p[0];
	int n = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : (c & 0xf0) == 0xe0 ? 2 :
		c >= 0xf0 && c < 0xf5 ? 3 : -1;

	if (n < 0 || c == 0)
		return 0;
	if (n > 0)
		c &= 0x3fu >> n;
	for (int i = 1; i <= n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if ((c >= 0xd800 && c < 0xe000) || c > 0x10ffff || (n == 2 && c < 0x800) ||
	    (n == 3 && c < 0x10000))
		return 0;
	*s += n + 1;
	return c;
}

static bool
utf16_unit(uint8_t *p, size_t room, size_t *len, uint32_t unit, bool big)
{
	if (room - *len < 2)
		return false;
	p[*len] = (uint8_t)(big ? unit >> 8 : unit);
	p[*len + 1] = (uint8_t)(big ? unit : unit >> 8);
	*len += 2;
	return true;
}

/* Append s; backslashes for slashes where asked. */
static bool
utf16_put(uint8_t *p, size_t room, size_t *len, const char *s, bool big, bool backslash)
{
	while (*s) {
		uint32_t c = utf8_take(&s);

		if (c == 0)
			return false;
		if (backslash && c == '/')
			c = '\\';
		if (c >= 0x10000) {
			if (!utf16_unit(p, room, len, 0xd800 + ((c - 0x10000) >> 10), big))
				return false;
			c = 0xdc00 + (c & 0x3ff);
		}
		if (!utf16_unit(p, room, len, c, big))
			return false;
	}
	return true;
}

static bool
parent_text_make(const char *name, struct vhd_parent_text *t)
{
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
	const char *dot = name[0] == '/' ? "" : "./";
	size_t header = 0, w2 = 0, macx, len = strlen(name);

	memset(t, 0, sizeof *t);
	macx = 7 + strlen(dot) + len;
	if (len == 0 || macx > sizeof t->macx)
		return false;
	memcpy(t->macx, "file://", 7);
	memcpy(t->macx + 7, dot, strlen(dot));
	memcpy(t->macx + 7 + strlen(dot), name, len);
	if (!utf16_put(t->header_name, sizeof t->header_name, &header, base, true, false) ||
	    !utf16_put(t->w2ru, sizeof t->w2ru, &w2, dot, false, true) ||
	    !utf16_put(t->w2ru, sizeof t->w2ru, &w2, name, false, true))
		return false;
	memcpy(t->w2ku, t->w2ru, sizeof t->w2ku);
	t->macx_size = (uint32_t)macx;
	t->w2_size = (uint32_t)w2;
	return true;
}

int
vhd_parent_text(const char *name, const struct smd_io *io, struct vhd_parent_text *ret,
		struct smd_error *err)
{
	if (!parent_text_make(name, ret))
		return smd_fail(err, SMD_REASON_BACKING_NAME, io ? io->name : "vhd",
				"a parent's name must be UTF-8 and fit a locator of 512 bytes: "
				"give it another name");
	return 0;
}

void
vhd_parent_put(struct vhd_header *h, const struct vhd_parent_text *text, const uint8_t uuid[16],
	       uint64_t offset)
{
	memcpy(h->raw + HEADER_PARENT_NAME, text->header_name, VHD_PARENT_NAME_SIZE);
	memcpy(h->parent_uuid, uuid, 16);
	memset(h->locators, 0, sizeof h->locators);
	h->locators[0] = (struct vhd_locator){ VHD_LOCATOR_MACX, VHD_SECTOR, text->macx_size,
					       offset };
	h->locators[1] = (struct vhd_locator){ VHD_LOCATOR_W2KU, VHD_SECTOR, text->w2_size,
					       offset + VHD_SECTOR };
	h->locators[2] = (struct vhd_locator){ VHD_LOCATOR_W2RU, VHD_SECTOR, text->w2_size,
					       offset + 2 * VHD_SECTOR };
}

/* Data to report: a leading "file://" and "./" say nothing. */
static void
name_trim(char name[SMD_NAME_MAX])
{
	size_t skip = 0;

	if (strncmp(name, "file://", 7) == 0)
		skip = 7;
	while (name[skip] == '.' && (name[skip + 1] == '/' || name[skip + 1] == '\\'))
		skip += 2;
	memmove(name, name + skip, strlen(name + skip) + 1);
}

static int
locator_name(struct smd_io *io, const struct vhd_journal *j, const struct vhd_locator *l,
	     char ret[SMD_NAME_MAX], struct smd_error *err)
{
	uint8_t bytes[2 * SMD_NAME_MAX];
	size_t len = (size_t)smd_min_u64(l->length, sizeof bytes);

	if (vhd_meta_pread(io, j, bytes, len, l->offset, err) < 0)
		return -1;
	if (l->code != VHD_LOCATOR_MACX) {
		utf16_decode(bytes, len, false, ret);
		return 0;
	}
	len = strnlen((const char *)bytes, smd_min_u64(len, SMD_NAME_MAX - 1));
	memcpy(ret, bytes, len);
	ret[len] = '\0';
	return 0;
}

int
vhd_parent_name_read(struct smd_io *io, const struct vhd_journal *j, const struct vhd_header *h,
		     char ret[SMD_NAME_MAX], struct smd_error *err)
{
	static const uint32_t order[] = { VHD_LOCATOR_W2RU, VHD_LOCATOR_MACX, 0, VHD_LOCATOR_W2KU };

	ret[0] = '\0';
	for (size_t o = 0; o < sizeof order / sizeof order[0] && ret[0] == '\0'; o++) {
		if (order[o] == 0)
			utf16_decode(h->raw + HEADER_PARENT_NAME, VHD_PARENT_NAME_SIZE, true, ret);
		for (unsigned i = 0; order[o] && i < VHD_N_LOCATORS && ret[0] == '\0'; i++)
			if (h->locators[i].code == order[o] &&
			    locator_name(io, j, &h->locators[i], ret, err) < 0)
				return -1;
		name_trim(ret);
	}
	return 0;
}
