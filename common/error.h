/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One error type, last parameter, everywhere. A function that can fail returns
 * 0, or -1 with *err set. It never leaves *err half set and never overwrites
 * one that is set (the second setter is ignored, and asserts in debug builds).
 *
 * The code is chosen once, where the fact is known; on the way up only the
 * message gains context. Codes and their parameters are common/errors.def.
 *
 * Threads: an error belongs to one thread at a time.
 */
#ifndef SMD_COMMON_ERROR_H
#define SMD_COMMON_ERROR_H

#include <stdarg.h>
#include <stdint.h>

#include "common/cleanup.h"

struct smd_error {
	const char *code;	/* declared in common/errors.def; NULL: no error */
	char **params;		/* NULL-terminated, as many as the code declares */
	char *message;		/* for a person; never parsed */
	int errnum;		/* errno where it began, 0: none */
};

#define SMD_ERROR_INIT { NULL, NULL, NULL, 0 }

enum smd_error_code {
#define SMD_ERROR0(c, t) SMD_E_##c,
#define SMD_ERROR1(c, a, t) SMD_E_##c,
#define SMD_ERROR2(c, a, b, t) SMD_E_##c,
#define SMD_ERROR3(c, a, b, d, t) SMD_E_##c,
#define SMD_ERROR4(c, a, b, d, e, t) SMD_E_##c,
#define SMD_ERRORV(c, a, t) SMD_E_##c,
#include "common/errors.def"
#undef SMD_ERROR0
#undef SMD_ERROR1
#undef SMD_ERROR2
#undef SMD_ERROR3
#undef SMD_ERROR4
#undef SMD_ERRORV
	SMD_N_ERRORS
};

/* What errors.def says of one code. */
struct smd_error_decl {
	const char *code;
	int n_params;			/* -1: as many as the caller has */
	const char *params[5];		/* names, NULL-terminated */
	const char *text;
};

extern const struct smd_error_decl smd_error_decls[SMD_N_ERRORS];

/* The declaration of a code by name; NULL: not ours. */
const struct smd_error_decl *smd_error_decl_find(const char *code);

#define SMD_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* smd_fail_CODE(err, param..., fmt, ...) sets *err and returns -1. Strings are
 * borrowed. A NULL parameter becomes "". */
#define SMD_ERROR0(c, t) \
	int smd_fail_##c(struct smd_error *err, const char *fmt, ...) SMD_PRINTF(2, 3);
#define SMD_ERROR1(c, p1, t) \
	int smd_fail_##c(struct smd_error *err, const char *p1, const char *fmt, ...) SMD_PRINTF(3, 4);
#define SMD_ERROR2(c, p1, p2, t) \
	int smd_fail_##c(struct smd_error *err, const char *p1, const char *p2, \
			 const char *fmt, ...) SMD_PRINTF(4, 5);
#define SMD_ERROR3(c, p1, p2, p3, t) \
	int smd_fail_##c(struct smd_error *err, const char *p1, const char *p2, const char *p3, \
			 const char *fmt, ...) SMD_PRINTF(5, 6);
#define SMD_ERROR4(c, p1, p2, p3, p4, t) \
	int smd_fail_##c(struct smd_error *err, const char *p1, const char *p2, const char *p3, \
			 const char *p4, const char *fmt, ...) SMD_PRINTF(6, 7);
#define SMD_ERRORV(c, list, t) \
	int smd_fail_##c(struct smd_error *err, const char *const *list, \
			 const char *fmt, ...) SMD_PRINTF(3, 4);
#include "common/errors.def"
#undef SMD_ERROR0
#undef SMD_ERROR1
#undef SMD_ERROR2
#undef SMD_ERROR3
#undef SMD_ERROR4
#undef SMD_ERRORV

/* A list of parameters for the codes that take any number. */
#define SMD_PARAMS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Set *err from a code that is data (a worker's answer, a module's). code must
 * be declared: another becomes INTERNAL_ERROR with the code in its message.
 * params is NULL-terminated or NULL. Returns -1. */
int smd_fail_code(struct smd_error *err, const char *code, const char *const *params,
		  const char *message);

/* "prefix: " before the message, and nothing else of the error. Returns -1. */
int smd_error_prefix(struct smd_error *err, const char *fmt, ...) SMD_PRINTF(2, 3);

/* Free what the error holds and make it empty again. NULL and empty are fine. */
void smd_error_clear(struct smd_error *err);

/* Move src to dst, which must be empty; src is empty after. */
void smd_error_move(struct smd_error *dst, struct smd_error *src);

static inline int
smd_error_is(const struct smd_error *err, enum smd_error_code code)
{
	return err->code == smd_error_decls[code].code;
}

/* struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT; */
#define CLEANUP_ERROR CLEANUP(smd_error_clear)

/* A number as a parameter: SMD_U64(n) lives to the end of the block. */
struct smd_u64_text {
	char text[24];
};
struct smd_u64_text smd_u64_text(uint64_t n);
#define SMD_U64(n) (smd_u64_text(n).text)

#endif
