/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Allocation for sizes of our own choosing: these never return NULL, and end
 * the process with a message when there is no memory. A size that an image or
 * a client chose is bounded first and allocated with plain malloc, whose NULL
 * is an error like any other.
 */
#ifndef SMD_COMMON_MEM_H
#define SMD_COMMON_MEM_H

#include <stdarg.h>
#include <stddef.h>

void *smd_malloc(size_t size);
void *smd_calloc(size_t n, size_t size);
/*
 * At the beginning of a page, for what files are read into and written from: direct I/O wants
 * it, and where a processor copies with "rep movsb" (AMD's of 2020 and later) a copy from the
 * page cache to an address some bytes past a page's beginning, malloc's 16, takes four times
 * as long (measured: 2 and 8.5 GB/s). From 2 MiB on in large pages, where the kernel has them.
 */
void *smd_malloc_pages(size_t size);
void *smd_try_malloc_pages(size_t size);	/* NULL: no memory; for windows of an image's units */
void *smd_reallocarray(void *p, size_t n, size_t size);
char *smd_strdup(const char *s);			/* NULL stays NULL */
char *smd_strndup(const char *s, size_t n);
char *smd_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *smd_vasprintf(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

#endif
