/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk as a tar of its blocks, as vhd-tool and XVA have it. Each block is a member
 * whose name is a number of eight digits, or more, in any one directory; it is followed
 * by its SHA-1 in hexadecimal, NUMBER.checksum, or its XXH64, NUMBER.xxhash. The first
 * one's size is that of all but the last. A number that is left out is a block of
 * zeroes, so the first and the last one are always there; a member of no bytes takes a
 * number and no room. nettle is met here only.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <nettle/sha1.h>
#include <xxhash.h>

#include "common/checked.h"
#include "common/mem.h"
#include "daemon/worker/archive.h"
#include "daemon/worker/internal.h"

#define BLOCK_SIZE (1u << 20)		/* as vhd-tool writes them */
#define BLOCK_SIZE_MAX (1u << 30)
#define NAME_SIZE 32
#define DIGITS_MAX 18			/* of a block's number */
#define SHA1_SUFFIX ".checksum"
#define XXH64_SUFFIX ".xxhash"
#define SHA1_TEXT (2 * SHA1_DIGEST_SIZE)
#define XXH64_TEXT 16

static void
to_hex(const uint8_t *bytes, size_t n, char *ret)
{
	for (size_t i = 0; i < n; i++)
		snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
}

static void
sha1_text(struct sha1_ctx *sha1, char ret[SHA1_TEXT + 1])
{
	uint8_t digest[SHA1_DIGEST_SIZE];

	sha1_digest(sha1, sizeof digest, digest);	/* and begins anew */
	to_hex(digest, sizeof digest, ret);
}

/* ---- Writing ---- */

struct out {
	struct archive_writer *w;
	struct sha1_ctx sha1;
	uint64_t size, done;		/* of the disk */
	uint64_t number;		/* of the block being filled */
	uint32_t now;
	size_t fill;
	uint8_t block[BLOCK_SIZE];
};

static int
block_write(struct out *o, struct smd_error *err)
{
	char name[NAME_SIZE], text[SHA1_TEXT + 1];

	sha1_update(&o->sha1, o->fill, o->block);
	sha1_text(&o->sha1, text);
	snprintf(name, sizeof name, "%08" PRIu64, o->number);
	if (archive_writer_member(o->w, name, o->fill, o->now, err) != 0 ||
	    archive_writer_data(o->w, o->block, o->fill, err) != 0)
		return -1;
	snprintf(name, sizeof name, "%08" PRIu64 SHA1_SUFFIX, o->number);
	if (archive_writer_member(o->w, name, SHA1_TEXT, o->now, err) != 0)
		return -1;
	return archive_writer_data(o->w, text, SHA1_TEXT, err);
}

/* An smd_sink_fn: the disk's bytes in order. */
static int
blocks_sink(void *opaque, const void *buf, size_t count, struct smd_error *err)
{
	struct out *o = opaque;
	const uint8_t *p = buf;

	while (count > 0) {
		size_t n = smd_min_u64(count, BLOCK_SIZE - o->fill);
		bool last;

		memcpy(o->block + o->fill, p, n);
		o->fill += n;
		o->done += n;
		p += n;
		count -= n;
		last = o->done == o->size;
		if (o->fill < BLOCK_SIZE && !last)
			return 0;
		if ((o->number == 0 || last || !is_zero(o->block, o->fill)) &&
		    block_write(o, err) != 0)
			return -1;
		o->number++;
		o->fill = 0;
	}
	return 0;
}

static int
blocks_stream(json *request, struct smd_chain *chain, struct out *o, json *result,
	      struct smd_error *err)
{
	struct smd_create params = { .virtual_size = smd_chain_size(chain) };
	const struct smd_format *format;
	struct smd_copy_options options;
	struct smd_copy_stats stats;

	o->size = params.virtual_size;
	o->now = (uint32_t)time(NULL);
	sha1_init(&o->sha1);
	parse_copy_options(request, &options);
	/* The format that is the disk's bytes and nothing else. */
	if (smd_format_get(smd_json_str(request, "format", ""), &format, err) != 0 ||
	    smd_stream_to(chain, format, &params, blocks_sink, o, print_begin, &options, &stats,
			  err) != 0)
		return -1;
	set_digest(result, &stats.digest, stats.has_digest, o->size);
	return archive_writer_finish(o->w, err);
}

int
run_export_blocks(json *request, json **ret, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *chain = NULL;
	CLEANUP(cleanup_encoder) struct encoder *to = NULL;
	CLEANUP_FREE struct out *o = smd_calloc(1, sizeof *o);
	struct smd_source source;
	enum coding coding;
	int fd = -1, rc;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0 ||
	    parse_fd(request, &fd, err) != 0 || coding_parse(request, &coding, err) != 0 ||
	    smd_source_open(&source, &chain, err) != 0)
		return -1;
	to = encoder_new(fd, coding);
	if (archive_writer_open(to, &o->w, err) != 0)
		return -1;
	*ret = json_object_new_object();
	rc = blocks_stream(request, chain, o, *ret, err);
	archive_writer_close(o->w);
	return rc == 0 ? encoder_finish(to, err) : -1;
}

/* ---- Reading ---- */

struct in {
	struct upload *u;
	struct archive_reader *r;
	struct sha1_ctx sha1;
	XXH64_state_t *xxh64;
	char *directory;		/* of the first member; NULL: there was none yet */
	uint64_t offset;		/* where the next block goes */
	uint64_t block_size;		/* 0: not known yet */
	uint64_t next;			/* the least number the next block may have */
	bool summed;			/* the last one's checksum was there */
};

static void
in_done(struct in *in)
{
	archive_reader_close(in->r);
	XXH64_freeState(in->xxh64);
	free(in->directory);
}

static int
fail_block(const char *name, enum smd_reason reason, const char *what, struct smd_error *err)
{
	CLEANUP_FREE char *shown = smd_strndup(name, NAME_SIZE);

	for (char *p = shown; *p; p++) {
		if (!isprint((unsigned char)*p))
			*p = '?';
	}
	return smd_image_fail(err, reason, shown, "%s", what);
}

/* The name in its directory, which is that of all. */
static const char *
member_base(struct in *in, const char *name, struct smd_error *err)
{
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
	size_t len = (size_t)(base - name);

	if (!in->directory)
		in->directory = smd_strndup(name, len);
	if (strlen(in->directory) == len && memcmp(in->directory, name, len) == 0)
		return base;
	fail_block(name, SMD_REASON_AMBIGUOUS, "the blocks are in more than one directory: of one disk "
		   "are those in one", err);
	return NULL;
}

static bool
parse_member(const char *base, uint64_t *ret_number, const char **ret_suffix)
{
	size_t n = strspn(base, "0123456789");

	*ret_number = 0;
	if (n == 0 || n > DIGITS_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		*ret_number = 10 * *ret_number + (uint64_t)(base[i] - '0');
	*ret_suffix = base + n;
	return !*(base + n) || strcmp(*ret_suffix, SHA1_SUFFIX) == 0 ||
	       strcmp(*ret_suffix, XXH64_SUFFIX) == 0;
}

static int
block_data(struct in *in, const struct archive_member *m, struct smd_error *err)
{
	const uint8_t *data;
	uint64_t at, done = 0;
	size_t len;
	int rc;

	while ((rc = archive_reader_data(in->r, &data, &len, &at, err)) > 0) {
		if (at != done || len > m->size - done)
			return fail_block(m->name, SMD_REASON_BAD_HEADER, "its parts are out of order", err);
		sha1_update(&in->sha1, len, data);
		XXH64_update(in->xxh64, data, len);
		if (import_piece(in->u->chain, data, len, in->offset + done, err) != 0)
			return -1;
		upload_digest(in->u, data, len, in->offset + done);
		done += len;
	}
	return rc == 0 && done < m->size ?
	       fail_block(m->name, SMD_REASON_TRUNCATED, "it ends early", err) : rc;
}

static int
take_block(struct in *in, const struct archive_member *m, uint64_t number, struct smd_error *err)
{
	uint64_t skip;

	if (number < in->next)
		return fail_block(m->name, SMD_REASON_AMBIGUOUS, "the numbers do not grow", err);
	if (in->block_size == 0)
		in->block_size = m->size;
	if (!m->size_known || m->size > in->block_size || m->size > BLOCK_SIZE_MAX ||
	    in->block_size == 0)
		return fail_block(m->name, SMD_REASON_BAD_SIZE, "it is larger than the first block, "
				  "which says how large they are", err);
	if (!smd_mul_u64(number - in->next, in->block_size, &skip) ||
	    !smd_add_u64(in->offset, skip, &skip))
		skip = UINT64_MAX;
	if (upload_check(in->u, skip, m->size, err) != 0)
		return -1;
	in->offset = skip;
	in->next = number + 1;
	in->summed = false;
	sha1_init(&in->sha1);
	XXH64_reset(in->xxh64, 0);
	if (block_data(in, m, err) != 0)
		return -1;
	in->offset += m->size;
	return 0;
}

static int
take_checksum(struct in *in, const struct archive_member *m, uint64_t number, bool sha1,
	      struct smd_error *err)
{
	char want[SHA1_TEXT + 1], got[SHA1_TEXT + 1] = "";
	size_t len, done = 0;
	const uint8_t *data;
	uint64_t at;
	int rc;

	if (number + 1 != in->next || in->summed)
		return fail_block(m->name, SMD_REASON_AMBIGUOUS, "it is not behind its block", err);
	in->summed = true;
	if (sha1)
		sha1_text(&in->sha1, want);
	else
		snprintf(want, sizeof want, "%0*" PRIx64, XXH64_TEXT,
			 (uint64_t)XXH64_digest(in->xxh64));
	while ((rc = archive_reader_data(in->r, &data, &len, &at, err)) > 0) {
		if (at != done || len > SHA1_TEXT - done)
			return fail_block(m->name, SMD_REASON_BAD_CHECKSUM, "it is no checksum", err);
		memcpy(got + done, data, len);
		done += len;
	}
	if (rc == 0 && strcasecmp(got, want) != 0)
		return fail_block(m->name, SMD_REASON_BAD_CHECKSUM, "the block before it is damaged: it has "
				  "another checksum", err);
	return rc;
}

static int
take_member(struct in *in, const struct archive_member *m, struct smd_error *err)
{
	const char *base, *suffix;
	uint64_t number;

	if (strcmp(m->kind, "a directory") == 0)
		return 0;
	if (*m->kind)
		return fail_block(m->name, SMD_REASON_EXTERNAL_REF, "it is no file", err);
	base = member_base(in, m->name, err);
	if (!base)
		return -1;
	if (!parse_member(base, &number, &suffix))
		return fail_block(m->name, SMD_REASON_UNSUPPORTED, "the name is not that of a block, "
				  "00000000, nor of its checksum", err);
	if (!*suffix)
		return take_block(in, m, number, err);
	return take_checksum(in, m, number, strcmp(suffix, SHA1_SUFFIX) == 0, err);
}

int
import_blocks(struct upload *u, uint64_t *ret_bytes, struct smd_error *err)
{
	CLEANUP(in_done) struct in in = { .u = u, .xxh64 = XXH64_createState() };
	struct archive_member m;
	int rc;

	if (!in.xxh64)
		abort();
	if (archive_reader_open(u->from, UPLOAD_NAME, ARCHIVE_TAR_PLAIN, &in.r, err) != 0)
		return -1;
	while ((rc = archive_reader_next(in.r, &m, err)) > 0) {
		if (take_member(&in, &m, err) != 0)
			return -1;
	}
	if (rc != 0)
		return -1;
	if (in.next == 0)
		return smd_image_fail(err, SMD_REASON_TRUNCATED, UPLOAD_NAME, "it holds no block");
	*ret_bytes = in.offset;
	return u->declared ? refuse_content(u->chain, u->declared, err) : 0;
}
