/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/password.h"

#include <errno.h>
#include <string.h>
#include <termios.h>

#include "common/mem.h"
#include "daemon/cli/args.h"

/* A line without its end; NULL at the end of the file. */
static char *
password_line(FILE *f)
{
	char line[PASSWORD_MAX + 2];

	if (!fgets(line, sizeof line, f))
		return NULL;
	line[strcspn(line, "\r\n")] = '\0';
	return smd_strdup(line);
}

char *
password_ask(const char *prompt, struct smd_error *err)
{
	struct termios old, quiet;
	bool terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &old) == 0;
	char *line;

	if (terminal) {
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
		fputs(prompt, stderr);
		fflush(stderr);
	}
	line = password_line(stdin);
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
		fputc('\n', stderr);
	}
	if (!line)
		cli_fail(err, "no password was given");
	return line;
}

char *
password_ask_new(struct smd_error *err)
{
	CLEANUP_FREE char *first = password_ask("New password: ", err), *second = NULL;

	if (!first || !isatty(STDIN_FILENO))
		return TAKE_PTR(first);
	second = password_ask("Once more: ", err);
	if (!second)
		return NULL;
	if (strcmp(first, second) != 0) {
		cli_fail(err, "the two passwords differ");
		return NULL;
	}
	return TAKE_PTR(first);
}

char *
password_from_file(const char *path, struct smd_error *err)
{
	CLEANUP(cleanup_fclose) FILE *f = fopen(path, "re");
	char *found = NULL, *line;

	if (!f) {
		cli_fail(err, "%s: %s", path, strerror(errno));
		return NULL;
	}
	while ((line = password_line(f))) {
		if (strncmp(line, "password=", 9) == 0) {
			free(found);
			found = smd_strdup(line + 9);
		} else if (!found) {
			found = smd_strdup(line);
		}
		free(line);
	}
	if (!found)
		cli_fail(err, "%s: no password in it", path);
	return found;
}
