/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/mem.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096
#define LARGE_PAGE (2u << 20)	/* where they have another size, alignment is all it is */

static void *
mem_check(void *p)
{
	if (!p) {
		fputs("smd: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *
smd_malloc(size_t size)
{
	return mem_check(malloc(size ? size : 1));
}

void *
smd_try_malloc_pages(size_t size)
{
	bool large = size >= LARGE_PAGE;
	void *p;

	if (posix_memalign(&p, large ? LARGE_PAGE : PAGE, size ? size : 1) != 0)
		return NULL;
	if (large)
		(void)!madvise(p, size - size % LARGE_PAGE, MADV_HUGEPAGE);
	return p;
}

void *
smd_malloc_pages(size_t size)
{
	return mem_check(smd_try_malloc_pages(size));
}

void *
smd_calloc(size_t n, size_t size)
{
	return mem_check(calloc(n ? n : 1, size ? size : 1));
}

void *
smd_reallocarray(void *p, size_t n, size_t size)
{
	return mem_check(reallocarray(p, n ? n : 1, size ? size : 1));
}

char *
smd_strdup(const char *s)
{
	return s ? mem_check(strdup(s)) : NULL;
}

char *
smd_strndup(const char *s, size_t n)
{
	return mem_check(strndup(s, n));
}

char *
smd_asprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = smd_vasprintf(fmt, ap);
	va_end(ap);
	return s;
}

char *
smd_vasprintf(const char *fmt, va_list ap)
{
	char *s;

	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	return mem_check(s);
}
