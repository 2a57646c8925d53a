/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/cbt-log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/mem.h"
#include "common/uuid.h"

/* SM's cbt-util: struct cbt_log_metadata. */
#define LOG_PARENT 0
#define LOG_CONSISTENT 32
#define LOG_SIZE 40
#define LOG_HEADER 48

/* ---- Sets ---- */

int
cbt_set_init(struct cbt_set *set, uint64_t size, bool all, struct smd_error *err)
{
	uint64_t blocks = smd_div_round_up_u64(size, SMD_BLOCK);

	*set = (struct cbt_set)CBT_SET_INIT;
	if (size > SMD_BLOCKS_DISK_MAX)
		return smd_fail_SR_BACKEND_FAILURE_459(
			err, "", "Changed block tracking log is in inconsistent state",
			"the disk is too large", "a disk of %" PRIu64 " bytes is too large to track its "
			"blocks", size);
	set->bits = calloc(1, smd_blocks_bytes(size) + 1);
	if (!set->bits)
		return smd_fail_INTERNAL_ERROR(err, "memory", "there is no memory for a set of %"
					       PRIu64 " blocks", blocks);
	set->size = size;
	for (uint64_t n = 0; all && n < blocks; n++)
		set->bits[n / 8] |= (uint8_t)(1u << (n % 8));
	return 0;
}

void
cbt_set_done(struct cbt_set *set)
{
	free(set->bits);
	*set = (struct cbt_set)CBT_SET_INIT;
}

static void
or_bits(struct cbt_set *set, const struct cbt_set *other)
{
	for (uint64_t i = 0; i < smd_blocks_bytes(other->size); i++)
		set->bits[i] |= other->bits[i];
}

int
cbt_set_add(struct cbt_set *set, const struct cbt_set *other, struct smd_error *err)
{
	struct cbt_set larger;

	if (other->size > set->size) {
		if (cbt_set_init(&larger, other->size, false, err) < 0)
			return -1;
		or_bits(&larger, set);
		cbt_set_done(set);
		*set = larger;
	}
	or_bits(set, other);
	return 0;
}

static uint8_t
reversed(uint8_t byte)
{
	uint8_t r = 0;

	for (unsigned i = 0; i < 8; i++)
		r |= (uint8_t)(((byte >> i) & 1u) << (7 - i));
	return r;
}

/* The byte of the API's form; past the disk's last block there are none. */
static uint8_t
text_byte(const struct cbt_set *set, uint64_t blocks, uint64_t i)
{
	uint8_t byte = i < smd_blocks_bytes(set->size) ? set->bits[i] : 0;

	if (8 * i >= blocks)
		return 0;
	if (blocks - 8 * i < 8)
		byte &= (uint8_t)((1u << (blocks - 8 * i)) - 1);
	return reversed(byte);
}

char *
cbt_set_text(const struct cbt_set *set, uint64_t size)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint64_t blocks = smd_div_round_up_u64(size, SMD_BLOCK);
	uint64_t n = smd_div_round_up_u64(blocks, 32) * 4;
	char *text = smd_malloc(smd_div_round_up_u64(n, 3) * 4 + 1), *p = text;

	for (uint64_t i = 0; i < n; i += 3) {
		uint32_t group = (uint32_t)text_byte(set, blocks, i) << 16 |
				 (uint32_t)text_byte(set, blocks, i + 1) << 8 |
				 text_byte(set, blocks, i + 2);

		*p++ = digits[group >> 18];
		*p++ = digits[group >> 12 & 63];
		*p++ = i + 1 < n ? digits[group >> 6 & 63] : '=';
		*p++ = i + 2 < n ? digits[group & 63] : '=';
	}
	*p = '\0';
	return text;
}

/* ---- Logs ---- */

bool
cbt_log_is(const char *volume)
{
	const char *dot = strrchr(volume, '.');

	return dot && strcmp(dot + 1, CBT_LOG_SUFFIX) == 0;
}

static int
write_all(int fd, const char *name, const uint8_t *bytes, uint64_t count, uint64_t offset,
	  struct smd_error *err)
{
	for (uint64_t done = 0; done < count;) {
		ssize_t n = pwrite(fd, bytes + done, count - done, (off_t)(offset + done));

		if (n < 0 && errno != EINTR) {
			int errnum = errno;

			smd_fail_IMAGE_IO(err, name, "%s: %s", name, strerror(errnum));
			err->errnum = errnum;
			return -1;
		}
		done += n > 0 ? (uint64_t)n : 0;
	}
	return 0;
}

int
cbt_log_write(int fd, const char *name, const char *parent_uuid, const struct cbt_set *set,
	      struct smd_error *err)
{
	uint8_t header[LOG_HEADER] = { 0 };	/* bytes.h: our machines are little-endian */
	const uint32_t consistent = 1;

	smd_uuid_to_bytes(parent_uuid, header + LOG_PARENT);
	memcpy(header + LOG_CONSISTENT, &consistent, sizeof consistent);
	memcpy(header + LOG_SIZE, &set->size, sizeof set->size);
	if (write_all(fd, name, header, sizeof header, 0, err) < 0)
		return -1;
	return write_all(fd, name, set->bits, smd_blocks_bytes(set->size), LOG_HEADER, err);
}

static int
fail_log(const char *name, const char *why, struct smd_error *err)
{
	return smd_fail_SR_BACKEND_FAILURE_459(err, "", "Changed block tracking log is in inconsistent "
					       "state", why, "the log %s: %s", name, why);
}

static bool
read_all(int fd, uint8_t *bytes, uint64_t count, uint64_t offset)
{
	for (uint64_t done = 0; done < count;) {
		ssize_t n = pread(fd, bytes + done, count - done, (off_t)(offset + done));

		if (n == 0 || (n < 0 && errno != EINTR))
			return false;
		done += n > 0 ? (uint64_t)n : 0;
	}
	return true;
}

int
cbt_log_read(int fd, const char *name, struct cbt_set *ret, struct smd_error *err)
{
	uint8_t header[LOG_HEADER];
	uint32_t consistent;
	uint64_t size;
	struct stat st;

	if (!read_all(fd, header, sizeof header, 0))
		return fail_log(name, "it has no header", err);
	memcpy(&consistent, header + LOG_CONSISTENT, sizeof consistent);
	memcpy(&size, header + LOG_SIZE, sizeof size);
	if (consistent != 1)
		return fail_log(name, "it is not marked consistent", err);
	/* No more than there is: a size of somebody else's takes no memory. */
	if (size > SMD_BLOCKS_DISK_MAX || fstat(fd, &st) < 0 ||
	    (uint64_t)st.st_size < LOG_HEADER + smd_blocks_bytes(size))
		return fail_log(name, "it is cut short", err);
	if (cbt_set_init(ret, size, false, err) < 0)
		return -1;
	if (read_all(fd, ret->bits, smd_blocks_bytes(size), LOG_HEADER))
		return 0;
	cbt_set_done(ret);
	return fail_log(name, "it is cut short", err);
}
