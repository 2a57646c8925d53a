/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * look, looks: what images say of themselves, many at once. One that is broken fails alone.
 */
#include "daemon/worker/look.h"

#include <stdio.h>
#include <sys/mman.h>

#include "common/checked.h"
#include "common/image/io.h"
#include "common/image/ops.h"
#include "common/mem.h"
#include "daemon/worker/internal.h"
#include "daemon/worker/packet.h"
#include "daemon/worker/protocol.h"

static json *
answer_error(const struct smd_error *err)
{
	json *info = json_object_new_object();

	smd_json_set(info, "error", smd_json_from_error(err));
	return info;
}

static json *
look_at(int fd, const char *name, const char *format)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_source source = { .n = 1, .layers = { { .fd = fd, .name = name,
							   .format = format } } };
	json *info;

	return smd_op_look(&source, &info, &err) == 0 ? info : answer_error(&err);
}

/* NULL: more of it is needed. */
static json *
look_at_shown(const struct shown *shown, size_t i)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct shown_image image = shown->images[i];
	struct smd_io_head head;
	json *info = NULL;

	image.format[sizeof image.format - 1] = image.name[sizeof image.name - 1] = '\0';
	if (image.head_len > smd_min_u64(image.size, SHOWN_HEAD))
		return NULL;
	smd_io_head_init(&head, image.name, image.size,
			 (struct smd_bytes_view){ shown->heads[i], image.head_len });
	if (smd_op_look_io(&head.io, image.format, &info, &err) != 0 && !head.lacked)
		info = answer_error(&err);
	if (!head.lacked)
		return info;
	json_object_put(info);
	return NULL;
}

int
run_look(json *request, json **ret, struct smd_error *err)
{
	json *images = smd_json_member(request, "images"), *answers;

	if (!json_object_is_type(images, json_type_array))
		return bad_request(err, "images");
	answers = json_object_new_array();
	*ret = json_object_new_object();
	smd_json_set(*ret, "images", answers);
	for (size_t i = 0; i < json_object_array_length(images); i++) {
		json *image = json_object_array_get_idx(images, i);
		int fd;

		if (parse_fd(image, &fd, err) != 0)
			return -1;
		json_object_array_add(answers, look_at(fd, smd_json_str(image, "name", "image"),
						       smd_json_str(image, "format", "")));
	}
	return 0;
}

static const char *
text_at(json *array, size_t i)
{
	json *text = json_object_array_get_idx(array, i);

	return json_object_is_type(text, json_type_string) ? json_object_get_string(text) : "";
}

static int
look_at_all(const struct packet *packet, const struct shown *shown, json *answers,
	    struct smd_error *err)
{
	CLEANUP_JSON json *words = smd_json_parse(packet->text, packet->len, 2, err);
	int64_t n;

	if (!words)
		return -1;
	if (packet->n_fds == 0) {
		n = json_object_get_int64(words);
		if (!json_object_is_type(words, json_type_int) || !shown || n < 0 ||
		    n > (int64_t)SHOWN_MAX)
			return bad_request(err, "packet");
		for (int64_t i = 0; i < n; i++)
			json_object_array_add(answers, look_at_shown(shown, (size_t)i));
		return 0;
	}
	if (!json_object_is_type(words, json_type_array) ||
	    json_object_array_length(words) != 2 * packet->n_fds)
		return bad_request(err, "packet");
	for (size_t i = 0; i < packet->n_fds; i++)
		json_object_array_add(answers, look_at(packet->fds[i], text_at(words, 2 * i + 1),
						       text_at(words, 2 * i)));
	return 0;
}

static int
answer(const struct packet *packet, const struct shown *shown, struct smd_error *err)
{
	CLEANUP_JSON json *line = json_object_new_object();
	json *answers = json_object_new_array_ext((int)SHOWN_MAX);
	CLEANUP_FREE char *text = NULL;

	smd_json_set(line, "images", answers);
	if (look_at_all(packet, shown, answers, err) != 0)
		return -1;
	text = smd_json_print(line);
	puts(text);
	fflush(stdout);
	return 0;
}

int
run_looks(json *request, json **ret, struct smd_error *err)
{
	static struct packet packet;
	const struct shown *shown = mmap(NULL, sizeof *shown, PROT_READ, MAP_SHARED,
					 WORKER_FD_FIRST + 1, 0);

	(void)request;
	if (shown == MAP_FAILED)	/* nothing is shown: it gets the files, or ends */
		shown = NULL;
	while (packet_receive(&packet)) {
		if (answer(&packet, shown, err) != 0)
			return -1;
	}
	*ret = json_object_new_object();
	return 0;
}
