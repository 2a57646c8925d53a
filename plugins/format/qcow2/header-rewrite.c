/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Extensions and backing name, written anew. The first sector is the switch:
 * what lies behind it is written and flushed first, which harms nobody as long as
 * the present head does not use it, or not differently. So a name never goes over
 * the present one, and extensions stay where they are: what comes is first (the
 * format) or last, and a mark once there stays and says no.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

#define SECTOR SMD_SECTOR	/* what a store writes whole or not at all */

/* What the head is to say. */
struct wanted {
	const char *name, *format;	/* NULL: none */
	bool hidden;
};

static size_t
put_hidden(uint8_t *buf, size_t pos, bool hidden)
{
	const uint8_t data[QCOW2_EXT_HIDDEN_LENGTH] = { hidden };

	return qcow2_ext_put(buf, pos, QCOW2_EXT_HIDDEN, data, sizeof data);
}

static size_t
put_format(uint8_t *buf, size_t pos, const char *format)
{
	if (!format)
		return pos;
	return qcow2_ext_put(buf, pos, QCOW2_EXT_BACKING_FORMAT, format,
			     (uint32_t)strlen(format));
}

/* The extensions into buf, whose first header_length bytes are there; the end. */
static size_t
put_exts(const struct qcow2_image *img, const struct wanted *want, uint8_t *buf)
{
	size_t pos = img->h.header_length;

	if (!qcow2_ext_find(img, QCOW2_EXT_BACKING_FORMAT))
		pos = put_format(buf, pos, want->format);
	for (size_t i = 0; i < img->n_exts; i++) {
		const struct qcow2_ext *ext = &img->exts[i];

		if (ext->type == QCOW2_EXT_BACKING_FORMAT)
			pos = put_format(buf, pos, want->format);
		else if (ext->type == QCOW2_EXT_HIDDEN)
			pos = put_hidden(buf, pos, want->hidden);
		else
			pos = qcow2_ext_put(buf, pos, ext->type, img->head + ext->offset,
					    ext->length);
	}
	if (want->hidden && !qcow2_ext_find(img, QCOW2_EXT_HIDDEN))
		pos = put_hidden(buf, pos, true);
	return pos + 8;
}

/* What put_exts will return. */
static size_t
exts_end(const struct qcow2_image *img, const struct wanted *want)
{
	size_t size = img->h.header_length + 8;

	for (size_t i = 0; i < img->n_exts; i++)
		if (img->exts[i].type != QCOW2_EXT_BACKING_FORMAT)
			size += 8 + ((img->exts[i].length + 7ull) & ~7ull);
	if (want->format)
		size += 8 + ((strlen(want->format) + 7) & ~7ull);
	if (want->hidden && !qcow2_ext_find(img, QCOW2_EXT_HIDDEN))
		size += 8 + QCOW2_EXT_HIDDEN_LENGTH;
	return size;
}

static uint64_t
name_end(const struct qcow2_image *img)
{
	return img->h.backing_offset ? img->h.backing_offset + img->h.backing_size : 0;
}

static bool
in_use(const struct qcow2_image *img, uint64_t pos)
{
	return pos < img->ext_end || (pos >= img->h.backing_offset && pos < name_end(img));
}

/* Whether sectors behind the first must not change before the first does. */
static bool
conflicts(const struct qcow2_image *img, const uint8_t *buf)
{
	uint64_t end = smd_max_u64(img->ext_end, name_end(img));

	for (uint64_t pos = SECTOR; pos < end; pos++)
		if (img->head[pos] != buf[pos] && in_use(img, pos))
			return true;
	return false;
}

/* What is not in use stays as it is: the present head may use it. */
static void
build(const struct qcow2_image *img, const struct wanted *want, uint64_t name_at,
      struct qcow2_header *h, uint8_t *buf)
{
	memcpy(buf, img->head, img->g.cluster_size);
	memset(buf + img->h.header_length, 0, exts_end(img, want) - img->h.header_length);
	put_exts(img, want, buf);
	*h = img->h;
	h->backing_size = want->name ? (uint32_t)strlen(want->name) : 0;
	h->backing_offset = want->name ? name_at : 0;
	if (want->name)
		memcpy(buf + name_at, want->name, h->backing_size);
	qcow2_header_encode(h, buf);
}

/* The head with its name in the first of these places that leaves the present
 * head whole: right behind the extensions, behind the present name, clear of the
 * present extensions. Returns whether there is one. */
static bool
place(const struct qcow2_image *img, const struct wanted *want, struct qcow2_header *h,
      uint8_t *buf)
{
	uint64_t behind = exts_end(img, want), mask = ~(uint64_t)(SECTOR - 1);
	uint64_t size = want->name ? strlen(want->name) : 0;
	const uint64_t places[] = {
		behind, (smd_max_u64(name_end(img), behind) + SECTOR - 1) & mask,
		(smd_max_u64(img->ext_end, behind) + SECTOR - 1) & mask,
	};

	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		if (places[i] + size > img->g.cluster_size)
			continue;
		build(img, want, places[i], h, buf);
		if (!conflicts(img, buf))
			return true;
	}
	build(img, want, behind, h, buf);
	return false;
}

/* No bytes of what was need stay in the cluster, nor is it hurt by them: this is
 * not flushed. */
static int
tidy(struct qcow2_image *img, uint8_t *buf, struct smd_error *err)
{
	uint64_t size = img->g.cluster_size, first = 0;

	for (uint64_t pos = 0; pos < size; pos++)
		buf[pos] = in_use(img, pos) ? img->head[pos] : 0;
	while (first < size && memcmp(img->head + first, buf + first, SECTOR) == 0)
		first += SECTOR;
	while (size > first && memcmp(img->head + size - SECTOR, buf + size - SECTOR, SECTOR) == 0)
		size -= SECTOR;
	if (first == size)
		return 0;
	memcpy(img->head + first, buf + first, size - first);
	return img->io->ops->pwrite(img->io, buf + first, size - first, first, err);
}

/* Replace the head, which buf and h then are. */
static int
replace(struct qcow2_image *img, const struct qcow2_header *h, uint8_t *buf,
	struct smd_error *err)
{
	uint64_t first = 0, end = img->g.cluster_size;

	while (end > SECTOR && memcmp(img->head + end - SECTOR, buf + end - SECTOR, SECTOR) == 0)
		end -= SECTOR;
	while (first < end - SECTOR && memcmp(img->head + first, buf + first, SECTOR) == 0)
		first += SECTOR;
	if (end > SECTOR && !conflicts(img, buf)) {
		uint64_t behind = smd_max_u64(first, SECTOR);

		if (img->io->ops->pwrite(img->io, buf + behind, end - behind, behind, err) < 0 ||
		    qcow2_flush_io(img, err) < 0)
			return -1;
		first = 0;
		end = SECTOR;
	}
	if (qcow2_head_write(img, buf + first, end - first, first, err) < 0)
		return -1;
	img->h = *h;
	memcpy(img->head, buf, img->g.cluster_size);
	if (qcow2_head_parse(img, err) < 0) {
		img->failed = true;
		return -1;
	}
	return tidy(img, buf, err);
}

/* Have the name where extensions may come to be, so that these can be written
 * on their own. */
static int
move_name(struct qcow2_image *img, const struct wanted *want, uint8_t *buf,
	  struct smd_error *err)
{
	CLEANUP_FREE char *name = strdup(img->backing_name), *format = strdup(img->backing_format);
	const struct wanted same = { name, format && *format ? format : NULL, img->hidden };
	uint64_t at = smd_max_u64(name_end(img), exts_end(img, want));
	struct qcow2_header h;

	if (!name || !format)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	at = (smd_max_u64(at, img->ext_end) + SECTOR - 1) & ~(uint64_t)(SECTOR - 1);
	if (at + strlen(name) > img->g.cluster_size)
		return 0;
	build(img, &same, at, &h, buf);
	return conflicts(img, buf) ? 0 : replace(img, &h, buf, err);
}

static int
check_wanted(const struct qcow2_image *img, const struct wanted *want, struct smd_error *err)
{
	size_t name = want->name ? strlen(want->name) : 0, needed;

	if (want->format && strlen(want->format) > QCOW2_MAX_BACKING_FORMAT)
		return smd_fail(err, SMD_REASON_BACKING_FORMAT, img->io->name,
				"format name of %zu bytes is over %u", strlen(want->format),
				QCOW2_MAX_BACKING_FORMAT);
	if (want->name && (name == 0 || name > QCOW2_MAX_BACKING_NAME))
		return smd_fail(err, SMD_REASON_BACKING_NAME, img->io->name,
				"name of %zu bytes is not within 1..%u", name,
				QCOW2_MAX_BACKING_NAME);
	needed = exts_end(img, want) + name;
	if (needed > img->g.cluster_size)
		return smd_fail(err, SMD_REASON_IO, img->io->name,
				"header of %zu bytes does not fit a cluster of %" PRIu64, needed,
				img->g.cluster_size);
	return 0;
}

int
qcow2_header_rewrite(struct qcow2_image *img, const char *name, const char *format,
		     bool hidden, struct smd_error *err)
{
	const struct wanted want = { name, format, hidden };
	CLEANUP_FREE uint8_t *buf = NULL;
	struct qcow2_header h;

	if (check_wanted(img, &want, err) < 0)
		return -1;
	buf = malloc(img->g.cluster_size);
	if (!buf)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	if (!place(img, &want, &h, buf) && img->backing_name[0]) {
		if (move_name(img, &want, buf, err) < 0)
			return -1;
		/* Where this has no way either (extensions that pass one sector and
		 * change), all is one larger write. */
		place(img, &want, &h, buf);
	}
	return replace(img, &h, buf, err);
}
