/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * smctl passwd --file F NAME ROLE: one line of the accounts' file,
 * name:role:crypt(3) hash (daemon/rpc/auth.c reads it). The file is written anew
 * beside the old one and takes its place at once, so that a login meanwhile sees
 * one or the other.
 */
#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/mem.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/password.h"

#define HASH_PREFIX "$y$"	/* yescrypt (crypt(5)) */
#define NAME_LEN_MAX 64

/* xapi's. No server is asked: there may be none yet. */
static const char *const roles[] = {
	"pool-admin", "pool-operator", "vm-power-admin", "vm-admin", "vm-operator", "read-only",
};

static int
check_account(const char *name, const char *role, struct smd_error *err)
{
	if (name[0] == '\0' || name[0] == '#' || strlen(name) > NAME_LEN_MAX)
		return cli_fail(err, "\"%s\" cannot be a user's name", name);
	for (const char *p = name; *p; p++) {
		if (*p == ':' || (unsigned char)*p < ' ')
			return cli_fail(err, "A user's name has no \":\" and no control characters");
	}
	for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
		if (strcmp(role, roles[i]) == 0)
			return 0;
	}
	return cli_fail(err, "\"%s\" is no role: pool-admin, pool-operator, vm-power-admin, "
			"vm-admin, vm-operator or read-only", role);
}

static char *
hash_password(const char *password, struct smd_error *err)
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];
	struct crypt_data *data = smd_calloc(1, sizeof *data);
	char *hash = NULL;

	/* no count and no random bytes: the library's own choice of both */
	if (crypt_gensalt_rn(HASH_PREFIX, 0, NULL, 0, setting, sizeof setting))
		hash = crypt_r(password, setting, data);
	if (hash && hash[0] != '*')
		hash = smd_strdup(hash);
	else
		hash = NULL, cli_fail(err, "crypt: %s", strerror(errno));
	explicit_bzero(data, sizeof *data);
	free(data);
	return hash;
}

/* The old file without the user's line. */
static int
copy_others(FILE *from, const char *name, FILE *to)
{
	CLEANUP_FREE char *line = NULL;
	size_t size = 0, len = strlen(name);
	ssize_t n;

	while ((n = getline(&line, &size, from)) > 0) {
		if (strncmp(line, name, len) == 0 && line[len] == ':')
			continue;
		if (fputs(line, to) < 0 || (line[n - 1] != '\n' && fputc('\n', to) == EOF))
			return -1;
	}
	return ferror(from) ? -1 : 0;
}

static int
write_accounts(const char *path, FILE *f, const char *name, const char *role, const char *hash)
{
	CLEANUP(cleanup_fclose) FILE *old = fopen(path, "re");
	struct stat st;

	if (!old && errno != ENOENT)
		return -1;
	if (old && (fstat(fileno(old), &st) < 0 || fchmod(fileno(f), st.st_mode & 0777) < 0 ||
		    copy_others(old, name, f) < 0))
		return -1;
	/* the daemon's own user must go on reading it when root changes it */
	if (old && fchown(fileno(f), st.st_uid, st.st_gid) < 0 && errno != EPERM)
		return -1;
	if (fprintf(f, "%s:%s:%s\n", name, role, hash) < 0 || fflush(f) == EOF)
		return -1;
	return fsync(fileno(f));
}

static int
replace_accounts(const char *path, const char *name, const char *role, const char *hash,
		 struct smd_error *err)
{
	CLEANUP_FREE char *temporary = smd_asprintf("%s.XXXXXX", path);
	int fd = mkostemp(temporary, O_CLOEXEC);	/* mode 0600 */
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	int rc;

	if (!f)
		return cli_fail(err, "%s: %s", temporary, strerror(errno));
	rc = write_accounts(path, f, name, role, hash);
	if (rc < 0 || rename(temporary, path) < 0) {
		rc = cli_fail(err, "%s: %s", path, strerror(errno));
		unlink(temporary);
	}
	fclose(f);
	return rc;
}

int
passwd_run(struct args *args, struct smd_error *err)
{
	CLEANUP_FREE char *password = NULL, *hash = NULL;
	int rc;

	if (args->n_bare != 3 || !args->file)
		return cli_fail(err, "passwd needs --file FILE NAME ROLE");
	if (args_all_used(args, err) < 0 || check_account(args->bare[1], args->bare[2], err) < 0)
		return -1;
	password = password_ask_new(err);
	if (!password)
		return -1;
	hash = password[0] ? hash_password(password, err) : NULL;
	explicit_bzero(password, strlen(password));
	if (!hash)
		return err->code ? -1 : cli_fail(err, "an empty password would let anybody in");
	rc = replace_accounts(args->file, args->bare[1], args->bare[2], hash, err);
	return rc;
}
