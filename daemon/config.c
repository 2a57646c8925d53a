/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/config.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"

enum config_kind { CONFIG_KIND_STR, CONFIG_KIND_LIST, CONFIG_KIND_INT };

struct config_key {
	const char *name;
	enum config_kind kind;
	bool reload;
	const char *dflt;
	int64_t min, max;
	const char *text;
};

static const struct config_key keys[] = {
#define CONFIG_STR(k, r, d, t) { #k, CONFIG_KIND_STR, r, d, 0, 0, t },
#define CONFIG_LIST(k, r, t) { #k, CONFIG_KIND_LIST, r, "", 0, 0, t },
#define CONFIG_INT(k, r, d, lo, hi, t) { #k, CONFIG_KIND_INT, r, #d, lo, hi, t },
#include "daemon/config.def"
#undef CONFIG_STR
#undef CONFIG_LIST
#undef CONFIG_INT
};

#define N_KEYS (sizeof keys / sizeof *keys)

/* Values as text; the command line's win over the file's whenever it is read. */
struct config {
	pthread_mutex_t lock;	/* guards now[] and file[] */
	char *path;		/* of the file read last */
	char *file[N_KEYS];	/* NULL: not set there */
	char *option[N_KEYS];
	char *now[N_KEYS];	/* what counts; kept over a reload where it must be */
};

static int
key_index(const char *name)
{
	for (size_t i = 0; i < N_KEYS; i++) {
		if (strcmp(keys[i].name, name) == 0)
			return (int)i;
	}
	return -1;
}

struct config *
config_new(void)
{
	struct config *config = smd_calloc(1, sizeof *config);

	pthread_mutex_init(&config->lock, NULL);
	for (size_t i = 0; i < N_KEYS; i++)
		config->now[i] = smd_strdup(keys[i].dflt);
	return config;
}

void
config_free(struct config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < N_KEYS; i++) {
		free(config->file[i]);
		free(config->option[i]);
		free(config->now[i]);
	}
	free(config->path);
	pthread_mutex_destroy(&config->lock);
	free(config);
}

static int
value_check(const struct config_key *key, const char *value, struct smd_error *err)
{
	enum smd_log_level level;
	char *end;
	int64_t n;

	if (strcmp(key->name, "log_level") == 0 && smd_log_level_parse(value, &level) != 0)
		return smd_fail_INVALID_VALUE(err, key->name, value,
			"log_level is \"%s\", not error, warning, notice, info or debug", value);
	if (key->kind != CONFIG_KIND_INT)
		return 0;
	errno = 0;
	n = strtoll(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0')
		return smd_fail_INVALID_VALUE(err, key->name, value, "%s is \"%s\", not a number",
					      key->name, value);
	if (n < key->min || n > key->max)
		return smd_fail_INVALID_VALUE(err, key->name, value,
			"%s is %" PRId64 ", outside %" PRId64 "..%" PRId64, key->name, n,
			key->min, key->max);
	return 0;
}

/* Put value in a slot; a list grows by a line. */
static void
slot_set(const struct config_key *key, char **slot, const char *value)
{
	char *old = *slot;

	if (key->kind == CONFIG_KIND_LIST && old)
		*slot = smd_asprintf("%s\n%s", old, value);
	else
		*slot = smd_strdup(value);
	free(old);
}

/* What counts: the option, else the file's value, else the default. */
static const char *
value_wanted(const struct config *config, size_t i)
{
	if (config->option[i])
		return config->option[i];
	return config->file[i] ? config->file[i] : keys[i].dflt;
}

static void
config_apply(struct config *config, bool reloading)
{
	for (size_t i = 0; i < N_KEYS; i++) {
		const char *wanted = value_wanted(config, i);

		if (strcmp(config->now[i], wanted) == 0)
			continue;
		if (reloading && !keys[i].reload) {
			smd_log(SMD_LOG_WARNING, "%s changed in %s; it takes a restart",
				keys[i].name, config->path);
			continue;
		}
		free(config->now[i]);
		config->now[i] = smd_strdup(wanted);
	}
}

int
config_set(struct config *config, const char *name, const char *value, struct smd_error *err)
{
	int i = key_index(name);

	if (i < 0)
		return smd_fail_INVALID_VALUE(err, name, value, "there is no key %s", name);
	if (value_check(&keys[i], value, err) != 0)
		return -1;
	LOCK_SCOPE(&config->lock);
	slot_set(&keys[i], &config->option[i], value);
	config_apply(config, false);
	return 0;
}

static char *
trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return s;
}

/* "key = value"; empty lines and those that start with # are skipped. */
static int
line_parse(char *line, char **slots, struct smd_error *err)
{
	char *name = trim(line), *value = strchr(name, '=');
	int i;

	if (*name == '\0' || *name == '#')
		return 0;
	if (!value)
		return smd_fail_INVALID_VALUE(err, name, "", "\"%s\" is not key = value", name);
	*value = '\0';
	value = trim(value + 1);
	name = trim(name);
	i = key_index(name);
	if (i < 0)
		return smd_fail_INVALID_VALUE(err, name, value, "there is no key %s", name);
	if (value_check(&keys[i], value, err) != 0)
		return -1;
	slot_set(&keys[i], &slots[i], value);
	return 0;
}

static int
file_parse(const char *path, int required, char **slots, struct smd_error *err)
{
	CLEANUP(cleanup_fclose) FILE *f = fopen(path, "re");
	CLEANUP_FREE char *line = NULL;
	size_t room = 0;

	if (!f && errno == ENOENT && !required)
		return 0;
	if (!f)
		return smd_fail_INVALID_VALUE(err, "config", path, "%s: %s", path,
					      strerror(errno));
	for (unsigned number = 1; getline(&line, &room, f) >= 0; number++) {
		if (line_parse(line, slots, err) != 0)
			return smd_error_prefix(err, "%s, line %u", path, number);
	}
	return 0;
}

static int
config_read(struct config *config, const char *path, int required, bool reloading,
	    struct smd_error *err)
{
	char *slots[N_KEYS] = { NULL };
	int rc = file_parse(path, required, slots, err);

	LOCK_SCOPE(&config->lock);
	for (size_t i = 0; i < N_KEYS; i++) {
		if (rc == 0) {
			free(config->file[i]);
			config->file[i] = slots[i];
		} else {
			free(slots[i]);
		}
	}
	if (rc == 0)
		config_apply(config, reloading);
	return rc;
}

int
config_read_file(struct config *config, const char *path, int required, struct smd_error *err)
{
	free(config->path);
	config->path = smd_strdup(path);
	return config_read(config, path, required, false, err);
}

int
config_reload(struct config *config, struct smd_error *err)
{
	return config->path ? config_read(config, config->path, 0, true, err) : 0;
}

char *
config_str(const struct config *config, const char *name)
{
	int i = key_index(name);

	assert(i >= 0);
	LOCK_SCOPE((pthread_mutex_t *)&config->lock);
	return smd_strdup(config->now[i]);
}

int64_t
config_int(const struct config *config, const char *name)
{
	int i = key_index(name);

	assert(i >= 0 && keys[i].kind == CONFIG_KIND_INT);
	LOCK_SCOPE((pthread_mutex_t *)&config->lock);
	return strtoll(config->now[i], NULL, 10);
}

char **
config_list(const struct config *config, const char *name)
{
	CLEANUP_FREE char *text = config_str(config, name);
	size_t n = 0, len = strlen(text);
	char **list, *copy;

	for (const char *p = text; *p; p++)
		n += *p == '\n';
	list = smd_malloc((n + 2) * sizeof *list + len + 1);
	copy = memcpy(list + n + 2, text, len + 1);
	n = 0;
	for (char *save = NULL, *item = strtok_r(copy, "\n", &save); item;
	     item = strtok_r(NULL, "\n", &save))
		list[n++] = item;
	list[n] = NULL;
	return list;
}

void
config_print_keys(void)
{
	for (size_t i = 0; i < N_KEYS; i++)
		printf("  %s%s%s%s\n      %s\n", keys[i].name, *keys[i].dflt ? " (" : "",
		       keys[i].dflt, *keys[i].dflt ? ")" : "", keys[i].text);
}
