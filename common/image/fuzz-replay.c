/* SPDX-License-Identifier: BSD-2-Clause */
/* A fuzz target over the files that are named: what was found once stays mended. */
#include <stdio.h>
#include <stdlib.h>

#include "common/image/fuzz-format.h"

#define SEED_MAX (1u << 20)

int
main(int argc, char **argv)
{
	uint8_t *data = malloc(SEED_MAX);

	if (!data)
		return 1;
	for (int i = 1; i < argc; i++) {
		FILE *f = fopen(argv[i], "rb");
		size_t size;

		if (!f) {
			perror(argv[i]);
			return 1;
		}
		size = fread(data, 1, SEED_MAX, f);
		fclose(f);
		printf("%s, %zu bytes\n", argv[i], size);
		fflush(stdout);
		LLVMFuzzerTestOneInput(data, size);
	}
	free(data);
	return 0;
}
