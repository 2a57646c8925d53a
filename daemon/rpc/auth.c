/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/auth.h"

#include <crypt.h>
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"

#define LINE_LEN_MAX 1024

/* What an unknown name's password is compared with: no password has this hash. */
static const char no_hash[] = "$6$rounds=5000$smdsmdsmdsmdsmd$";

struct account {
	char *hash;
	enum api_role role;
};

static bool
role_from_name(const char *name, enum api_role *ret)
{
	for (enum api_role r = API_READER; r < API_N_ROLES; r++) {
		if (strcmp(name, api_role_names[r]) == 0) {
			*ret = r;
			return true;
		}
	}
	return false;
}

/* Whether the line is the user's and well-formed; it is cut up on the way. */
static bool
parse_line(char *line, const char *user, const char *path, struct account *ret)
{
	char *save = NULL, *name, *role, *hash;

	line[strcspn(line, "\r\n")] = '\0';
	if (line[0] == '#' || !(name = strtok_r(line, ":", &save)) || strcmp(name, user) != 0)
		return false;
	role = strtok_r(NULL, ":", &save);
	hash = strtok_r(NULL, ":", &save);
	if (!role || !hash || !role_from_name(role, &ret->role)) {
		smd_log(SMD_LOG_WARNING, "%s: the line of %s is not name:role:hash", path, user);
		return false;
	}
	ret->hash = smd_strdup(hash);
	return true;
}

static bool
find_account(const char *path, const char *user, struct account *ret)
{
	CLEANUP(cleanup_fclose) FILE *f = fopen(path, "re");
	char line[LINE_LEN_MAX];

	if (!f) {
		smd_log(errno == ENOENT ? SMD_LOG_DEBUG : SMD_LOG_WARNING, "%s: %s", path,
			strerror(errno));
		return false;
	}
	while (fgets(line, sizeof line, f)) {
		bool found = parse_line(line, user, path, ret);

		explicit_bzero(line, sizeof line);
		if (found)
			return true;
	}
	return false;
}

/* As long for every difference. */
static bool
same_text(const char *a, const char *b)
{
	size_t n = strlen(a);
	unsigned char differs = n != strlen(b);

	for (size_t i = 0; i < n && !(differs && i > strlen(b)); i++)
		differs |= (unsigned char)(a[i] ^ b[i]);
	return differs == 0;
}

static bool
password_fits(const char *password, const char *hash)
{
	struct crypt_data *data = smd_calloc(1, sizeof *data);
	const char *got;
	bool fits;

	got = crypt_r(password, hash, data);
	/* A failure is NULL or starts with '*' (crypt(3)). */
	fits = got && got[0] != '*' && same_text(got, hash);
	explicit_bzero(data, sizeof *data);
	free(data);
	return fits;
}

bool
auth_check(const char *path, const char *user, const char *password, enum api_role *ret_role)
{
	struct account account = { 0 };
	CLEANUP_FREE char *hash = NULL;
	bool known = find_account(path, user, &account);

	hash = known ? account.hash : smd_strdup(no_hash);
	*ret_role = account.role;
	return password_fits(password, hash) && known;
}
