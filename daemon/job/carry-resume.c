/* SPDX-License-Identifier: BSD-2-Clause */
/* A move as the journal has it, and taking it up again. */
#include "daemon/job/carry-impl.h"

#include <string.h>

#include "common/mem.h"
#include "daemon/job/collect.h"

static json *
node_journal(const struct carry_node *node)
{
	json *j = json_object_new_object();

	smd_json_set_str(j, "vdi", node->disk.vdi_ref);
	smd_json_set_str(j, "location", node->disk.location);
	smd_json_set_str(j, "format", node->disk.format);
	smd_json_set_int(j, "size", (int64_t)node->disk.virtual_size);
	smd_json_set_int(j, "parent", node->parent == CARRY_BASE ? -1 : (int64_t)node->parent);
	smd_json_set_bool(j, "moves", node->moves);
	smd_json_set_int(j, "data", (int64_t)node->data);
	smd_json_set_str(j, "volume", node->v.name);
	smd_json_set_int(j, "volume-size", (int64_t)node->v.virtual_size);
	return j;
}

json *
carry_digest_journal(const struct carry_node *node)
{
	json *j = json_object_new_object();

	if (node->digest)
		smd_json_set_str(j, "digest", node->digest);
	if (node->digest_sum)
		smd_json_set_str(j, "sum", node->digest_sum);
	if (node->digest_absent)
		smd_json_set_str(j, "absent", node->digest_absent);
	return j;
}

/* Of what an earlier run copied. */
static void
digest_load(struct carry_node *node, json *j)
{
	node->digest = smd_json_dup(j, "digest");
	node->digest_sum = smd_json_dup(j, "sum");
	node->digest_absent = smd_json_dup(j, "absent");
}

json *
carry_journal(const struct carry *c)
{
	json *j = json_object_new_object(), *nodes = json_object_new_array();

	smd_json_set_str(j, "vdi", c->vdi_ref);
	smd_json_set_str(j, "from", sr_ref(c->from));
	smd_json_set_str(j, "to", sr_ref(c->to));
	smd_json_set_str(j, "asked", c->asked);
	smd_json_set_bool(j, "snapshots", c->snapshots);
	smd_json_set_bool(j, "verify", c->verify);
	smd_json_set_bool(j, "reads", c->reads);
	smd_json_set_int(j, "bytes-per-second", (int64_t)c->bytes_per_second);
	smd_json_set_int(j, "data", (int64_t)c->data);
	for (size_t i = 0; i < c->n; i++)
		json_object_array_add(nodes, node_journal(&c->nodes[i]));
	smd_json_set(j, "nodes", nodes);
	return j;
}

/* ---- Opening it again ---- */

static int
use_srs(struct carry *c, struct smd_error *err)
{
	const char *from = smd_json_str(c->journal, "from", ""), *to = smd_json_str(c->journal, "to", "");

	if (sr_use(c->daemon, from, &c->from, err) < 0 || sr_use(c->daemon, to, &c->to, err) < 0 ||
	    op_set_begin(c->ops, "SR", from, CARRY_SR_OPERATION, err) < 0)
		return -1;
	return op_set_begin(c->ops, "SR", to, CARRY_SR_OPERATION, err);
}

/* Nobody may use a VDI that moves, whether its SR is attached or not. */
static int
note_vdis(struct carry *c, json *nodes, struct smd_error *err)
{
	for (size_t i = 0; i < json_object_array_length(nodes); i++) {
		json *node = json_object_array_get_idx(nodes, i);

		if (smd_json_bool(node, "moves", false) &&
		    op_set_begin(c->ops, "VDI", smd_json_str(node, "vdi", ""), CARRY_OPERATION, err) < 0)
			return -1;
	}
	return 0;
}

static int
find_nodes(struct carry *c, json *nodes, struct smd_error *err)
{
	c->nodes = smd_calloc(json_object_array_length(nodes), sizeof *c->nodes);
	for (size_t i = 0; i < json_object_array_length(nodes); i++) {
		json *j = json_object_array_get_idx(nodes, i);
		struct carry_node *node = &c->nodes[i];
		int64_t parent = smd_json_int(j, "parent", -1);

		*node = (struct carry_node){ .disk = DISK_INIT, .v = NEW_VOLUME_INIT };
		c->n++;
		node->moves = smd_json_bool(j, "moves", false);
		node->parent = parent < 0 ? CARRY_BASE : (size_t)parent;
		node->data = (uint64_t)smd_json_int(j, "data", 0);
		if (disk_find_node(c->daemon, smd_json_str(j, "vdi", ""), &node->disk, err) < 0)
			return -1;
		node->v = new_volume_named(c->daemon, c->to, smd_json_str(j, "volume", ""),
					   (uint64_t)smd_json_int(j, "volume-size", 0));
	}
	return 0;
}

/* Half of one disk and half of another would be none. */
static int
check_unchanged(const struct carry *c, json *nodes, struct smd_error *err)
{
	bool same = !carry_nodes_moved(c);

	for (size_t i = 0; same && i < c->n; i++) {
		const struct disk *disk = &c->nodes[i].disk;
		json *j = json_object_array_get_idx(nodes, i);

		same = strcmp(disk->location, smd_json_str(j, "location", "")) == 0 &&
		       strcmp(disk->format, smd_json_str(j, "format", "")) == 0 &&
		       disk->virtual_size == (uint64_t)smd_json_int(j, "size", 0);
	}
	if (same)
		return 0;
	return smd_fail_VDI_IN_USE(err, SMD_PARAMS(c->vdi_ref, CARRY_OPERATION),
				   "VDI %s is not what it was when its move began; what was copied "
				   "is gone: ask for it again", c->vdi_ref);
}

static int
open_again(void *opaque, struct smd_error *err)
{
	struct carry *c = opaque;
	json *nodes = smd_json_member(c->journal, "nodes");

	if (note_vdis(c, nodes, err) < 0 || use_srs(c, err) < 0 || find_nodes(c, nodes, err) < 0 ||
	    carry_open_nodes(c, err) < 0 || check_unchanged(c, nodes, err) < 0)
		return -1;
	for (size_t i = 0; i < c->n; i++) {
		json *digests = lasting_kept(c->lasting, "digests");

		if (new_volume_find(&c->nodes[i].v, err) < 0)
			return -1;
		if (c->nodes[i].v.published)
			digest_load(&c->nodes[i], digests ? json_object_array_get_idx(digests, i) : NULL);
	}
	return 0;
}

void
carry_close(struct carry *c)
{
	carry_nodes_free(c);
	sr_release(c->from);
	sr_release(c->to);
	c->from = c->to = NULL;
}

/* ---- As a lasting job ---- */

static void *
load(struct lasting *l, json *resume)
{
	struct carry *c = smd_calloc(1, sizeof *c);

	c->daemon = l->daemon;
	c->task_ref = l->task_ref;
	c->lasting = l;
	c->waits = true;
	c->journal = smd_json_copy(resume);
	c->vdi_ref = smd_json_str(c->journal, "vdi", "");
	c->asked = smd_json_str(c->journal, "asked", "");
	c->snapshots = smd_json_bool(c->journal, "snapshots", false);
	c->verify = smd_json_bool(c->journal, "verify", false);
	c->reads = smd_json_bool(c->journal, "reads", true);
	c->bytes_per_second = (uint64_t)smd_json_int(c->journal, "bytes-per-second", 0);
	c->data = (uint64_t)smd_json_int(c->journal, "data", 0);
	c->ops = smd_calloc(1, sizeof *c->ops);
	op_set_init(c->ops, l->daemon, l->task_ref);
	return c;
}

static int
work(void *opaque, char **ret_ref, struct smd_error *err)
{
	return carry_work(opaque, ret_ref, err);
}

static void
close_all(void *opaque)
{
	struct carry *c = opaque;

	carry_close(c);
	op_set_leave(c->ops, "SR");
}

static void
show_sizes(struct daemon *daemon, const char *sr)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	sr_update_stats(daemon, sr, &err);
	collect_kick(daemon, sr);
}

static void
free_all(void *opaque)
{
	struct carry *c = opaque;

	lasting_done(c->lasting, c->ops);
	op_set_done(c->ops);
	free(c->ops);
	show_sizes(c->daemon, smd_json_str(c->journal, "from", ""));
	show_sizes(c->daemon, smd_json_str(c->journal, "to", ""));
	json_object_put(c->journal);
	free(c);
}

const struct lasting_kind carry_kind = {
	.name = "VDI.pool_migrate", .load = load, .open = open_again, .work = work,
	.close = close_all, .free = free_all,
};
