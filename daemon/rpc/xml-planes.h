/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Characters past U+FFFF, which xmlrpc-c refuses, past its parser: each as two of the
 * private use area, from U+E000 its upper and from U+E400 its lower ten bits. What was
 * one of these itself has U+E800 before it.
 */
#ifndef SMD_DAEMON_RPC_XML_PLANES_H
#define SMD_DAEMON_RPC_XML_PLANES_H

#include <stddef.h>

/* Valid UTF-8 as xml_scan leaves it, with all of them hidden, numeric references
 * too. NULL: it has none. The caller frees. */
char *xml_planes_hide(const char *text, size_t len, size_t *ret_len);

/* Back again, in place; the length. */
size_t xml_planes_show(char *text, size_t len);

#endif
