/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/tree.h"

#include <string.h>

#include "common/mem.h"

int
tree_parent(struct db *db, const char *vdi_ref, char **ret, struct smd_error *err)
{
	return db_tree_parent(db, vdi_ref, ret, err);
}

int
tree_children(struct db *db, const char *vdi_ref, json **ret, struct smd_error *err)
{
	return db_tree_children(db, vdi_ref, ret, err);
}

int
tree_unmanaged(struct db *db, const char *sr_ref, json **ret, struct smd_error *err)
{
	return db_tree_unmanaged(db, sr_ref, ret, err);
}

int
tree_has_children(struct db *db, const char *vdi_ref, bool *ret, struct smd_error *err)
{
	CLEANUP_JSON json *children = NULL;

	if (db_tree_children(db, vdi_ref, &children, err) < 0)
		return -1;
	*ret = json_object_array_length(children) > 0;
	return 0;
}

static int
fail_depth(const char *vdi_ref, size_t max, struct smd_error *err)
{
	return smd_fail_SR_BACKEND_FAILURE_109(
		err, "", "The snapshot chain is too long", "",
		"the chain of VDI %s has %zu images already, the most there may be: destroy "
		"snapshots, which the collector then merges, or VDI.copy the disk", vdi_ref, max);
}

/* In a transaction, so that the links are of one moment. */
static int
walk(struct db *db, const char *vdi_ref, json *chain, struct smd_error *err)
{
	CLEANUP_FREE char *at = smd_strdup(vdi_ref);

	while (at) {
		char *parent;

		if (json_object_array_length(chain) == TREE_LAYERS_MAX)
			return fail_depth(vdi_ref, TREE_LAYERS_MAX, err);
		json_object_array_add(chain, json_object_new_string(at));
		if (db_tree_parent(db, at, &parent, err) < 0)
			return -1;
		free(at);
		at = parent;
	}
	return 0;
}

int
tree_chain(struct db *db, const char *vdi_ref, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *chain = json_object_new_array();
	int r;

	if (db_begin(db, DB_RELAXED, err) < 0)
		return -1;
	r = walk(db, vdi_ref, chain, err);
	if (r < 0)
		db_rollback(db);
	else
		r = db_commit(db, err);
	if (r == 0)
		*ret = TAKE_PTR(chain);
	return r;
}

int
tree_depth(struct db *db, const char *vdi_ref, size_t *ret, struct smd_error *err)
{
	CLEANUP_JSON json *chain = NULL;

	if (tree_chain(db, vdi_ref, &chain, err) < 0)
		return -1;
	*ret = json_object_array_length(chain);
	return 0;
}

int
tree_check_depth(struct db *db, const char *parent_ref, struct smd_error *err)
{
	size_t depth;

	if (tree_depth(db, parent_ref, &depth, err) < 0)
		return -1;
	return depth < TREE_DEPTH_MAX ? 0 : fail_depth(parent_ref, TREE_DEPTH_MAX, err);
}

/* ---- Changes ---- */

static int
check_link(struct db *db, const char *vdi_ref, const char *parent_ref, struct smd_error *err)
{
	CLEANUP_FREE char *sr = NULL, *parent_sr = NULL;
	CLEANUP_JSON json *chain = NULL;

	if (db_get_str(db, "VDI", vdi_ref, "SR", &sr, err) < 0 ||
	    db_get_str(db, "VDI", parent_ref, "SR", &parent_sr, err) < 0 ||
	    tree_chain(db, parent_ref, &chain, err) < 0)
		return -1;
	if (strcmp(sr, parent_sr) != 0)
		return smd_fail_INTERNAL_ERROR(err, vdi_ref, "VDI %s and its parent %s are of two SRs",
					       vdi_ref, parent_ref);
	for (size_t i = 0; i < json_object_array_length(chain); i++) {
		if (strcmp(json_object_get_string(json_object_array_get_idx(chain, i)), vdi_ref) == 0)
			return smd_fail_INTERNAL_ERROR(err, vdi_ref, "VDI %s lies on VDI %s, which "
						       "cannot be its parent", parent_ref, vdi_ref);
	}
	return 0;
}

static int
mirror(struct db *db, const char *vdi_ref, const char *parent_ref, struct smd_error *err)
{
	CLEANUP_FREE char *uuid = NULL;

	if (!parent_ref)
		return db_map_remove(db, "VDI", vdi_ref, "sm_config", TREE_PARENT_KEY, err);
	if (db_get_str(db, "VDI", parent_ref, "uuid", &uuid, err) < 0)
		return -1;
	return db_map_set(db, "VDI", vdi_ref, "sm_config", TREE_PARENT_KEY, uuid, err);
}

static int
set_parent(struct db *db, const char *vdi_ref, const char *parent_ref, struct smd_error *err)
{
	if ((parent_ref && check_link(db, vdi_ref, parent_ref, err) < 0) ||
	    db_tree_set(db, vdi_ref, parent_ref, err) < 0)
		return -1;
	return mirror(db, vdi_ref, parent_ref, err);
}

int
tree_set_parent(struct db *db, const char *vdi_ref, const char *parent_ref,
		struct smd_error *err)
{
	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	return db_end(db, set_parent(db, vdi_ref, parent_ref, err), err);
}

int
tree_move_children(struct db *db, const char *from_ref, const char *to_ref,
		   struct smd_error *err)
{
	CLEANUP_JSON json *children = NULL;
	int r;

	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	r = db_tree_children(db, from_ref, &children, err);
	for (size_t i = 0; r == 0 && i < json_object_array_length(children); i++) {
		const char *child = json_object_get_string(json_object_array_get_idx(children, i));

		/* The one they go to may be one of them. */
		if (!to_ref || strcmp(child, to_ref) != 0)
			r = set_parent(db, child, to_ref, err);
	}
	return db_end(db, r, err);
}

/* As SM names them. */
static json *
base_row(json *vdi, uint64_t allocated)
{
	static const char *const kept[] = { "SR", "location", "virtual_size", "type", NULL };
	static const char *const kept_sm[] = { "image-format", "image-error", NULL };
	json *row = json_object_new_object(), *sm_config = json_object_new_object();

	for (const char *const *field = kept; *field; field++)
		smd_json_set(row, *field, json_object_get(smd_json_member(vdi, *field)));
	for (const char *const *key = kept_sm; *key; key++) {
		const char *value = smd_json_str(smd_json_member(vdi, "sm_config"), *key, NULL);

		if (value)
			smd_json_set_str(sm_config, *key, value);
	}
	smd_json_set(row, "sm_config", sm_config);
	smd_json_set_str(row, "name_label", "base copy");
	smd_json_set_bool(row, "managed", false);
	smd_json_set_bool(row, "read_only", true);
	smd_json_set_int(row, "physical_utilisation", (int64_t)allocated);
	return row;
}

/* What was read-only for the sake of its children is so no longer. */
static int
leave_children(struct db *db, const char *vdi_ref, const char *base, struct smd_error *err)
{
	bool has_children;

	if (tree_has_children(db, vdi_ref, &has_children, err) < 0)
		return -1;
	if (has_children && db_set_bool(db, "VDI", vdi_ref, "read_only", false, err) < 0)
		return -1;
	return tree_move_children(db, vdi_ref, base, err);
}

int
tree_leave_base(struct db *db, const char *vdi_ref, uint64_t allocated, char **ret,
		struct smd_error *err)
{
	CLEANUP_FREE char *base = db_new_ref(), *parent = NULL;
	CLEANUP_JSON json *vdi = NULL, *row = NULL;
	int r;

	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	r = db_get_record(db, "VDI", vdi_ref, &vdi, err);
	if (r == 0) {
		row = base_row(vdi, allocated);
		r = db_insert(db, "VDI", base, row, err);
	}
	if (r == 0)
		r = tree_parent(db, vdi_ref, &parent, err);
	if (r == 0)
		r = leave_children(db, vdi_ref, base, err);
	if (r == 0)
		r = set_parent(db, vdi_ref, NULL, err);
	if (r == 0 && parent)
		r = set_parent(db, base, parent, err);
	if (db_end(db, r, err) < 0)
		return -1;
	*ret = TAKE_PTR(base);
	return 0;
}

int
tree_drop(struct db *db, const char *vdi_ref, struct smd_error *err)
{
	if (db_repoint(db, "VDI", "snapshot_of", vdi_ref, API_NULL_REF, err) < 0)
		return -1;
	return db_delete(db, "VDI", vdi_ref, err);
}
