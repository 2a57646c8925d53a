/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The digest of a disk's content, whatever image holds it: the sum, modulo 2^128,
 * of XXH3-128 of every 4 KiB page that is not all zeroes, seeded by the page's
 * number; and of the disk's size. So it does not matter in which order the pages come, by how
 * many threads, or in how many runs; holes cost nothing; and it is the same for
 * a disk in any format. It finds accidents, not attacks.
 *
 * Threads: a digest is its owner's; sums of several are added.
 */
#ifndef SMD_COMMON_IMAGE_DIGEST_H
#define SMD_COMMON_IMAGE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/image/chain.h"

#define SMD_DIGEST_PAGE 4096u
#define SMD_DIGEST_TEXT_MAX 48		/* "xxh3-pages:<32 hexadecimal digits>" and a NUL */

struct smd_digest {
	uint64_t low, high;
};

/* The bytes at [offset, offset + count). A page of which a call has but a part counts as
 * though the rest of it were zeroes: cut pages at the ends of disks only. */
void smd_digest_add(struct smd_digest *d, const void *buf, size_t count, uint64_t offset);
/* What another one has seen, or has seen more than this one did. */
void smd_digest_sum(struct smd_digest *d, const struct smd_digest *other);
void smd_digest_take(struct smd_digest *d, const struct smd_digest *other);

/* A disk of so many bytes that has these pages, as text: the XXH3-128 of the sum (high,
 * low) and the size, big-endian. */
void smd_digest_text(const struct smd_digest *d, uint64_t size, char ret[SMD_DIGEST_TEXT_MAX]);

/* The sum itself, from which that of a disk that lies on this one is found; false: text is none. */
#define SMD_DIGEST_SUM_MAX 33		/* 32 hexadecimal digits and a NUL */
void smd_digest_sum_text(const struct smd_digest *d, char ret[SMD_DIGEST_SUM_MAX]);
bool smd_digest_sum_parse(const char *text, struct smd_digest *ret);

/* XXH3-128 of some bytes. */
void smd_digest_bytes(const void *bytes, size_t count, uint8_t ret[16]);

struct smd_copy_options;
/* Read a disk: [offset, end) of it, holes left out. options: threads, rate, progress and
 * control count; NULL: one thread. */
int smd_digest_chain(struct smd_chain *chain, uint64_t offset, uint64_t end,
		     const struct smd_copy_options *options, struct smd_digest *ret,
		     struct smd_error *err);

#endif
