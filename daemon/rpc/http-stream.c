/* SPDX-License-Identifier: BSD-2-Clause */
/* Transfers: from the loop to a stream's callbacks, each in a step of its own. */
#include "daemon/rpc/http-private.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "common/mem.h"
#include "daemon/rpc/pool.h"

#define BLOCK (256 * 1024)
/* Of an upload: with room for all that the loop may hold once a block is full. What stayed
 * there would be lost if the end came next. */
#define UPLOAD_BLOCK (BLOCK + HTTP_CONNECTION_MEMORY)
/* Clients that do not know the length of an upload declare this, and hang up at its
 * end (npm xen-api). They send only once they have read the head of an answer. */
#define ENDLESS_LENGTH (UINT64_C(1) << 50)

bool
http_stream_endless(struct http_request *request)
{
	uint64_t len = http_content_length(request);

	return len != HTTP_UNKNOWN_LENGTH && len >= ENDLESS_LENGTH;
}

static unsigned
stream_end(struct http_request *request, bool complete, char **ret_text)
{
	request->open = false;
	return request->route->stream->end(request->state, complete, ret_text);
}

void
http_stream_end(struct http_request *request)
{
	CLEANUP_FREE char *text = NULL;

	/* The end may come while a piece is kept for more. */
	if (request->complete && !request->route->stream->read && request->n_block > 0)
		request->complete = request->route->stream->write(request->state, request->block,
								  request->n_block) == 0;
	stream_end(request, request->complete, &text);
}

/* ---- Downloads ---- */

static void
fill(void *opaque)
{
	struct http_request *request = opaque;
	int64_t n = request->route->stream->read(request->state, request->block, BLOCK);
	bool gone;

	{
		LOCK_SCOPE(&request->lock);
		request->n_block = n > 0 ? (size_t)n : 0;
		request->block_at = 0;
		request->n_read += request->n_block;
		request->filled = true;
		request->broken = n < 0;
		/* Whoever has all that was promised is not asked for more. */
		request->at_end = n <= 0 || request->n_read >= request->reply_size;
		gone = http_step_over(request);
	}
	if (gone)
		http_request_end(request);
}

static void
start_fill(struct http_request *request)
{
	request->filled = false;
	request->working = true;
	pool_run(fill, request);
}

/* While the loop sends what it took, the next block is filled. */
static size_t
take_block(struct http_request *request, char *buf, size_t max)
{
	size_t n = request->n_block - request->block_at;

	n = n < max ? n : max;
	memcpy(buf, request->block + request->block_at, n);
	request->block_at += n;
	if (request->block_at == request->n_block && !request->at_end)
		start_fill(request);
	return n;
}

static ssize_t
send_block(void *opaque, uint64_t pos, char *buf, size_t max)
{
	struct http_request *request = opaque;

	(void)pos;
	LOCK_SCOPE(&request->lock);
	if (request->filled && request->block_at < request->n_block)
		return (ssize_t)take_block(request, buf, max);
	if (request->filled && request->at_end)
		return request->broken ? MHD_CONTENT_READER_END_WITH_ERROR :
		       MHD_CONTENT_READER_END_OF_STREAM;
	if (!request->working)
		start_fill(request);
	request->suspended = true;
	MHD_suspend_connection(request->connection);
	return 0;
}

/* Without a size the end of the connection is the end of the data, as xapi does it;
 * a client then tells a break only by a reset. */
static enum MHD_Result
stream_reply(struct http_request *request)
{
	bool sized = request->reply_size != HTTP_UNKNOWN_LENGTH;
	struct MHD_Response *response = MHD_create_response_from_callback(
		sized ? request->reply_size : MHD_SIZE_UNKNOWN, BLOCK, send_block, request, NULL);

	request->block = smd_malloc_pages(BLOCK);
	if (!sized)
		MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
	return http_queue(request, request->reply_status, response);
}

/* ---- The beginning of both ---- */

static unsigned
begin_stream(struct http_request *request)
{
	/* When the other end of a unix socket closes, poll says POLLHUP at once, and MHD
	 * leaves what is still to be read: the end of the data would be lost unseen. */
	if (http_stream_endless(request) && request->peer.uid != PEER_NOT_LOCAL) {
		request->text = smd_strdup("an upload over the unix socket declares its length\n");
		return MHD_HTTP_LENGTH_REQUIRED;
	}
	return request->route->stream->begin(request, &request->state, &request->text);
}

static void
begin(void *opaque)
{
	struct http_request *request = opaque;

	http_know_peer(request);
	request->status = begin_stream(request);
	request->open = request->status == 0;
	if (request->open && !request->route->stream->read && http_stream_endless(request) &&
	    !http_header(request, MHD_HTTP_HEADER_EXPECT))
		http_answer_early(request);
	http_step_done(request);
}

enum MHD_Result
http_stream_headers(struct http_request *request)
{
	if (!request->begun) {
		request->begun = true;
		http_keep_values(request);
		http_hand_over(request, begin);
		return MHD_YES;
	}
	request->accepted = true;
	if (!request->open)
		return http_refuse(request, request->status,
				   request->text ? TAKE_PTR(request->text) : smd_strdup(""));
	return request->route->stream->read ? stream_reply(request) : MHD_YES;
}

/* ---- Uploads ---- */

/* Answer in the middle of a body, which MHD cannot, and hang up: the loop comes back to
 * a connection that has ended. */
static void
break_off(struct http_request *request)
{
	CLEANUP_FREE char *text = NULL;
	unsigned status = stream_end(request, false, &text);

	if (!request->answered)
		http_answer_and_hang_up(request, status < 400 ? MHD_HTTP_INTERNAL_SERVER_ERROR :
					status, text ? text : "");
	request->hung_up = true;
	shutdown(http_fd(request), SHUT_RDWR);
}

static void
write_block(void *opaque)
{
	struct http_request *request = opaque;
	size_t n = request->n_block;

	request->n_block = 0;
	if (request->route->stream->write(request->state, request->block, n) != 0)
		break_off(request);
	http_step_done(request);
}

/* Whether the loop will bring more at once. Behind TLS nobody can tell. */
static bool
more_is_there(struct http_request *request)
{
	int n = 0;

	return !http_tls(request) && ioctl(http_fd(request), FIONREAD, &n) == 0 && n > 0;
}

/* As much as has come goes in one step: pieces are small, steps are not free. With chunks
 * there could be a piece in the middle of a step, and no stream takes them. */
enum MHD_Result
http_stream_body(struct http_request *request, const char *data, size_t *len)
{
	if (request->hung_up || *len > UPLOAD_BLOCK - request->n_block ||
	    http_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING))
		return MHD_NO;
	if (!request->block)
		request->block = smd_malloc_pages(UPLOAD_BLOCK);
	memcpy(request->block + request->n_block, data, *len);
	request->n_block += *len;
	*len = 0;
	if (request->n_block >= BLOCK || !more_is_there(request))
		http_hand_over(request, write_block);
	return MHD_YES;
}

static void
finish(void *opaque)
{
	struct http_request *request = opaque;

	request->status = stream_end(request, true, &request->text);
	http_step_done(request);
}

enum MHD_Result
http_stream_complete(struct http_request *request)
{
	if (request->hung_up)
		return MHD_NO;
	if (request->finished)
		return http_reply_text(request, request->status, request->text ? request->text : "");
	request->finished = request->n_block == 0;
	http_hand_over(request, request->finished ? finish : write_block);
	return MHD_YES;
}
