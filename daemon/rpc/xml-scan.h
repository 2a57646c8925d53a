/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A first pass over XML from anyone, before a library builds a tree of it: no
 * document type and no entities, bounded nesting, numbers that fit. What comes
 * out is plain elements and text.
 */
#ifndef SMD_DAEMON_RPC_XML_SCAN_H
#define SMD_DAEMON_RPC_XML_SCAN_H

#include <stddef.h>

#include "common/error.h"

/* Each level of an array or a struct is three elements. */
#define XML_DEPTH_MAX 128

/* *ret: a copy without declarations, comments and attributes, in which every kind
 * of integer is <i8> (xmlrpc-c refuses an <int> of more than 32 bits, which xapi's
 * clients send, and crashes on an <i8> of more than 64) and datetimes are strings
 * (schema/datetime.h reads more spellings). Errors: INVALID_VALUE. */
int xml_scan(const char *text, size_t len, char **ret, size_t *ret_len, struct smd_error *err);

#endif
