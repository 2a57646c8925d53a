/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xapi's expressions of get_all_where, met in xe, the SM plugins and cross-pool
 * migration:
 *
 *   expr  = term ("or" term)*        term = factor ("and" factor)*
 *   factor = "not" factor | "(" expr ")" | "true" | "false" | value "=" value
 *   value = "field" string | string   string in ' or ", with \ before a quote
 *
 * Values compare in xapi's database text: true/false, decimal, ('a' 'b') for a set
 * and (('k' 'v')) for a map.
 */
#include "daemon/db/private.h"

#include <ctype.h>
#include <string.h>

#include "common/mem.h"

#define WHERE_DEPTH_MAX 64
#define WHERE_NODES_MAX 1024

enum where_kind { WHERE_TRUE, WHERE_FALSE, WHERE_NOT, WHERE_AND, WHERE_OR, WHERE_EQUAL };

struct where_value {
	const struct db_field *field;	/* NULL: the text; with ref: the object's reference */
	bool ref;
	char *text;
};

struct db_where {
	enum where_kind kind;
	struct db_where *a, *b;
	struct where_value left, right;
};

struct parser {
	const char *text, *at;
	const struct db_class *cls;
	int depth;
	int n_nodes;
	struct smd_error *err;
};

static void
cleanup_where(struct db_where **where)
{
	db_where_free(*where);
}
#define CLEANUP_WHERE CLEANUP(cleanup_where)

void
db_where_free(struct db_where *where)
{
	if (!where)
		return;
	db_where_free(where->a);
	db_where_free(where->b);
	free(where->left.text);
	free(where->right.text);
	free(where);
}

static int
fail(struct parser *p, const char *why)
{
	return smd_fail_INVALID_VALUE(p->err, "expr", p->text, "expression: %s at \"%.20s\"", why,
				      p->at);
}

static void
skip_space(struct parser *p)
{
	while (isspace((unsigned char)*p->at))
		p->at++;
}

static bool
take_word(struct parser *p, const char *word)
{
	size_t n = strlen(word);

	skip_space(p);
	if (strncasecmp(p->at, word, n) != 0 || isalnum((unsigned char)p->at[n]) || p->at[n] == '_')
		return false;
	p->at += n;
	return true;
}

static bool
take_char(struct parser *p, char c)
{
	skip_space(p);
	if (*p->at != c)
		return false;
	p->at++;
	return true;
}

static int
parse_string(struct parser *p, char **ret)
{
	CLEANUP_FREE char *text = smd_malloc(strlen(p->at) + 1);
	size_t n = 0;
	char quote;

	skip_space(p);
	quote = *p->at;
	if (quote != '"' && quote != '\'')
		return fail(p, "a quoted string is missing");
	for (p->at++; *p->at && *p->at != quote; p->at++) {
		if (*p->at == '\\' && p->at[1])
			p->at++;
		text[n++] = *p->at;
	}
	if (!*p->at)
		return fail(p, "a string does not end");
	p->at++;
	text[n] = '\0';
	*ret = TAKE_PTR(text);
	return 0;
}

/* xapi's column names are paths joined by "__": name__label is name_label. */
static const struct db_field *
find_field(const struct db_class *cls, char *name)
{
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < cls->n_fields; i++) {
			if (strcmp(cls->fields[i].api->name, name) == 0)
				return &cls->fields[i];
		}
		for (char *twice = name; (twice = strstr(twice, "__")); )
			memmove(twice, twice + 1, strlen(twice));
	}
	return NULL;
}

static int
parse_value(struct parser *p, struct where_value *value)
{
	CLEANUP_FREE char *name = NULL;

	if (!take_word(p, "field"))
		return parse_string(p, &value->text);
	if (parse_string(p, &name) != 0)
		return -1;
	value->ref = strcmp(name, "_ref") == 0 || strcmp(name, "ref") == 0;
	if (value->ref)
		return 0;
	value->field = find_field(p->cls, name);
	return value->field ? 0 : fail(p, "the class has no such field");
}

static struct db_where *parse_expr(struct parser *p);

static struct db_where *
parse_factor(struct parser *p)
{
	CLEANUP_WHERE struct db_where *w = NULL;

	if (++p->n_nodes > WHERE_NODES_MAX || p->depth > WHERE_DEPTH_MAX) {
		fail(p, "too long or too deep");
		return NULL;
	}
	if (take_char(p, '(')) {
		w = parse_expr(p);
		if (w && !take_char(p, ')')) {
			fail(p, "a closing parenthesis is missing");
			return NULL;
		}
		return TAKE_PTR(w);
	}
	w = smd_calloc(1, sizeof *w);
	if (take_word(p, "true") || take_word(p, "false")) {
		w->kind = tolower((unsigned char)p->at[-3]) == 'r' ? WHERE_TRUE : WHERE_FALSE;
		return TAKE_PTR(w);
	}
	if (take_word(p, "not")) {
		w->kind = WHERE_NOT;
		p->depth++;
		w->a = parse_factor(p);
		p->depth--;
		return w->a ? TAKE_PTR(w) : NULL;
	}
	w->kind = WHERE_EQUAL;
	if (parse_value(p, &w->left) != 0)
		return NULL;
	if (!take_char(p, '=')) {
		fail(p, "= is missing");
		return NULL;
	}
	return parse_value(p, &w->right) == 0 ? TAKE_PTR(w) : NULL;
}

/* One level of "x WORD x WORD x"; of "or" around "and" around factors. */
static struct db_where *
parse_chain(struct parser *p, enum where_kind kind)
{
	CLEANUP_WHERE struct db_where *left = kind == WHERE_OR ? parse_chain(p, WHERE_AND) :
								 parse_factor(p);

	while (left && take_word(p, kind == WHERE_OR ? "or" : "and")) {
		struct db_where *w = smd_calloc(1, sizeof *w);

		w->kind = kind;
		w->a = TAKE_PTR(left);
		left = w;
		w->b = kind == WHERE_OR ? parse_chain(p, WHERE_AND) : parse_factor(p);
		if (!w->b)
			return NULL;
	}
	return TAKE_PTR(left);
}

static struct db_where *
parse_expr(struct parser *p)
{
	struct db_where *w;

	p->depth++;
	w = parse_chain(p, WHERE_OR);
	p->depth--;
	return w;
}

int
db_where_parse(const char *text, const struct db_class *cls, struct db_where **ret,
	       struct smd_error *err)
{
	struct parser p = { .text = text, .at = text, .cls = cls, .err = err };
	CLEANUP_WHERE struct db_where *where = parse_expr(&p);

	if (!where)
		return -1;
	skip_space(&p);
	if (*p.at)
		return fail(&p, "something is left over");
	*ret = TAKE_PTR(where);
	return 0;
}

/* ---- Matching ------------------------------------------------------------------ */

static void
print_quoted(sqlite3_str *out, const char *text)
{
	sqlite3_str_appendchar(out, 1, '\'');
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			sqlite3_str_appendchar(out, 1, '\\');
		sqlite3_str_appendchar(out, 1, *text);
	}
	sqlite3_str_appendchar(out, 1, '\'');
}

static void
print_set(sqlite3_str *out, json *set)
{
	for (size_t i = 0; i < json_object_array_length(set); i++) {
		sqlite3_str_appendall(out, i == 0 ? "" : " ");
		print_quoted(out, json_object_get_string(json_object_array_get_idx(set, i)));
	}
}

static void
print_map(sqlite3_str *out, json *map)
{
	const char *gap = "(";

	json_object_object_foreach(map, key, value) {
		sqlite3_str_appendall(out, gap);
		print_quoted(out, key);
		sqlite3_str_appendall(out, " ");
		print_quoted(out, json_object_get_string(value));
		sqlite3_str_appendall(out, ")");
		gap = " (";
	}
}

static char *
value_text(json *value)
{
	sqlite3_str *out = sqlite3_str_new(NULL);
	char *copy;

	switch (json_object_get_type(value)) {
	case json_type_array:
		sqlite3_str_appendall(out, "(");
		print_set(out, value);
		sqlite3_str_appendall(out, ")");
		break;
	case json_type_object:
		sqlite3_str_appendall(out, "(");
		print_map(out, value);
		sqlite3_str_appendall(out, ")");
		break;
	default:
		sqlite3_str_appendall(out, json_object_get_string(value));
		break;
	}
	copy = smd_strdup(sqlite3_str_length(out) ? sqlite3_str_value(out) : "");
	sqlite3_free(sqlite3_str_finish(out));
	return copy;
}

static char *
operand_text(const struct where_value *value, const char *ref, json *record)
{
	if (value->ref)
		return smd_strdup(ref);
	if (!value->field)
		return smd_strdup(value->text);
	return value_text(smd_json_member(record, value->field->api->name));
}

bool
db_where_match(const struct db_where *w, const char *ref, json *record)
{
	CLEANUP_FREE char *left = NULL;
	CLEANUP_FREE char *right = NULL;

	switch (w->kind) {
	case WHERE_TRUE:
		return true;
	case WHERE_FALSE:
		return false;
	case WHERE_NOT:
		return !db_where_match(w->a, ref, record);
	case WHERE_AND:
		return db_where_match(w->a, ref, record) && db_where_match(w->b, ref, record);
	case WHERE_OR:
		return db_where_match(w->a, ref, record) || db_where_match(w->b, ref, record);
	case WHERE_EQUAL:
		break;
	}
	left = operand_text(&w->left, ref, record);
	right = operand_text(&w->right, ref, record);
	return strcmp(left, right) == 0;
}

static bool
indexable(const struct where_value *field, const struct where_value *text)
{
	return field->field && field->field->column >= 0 && !text->field && !text->ref &&
	       strcmp(db_column_type(field->field->api->type), "TEXT") == 0 &&
	       field->field->api->type->kind != API_SET && field->field->api->type->kind != API_MAP;
}

bool
db_where_equal(const struct db_where *w, const struct db_field **ret_field, const char **ret_text)
{
	if (w->kind == WHERE_AND)
		return db_where_equal(w->a, ret_field, ret_text) ||
		       db_where_equal(w->b, ret_field, ret_text);
	if (w->kind != WHERE_EQUAL || !indexable(&w->left, &w->right))
		return false;
	*ret_field = w->left.field;
	*ret_text = w->right.text;
	return true;
}
