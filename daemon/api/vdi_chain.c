/* SPDX-License-Identifier: BSD-2-Clause */
/* VDI.get_chain: what a disk lies on, what that takes, and what the collector makes of it. */
#include <string.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"
#include "daemon/job/collect.h"
#include "daemon/sr/tree.h"
#include "daemon/sr/volume.h"

/* What follows from the rows alone. */
static const char *
state_of_row(json *row, size_t n_children)
{
	if (smd_json_bool(row, "managed", true))
		return "live";
	if (n_children > 1)
		return "shared";
	return n_children == 1 ? "queued" : "garbage";
}

static void
set_state(struct daemon *daemon, const char *ref, json *row, size_t n_children, json *node)
{
	CLEANUP_JSON json *note = collect_note(daemon, smd_json_str(row, "SR", ""), ref);
	const char *broken = smd_json_str(smd_json_member(row, "sm_config"), "image-error", "");

	smd_json_set_str(node, "state", *broken ? "broken" : state_of_row(row, n_children));
	smd_json_set_str(node, "waits_for", "");
	smd_json_set_str(node, "reason", broken);
	if (!note)
		return;
	smd_json_set_str(node, "state", smd_json_str(note, "state", ""));
	smd_json_set_str(node, "waits_for", smd_json_str(note, "waits_for", ""));
	smd_json_set_str(node, "reason", smd_json_str(note, "reason", ""));
}

/* The bytes its own image takes: now, where that can be asked for. */
static int64_t
own_bytes(struct daemon *daemon, const char *ref, json *row)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct disk disk CLEANUP_DISK = DISK_INIT;
	uint64_t allocated = 0;

	if (disk_find_node(daemon, ref, &disk, &err) == 0)
		allocated = volume_allocated(disk.sr, disk.location);
	return allocated ? (int64_t)allocated : smd_json_int(row, "physical_utilisation", 0);
}

/* A row of the chain: {"ref", "row", "children": how many lie on it}. */
static int
add_row(struct db *db, const char *ref, json *rows, struct smd_error *err)
{
	CLEANUP_JSON json *children = NULL;
	json *row, *entry;

	if (tree_children(db, ref, &children, err) < 0 ||
	    db_get_record(db, "VDI", ref, &row, err) < 0)
		return -1;
	entry = json_object_new_object();
	smd_json_set_str(entry, "ref", ref);
	smd_json_set(entry, "row", row);
	smd_json_set_int(entry, "children", (int64_t)json_object_array_length(children));
	json_object_array_add(rows, entry);
	return 0;
}

/* In a transaction: the chain as it is at one moment. */
static int
load_rows(struct db *db, const char *ref, json *rows, struct smd_error *err)
{
	CLEANUP_JSON json *chain = NULL;

	if (!db_exists(db, "VDI", ref))
		return smd_fail_HANDLE_INVALID(err, "VDI", ref, "there is no VDI %s", ref);
	if (tree_chain(db, ref, &chain, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(chain); i++) {
		if (add_row(db, json_object_get_string(json_object_array_get_idx(chain, i)), rows,
			    err) < 0)
			return -1;
	}
	return 0;
}

static json *
node_of(struct daemon *daemon, json *entry)
{
	const char *ref = smd_json_str(entry, "ref", "");
	json *row = smd_json_member(entry, "row"), *node = json_object_new_object();
	const char *dot = strrchr(smd_json_str(row, "location", ""), '.');

	smd_json_set_str(node, "VDI", ref);
	smd_json_set_str(node, "uuid", smd_json_str(row, "uuid", ""));
	smd_json_set_str(node, "name_label", smd_json_str(row, "name_label", ""));
	smd_json_set_bool(node, "managed", smd_json_bool(row, "managed", true));
	smd_json_set_str(node, "format", smd_json_str(smd_json_member(row, "sm_config"),
						      "image-format", dot ? dot + 1 : ""));
	smd_json_set_int(node, "own_bytes", own_bytes(daemon, ref, row));
	set_state(daemon, ref, row, (size_t)smd_json_int(entry, "children", 0), node);
	return node;
}

/* From the base up: depths, and what each shares with whatever else lies below it. */
static void
set_sums(json *nodes)
{
	size_t n = json_object_array_length(nodes);
	int64_t below = 0;

	for (size_t i = n; i-- > 0;) {
		json *node = json_object_array_get_idx(nodes, i);

		smd_json_set_int(node, "depth", (int64_t)(n - i));
		smd_json_set_int(node, "shared_bytes", below);
		below += smd_json_int(node, "own_bytes", 0);
	}
}

static int
vdi_get_chain(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *nodes = json_object_new_array(), *rows = json_object_new_array();
	struct db *db = call->daemon->db;
	int r;

	if (db_begin(db, DB_RELAXED, err) < 0)
		return -1;
	r = load_rows(db, call_str(call, 0), rows, err);
	db_rollback(db);
	if (r < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(rows); i++)
		json_object_array_add(nodes, node_of(call->daemon,
						     json_object_array_get_idx(rows, i)));
	set_sums(nodes);
	*ret = TAKE_PTR(nodes);
	return 0;
}

const struct call_binding api_vdi_chain_handlers[] = {
	{ "VDI.get_chain", vdi_get_chain },
	{ NULL, NULL },
};
