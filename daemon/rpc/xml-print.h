/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Values as xapi writes them in XML-RPC: strings are bare text in <value>, and
 * so are 64-bit integers; no white space between tags. Real clients depend on
 * both, which is why no library does it.
 */
#ifndef SMD_DAEMON_RPC_XML_PRINT_H
#define SMD_DAEMON_RPC_XML_PRINT_H

#include <stdio.h>

#include "common/json.h"
#include "schema/api.h"

/* <value>…</value>. The value fits the type (api_value_check). */
void xml_print_value(FILE *out, const struct api_type *type, json *value);
/* <member>…</member> of a <struct>. */
void xml_print_member(FILE *out, const char *name, const struct api_type *type, json *value);
/* Escaped; characters XML cannot hold are left out. */
void xml_print_text(FILE *out, const char *text);

#endif
