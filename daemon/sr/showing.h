/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a worker that stays is shown of images in the place of their files: what they begin with,
 * in memory that it can read and nothing else (daemon/worker/protocol.h, "looks").
 * Opening, reading and closing a file here costs half of what it takes to hand it over. No byte
 * of an image means anything here.
 *
 * Threads: any, one at a time for each of them.
 */
#ifndef SMD_DAEMON_SR_SHOWING_H
#define SMD_DAEMON_SR_SHOWING_H

#include <stdbool.h>
#include <stddef.h>

struct showing;

/* NULL: it cannot be now. */
struct showing *showing_new(void);
void showing_free(struct showing *showing);
/* For the worker; borrowed. */
int showing_fd(const struct showing *showing);

/* Show an image in the i-th place, below SHOWN_MAX. False: the worker needs the file. */
bool showing_put(struct showing *showing, size_t i, int fd, const char *name, const char *format);

#endif
