/* SPDX-License-Identifier: BSD-2-Clause */
/* What changed between two states of a disk; the changes of what is tracked are in
 * cbt-change.c. */
#include "daemon/sr/cbt-impl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/sr/tree.h"

#define OPERATION "list_changed_blocks"
#define WAY_MAX 65536u		/* states from one to the first of its line */

/* ---- The forest ---- */

void
cbt_state_done(struct cbt_state *state)
{
	free(state->parent);
	free(state->log);
	*state = (struct cbt_state){ .parent = NULL };
}

int
cbt_state_load(struct db *db, const char *ref, struct cbt_state *ret, struct smd_error *err)
{
	*ret = (struct cbt_state){ .parent = NULL };
	if (db_cbt_get(db, ref, &ret->parent, &ret->log, err) < 0)
		return -1;
	ret->tracked = ret->parent != NULL;
	return 0;
}

int
cbt_has_data(struct db *db, const char *ref, bool *ret, struct smd_error *err)
{
	CLEANUP_FREE char *type = NULL;

	if (db_get_str(db, "VDI", ref, "type", &type, err) < 0)
		return -1;
	*ret = strcmp(type, CBT_METADATA) != 0;
	return 0;
}

bool
cbt_needs_image(struct db *db, const char *vdi_ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct cbt_state state CLEANUP_CBT_STATE = { .parent = NULL };

	return cbt_state_load(db, vdi_ref, &state, &err) == 0 && state.tracked &&
	       *state.log && *state.parent;
}

int
cbt_logs(struct db *db, const char *sr, json **ret, struct smd_error *err)
{
	return db_cbt_logs(db, sr, ret, err);
}

int
cbt_log(struct db *db, const char *vdi_ref, char **ret, struct smd_error *err)
{
	struct cbt_state state CLEANUP_CBT_STATE = { .parent = NULL };

	if (cbt_state_load(db, vdi_ref, &state, err) < 0)
		return -1;
	*ret = state.tracked && *state.log ? TAKE_PTR(state.log) : NULL;
	return 0;
}

/* ---- What images say ---- */

/* The set that a worker wrote. */
static int
read_answer(int fd, json *result, struct cbt_set *ret, struct smd_error *err)
{
	uint64_t size = (uint64_t)smd_json_int(result, "size", 0), n;

	if (cbt_set_init(ret, size, false, err) < 0)
		return -1;
	n = smd_blocks_bytes(size);
	for (uint64_t done = 0; done < n;) {
		ssize_t r = pread(fd, ret->bits + done, n - done, (off_t)done);

		if (r == 0 || (r < 0 && errno != EINTR)) {
			cbt_set_done(ret);
			return smd_fail_INTERNAL_ERROR(err, "blocks", "the worker wrote no set of blocks");
		}
		done += r > 0 ? (uint64_t)r : 0;
	}
	return 0;
}

/* base NULL: what the disk's own image says. Both are open. */
static int
ask(struct daemon *daemon, struct disk *disk, struct disk *base, struct cbt_set *ret,
    struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .urgent = true };
	CLEANUP_JSON json *result = NULL;
	CLEANUP_CLOSE int fd = memfd_create("blocks", MFD_CLOEXEC);
	int number = -1;
	json *s;

	if (fd < 0)
		return smd_fail_INTERNAL_ERROR(err, "memfd", "no memory file: %s", strerror(errno));
	smd_json_set_str(request, "op", "blocks");
	s = disk_source(disk, &job, false, err);
	smd_json_set(request, "source", s);
	if (s && base) {
		s = disk_source(base, &job, false, err);
		smd_json_set(request, "base", s);
	}
	if (!s || job_fd(fd, &job, &number, err) < 0) {
		worker_job_done(&job);
		return -1;
	}
	smd_json_set_int(request, "fd", number);
	if (worker_run(daemon, &job, &result, err) < 0)
		return smd_error_prefix(err, "VDI %s", disk->uuid);
	return read_answer(fd, result, ret, err);
}

static int
open_node(struct daemon *daemon, const char *ref, struct disk *ret, struct smd_error *err)
{
	if (disk_find_node(daemon, ref, ret, err) < 0)
		return -1;
	return disk_open(daemon, ret, false, OPERATION, err);
}

/* Where two VDIs that have their data differ; `below` the first one's own image alone
 * where that is asked for: of one that lies on nothing that is nothing, as all of it is
 * its own. */
static int
pair(struct daemon *daemon, const char *ref, bool below, const char *other, struct cbt_set *ret,
     struct smd_error *err)
{
	struct disk disk CLEANUP_DISK = DISK_INIT, base CLEANUP_DISK = DISK_INIT;
	CLEANUP_FREE char *parent = NULL;

	if (below && tree_parent(daemon->db, ref, &parent, err) < 0)
		return -1;
	if (below && !parent)
		return cbt_set_init(ret, 0, false, err);
	if (open_node(daemon, below ? parent : ref, &disk, err) < 0 ||
	    open_node(daemon, other, &base, err) < 0)
		return -1;
	return ask(daemon, &disk, &base, ret, err);
}

int
cbt_own(struct daemon *daemon, const char *ref, struct disk *open, struct cbt_set *ret,
	struct smd_error *err)
{
	struct disk disk CLEANUP_DISK = DISK_INIT;

	if (!open && open_node(daemon, ref, &disk, err) < 0)
		return -1;
	return ask(daemon, open ? open : &disk, NULL, ret, err);
}

static int
read_log(struct sr *sr, const char *ref, const char *log, struct cbt_set *ret,
	 struct smd_error *err)
{
	struct smd_error why CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_CLOSE int fd = -1;

	if (*log && sr_get_driver(sr)->volume_open(sr_handle(sr), log, 0, &fd, &why) == 0)
		return cbt_log_read(fd, log, ret, err);
	return smd_fail_SR_BACKEND_FAILURE_459(
		err, "", "Changed block tracking log is in inconsistent state", "there is no log",
		"the log of VDI %s cannot be read: %s", ref, why.message ? why.message : "there is none");
}

/* ---- Steps and ways ---- */

int
cbt_step(struct cbt_look *look, const char *ref, bool below, struct disk *open,
	 struct cbt_set *ret, struct smd_error *err)
{
	struct cbt_state state CLEANUP_CBT_STATE = { .parent = NULL };
	struct cbt_set own CLEANUP_CBT_SET = CBT_SET_INIT;
	struct db *db = look->daemon->db;
	bool has, parent_has;

	if (cbt_state_load(db, ref, &state, err) < 0 || cbt_has_data(db, ref, &has, err) < 0 ||
	    cbt_has_data(db, state.parent, &parent_has, err) < 0)
		return -1;
	if (has && parent_has)
		return pair(look->daemon, ref, below, state.parent, ret, err);
	if (read_log(look->sr, ref, state.log, ret, err) < 0)
		return -1;
	if (!has || below)
		return 0;
	if (cbt_own(look->daemon, ref, open, &own, err) < 0)
		return -1;
	return cbt_set_add(ret, &own, err);
}

/* A state and those it counts from, back to the first: a new array of refs. */
static int
way_back(struct db *db, const char *ref, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *way = json_object_new_array();
	CLEANUP_FREE char *at = smd_strdup(ref);

	while (*at && json_object_array_length(way) < WAY_MAX) {
		struct cbt_state state CLEANUP_CBT_STATE = { .parent = NULL };

		json_object_array_add(way, json_object_new_string(at));
		if (cbt_state_load(db, at, &state, err) < 0)
			return -1;
		free(at);
		at = state.tracked ? TAKE_PTR(state.parent) : smd_strdup("");
	}
	*ret = TAKE_PTR(way);
	return 0;
}

static const char *
item(json *way, size_t i)
{
	return json_object_get_string(json_object_array_get_idx(way, i));
}

/* Where the first of two ways meets the second one: indices, false where they do not. */
static bool
meet(json *a, json *b, size_t *ret_a, size_t *ret_b)
{
	size_t i = json_object_array_length(a), j = json_object_array_length(b);

	while (i > 0 && j > 0 && strcmp(item(a, i - 1), item(b, j - 1)) == 0) {
		i--;
		j--;
	}
	*ret_a = i;
	*ret_b = j;
	return i < json_object_array_length(a);
}

static int
add_steps(struct cbt_look *look, json *way, size_t n, bool below_first, struct cbt_set *into,
	  struct smd_error *err)
{
	for (size_t i = 0; i < n; i++) {
		struct cbt_set step CLEANUP_CBT_SET = CBT_SET_INIT;

		if (cbt_step(look, item(way, i), below_first && i == 0, NULL, &step, err) < 0 ||
		    cbt_set_add(into, &step, err) < 0)
			return -1;
	}
	return 0;
}

static int
fail_unrelated(const char *from, const char *to, const char *why, struct smd_error *err)
{
	return smd_fail_SR_BACKEND_FAILURE_460(
		err, "", "Failed to calculate changed blocks for given VDIs.", why,
		"from VDI %s to VDI %s: %s", from, to, why);
}

int
cbt_way(struct cbt_look *look, const char *from, const char *to, bool below, struct cbt_set *ret,
	struct smd_error *err)
{
	CLEANUP_JSON json *a = NULL, *b = NULL;
	struct db *db = look->daemon->db;
	bool from_has, to_has;
	size_t i, j;

	if (way_back(db, from, &a, err) < 0 || way_back(db, to, &b, err) < 0)
		return -1;
	if (!meet(a, b, &i, &j))
		return fail_unrelated(from, to, "Source and target VDI are unrelated", err);
	if (i == 0 && j == 0)
		return fail_unrelated(from, to, "Source and target VDI are same", err);
	if (j == 0)
		return fail_unrelated(from, to, "Source VDI is newer than target VDI", err);
	if (cbt_has_data(db, from, &from_has, err) < 0 || cbt_has_data(db, to, &to_has, err) < 0)
		return -1;
	if (from_has && to_has)
		return pair(look->daemon, to, below, from, ret, err);
	if (add_steps(look, a, i, false, ret, err) < 0)
		return -1;
	return add_steps(look, b, j, below, ret, err);
}

int
cbt_list(struct daemon *daemon, struct sr *sr, const char *from, const char *to, char **ret,
	 struct smd_error *err)
{
	struct cbt_change change CLEANUP_CBT = CBT_CHANGE_INIT;
	struct cbt_set set CLEANUP_CBT_SET = CBT_SET_INIT;
	struct cbt_look look = { daemon, sr };
	int64_t size;

	cbt_begin(&change, daemon, sr);
	if (db_get_int(daemon->db, "VDI", to, "virtual_size", &size, err) < 0 ||
	    cbt_way(&look, from, to, false, &set, err) < 0)
		return -1;
	*ret = cbt_set_text(&set, (uint64_t)size);
	return 0;
}
