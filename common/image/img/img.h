/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * smd-img: the engine on plain files. Each verb is one function; what they share
 * is here: options, opening files by path under a policy, progress, output.
 *
 * Threads: the main one only; the copier makes its own.
 */
#ifndef SMD_IMG_H
#define SMD_IMG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/image/ops.h"

/* Exit statuses are qemu-img's. */
#define IMG_OK 0
#define IMG_FAILED 1

struct img_options {
	const char *format;		/* -f; NULL: by signature */
	const char *second_format;	/* -F */
	const char *out_format;		/* -O */
	const char *backing;		/* -b, -B */
	struct {
		char *name, *value;
	} create[64];			/* -o NAME=VALUE, as given */
	size_t n_create;
	const char *repair;		/* -r */
	const char *size;		/* --size */
	const char *snapshot[2];	/* snapshot's -c, -d, -a or -l: which, and its argument */
	bool compress;			/* convert's -c */
	bool small;			/* --small */
	unsigned n_threads;		/* -m */
	uint64_t rate;			/* --rate */
	bool json;			/* --output=json */
	bool progress;			/* -p */
	bool quiet;			/* -q */
	bool strict;			/* -s */
	bool exact;			/* --exact */
	bool shrink;			/* --shrink */
	bool share;			/* -U: without locks */
	bool chain;			/* --chain: ours, with their parents */
	bool verify;			/* --verify */
	const char *marks;		/* --marks */
	bool dry_run;			/* --dry-run */
	bool unsafe;			/* -u */
	bool durable;			/* -t, and not "unsafe" */
	char **args;			/* what is left, NULL-terminated */
	size_t n_args;
};

struct img_verb {
	const char *name;
	const char *usage;		/* after "smd-img NAME " */
	const char *doc;		/* one line, and what its options mean */
	size_t min_args, max_args;
	const char *options;		/* letters of its own, for getopt; NULL: none */
	/* Returns the exit status, or -1 with *err set. */
	int (*run)(struct img_options *o, struct smd_error *err);
};
extern const struct img_verb img_verbs[];

/* ---- Opening (open.c) ---- */

/* Open path and, under --chain, its parents by the names in the images: plain
 * names in the image's own directory only, each a regular file, no symbolic
 * link, no cycle, at most SMD_CHAIN_MAX deep. Without --chain the image counts as
 * one from outside, and one that names a parent is refused. Files are locked
 * against other writers (and readers, for write) unless -U. */
int img_source(const struct img_options *o, const char *path, const char *format, bool write,
	       struct smd_source *ret, struct smd_error *err);
void img_source_free(struct smd_source *source);	/* after it was opened or not */

/* The format of a file: declared, else the one whose signature it has; never raw
 * by guess. */
int img_format(int fd, const char *path, const char *declared, const char **ret,
	       struct smd_error *err);
/* Open for reading, or for writing; IMAGE_IO. */
int img_open_file(const char *path, int flags, struct smd_error *err);

/* A target over a new or emptied file; *ret_made when it was not there. */
int img_target(const struct img_options *o, const char *path, const char *format,
	       struct smd_target *ret, bool *ret_made, struct smd_error *err);
void img_target_free(struct smd_target *target);

/* ---- Output (output.c) ---- */

void img_print_json(json *value);
void img_print_error(const struct img_options *o, const struct smd_error *err);
/* "4 GiB (4294967296 bytes)"; the caller frees. */
char *img_size_text(uint64_t size);

/* A bar on standard error: smd_progress_fn over a struct img_progress. */
struct img_progress {
	bool enabled;
	uint64_t started_ms, shown_ms;
};
void img_progress_start(struct img_progress *p, bool enabled);
int img_progress_show(void *opaque, uint64_t done, uint64_t total);
void img_progress_end(struct img_progress *p);
void img_copy_options(const struct img_options *o, struct img_progress *progress,
		      struct smd_copy_options *ret);

/* ---- Verbs ---- */
int img_bench(struct img_options *o, struct smd_error *err);
int img_check(struct img_options *o, struct smd_error *err);
int img_checksum(struct img_options *o, struct smd_error *err);
int img_commit(struct img_options *o, struct smd_error *err);
int img_compare(struct img_options *o, struct smd_error *err);
int img_convert(struct img_options *o, struct smd_error *err);
int img_create(struct img_options *o, struct smd_error *err);
int img_info(struct img_options *o, struct smd_error *err);
int img_map(struct img_options *o, struct smd_error *err);
int img_measure(struct img_options *o, struct smd_error *err);
int img_rebase(struct img_options *o, struct smd_error *err);
int img_repair(struct img_options *o, struct smd_error *err);
int img_resize(struct img_options *o, struct smd_error *err);
int img_snapshot(struct img_options *o, struct smd_error *err);

#endif
