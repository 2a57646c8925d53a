/* SPDX-License-Identifier: BSD-2-Clause */
/* vdi-tree: the disks of an SR as the chains they make. */
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/describe.h"
#include "daemon/cli/print.h"
#include "daemon/cli/progress.h"

/* The SR's images: {uuid: node of VDI.get_chain, with "parent", a uuid or ""}. */
struct tree {
	struct cli *cli;
	json *nodes;
	json *children;			/* {uuid, or "" for bases: [uuid, …]} */
	size_t width;			/* of the widest drawing and uuid */
};

static void
tree_done(struct tree *tree)
{
	json_object_put(tree->nodes);
	json_object_put(tree->children);
}

/* ---- Reading ---- */

static const char *
uuid_of(json *node)
{
	return smd_json_str(node, "uuid", "");
}

static void
add_chain(struct tree *tree, json *chain)
{
	size_t n = json_object_array_length(chain);

	for (size_t i = 0; i < n; i++) {
		json *node = json_object_array_get_idx(chain, i);
		json *parent = i + 1 < n ? json_object_array_get_idx(chain, i + 1) : NULL;

		if (smd_json_member(tree->nodes, uuid_of(node)))
			return;	/* and all below it */
		smd_json_set_str(node, "parent", parent ? uuid_of(parent) : "");
		smd_json_set(tree->nodes, uuid_of(node), json_object_get(node));
	}
}

/* What goes while we ask is left out. */
static int
read_nodes(struct tree *tree, json *records, struct smd_error *err)
{
	json_object_object_foreach(records, ref, record) {
		struct smd_error gone CLEANUP_ERROR = SMD_ERROR_INIT;
		CLEANUP_JSON json *chain = NULL;

		if (smd_json_member(tree->nodes, smd_json_str(record, "uuid", "")))
			continue;
		if (server_call(tree->cli->server, "VDI.get_chain", server_strings(ref, NULL), &chain,
				&gone) == 0) {
			add_chain(tree, chain);
		} else if (!smd_error_is(&gone, SMD_E_HANDLE_INVALID)) {
			smd_error_move(err, &gone);
			return -1;
		}
	}
	return 0;
}

static int
by_name(const void *a, const void *b, void *opaque)
{
	const struct tree *tree = opaque;
	const char *x = json_object_get_string(*(json *const *)a);
	const char *y = json_object_get_string(*(json *const *)b);
	int r = strcmp(smd_json_str(smd_json_member(tree->nodes, x), "name_label", ""),
		       smd_json_str(smd_json_member(tree->nodes, y), "name_label", ""));

	return r ? r : strcmp(x, y);
}

static void
mark_snapshots(struct tree *tree, json *records)
{
	json_object_object_foreach(records, ref, record) {
		json *node = smd_json_member(tree->nodes, smd_json_str(record, "uuid", ""));

		(void)ref;
		if (node)
			smd_json_set_bool(node, "is_a_snapshot",
					  smd_json_bool(record, "is_a_snapshot", false));
	}
}

/* Links to what went while we asked lead nowhere: such a node is drawn as a base. */
static void
link_nodes(struct tree *tree)
{
	json_object_object_foreach(tree->nodes, uuid, node) {
		const char *parent = smd_json_str(node, "parent", "");
		const char *under = smd_json_member(tree->nodes, parent) ? parent : "";
		json *list = smd_json_member(tree->children, under);

		if (!list) {
			list = json_object_new_array();
			smd_json_set(tree->children, under, list);
		}
		json_object_array_add(list, json_object_new_string(uuid));
	}
}

/* *ret: the refs in the order of names; the caller frees the list. */
static json **
sorted_children(struct tree *tree, const char *uuid, size_t *ret_n)
{
	json *list = smd_json_member(tree->children, uuid);
	json **sorted;

	*ret_n = list ? json_object_array_length(list) : 0;
	sorted = smd_calloc(*ret_n + 1, sizeof *sorted);
	for (size_t i = 0; i < *ret_n; i++)
		sorted[i] = json_object_array_get_idx(list, i);
	if (*ret_n > 1)
		qsort_r(sorted, *ret_n, sizeof *sorted, by_name, tree);
	return sorted;
}

/* ---- Drawing ---- */

/* "waiting: for what" or "failed: why". */
static char *
state_text(json *node)
{
	const char *state = smd_json_str(node, "state", "");
	const char *waits_for = smd_json_str(node, "waits_for", "");
	const char *reason = smd_json_str(node, "reason", "");

	if (*waits_for)
		return smd_asprintf("%s for %s", state, waits_for);
	return *reason ? smd_asprintf("%s: %s", state, reason) : smd_strdup(state);
}

static void
draw_node(struct tree *tree, json *node, const char *drawing)
{
	CLEANUP_FREE char *own = progress_size((uint64_t)smd_json_int(node, "own_bytes", 0));
	CLEANUP_FREE char *shared = progress_size((uint64_t)smd_json_int(node, "shared_bytes", 0));
	CLEANUP_FREE char *place = smd_asprintf("%s%s", drawing, uuid_of(node));
	CLEANUP_FREE char *state = state_text(node);

	printf("%-*s  %-6s  %5d  %11s  %11s  %s%s  (%s)\n", (int)tree->width, place,
	       smd_json_str(node, "format", ""), (int)smd_json_int(node, "depth", 0), own, shared,
	       smd_json_str(node, "name_label", ""),
	       smd_json_bool(node, "is_a_snapshot", false) ? ", a snapshot" : "", state);
}

/* drawing: what is left of the node's uuid; below: what is left of its children's. */
static void
draw(struct tree *tree, const char *uuid, const char *drawing, const char *below)
{
	size_t n;
	CLEANUP_FREE json **children = sorted_children(tree, uuid, &n);

	draw_node(tree, smd_json_member(tree->nodes, uuid), drawing);
	for (size_t i = 0; i < n; i++) {
		bool last = i + 1 == n;
		CLEANUP_FREE char *its = smd_asprintf("%s%s", below, last ? "`-" : "|-");
		CLEANUP_FREE char *its_below = smd_asprintf("%s%s", below, last ? "  " : "| ");

		draw(tree, json_object_get_string(children[i]), its, its_below);
	}
}

static void
draw_all(struct tree *tree)
{
	size_t n;
	CLEANUP_FREE json **bases = sorted_children(tree, "", &n);

	json_object_object_foreach(tree->nodes, uuid, node) {
		size_t width = strlen(uuid) + 2 * ((size_t)smd_json_int(node, "depth", 1) - 1);

		tree->width = width > tree->width ? width : tree->width;
	}
	printf("%-*s  %-6s  %5s  %11s  %11s  %s\n", (int)tree->width, "uuid", "format", "depth", "own",
	       "shared", "name (state)");
	for (size_t i = 0; i < n; i++)
		draw(tree, json_object_get_string(bases[i]), "", "");
}

static void
print_uuids(struct tree *tree)
{
	const char **uuids = smd_calloc((size_t)json_object_object_length(tree->nodes) + 1,
					sizeof *uuids);
	size_t n = 0;

	json_object_object_foreach(tree->nodes, uuid, node) {
		(void)node;
		uuids[n++] = uuid;
	}
	print_minimal(stdout, uuids, n);
	free(uuids);
}

static void
print_json(struct tree *tree)
{
	CLEANUP_JSON json *all = json_object_new_array();

	json_object_object_foreach(tree->nodes, uuid, node) {
		(void)uuid;
		json_object_object_del(node, "VDI");
		json_object_array_add(all, json_object_get(node));
	}
	puts(json_object_to_json_string_ext(all, JSON_C_TO_STRING_PRETTY |
						 JSON_C_TO_STRING_NOSLASHESCAPE));
}

int
tree_run(struct cli *cli, struct smd_error *err)
{
	CLEANUP(tree_done) struct tree tree = {
		.cli = cli, .nodes = json_object_new_object(),
		.children = json_object_new_object(),
	};
	const char *name = args_need(cli->args, "sr-uuid", err);
	CLEANUP_FREE char *sr = NULL, *expr = NULL;
	CLEANUP_JSON json *records = NULL;

	if (!name || names_resolve(cli->names, "SR", name, &sr, err) < 0 ||
	    args_all_used(cli->args, err) < 0)
		return -1;
	expr = smd_asprintf("field \"SR\" = \"%s\"", sr);
	if (server_call_object(cli->server, "VDI.get_all_records_where", server_strings(expr, NULL),
			       &records, err) < 0 ||
	    read_nodes(&tree, records, err) < 0)
		return -1;
	mark_snapshots(&tree, records);
	link_nodes(&tree);
	if (cli->args->json)
		print_json(&tree);
	else if (cli->args->minimal)
		print_uuids(&tree);
	else
		draw_all(&tree);
	return 0;
}
