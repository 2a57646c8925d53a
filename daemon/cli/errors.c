/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/errors.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "common/mem.h"

#define BACKEND_FAILURE "SR_BACKEND_FAILURE"

static char *
param_text(const char *param, struct names *names)
{
	char *known = NULL;

	if (names && strncmp(param, "OpaqueRef:", strlen("OpaqueRef:")) == 0)
		known = names_describe_ref(names, param);
	return known ? known : smd_strdup(param);
}

/* The name of the i-th parameter. Codes with any number of parameters have one name
 * for all; "vdi_and_operation" is two. The caller frees. */
static char *
param_name(const struct smd_error_decl *decl, size_t i)
{
	const char *name = decl->params[0], *and;

	if (decl->n_params >= 0)
		return smd_strdup((int)i < decl->n_params ? decl->params[i] : "<extra>");
	and = strstr(name, "_and_");
	if (!and)
		return smd_strdup(name);
	return i == 0 ? smd_strndup(name, (size_t)(and - name)) : smd_strdup(and + strlen("_and_"));
}

static void
print_params(FILE *out, const struct smd_error *err, const struct smd_error_decl *decl,
	     struct names *names)
{
	for (size_t i = 0; err->params && err->params[i]; i++) {
		CLEANUP_FREE char *name = param_name(decl, i);
		CLEANUP_FREE char *text = param_text(err->params[i], names);

		fprintf(out, "%s: %s\n", name, text);
	}
}

/* An error of this program's own is its message; one of the server's is its code and
 * parameters, and the server's message, where a task had one, comes after them. */
static bool
is_own(const struct smd_error *err)
{
	return (smd_error_is(err, SMD_E_INTERNAL_ERROR) || smd_error_is(err, SMD_E_INVALID_VALUE)) &&
	       (!err->params || !err->params[0] || !err->params[0][0]);
}

/* Whether a message says what the sentence or a parameter has said already. */
static bool
is_repeated(const struct smd_error *err, const struct smd_error_decl *decl)
{
	if (strncasecmp(decl->text, err->message, strlen(err->message)) == 0)
		return true;
	/* Whose parameters are all there is to say. */
	if (smd_error_is(err, SMD_E_UUID_INVALID) || smd_error_is(err, SMD_E_HANDLE_INVALID) ||
	    smd_error_is(err, SMD_E_MAP_DUPLICATE_KEY))
		return true;
	for (size_t i = 0; err->params && err->params[i]; i++) {
		if (strcmp(err->params[i], err->message) == 0)
			return true;
	}
	return false;
}

void
errors_print(FILE *out, const struct smd_error *err, struct names *names)
{
	const struct smd_error_decl *decl = smd_error_decl_find(err->code);
	bool has_message = err->message && err->message[0];

	if (has_message && is_own(err)) {
		fprintf(out, "%s\n", err->message);
		return;
	}
	if (strncmp(err->code, BACKEND_FAILURE, strlen(BACKEND_FAILURE)) == 0) {
		fprintf(out, "Error code: %s\nError parameters: ", err->code);
		for (size_t i = 0; err->params && err->params[i]; i++)
			fprintf(out, "%s%s", i ? ", " : "", err->params[i]);
		fputc('\n', out);
	} else {
		fprintf(out, "%s\n", decl->text);
		print_params(out, err, decl, names);
	}
	if (has_message && !is_repeated(err, decl))
		fprintf(out, "message: %s\n", err->message);
}
