/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/uuid.h"

#include <ctype.h>
#include <string.h>
#include <sys/random.h>

#include <uuid/uuid.h>

struct smd_uuid_text
smd_uuid_from_bytes(const uint8_t bytes[16])
{
	struct smd_uuid_text t;

	uuid_unparse_lower(bytes, t.text);
	return t;
}

#define AT_ONCE 16u	/* 256 bytes, which getrandom(2) gives whole */

void
smd_uuid_new_many(uint8_t (*ret)[16], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t left = n - i < AT_ONCE ? n - i : AT_ONCE;

		/* libuuid asks the kernel, too, and then stirs in a generator of its own. */
		if (i % AT_ONCE == 0 && getrandom(ret[i], 16 * left, 0) != (ssize_t)(16 * left)) {
			for (size_t j = i; j < i + left; j++)
				uuid_generate_random(ret[j]);
		}
		/* RFC 9562, section 5.4: version 4, variant 10. */
		ret[i][6] = (uint8_t)((ret[i][6] & 0x0f) | 0x40);
		ret[i][8] = (uint8_t)((ret[i][8] & 0x3f) | 0x80);
	}
}

void
smd_uuid_new_bytes(uint8_t ret_bytes[16])
{
	smd_uuid_new_many((uint8_t (*)[16])ret_bytes, 1);
}

struct smd_uuid_text
smd_uuid_new(void)
{
	uint8_t bytes[16];

	smd_uuid_new_bytes(bytes);
	return smd_uuid_from_bytes(bytes);
}

bool
smd_uuid_to_bytes(const char *text, uint8_t ret_bytes[16])
{
	return strlen(text) == SMD_UUID_LEN && uuid_parse(text, ret_bytes) == 0;
}

/* libuuid makes a number of each part, which takes ten times as long. */
bool
smd_uuid_ok(const char *text)
{
	for (size_t i = 0; i < SMD_UUID_LEN; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
	}
	return text[SMD_UUID_LEN] == '\0';
}
