/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/print.h"

#include <string.h>

#define LABEL_MARGIN 4	/* before the longest label */

void
print_record(FILE *out, const struct print_row *rows, size_t n)
{
	int width = 0;

	for (size_t i = 0; i < n; i++) {
		int len = (int)strlen(rows[i].label);

		width = len > width ? len : width;
	}
	width += LABEL_MARGIN;
	for (size_t i = 0; i < n; i++)
		fprintf(out, "%*s: %s\n", i == 0 ? -width : width, rows[i].label, rows[i].value);
	fputs("\n\n", out);
}

void
print_minimal(FILE *out, const char *const *values, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			fputc(',', out);
		for (const char *p = values[i]; *p; p++) {
			if (*p == ',' || *p == '\\')
				fputc('\\', out);
			fputc(*p, out);
		}
	}
	fputc('\n', out);
}
