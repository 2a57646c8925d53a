/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SMD_COMMON_UUID_H
#define SMD_COMMON_UUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SMD_UUID_LEN 36

struct smd_uuid_text {
	char text[SMD_UUID_LEN + 1];
};

/* A random uuid as lower-case text, or as 16 bytes. */
struct smd_uuid_text smd_uuid_new(void);
void smd_uuid_new_bytes(uint8_t ret_bytes[16]);
/* So many at once cost a tenth. */
void smd_uuid_new_many(uint8_t (*ret)[16], size_t n);
struct smd_uuid_text smd_uuid_from_bytes(const uint8_t bytes[16]);

/* The bytes of a uuid in the usual form, either case; false for anything else. */
bool smd_uuid_to_bytes(const char *text, uint8_t ret_bytes[16]);

/* Whether text is a uuid in the usual form, either case. */
bool smd_uuid_ok(const char *text);

#endif
