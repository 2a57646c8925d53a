/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/uuid.h"

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

void
smd_uuid_new_bytes(uint8_t ret_bytes[16])
{
	/* libuuid asks the kernel, too, and then stirs in a generator of its own. */
	if (getrandom(ret_bytes, 16, 0) != 16) {
		uuid_generate_random(ret_bytes);
		return;
	}
	/* RFC 9562, section 5.4: version 4, variant 10. */
	ret_bytes[6] = (uint8_t)((ret_bytes[6] & 0x0f) | 0x40);
	ret_bytes[8] = (uint8_t)((ret_bytes[8] & 0x3f) | 0x80);
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

bool
smd_uuid_ok(const char *text)
{
	uuid_t u;

	return smd_uuid_to_bytes(text, u);
}
