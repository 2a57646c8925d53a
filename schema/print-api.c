/* SPDX-License-Identifier: BSD-2-Clause */
/* Print the API from its tables: --json for schema/api.json, --pod for smd-api(7),
 * --html for a page to read in a browser. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "schema/api.h"
#include "schema/print-html.h"

static void
print_type(const struct api_type *type)
{
	CLEANUP_FREE char *text = api_type_text(type);

	/* Angle brackets would be POD's own. */
	for (const char *c = text; *c; c++) {
		if (*c == '<')
			fputs("E<lt>", stdout);
		else if (*c == '>')
			fputs("E<gt>", stdout);
		else
			putchar(*c);
	}
	if (type->kind == API_ENUM) {
		fputs(" (", stdout);
		for (const char *const *v = type->values; *v; v++)
			printf("%s%s", v == type->values ? "" : ", ", *v);
		putchar(')');
	}
}

static void
print_pod_text(const char *text)
{
	for (; *text; text++) {
		if (*text == '<')
			fputs("E<lt>", stdout);
		else if (*text == '>')
			fputs("E<gt>", stdout);
		else
			putchar(*text);
	}
}

static void
print_field(const struct api_field *f)
{
	static const char *const access[] = {
		[API_STATIC_RO] = "set when made", [API_DYNAMIC_RO] = "read-only",
		[API_RW] = "read and write",
	};

	printf("=item B<%s>: ", f->name);
	print_type(f->type);
	printf("; %s%s%s\n\n", access[f->access], f->flags & API_REQUIRED ? ", required" : "",
	       f->flags & API_DEPRECATED ? ", deprecated" : "");
	print_pod_text(f->doc);
	if (f->dflt)
		printf(" (default C<< %s >>)", f->dflt);
	if (f->role)
		printf("; its setters need the role C<%s>", api_role_names[f->role]);
	fputs(".\n\n", stdout);
}

static enum api_role
method_role(const struct api_class *cls, const struct api_method *m)
{
	CLEANUP_FREE char *name = smd_asprintf("%s.%s", cls->name, m->name);

	return api_message_find(name)->role;
}

static void
print_method(const struct api_class *cls, const struct api_method *m)
{
	printf("=head3 %s.%s\n\n", cls->name, m->name);
	print_pod_text(m->doc);
	printf("%s\n\n", m->flags & API_ASYNC ? " Has an C<Async.> form." : "");
	printf("Least role: C<%s>.\n\n", api_role_names[method_role(cls, m)]);
	if (m->params->name || m->result)
		fputs("=over 4\n\n", stdout);
	for (const struct api_param *p = m->params; p->name; p++) {
		printf("=item B<%s>: ", p->name);
		print_type(p->type);
		fputs("\n\n", stdout);
		print_pod_text(p->doc);
		if (p->dflt)
			printf(" (default C<< %s >>)", p->dflt);
		fputs(".\n\n", stdout);
	}
	if (m->result) {
		fputs("=item Result: ", stdout);
		print_type(m->result);
		fputs("\n\n", stdout);
		print_pod_text(m->result_doc);
		fputs(".\n\n", stdout);
	}
	if (m->params->name || m->result)
		fputs("=back\n\n", stdout);
	fputs("Errors:", stdout);
	for (const int *e = m->errors; *e >= 0; e++)
		printf("%s C<%s>", e == m->errors ? "" : ",", smd_error_decls[*e].code);
	fputs(".\n\n", stdout);
}

static void
print_class(const struct api_class *cls)
{
	printf("=head1 CLASS %s\n\n", cls->name);
	print_pod_text(cls->doc);
	fputs("\n\n", stdout);
	if (cls->fields->name) {
		fputs("=head2 Fields\n\n", stdout);
		if (cls->role)
			printf("Unless a field says another, setters need the role C<%s>.\n\n",
			       api_role_names[cls->role]);
		fputs("=over 4\n\n", stdout);
		for (const struct api_field *f = cls->fields; f->name; f++)
			print_field(f);
		fputs("=back\n\n", stdout);
	}
	if (cls->methods->name) {
		fputs("=head2 Methods\n\n", stdout);
		for (const struct api_method *m = cls->methods; m->name; m++)
			print_method(cls, m);
	}
}

static const char pod_head[] =
	"=encoding utf8\n\n"
	"=head1 NAME\n\n"
	"smd-api - the API of smd\n\n"
	"=head1 DESCRIPTION\n\n"
	"smd(8) answers XML-RPC on POST C</> and JSON-RPC 1.0 and 2.0 on POST C</jsonrpc>. Names,\n"
	"fields and errors are xapi's. The first parameter of every message is a session, but for\n"
	"C<session.login_with_password> and the class system.\n\n"
	"Besides its methods, each class with fields has these messages:\n\n"
	"=over 4\n\n"
	"=item B<get_record>(self), B<get_by_uuid>(uuid), B<get_by_name_label>(label)\n\n"
	"=item B<get_all>(), B<get_all_records>()\n\n"
	"=item B<get_all_where>(expr), B<get_all_records_where>(expr)\n\n"
	"Objects an expression selects: C<field \"type\" = \"user\" and not (field \"managed\" =\n"
	"\"false\")>.\n\n"
	"=item B<get_>I<FIELD>(self)\n\n"
	"=item B<set_>I<FIELD>(self, value)\n\n"
	"For fields that can be written. Maps also have B<add_to_>I<FIELD>(self, key, value) and\n"
	"B<remove_from_>I<FIELD>(self, key), sets B<add_>I<FIELD>(self, value) and\n"
	"B<remove_>I<FIELD>(self, value).\n\n"
	"=back\n\n"
	"What reads may be called by every role; each role may what those after it may:\n"
	"C<pool-admin>, C<pool-operator>, C<vm-power-admin>, C<vm-admin>, C<vm-operator>,\n"
	"C<read-only>. A call that a role may not make fails with C<RBAC_PERMISSION_DENIED>.\n\n"
	"With C<Async.> before a method that has the form, the reply is a task at once; its\n"
	"result and its error are in the task when it has ended.\n\n";

static void
print_pod(void)
{
	fputs(pod_head, stdout);
	for (size_t i = 0; api_classes[i]; i++)
		print_class(api_classes[i]);
	fputs("=head1 ERRORS\n\n=over 4\n\n", stdout);
	for (int e = 0; e < SMD_N_ERRORS; e++) {
		const struct smd_error_decl *d = &smd_error_decls[e];

		printf("=item B<%s>", d->code);
		for (const char *const *p = d->params; *p; p++)
			printf("%s%s", p == d->params ? " " : ", ", *p);
		printf("\n\n%s\n\n", d->text);
	}
	fputs("=back\n\n=head1 SEE ALSO\n\nsmd(8), smd-http(7), smctl(1)\n", stdout);
}

static void
print_json(void)
{
	CLEANUP_JSON json *api = api_describe();

	puts(json_object_to_json_string_ext(api, JSON_C_TO_STRING_PRETTY |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
}

int
main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--json") == 0)
		print_json();
	else if (argc == 2 && strcmp(argv[1], "--pod") == 0)
		print_pod();
	else if (argc == 2 && strcmp(argv[1], "--html") == 0)
		print_html();
	else
		return fputs("usage: print-api --json|--pod|--html\n", stderr), 2;
	return fflush(stdout) == 0 ? 0 : 1;
}
