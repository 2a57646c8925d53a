/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/error.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"

const struct smd_error_decl smd_error_decls[SMD_N_ERRORS] = {
#define SMD_ERROR0(c, t) { #c, 0, { NULL }, t },
#define SMD_ERROR1(c, a, t) { #c, 1, { #a, NULL }, t },
#define SMD_ERROR2(c, a, b, t) { #c, 2, { #a, #b, NULL }, t },
#define SMD_ERROR3(c, a, b, d, t) { #c, 3, { #a, #b, #d, NULL }, t },
#define SMD_ERROR4(c, a, b, d, e, t) { #c, 4, { #a, #b, #d, #e, NULL }, t },
#define SMD_ERRORV(c, a, t) { #c, -1, { #a, NULL }, t },
#include "common/errors.def"
#undef SMD_ERROR0
#undef SMD_ERROR1
#undef SMD_ERROR2
#undef SMD_ERROR3
#undef SMD_ERROR4
#undef SMD_ERRORV
};

const struct smd_error_decl *
smd_error_decl_find(const char *code)
{
	for (int i = 0; i < SMD_N_ERRORS; i++) {
		if (strcmp(smd_error_decls[i].code, code) == 0)
			return &smd_error_decls[i];
	}
	return NULL;
}

static int
error_set(struct smd_error *err, const char *code, const char *const *params, char *message)
{
	size_t n = 0;

	if (err->code) {
		free(message);
		return -1;
	}
	while (params[n])
		n++;
	err->code = code;
	err->params = smd_calloc(n + 1, sizeof *err->params);
	for (size_t i = 0; i < n; i++)
		err->params[i] = smd_strdup(params[i]);
	err->message = message;
	return -1;
}

/* A NULL among the parameters would end the list early: it becomes "". */
#define P(p) ((p) ? (p) : "")

#define FAIL_BODY(c, ...)							\
{										\
	va_list ap;								\
	const char *list[] = { __VA_ARGS__ };					\
	char *text_;								\
										\
	va_start(ap, fmt);							\
	text_ = smd_vasprintf(fmt, ap);					\
	va_end(ap);								\
	return error_set(err, smd_error_decls[SMD_E_##c].code, list, text_);	\
}

#define SMD_ERROR0(c, t) \
int smd_fail_##c(struct smd_error *err, const char *fmt, ...) FAIL_BODY(c, NULL)
#define SMD_ERROR1(c, p1, t) \
int smd_fail_##c(struct smd_error *err, const char *p1, const char *fmt, ...) \
FAIL_BODY(c, P(p1), NULL)
#define SMD_ERROR2(c, p1, p2, t) \
int smd_fail_##c(struct smd_error *err, const char *p1, const char *p2, const char *fmt, ...) \
FAIL_BODY(c, P(p1), P(p2), NULL)
#define SMD_ERROR3(c, p1, p2, p3, t) \
int smd_fail_##c(struct smd_error *err, const char *p1, const char *p2, const char *p3, \
		 const char *fmt, ...) \
FAIL_BODY(c, P(p1), P(p2), P(p3), NULL)
#define SMD_ERROR4(c, p1, p2, p3, p4, t) \
int smd_fail_##c(struct smd_error *err, const char *p1, const char *p2, const char *p3, \
		 const char *p4, const char *fmt, ...) \
FAIL_BODY(c, P(p1), P(p2), P(p3), P(p4), NULL)
#define SMD_ERRORV(c, p, t) \
int smd_fail_##c(struct smd_error *err, const char *const *p, const char *fmt, ...) \
{										\
	va_list ap;								\
	char *text_;								\
										\
	va_start(ap, fmt);							\
	text_ = smd_vasprintf(fmt, ap);					\
	va_end(ap);								\
	return error_set(err, smd_error_decls[SMD_E_##c].code, p, text_);	\
}
#include "common/errors.def"

int
smd_fail_code(struct smd_error *err, const char *code, const char *const *params,
	      const char *message)
{
	static const char *const none[] = { NULL };
	const struct smd_error_decl *decl = smd_error_decl_find(code);

	if (!decl)
		return smd_fail_INTERNAL_ERROR(err, message, "%s: %s", code, message);
	return error_set(err, decl->code, params ? params : none, smd_strdup(message));
}

int
smd_error_prefix(struct smd_error *err, const char *fmt, ...)
{
	CLEANUP_FREE char *prefix = NULL;
	va_list ap;
	char *message;

	if (!err->code)
		return -1;
	va_start(ap, fmt);
	prefix = smd_vasprintf(fmt, ap);
	va_end(ap);
	message = smd_asprintf("%s: %s", prefix, err->message);
	free(err->message);
	err->message = message;
	return -1;
}

void
smd_error_clear(struct smd_error *err)
{
	if (!err)
		return;
	for (size_t i = 0; err->params && err->params[i]; i++)
		free(err->params[i]);
	free(err->params);
	free(err->message);
	*err = (struct smd_error)SMD_ERROR_INIT;
}

void
smd_error_move(struct smd_error *dst, struct smd_error *src)
{
	assert(!dst->code);
	*dst = *src;
	*src = (struct smd_error)SMD_ERROR_INIT;
}

struct smd_u64_text
smd_u64_text(uint64_t n)
{
	struct smd_u64_text t;

	snprintf(t.text, sizeof t.text, "%" PRIu64, n);
	return t;
}
