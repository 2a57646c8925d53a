/* SPDX-License-Identifier: BSD-2-Clause */
/* The reference as one page of HTML, well-formed as XML, with no script and nothing
 * from elsewhere. */
#include "schema/print-html.h"

#include <stdio.h>

#include "common/mem.h"
#include "schema/api.h"

static void
text(const char *s)
{
	for (; *s; s++) {
		switch (*s) {
		case '<':
			fputs("&lt;", stdout);
			break;
		case '>':
			fputs("&gt;", stdout);
			break;
		case '&':
			fputs("&amp;", stdout);
			break;
		case '"':
			fputs("&quot;", stdout);
			break;
		default:
			putchar(*s);
		}
	}
}

/* A class that is described here is a link to it. */
static void
type(const struct api_type *t)
{
	CLEANUP_FREE char *words = api_type_text(t);
	const struct api_type *leaf = t;

	while (leaf->elem)
		leaf = leaf->elem;
	if ((leaf->kind == API_REF || leaf->kind == API_RECORD) && api_class_find(leaf->name, false))
		printf("<a href=\"#%s\">", leaf->name);
	else
		leaf = NULL;
	text(words);
	if (leaf)
		fputs("</a>", stdout);
}

static void
values(const struct api_type *t)
{
	while (t->elem)
		t = t->elem;
	if (t->kind != API_ENUM)
		return;
	fputs(" One of", stdout);
	for (const char *const *v = t->values; *v; v++)
		printf("%s <code>%s</code>", v == t->values ? "" : ",", *v);
	putchar('.');
}

static void
fields(const struct api_class *cls)
{
	static const char *const access[] = {
		[API_STATIC_RO] = "set when made", [API_DYNAMIC_RO] = "read-only",
		[API_RW] = "read and write",
	};

	fputs("<table><tr><th>Field</th><th>Type</th><th>Access</th><th></th></tr>\n", stdout);
	for (const struct api_field *f = cls->fields; f->name; f++) {
		printf("<tr id=\"%s.%s\"><td><code>%s</code></td><td>", cls->name, f->name, f->name);
		type(f->type);
		printf("</td><td>%s%s%s</td><td>", access[f->access],
		       f->flags & API_REQUIRED ? ", required" : "",
		       f->flags & API_DEPRECATED ? ", deprecated" : "");
		text(f->doc);
		putchar('.');
		values(f->type);
		if (f->dflt) {
			fputs(" Default <code>", stdout);
			text(f->dflt);
			fputs("</code>.", stdout);
		}
		fputs("</td></tr>\n", stdout);
	}
	fputs("</table>\n", stdout);
}

static void
params(const struct api_method *m)
{
	fputs("<dl>", stdout);
	for (const struct api_param *p = m->params; p->name; p++) {
		printf("<dt><code>%s</code>: ", p->name);
		type(p->type);
		fputs("</dt><dd>", stdout);
		text(p->doc);
		putchar('.');
		values(p->type);
		if (p->dflt) {
			fputs(" Default <code>", stdout);
			text(p->dflt);
			fputs("</code>.", stdout);
		}
		fputs("</dd>\n", stdout);
	}
	if (m->result) {
		fputs("<dt>Result: ", stdout);
		type(m->result);
		fputs("</dt><dd>", stdout);
		text(m->result_doc);
		fputs(".</dd>\n", stdout);
	}
	fputs("</dl>\n", stdout);
}

static void
method(const struct api_class *cls, const struct api_method *m)
{
	CLEANUP_FREE char *name = smd_asprintf("%s.%s", cls->name, m->name);

	printf("<h3 id=\"%s.%s\">%s.%s</h3>\n<p>", cls->name, m->name, cls->name, m->name);
	text(m->doc);
	if (m->flags & API_ASYNC)
		fputs(" Has an <code>Async.</code> form.", stdout);
	printf(" Least role: <code>%s</code>.", api_role_names[api_message_find(name)->role]);
	fputs("</p>\n", stdout);
	if (m->params->name || m->result)
		params(m);
	fputs("<p>Errors:", stdout);
	for (const int *e = m->errors; *e >= 0; e++)
		printf("%s <a href=\"#E-%s\">%s</a>", e == m->errors ? "" : ",",
		       smd_error_decls[*e].code, smd_error_decls[*e].code);
	fputs(".</p>\n", stdout);
}

static void
errors(void)
{
	fputs("<h2 id=\"errors\">Errors</h2>\n<dl>", stdout);
	for (int i = 0; i < SMD_N_ERRORS; i++) {
		const struct smd_error_decl *d = &smd_error_decls[i];

		printf("<dt id=\"E-%s\"><code>%s</code>", d->code, d->code);
		for (const char *const *p = d->params; *p; p++)
			printf("%s %s", p == d->params ? "" : ",", *p);
		fputs("</dt><dd>", stdout);
		text(d->text);
		fputs("</dd>\n", stdout);
	}
	fputs("</dl>\n", stdout);
}

void
print_html(void)
{
	fputs("<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\"><head>"
	      "<meta charset=\"utf-8\"/><title>The API of smd</title>\n<style>"
	      "body{font-family:sans-serif;max-width:60em;margin:1em auto;padding:0 1em}"
	      "table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.2em .5em;"
	      "text-align:left;vertical-align:top}</style></head><body>\n"
	      "<h1>The API of smd</h1>\n<p>Printed from the tables the daemon runs by; smd-api(7) "
	      "has the same, and what every class has besides.</p>\n<ul>", stdout);
	for (size_t i = 0; api_classes[i]; i++)
		printf("<li><a href=\"#%s\">%s</a></li>", api_classes[i]->name,
		       api_classes[i]->name);
	fputs("<li><a href=\"#errors\">Errors</a></li></ul>\n", stdout);
	for (size_t i = 0; api_classes[i]; i++) {
		const struct api_class *cls = api_classes[i];

		printf("<h2 id=\"%s\">%s</h2>\n<p>", cls->name, cls->name);
		text(cls->doc);
		fputs("</p>\n", stdout);
		if (cls->fields->name)
			fields(cls);
		for (const struct api_method *m = cls->methods; m->name; m++)
			method(cls, m);
	}
	errors();
	fputs("</body></html>\n", stdout);
}
