/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SMD_SCHEMA_DATETIME_H
#define SMD_SCHEMA_DATETIME_H

#include <stdbool.h>

#define API_DATETIME_LEN 18

/* "20261121T04:00:00Z" from that, from RFC 3339, or from something between:
 * hyphens, fractions (cut) and the zone (none: UTC) are optional. false: neither. */
bool api_datetime_normal(const char *text, char ret[API_DATETIME_LEN + 1]);

#endif
