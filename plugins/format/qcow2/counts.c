/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Counters for the clusters in use, in pages that are made when one of their
 * clusters is first counted: a sparse file of any size costs nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "plugins/format/qcow2/check.h"

#define BUCKETS_MIN 1024u
#define PAGES_MAX (1u << 18)	/* 2^28 clusters, about 1 GiB */

void
qcow2_counts_done(struct qcow2_counts *counts)
{
	for (size_t i = 0; i < counts->n_buckets; i++)
		while (counts->buckets[i]) {
			struct qcow2_page *next = counts->buckets[i]->next;

			free(counts->buckets[i]);
			counts->buckets[i] = next;
		}
	free(counts->buckets);
	memset(counts, 0, sizeof *counts);
}

static struct qcow2_page **
bucket(const struct qcow2_counts *counts, uint64_t index)
{
	return &counts->buckets[(index * 0x9e3779b97f4a7c15ull >> 32) & (counts->n_buckets - 1)];
}

struct qcow2_page *
qcow2_counts_page(const struct qcow2_counts *counts, uint64_t index)
{
	struct qcow2_page *page = counts->n_buckets ? *bucket(counts, index) : NULL;

	while (page && page->index != index)
		page = page->next;
	return page;
}

static bool
grow(struct qcow2_counts *counts)
{
	struct qcow2_counts larger = { .n_pages = counts->n_pages };

	larger.n_buckets = counts->n_buckets ? counts->n_buckets * 4 : BUCKETS_MIN;
	larger.buckets = calloc(larger.n_buckets, sizeof(struct qcow2_page *));
	if (!larger.buckets)
		return false;
	for (size_t i = 0; i < counts->n_buckets; i++)
		while (counts->buckets[i]) {
			struct qcow2_page *page = counts->buckets[i];
			struct qcow2_page **at = bucket(&larger, page->index);

			counts->buckets[i] = page->next;
			page->next = *at;
			*at = page;
		}
	free(counts->buckets);
	*counts = larger;
	return true;
}

struct qcow2_page *
qcow2_counts_make(struct qcow2_counts *counts, uint64_t index)
{
	struct qcow2_page *page = qcow2_counts_page(counts, index);
	struct qcow2_page **at;

	if (page)
		return page;
	if (counts->n_pages == PAGES_MAX ||
	    (counts->n_pages >= counts->n_buckets && !grow(counts)))
		return NULL;
	page = calloc(1, sizeof *page);
	if (!page)
		return NULL;
	page->index = index;
	at = bucket(counts, index);
	page->next = *at;
	*at = page;
	counts->n_pages++;
	return page;
}

uint64_t
qcow2_counts_get(const struct qcow2_counts *counts, uint64_t cluster)
{
	struct qcow2_page *page = qcow2_counts_page(counts, cluster / QCOW2_PAGE_CLUSTERS);

	return page ? qcow2_count_of(page->counts[cluster % QCOW2_PAGE_CLUSTERS]) : 0;
}

int
qcow2_counts_each(const struct qcow2_counts *counts, qcow2_count_fn *fn, void *opaque,
		  struct smd_error *err)
{
	for (size_t b = 0; b < counts->n_buckets; b++)
		for (struct qcow2_page *page = counts->buckets[b]; page; page = page->next)
			for (uint32_t i = 0; i < QCOW2_PAGE_CLUSTERS; i++) {
				uint64_t cluster = page->index * QCOW2_PAGE_CLUSTERS + i;
				int r = 0;

				if (page->counts[i] != 0)
					r = fn(opaque, cluster, qcow2_count_of(page->counts[i]),
					       qcow2_use_of(page->counts[i]), err);
				if (r != 0)
					return r;
			}
	return 0;
}
