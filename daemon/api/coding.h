/* SPDX-License-Identifier: BSD-2-Clause */
/* Content codings of HTTP (RFC 9110, 8.4 and 12.5.3): which one a transfer is in. The
 * coding itself is a worker's. */
#ifndef SMD_DAEMON_API_CODING_H
#define SMD_DAEMON_API_CODING_H

#include <stdbool.h>

#define CODINGS "zstd, gzip"	/* those we have, the best first */

/* Of a download, by its Accept-Encoding, or NULL: the one the client likes best of ours
 * that it names, the best for us of those it likes as much; "": none. */
const char *coding_choose(const char *accept);
/* Of an upload, by its Content-Encoding, or NULL: false where it is none of ours. */
bool coding_known(const char *content_encoding, const char **ret);

#endif
