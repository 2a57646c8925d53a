/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/carry-impl.h"

#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/digest.h"
#include "daemon/job/job.h"
#include "daemon/sr/cbt.h"
#include "daemon/sr/tree.h"

/* What a VDI takes with it. */
static json *
moved_row(json *old)
{
	static const char *const fields[] = {
		"name_label", "name_description", "type", "sharable", "read_only", "other_config",
		"xenstore_data", "sm_config", "tags", "is_a_snapshot", "snapshot_of",
		"snapshot_time", "allow_caching", "on_boot", "metadata_of_pool", NULL,
	};
	/* What follows from the volume, and is set afresh. */
	static const char *const of_volume[] = {
		"image-format", "image-error", "type", TREE_PARENT_KEY, NULL,
	};
	json *row = json_object_new_object();

	for (const char *const *field = fields; *field; field++)
		smd_json_set(row, *field, smd_json_copy(smd_json_member(old, *field)));
	for (const char *const *key = of_volume; *key; key++)
		json_object_object_del(smd_json_member(row, "sm_config"), *key);
	return row;
}

/* A node that the others lie on. */
static json *
base_row(json *old)
{
	json *row = json_object_new_object();

	smd_json_set_str(row, "name_label", "base copy");
	smd_json_set_str(row, "type", smd_json_str(old, "type", "user"));
	smd_json_set_bool(row, "managed", false);
	smd_json_set_bool(row, "read_only", true);
	smd_json_set_bool(row, "sharable", false);
	return row;
}

static int
insert_node(struct carry *c, struct carry_node *node, struct smd_error *err)
{
	struct db *db = c->daemon->db;
	CLEANUP_JSON json *old = NULL, *row = NULL;

	/* Its names and tags may have changed during the copy. */
	if (db_get_record(db, "VDI", node->disk.vdi_ref, &old, err) < 0)
		return -1;
	row = node->moves ? moved_row(old) : base_row(old);
	if (node->moves)
		digest_set(smd_json_member(row, "other_config"), node->digest);
	smd_json_set_str(row, "uuid", node->v.uuid.text);
	smd_json_set_str(row, "SR", sr_ref(c->to));
	smd_json_set_int(row, "virtual_size", (int64_t)node->v.virtual_size);
	node->ref = db_new_ref();
	if (db_insert(db, "VDI", node->ref, row, err) < 0 ||
	    new_volume_give(&node->v, node->ref, err) < 0)
		return -1;
	return node->parent == CARRY_BASE ? 0 :
	       tree_set_parent(db, node->ref, c->nodes[node->parent].ref, err);
}

/* What names a VDI that moved. */
static int
repoint(struct db *db, const char *from, const char *to, struct smd_error *err)
{
	if (db_repoint(db, "VDI", "snapshot_of", from, to, err) < 0)
		return -1;
	return db_repoint(db, "VBD", "VDI", from, to, err);
}

/* The old one leaves its children, for whose sake it was read-only; the new one may have
 * none. */
static int
leave_children(struct carry *c, struct carry_node *node, struct smd_error *err)
{
	struct db *db = c->daemon->db;
	struct disk *disk = &node->disk;
	bool has_children;

	if (tree_leave_base(db, disk->vdi_ref, volume_allocated(disk->sr, disk->location),
			    &node->left, err) < 0 ||
	    tree_has_children(db, node->ref, &has_children, err) < 0)
		return -1;
	return has_children ? 0 : db_set_bool(db, "VDI", node->ref, "read_only", false, err);
}

/* The old row, after those of its children here. What others lie on stays. */
static int
retire_node(struct carry *c, struct carry_node *node, struct smd_error *err)
{
	struct db *db = c->daemon->db;
	struct disk *disk = &node->disk;
	bool has_children;

	if (tree_has_children(db, disk->vdi_ref, &has_children, err) < 0)
		return -1;
	if (!node->moves && (has_children || smd_json_bool(disk->record, "managed", true)))
		return 0;
	if (has_children && leave_children(c, node, err) < 0)
		return -1;
	node->gone = !has_children;
	if (cbt_log(db, disk->vdi_ref, &node->log, err) < 0)
		return -1;
	return db_delete(db, "VDI", disk->vdi_ref, err);
}

static int
change_rows(struct carry *c, struct smd_error *err)
{
	CLEANUP_JSON json *redo = json_object_new_array();
	struct db *db = c->daemon->db;

	for (size_t i = 0; i < c->n; i++) {
		if (insert_node(c, &c->nodes[i], err) < 0)
			return -1;
	}
	for (size_t i = 0; i < c->n; i++) {
		if (c->nodes[i].moves &&
		    repoint(db, c->nodes[i].disk.vdi_ref, c->nodes[i].ref, err) < 0)
			return -1;
	}
	for (size_t i = c->n; i-- > 0;) {
		if (retire_node(c, &c->nodes[i], err) < 0)
			return -1;
		if (c->nodes[i].gone)
			job_plan_add(&redo, sr_uuid(c->from), c->nodes[i].disk.location);
		if (c->nodes[i].log)
			job_plan_add(&redo, sr_uuid(c->from), c->nodes[i].log);
	}
	if (lasting_committed(c->lasting, c->nodes[carry_node_find(c, c->vdi_ref)].ref, err) < 0)
		return -1;
	return job_committed_to(c->daemon, c->lasting->id, redo, err);
}

int
carry_commit(struct carry *c, struct smd_error *err)
{
	struct db *db = c->daemon->db;

	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	return db_end(db, change_rows(c, err), err);
}
