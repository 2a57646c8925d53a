/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * make: empty images, one after the other, by a worker that stays. It reads no image:
 * what it is given are new files and the words of requests.
 */
#include "daemon/worker/make.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/image/ops.h"
#include "common/mem.h"
#include "daemon/worker/internal.h"
#include "daemon/worker/packet.h"
#include "daemon/worker/request.h"

/* What its file may grow to: no more than a worker of its own would let it. */
static int
limit_file(uint64_t virtual_size, struct smd_error *err)
{
	uint64_t most = virtual_size + virtual_size / 8 + FILE_SLACK;

	if (setrlimit(RLIMIT_FSIZE, &(struct rlimit){ most, RLIM_INFINITY }) == 0)
		return 0;
	return smd_fail_INTERNAL_ERROR(err, "setrlimit", "setrlimit: %s", strerror(errno));
}

static int
make_one(const char *line, size_t len, int fd, struct smd_error *err)
{
	CLEANUP_JSON json *request = smd_json_parse(line, len, 8, err);
	CLEANUP(cleanup_target) struct smd_target target = { .fd = -1 };

	if (request)
		smd_json_set_int(request, "fd", fd);
	if (!request || (smd_json_member(request, "parents") && bad_request(err, "parents") != 0) ||
	    parse_target(request, true, &target, err) != 0 ||
	    limit_file(target.virtual_size, err) != 0) {
		close(fd);
		return -1;
	}
	/* The daemon syncs it. */
	target.no_flush = true;
	return smd_op_create(&target, err);
}

static void
answer(const struct smd_error *err)
{
	CLEANUP_JSON json *line = json_object_new_object();
	CLEANUP_FREE char *text = NULL;

	if (err->code)
		smd_json_set(line, "error", smd_json_from_error(err));
	else
		smd_json_set(line, "result", json_object_new_object());
	text = smd_json_print(line);
	puts(text);
	fflush(stdout);
}

int
run_make(json *request, json **ret, struct smd_error *err)
{
	static struct packet packet;

	(void)request;
	while (packet_receive(&packet)) {
		struct smd_error failed CLEANUP_ERROR = SMD_ERROR_INIT;

		if (packet.n_fds != 1)
			return bad_request(err, "packet");
		make_one(packet.text, packet.len, packet.fds[0], &failed);
		answer(&failed);
	}
	*ret = json_object_new_object();
	return 0;
}
