/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/carry-impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/digest.h"
#include "daemon/job/job.h"
#include "daemon/job/phase.h"
#include "daemon/job/task.h"
#include "daemon/job/worker.h"
#include "daemon/sr/cbt.h"
#include "daemon/sr/link.h"
#include "daemon/sr/tree.h"

#define OPEN_TRIES 16	/* the collector takes one node a step */

/* ---- What is asked ---- */

/* "true" or "1", "false" or "0". */
static int
parse_flag(json *options, const char *key, bool *ret, struct smd_error *err)
{
	const char *value = smd_json_str(options, key, "false");

	*ret = strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
	if (!*ret && strcmp(value, "false") != 0 && strcmp(value, "0") != 0)
		return smd_fail_INVALID_VALUE(err, key, value, "%s is true or false, not \"%s\"",
					      key, value);
	return 0;
}

int
carry_options(struct carry *carry, json *options, struct smd_error *err)
{
	const char *limit = smd_json_str(options, "bytes-per-second", "0");
	char *end;

	if (parse_flag(options, "verify", &carry->verify, err) < 0 ||
	    parse_flag(options, "snapshots", &carry->snapshots, err) < 0 ||
	    parse_flag(options, "exact", &carry->exact, err) < 0)
		return -1;
	errno = 0;
	carry->bytes_per_second = strtoull(limit, &end, 10);
	if (errno || end == limit || *end || *limit == '-')
		return smd_fail_INVALID_VALUE(err, "bytes-per-second", limit,
					      "bytes-per-second is a number of bytes, 0 for no "
					      "limit, not \"%s\"", limit);
	carry->asked = smd_json_str(options, "dest-img-format", "");
	return 0;
}

int
carry_check_untracked(const struct carry *c, struct smd_error *err)
{
	bool tracked;

	if (db_get_bool(c->daemon->db, "VDI", c->vdi_ref, "cbt_enabled", &tracked, err) < 0)
		return -1;
	return tracked ? smd_fail_VDI_CBT_ENABLED(err, c->vdi_ref, "VDI %s is tracked, and its new "
						  "place knows nothing of its changes: "
						  "VDI.disable_cbt first; the next backup is then full",
						  c->vdi_ref)
		       : 0;
}

/* ---- What goes ---- */

size_t
carry_node_find(const struct carry *c, const char *ref)
{
	size_t i = 0;

	while (i < c->n && strcmp(c->nodes[i].disk.vdi_ref, ref) != 0)
		i++;
	return i;
}

/* The index of a VDI's node, which is made where there is none. */
static int
node_take(struct carry *c, const char *ref, size_t parent, size_t *ret, struct smd_error *err)
{
	struct carry_node node = {
		.disk = DISK_INIT, .v = NEW_VOLUME_INIT, .parent = parent,
	};
	size_t i = carry_node_find(c, ref);

	*ret = i;
	if (i < c->n)
		return 0;
	if (disk_find_node(c->daemon, ref, &node.disk, err) < 0)
		return -1;
	c->nodes = smd_reallocarray(c->nodes, c->n + 1, sizeof node);
	c->nodes[c->n++] = node;
	return 0;
}

/* A VDI that moves, and what it lies on. */
static int
take_disk(struct carry *c, const char *ref, struct smd_error *err)
{
	size_t at = CARRY_BASE;
	CLEANUP_JSON json *chain = NULL;

	if (!c->snapshots) {
		if (node_take(c, ref, CARRY_BASE, &at, err) < 0)
			return -1;
		c->nodes[at].moves = true;
		return 0;
	}
	if (tree_chain(c->daemon->db, ref, &chain, err) < 0)
		return -1;
	for (size_t i = json_object_array_length(chain); i-- > 0;) {
		const char *link = json_object_get_string(json_object_array_get_idx(chain, i));

		if (node_take(c, link, at, &at, err) < 0)
			return -1;
	}
	c->nodes[at].moves = true;
	return 0;
}

/* Snapshots that are in another SR stay where they are, as do those without data. */
static int
take_snapshots(struct carry *c, struct smd_error *err)
{
	CLEANUP_JSON json *refs = NULL;

	if (db_find(c->daemon->db, "VDI", "snapshot_of", c->vdi_ref, &refs, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(refs); i++) {
		const char *ref = json_object_get_string(json_object_array_get_idx(refs, i));
		CLEANUP_FREE char *sr = NULL, *type = NULL;
		bool managed;

		if (db_get_str(c->daemon->db, "VDI", ref, "SR", &sr, err) < 0 ||
		    db_get_str(c->daemon->db, "VDI", ref, "type", &type, err) < 0 ||
		    db_get_bool(c->daemon->db, "VDI", ref, "managed", &managed, err) < 0)
			return -1;
		if (managed && strcmp(type, CBT_METADATA) != 0 && strcmp(sr, sr_ref(c->from)) == 0 && take_disk(c, ref, err) < 0)
			return -1;
	}
	return 0;
}

static int
find_nodes(struct carry *c, struct smd_error *err)
{
	int r;

	if (db_begin(c->daemon->db, DB_RELAXED, err) < 0)
		return -1;
	r = take_disk(c, c->vdi_ref, err);
	if (r == 0 && c->snapshots)
		r = take_snapshots(c, err);
	db_rollback(c->daemon->db);
	return r;
}

/* Note the operation on each, open and lock them. */
int
carry_open_nodes(struct carry *c, struct smd_error *err)
{
	for (size_t i = 0; i < c->n; i++) {
		struct carry_node *node = &c->nodes[i];

		if (node->moves && c->ops &&
		    op_set_begin(c->ops, "VDI", node->disk.vdi_ref, CARRY_OPERATION, err) < 0)
			return -1;
		if (node->moves && !c->ops && strcmp(node->disk.vdi_ref, c->vdi_ref) != 0 &&
		    op_check(c->daemon, "VDI", node->disk.vdi_ref, CARRY_OPERATION, err) < 0)
			return -1;
		if (disk_open(c->daemon, &node->disk, false, CARRY_OPERATION, err) < 0)
			return -1;
		if (c->snapshots)
			disk_close_parents(&node->disk);
	}
	return 0;
}

/* Whether the rows name other nodes or volumes by now than those that are open. */
bool
carry_nodes_moved(const struct carry *c)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(carry_nodes_free) struct carry now = *c;
	bool same;

	now.n = 0;
	now.nodes = NULL;
	if (find_nodes(&now, &err) < 0)
		return true;
	same = now.n == c->n;
	for (size_t i = 0; same && i < c->n; i++) {
		const struct carry_node *a = &c->nodes[i], *b = &now.nodes[i];

		same = strcmp(a->disk.vdi_ref, b->disk.vdi_ref) == 0 && a->parent == b->parent &&
		       strcmp(a->disk.location, b->disk.location) == 0;
	}
	return !same;
}

void
carry_nodes_free(struct carry *c)
{
	for (size_t i = 0; i < c->n; i++) {
		struct carry_node *node = &c->nodes[i];

		new_volume_done(&node->v);
		disk_done(&node->disk);
		free(node->left);
		free(node->log);
		free(node->digest);
		free(node->digest_sum);
		free(node->digest_absent);
		free(node->ref);
	}
	free(c->nodes);
	c->n = 0;
	c->nodes = NULL;
}

/* The collector may merge nodes away between the look at the rows and the last lock;
 * from then on it does not. */
static int
take_nodes(struct carry *c, struct smd_error *err)
{
	for (int tries = 0; tries < OPEN_TRIES; tries++) {
		smd_error_clear(err);
		carry_nodes_free(c);
		if (find_nodes(c, err) < 0)
			return -1;
		if (carry_open_nodes(c, err) == 0 && !carry_nodes_moved(c))
			return 0;
		if (err->code && !carry_nodes_moved(c))
			return -1;
	}
	if (err->code)
		return -1;
	return smd_fail_VDI_IN_USE(err, SMD_PARAMS(c->vdi_ref, CARRY_OPERATION),
				   "the chain of VDI %s keeps changing: try again", c->vdi_ref);
}

/* ---- What it becomes ---- */

static uint64_t
largest_size(const struct carry *c)
{
	uint64_t largest = 0;

	for (size_t i = 0; i < c->n; i++)
		largest = smd_max_u64(largest, c->nodes[i].disk.virtual_size);
	return largest;
}

int
carry_choose(struct carry *c, const char *asked, char **ret, struct smd_error *err)
{
	return sr_choose_format(c->daemon, sr_ref(c->to), asked, largest_size(c), c->vdi_ref, ret,
				err);
}

static int
choose_formats(struct carry *c, const char *asked, struct smd_error *err)
{
	CLEANUP_FREE char *base = NULL, *overlay = NULL;

	if (carry_choose(c, asked, &base, err) < 0)
		return -1;
	for (size_t i = 0; i < c->n; i++) {
		struct carry_node *node = &c->nodes[i];
		const char *format = base;

		if (node->parent != CARRY_BASE) {
			if (!overlay &&
			    sr_choose_overlay_format(c->daemon, sr_ref(c->to), base,
						     largest_size(c), c->vdi_ref, &overlay,
						     err) < 0)
				return -1;
			format = overlay;
		}
		new_volume_done(&node->v);
		node->v = new_volume_name(c->daemon, c->to, format,
					  format_round_size(c->daemon, format,
							    node->disk.virtual_size));
	}
	return 0;
}

/* ---- Requests ---- */

/* The image of a node and those below it. */
static json *
node_source(const struct carry *c, struct carry_node *node, struct worker_job *job,
	    struct smd_error *err)
{
	CLEANUP_JSON json *source = disk_source(&node->disk, job, false, err);

	while (source && node->parent != CARRY_BASE) {
		node = &c->nodes[node->parent];
		if (source_add(source, node->disk.fd, node->disk.location, node->disk.format, job,
			       err) < 0)
			return NULL;
	}
	return TAKE_PTR(source);
}

/* The same of what it became. */
static json *
new_source(const struct carry *c, const struct carry_node *node, struct worker_job *job,
	   struct smd_error *err)
{
	const struct new_volume *v = &node->v;
	CLEANUP_JSON json *source = source_of_fd(v->fd, v->name, v->format, false, false, job, err);

	while (source && node->parent != CARRY_BASE) {
		node = &c->nodes[node->parent];
		if (source_add(source, node->v.fd, node->v.name, node->v.format, job, err) < 0)
			return NULL;
	}
	return TAKE_PTR(source);
}

/* Both sides of a request about a node; the job is done with where that fails. */
static int
add_sides(const struct carry *c, struct carry_node *node, struct worker_job *job,
	  struct smd_error *err)
{
	const struct new_volume *v = &node->v;
	json *source = node_source(c, node, job, err), *target = NULL, *parents = NULL;

	smd_json_set(job->request, "source", source);
	if (source)
		target = target_of_fd(v->fd, v->name, v->format, v->virtual_size, job, err);
	smd_json_set(job->request, "target", target);
	if (target && node->parent != CARRY_BASE) {
		smd_json_set_int(target, "upper", 1);
		if (v->fd >= 0)
			parents = new_source(c, &c->nodes[node->parent], job, err);
		smd_json_set(target, "parents", parents);
	}
	if (!err->code)
		return 0;
	worker_job_done(job);
	return -1;
}

/* ---- The plan ---- */

/* The bytes it needs at its new place. */
static int
plan_node(struct carry *c, struct carry_node *node, struct plan *plan, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = {
		.request = request, .task_ref = c->task_ref, .urgent = true,
	};

	if (add_sides(c, node, &job, err) < 0)
		return -1;
	return plan_image(plan, &job, &node->disk, &node->v.virtual_size, &node->data, err);
}

int
carry_open(struct carry *c, struct smd_error *err)
{
	return take_nodes(c, err);
}

int
carry_needs(struct carry *c, const char *asked, struct plan *ret, struct smd_error *err)
{
	*ret = (struct plan){
		.daemon = c->daemon, .from = c->from, .to = c->to, .exact = c->exact,
	};
	if (choose_formats(c, asked, err) < 0)
		return -1;
	for (size_t i = 0; i < c->n; i++) {
		if (plan_node(c, &c->nodes[i], ret, err) < 0)
			return -1;
	}
	return 0;
}

int
carry_plan(struct carry *c, struct smd_error *err)
{
	struct plan plan;

	phase_begin(c->daemon, c->task_ref, c->verify);
	if (carry_open(c, err) < 0 || carry_needs(c, c->asked, &plan, err) < 0)
		return -1;
	c->data = plan.data;
	return plan_room(&plan, err);
}

/* ---- The copies ---- */

/* One node's copy, for every worker that is needed. */
struct node_copy {
	struct carry *c;
	struct carry_node *node;
};

static int
fill_copy(void *opaque, struct worker_job *job, struct smd_error *err)
{
	const struct node_copy *copy = opaque;
	struct carry *c = copy->c;
	json *target;

	smd_json_set_bool(job->request, "verify", c->verify);
	smd_json_set_bool(job->request, "digest", c->reads);
	smd_json_set_int(job->request, "bytes_per_second", (int64_t)c->bytes_per_second);
	worker_loads(job, sr_ref(c->to));
	worker_loads(job, sr_ref(c->from));
	if (add_sides(c, copy->node, job, err) < 0)
		return -1;
	target = smd_json_member(job->request, "target");
	if (copy->node->parent != CARRY_BASE && c->nodes[copy->node->parent].digest_sum)
		smd_json_set_str(target, "below_sum", c->nodes[copy->node->parent].digest_sum);
	return 0;
}

/* A later start has them of the images that are copied by then. */
static int
keep_digest(struct carry *c, struct carry_node *node, json *result, struct smd_error *err)
{
	json *all;

	free(node->digest);
	free(node->digest_sum);
	free(node->digest_absent);
	node->digest = smd_json_dup(result, "digest");
	node->digest_sum = smd_json_dup(result, "digest_sum");
	node->digest_absent = smd_json_dup(result, "digest_absent");
	if (c->n == 1)
		return 0;
	all = json_object_new_array();
	for (size_t i = 0; i < c->n; i++)
		json_object_array_add(all, carry_digest_journal(&c->nodes[i]));
	return lasting_keep(c->lasting, "digests", all, err);
}

/* Which one of several it is. */
static void
show_image(const struct carry *c, const struct carry_node *node)
{
	CLEANUP_FREE char *text = smd_asprintf("%zu of %zu", (size_t)(node - c->nodes) + 1, c->n);

	if (c->n > 1)
		task_note(c->daemon->tasks, c->task_ref, SMD_PARAMS("image", text));
}

/* done: bytes of the nodes before it. */
static int
copy_node(struct carry *c, struct carry_node *node, uint64_t done, struct smd_error *err)
{
	uint64_t times = c->verify ? 2 : 1;	/* the worker counts what it reads back, too */
	struct worker_job job = {
		.bytes_before = times * done,
		.bytes_after = times * (c->data - done - node->data),
	};
	struct node_copy opaque = { c, node };
	const struct lasting_copy copy = {
		.n = (size_t)(node - c->nodes), .v = &node->v, .job = &job, .fill = fill_copy,
		.opaque = &opaque,
	};
	CLEANUP_JSON json *result = NULL;

	show_image(c, node);
	if (lasting_copy(c->lasting, &copy, &result, err) < 0)
		return smd_error_prefix(err, "VDI %s", node->disk.uuid);
	plan_rate_seen(c->daemon, sr_uuid(c->from), sr_ref(c->to), result, c->verify);
	if (keep_digest(c, node, result, err) < 0)
		return -1;
	/* For XenServer's tools: nobody uses the image itself. */
	if (!node->moves && volume_set_hidden(c->to, node->v.tmp, node->v.format, true, err) < 0)
		return -1;
	return new_volume_publish(&node->v, err);
}

static json *
node_copied(void *opaque, struct worker_job *job, struct smd_error *err)
{
	const struct node_copy *copy = opaque;

	return new_source(copy->c, copy->node, job, err);
}

/* A node whose digest nobody has found: smd was ended too early, or the node is smaller
 * than what it lies on. */
static int
read_node(struct carry *c, struct carry_node *node, struct smd_error *err)
{
	struct node_copy opaque = { c, node };
	const struct digest_reading reading = {
		.daemon = c->daemon, .task_ref = c->task_ref, .sr_ref = sr_ref(c->to),
		.progress_from = PHASE_MOVES_FROM, .progress_to = PHASE_MOVES_FROM,
		.stoppable = true, .source = node_copied, .opaque = &opaque,
	};
	CLEANUP_JSON json *result = NULL;

	if (node->digest || !c->reads)
		return 0;
	if (digest_read(&reading, &result, err) < 0)
		return smd_error_prefix(err, "VDI %s", node->disk.uuid);
	return keep_digest(c, node, result, err);
}

static void
show_end(struct carry *c)
{
	for (size_t i = 0; i < c->n; i++) {
		op_refresh(c->daemon, "VDI", c->nodes[i].ref);
		if (c->nodes[i].left)
			op_refresh(c->daemon, "VDI", c->nodes[i].left);
		if (c->nodes[i].gone)
			records_forget(c->from, c->nodes[i].disk.location);
	}
}

int
carry_work(struct carry *c, char **ret_ref, struct smd_error *err)
{
	const struct carry_node *node;
	uint64_t done = 0;

	for (size_t i = 0; i < c->n; i++) {
		if ((!c->nodes[i].v.published && copy_node(c, &c->nodes[i], done, err) < 0) ||
		    read_node(c, &c->nodes[i], err) < 0)
			return -1;
		done += c->nodes[i].data;
	}
	phase_enter(c->daemon, c->task_ref, PHASE_SWITCH);
	node = &c->nodes[carry_node_find(c, c->vdi_ref)];
	/* Before the commit: a kill behind it leaves the task no other end. */
	digest_show(c->daemon, c->task_ref, node->digest, node->digest_absent);
	if (carry_commit(c, err) < 0)
		return -1;
	phase_enter(c->daemon, c->task_ref, PHASE_CLEAN_UP);
	show_end(c);
	*ret_ref = smd_strdup(node->ref);
	return 0;
}

/* Whatever of the old volumes may go is in the plan; the commit says which do. */
static int
begin_job(struct carry *c, struct smd_error *err)
{
	CLEANUP_JSON json *undo = NULL, *redo = NULL, *resume = carry_journal(c);
	struct job_plan plan = { .resume = resume };

	for (size_t i = 0; i < c->n; i++) {
		new_volume_plan(&c->nodes[i].v, &undo);
		job_plan_add(&redo, sr_uuid(c->from), c->nodes[i].disk.location);
	}
	plan.undo = undo;
	plan.redo = redo;
	c->lasting = &c->job;
	c->journal = carry_journal(c);
	return lasting_begin(&c->job, c->daemon, &carry_kind, c, c->task_ref, c->waits, &plan, err);
}

int
carry_run(struct carry *c, char **ret_ref, struct smd_error *err)
{
	if (begin_job(c, err) < 0)
		return -1;
	return lasting_run(&c->job, ret_ref, err);
}

void
carry_done(struct carry *c)
{
	carry_close(c);
	if (c->lasting == &c->job)
		lasting_done(&c->job, c->ops);
	json_object_put(c->journal);
	c->journal = NULL;
}
