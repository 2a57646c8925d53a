/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Numbers out of, and into, bytes we did not write. A read or write past the
 * end returns false and touches nothing; offsets are in bytes. No struct is
 * ever laid over a buffer.
 */
#ifndef SMD_COMMON_BYTES_H
#define SMD_COMMON_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes. */
struct smd_bytes {
	const uint8_t *data;
	size_t len;
};

static inline struct smd_bytes
smd_bytes(const void *data, size_t len)
{
	return (struct smd_bytes){ data, len };
}

static inline bool
smd_bytes_has(struct smd_bytes b, size_t offset, size_t count)
{
	return offset <= b.len && count <= b.len - offset;
}

/* The unchecked forms, for buffers whose length the caller has just checked. */
static inline uint16_t
smd_load_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t
smd_load_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return __builtin_bswap32(v);
}

static inline uint64_t
smd_load_be64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return __builtin_bswap64(v);
}

static inline void
smd_store_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void
smd_store_be32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, sizeof v);
}

static inline void
smd_store_be64(uint8_t *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, sizeof v);
}

static inline bool
smd_get_u8(struct smd_bytes b, size_t offset, uint8_t *ret)
{
	if (!smd_bytes_has(b, offset, 1))
		return false;
	*ret = b.data[offset];
	return true;
}

static inline bool
smd_get_be16(struct smd_bytes b, size_t offset, uint16_t *ret)
{
	if (!smd_bytes_has(b, offset, 2))
		return false;
	*ret = smd_load_be16(b.data + offset);
	return true;
}

static inline bool
smd_get_be32(struct smd_bytes b, size_t offset, uint32_t *ret)
{
	if (!smd_bytes_has(b, offset, 4))
		return false;
	*ret = smd_load_be32(b.data + offset);
	return true;
}

static inline bool
smd_get_be64(struct smd_bytes b, size_t offset, uint64_t *ret)
{
	if (!smd_bytes_has(b, offset, 8))
		return false;
	*ret = smd_load_be64(b.data + offset);
	return true;
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "smd is built on little-endian machines; the swaps above assume it"
#endif

#endif
