/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SMD_SCHEMA_PRINT_HTML_H
#define SMD_SCHEMA_PRINT_HTML_H

void print_html(void);	/* to stdout */

#endif
