/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/xml-print.h"

#include <inttypes.h>
#include <string.h>

#include "daemon/rpc/call.h"

void
xml_print_text(FILE *out, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		switch (*c) {
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '&':
			fputs("&amp;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		default:
			/* XML 1.0, production 2: no U+FFFE, U+FFFF, nor controls but three. */
			if (*c == 0xef && c[1] == 0xbf && c[2] >= 0xbe)
				c += 2;
			else if (*c >= 0x20 || *c == '\t' || *c == '\n' || *c == '\r')
				putc_unlocked(*c, out);
		}
	}
}

void
xml_print_member(FILE *out, const char *name, const struct api_type *type, json *value)
{
	fputs("<member><name>", out);
	xml_print_text(out, name);
	fputs("</name>", out);
	xml_print_value(out, type, value);
	fputs("</member>", out);
}

static void
print_record(FILE *out, const struct api_type *type, json *value)
{
	const struct api_field *fields = type->fields ? type->fields :
					 api_class_find(type->name, false)->fields;

	fputs("<struct>", out);
	for (const struct api_field *f = fields; f->name; f++) {
		struct api_type of_class = { API_RECORD, .name = NULL };
		const struct api_type *t = f->type;
		json *member;

		if (!json_object_object_get_ex(value, f->name, &member))
			continue;
		if (t->kind == API_ANY) {
			of_class.name = api_class_find(smd_json_str(value, t->name, ""),
						       true)->name;
			t = &of_class;
		}
		xml_print_member(out, f->name, t, member);
	}
	fputs("</struct>", out);
}

static void
print_inside(FILE *out, const struct api_type *type, json *value)
{
	switch (type->kind) {
	case API_INT:
		fprintf(out, "%" PRId64, json_object_get_int64(value));
		break;
	case API_INT32:
		fprintf(out, "<i4>%" PRId64 "</i4>", json_object_get_int64(value));
		break;
	case API_FLOAT:
		fprintf(out, "<double>%.16g</double>", json_object_get_double(value));
		break;
	case API_BOOL:
		fprintf(out, "<boolean>%d</boolean>", json_object_get_boolean(value));
		break;
	case API_DATETIME:
		fputs("<dateTime.iso8601>", out);
		xml_print_text(out, json_object_get_string(value));
		fputs("</dateTime.iso8601>", out);
		break;
	case API_SET:
		fputs("<array><data>", out);
		for (size_t i = 0; i < json_object_array_length(value); i++)
			xml_print_value(out, type->elem, json_object_array_get_idx(value, i));
		fputs("</data></array>", out);
		break;
	case API_MAP:
		fputs("<struct>", out);
		json_object_object_foreach(value, key, member)
			xml_print_member(out, key, type->elem, member);
		fputs("</struct>", out);
		break;
	case API_RECORD:
		print_record(out, type, value);
		break;
	case API_STRING:
	case API_ENUM:
	case API_REF:
		xml_print_text(out, json_object_get_string(value));
		break;
	case API_VOID:
	case API_ANY:
		break;
	}
}

void
xml_print_value(FILE *out, const struct api_type *type, json *value)
{
	fputs("<value>", out);
	print_inside(out, type, value);
	fputs("</value>", out);
}

char *
call_result_xml(const struct api_type *type, json *value)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		abort();
	xml_print_value(out, type, value);
	fclose(out);
	return text;
}
