/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Arithmetic on numbers we did not choose. Each function returns false, and
 * leaves *ret alone, where the exact result does not fit.
 */
#ifndef SMD_COMMON_CHECKED_H
#define SMD_COMMON_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

static inline bool
smd_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*ret = sum;
	return true;
}

static inline bool
smd_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*ret = product;
	return true;
}

/* Round n up to a multiple of unit, a power of two. */
static inline bool
smd_round_up_u64(uint64_t n, uint64_t unit, uint64_t *ret)
{
	uint64_t sum;

	if (!smd_add_u64(n, unit - 1, &sum))
		return false;
	*ret = sum & ~(unit - 1);
	return true;
}

static inline uint64_t
smd_round_down_u64(uint64_t n, uint64_t unit)
{
	return n & ~(unit - 1);
}

static inline uint64_t
smd_div_round_up_u64(uint64_t n, uint64_t unit)
{
	return n / unit + (n % unit != 0);
}

static inline bool
smd_is_pow2_u64(uint64_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* Whether [offset, offset + count) lies within [0, limit). */
static inline bool
smd_range_ok(uint64_t offset, uint64_t count, uint64_t limit)
{
	return offset <= limit && count <= limit - offset;
}

static inline uint64_t
smd_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t
smd_max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
