/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/record.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/config.h"

struct recorder {
	pthread_mutex_t lock;	/* guards the rest */
	json *alike;		/* {"wire method code": how many were kept} */
	bool failed;		/* told once */
	int fd;
	char *path;
};

int
recorder_new(struct daemon *daemon, struct recorder **ret, struct smd_error *err)
{
	CLEANUP_FREE char *path = config_str(daemon->config, "record_calls");
	struct recorder *recorder;
	int fd;

	*ret = NULL;
	if (!*path)
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return smd_fail_INVALID_VALUE(err, "record_calls", path, "record_calls: %s: %s", path,
					      strerror(errno));
	recorder = *ret = smd_calloc(1, sizeof *recorder);
	pthread_mutex_init(&recorder->lock, NULL);
	recorder->alike = json_object_new_object();
	recorder->path = TAKE_PTR(path);
	recorder->fd = fd;
	return 0;
}

void
recorder_free(struct recorder *recorder)
{
	if (!recorder)
		return;
	close(recorder->fd);
	json_object_put(recorder->alike);
	pthread_mutex_destroy(&recorder->lock);
	free(recorder->path);
	free(recorder);
}

static bool
is_wanted(struct recorder *recorder, const char *wire, const char *method, const char *code)
{
	CLEANUP_FREE char *kind = smd_asprintf("%s %s %s", wire, method, code);
	int64_t n = smd_json_int(recorder->alike, kind, 0);

	if (n >= RECORD_ALIKE_MAX)
		return false;
	smd_json_set_int(recorder->alike, kind, n + 1);
	return true;
}

/* One write a line, so that daemons that share the file do not mix theirs. */
static void
write_line(struct recorder *recorder, json *line)
{
	CLEANUP_FREE char *text = smd_json_print(line);
	CLEANUP_FREE char *whole = smd_asprintf("%s\n", text);
	size_t len = strlen(whole);

	if (write(recorder->fd, whole, len) == (ssize_t)len || recorder->failed)
		return;
	recorder->failed = true;
	smd_log(SMD_LOG_WARNING, "%s: calls are not recorded any more", recorder->path);
}

void
record_call(struct daemon *daemon, const char *wire, const char *method,
	    const struct smd_error *error, const char *reply, size_t len)
{
	struct recorder *recorder = daemon->recorder;
	const char *code = error && error->code ? error->code : "";
	CLEANUP_JSON json *line = NULL;

	if (!recorder || len > RECORD_REPLY_MAX)
		return;
	LOCK_SCOPE(&recorder->lock);
	if (!is_wanted(recorder, wire, method, code))
		return;
	line = json_object_new_object();
	smd_json_set_str(line, "wire", wire);
	smd_json_set_str(line, "method", method);
	smd_json_set_str(line, "code", code);
	smd_json_set(line, "reply", json_object_new_string_len(reply, (int)len));
	write_line(recorder, line);
}
