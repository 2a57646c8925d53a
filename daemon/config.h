/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration: smd.conf, then the command line over it. The keys are one
 * table (daemon/config.def: key, type, range, default, whether SIGHUP changes
 * it, text); --help, smd.conf(5) and the parser come from it.
 *
 * Threads: read by all; what SIGHUP may change is read through config_int and
 * config_str, which lock; strings returned are the caller's.
 */
#ifndef SMD_DAEMON_CONFIG_H
#define SMD_DAEMON_CONFIG_H

#include <stdint.h>

#include "common/error.h"

struct config;

/* Defaults; then a file (missing: fine unless required), then options. */
struct config *config_new(void);
void config_free(struct config *config);
int config_read_file(struct config *config, const char *path, int required, struct smd_error *err);
int config_set(struct config *config, const char *key, const char *value, struct smd_error *err);
/* Read the file again; keys that need a restart keep their value and are named in the log. */
int config_reload(struct config *config, struct smd_error *err);

/* Asking for a key that daemon/config.def has not is a bug and asserts. */
char *config_str(const struct config *config, const char *key);	/* "" when unset */
int64_t config_int(const struct config *config, const char *key);
/* A key that may be given more than once: its values, NULL-terminated, in one
 * allocation the caller frees. */
char **config_list(const struct config *config, const char *key);

/* The table as "  key (default)\n      text\n", for --help-config and the tests. */
void config_print_keys(void);

#endif
