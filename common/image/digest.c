/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>
/* The widest vectors that this processor has: more than twice as fast. */
#if defined(__x86_64__) && defined(__has_include)
#if __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif
#endif

#include "common/bytes.h"
#include "common/checked.h"
#include "common/image/copy-impl.h"

void
smd_digest_sum(struct smd_digest *d, const struct smd_digest *other)
{
	d->low += other->low;
	d->high += other->high + (d->low < other->low);
}

void
smd_digest_take(struct smd_digest *d, const struct smd_digest *other)
{
	d->high -= other->high + (d->low < other->low);
	d->low -= other->low;
}

static void
add_page(struct smd_digest *d, const uint8_t *page, uint64_t number)
{
	XXH128_hash_t hash;

	if (copy_is_zero(page, SMD_DIGEST_PAGE))
		return;
	hash = XXH3_128bits_withSeed(page, SMD_DIGEST_PAGE, number);
	smd_digest_sum(d, &(struct smd_digest){ hash.low64, hash.high64 });
}

void
smd_digest_add(struct smd_digest *d, const void *buf, size_t count, uint64_t offset)
{
	const uint8_t *p = buf;

	while (count > 0) {
		size_t start = offset % SMD_DIGEST_PAGE;
		size_t n = smd_min_u64(count, SMD_DIGEST_PAGE - start);
		uint8_t part[SMD_DIGEST_PAGE];

		if (n == SMD_DIGEST_PAGE) {
			add_page(d, p, offset / SMD_DIGEST_PAGE);
		} else {
			memset(part, 0, sizeof part);
			memcpy(part + start, p, n);
			add_page(d, part, offset / SMD_DIGEST_PAGE);
		}
		p += n;
		offset += n;
		count -= n;
	}
}

void
smd_digest_bytes(const void *bytes, size_t count, uint8_t ret[16])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, count));
	memcpy(ret, canonical.digest, sizeof canonical.digest);
}

void
smd_digest_text(const struct smd_digest *d, uint64_t size, char ret[SMD_DIGEST_TEXT_MAX])
{
	uint8_t all[24], hash[16];
	int n;

	smd_store_be64(all, d->high);
	smd_store_be64(all + 8, d->low);
	smd_store_be64(all + 16, size);
	smd_digest_bytes(all, sizeof all, hash);
	n = snprintf(ret, SMD_DIGEST_TEXT_MAX, "xxh3-pages:");
	for (size_t i = 0; i < sizeof hash; i++)
		n += snprintf(ret + n, SMD_DIGEST_TEXT_MAX - (size_t)n, "%02x", hash[i]);
}

void
smd_digest_sum_text(const struct smd_digest *d, char ret[SMD_DIGEST_SUM_MAX])
{
	snprintf(ret, SMD_DIGEST_SUM_MAX, "%016" PRIx64 "%016" PRIx64, d->high, d->low);
}

bool
smd_digest_sum_parse(const char *text, struct smd_digest *ret)
{
	struct smd_digest d = { 0, 0 };

	if (strlen(text) != SMD_DIGEST_SUM_MAX - 1)
		return false;
	for (const char *p = text; *p; p++) {
		int digit = *p >= '0' && *p <= '9' ? *p - '0' :
			    *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 : -1;

		if (digit < 0)
			return false;
		d.high = d.high << 4 | d.low >> 60;
		d.low = d.low << 4 | (uint64_t)digit;
	}
	*ret = d;
	return true;
}
