/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "schema/api.h"

static const struct api_message *
find(const char *name, enum api_message_kind kind)
{
	const struct api_message *m = api_message_find(name);

	assert_non_null(m);
	assert_int_equal(m->kind, kind);
	return m;
}

static void
test_declared(void **state)
{
	const struct api_message *m = find("VDI.pool_migrate", API_M_METHOD);

	(void)state;
	assert_string_equal(m->cls->name, "VDI");
	assert_string_equal(m->params[2].name, "options");
	assert_null(m->params[3].name);
	assert_true(m->flags & API_ASYNC);
	/* A declared setter, and not the generic one. */
	find("VDI.set_name_label", API_M_METHOD);
	/* No result is void, never NULL. */
	assert_ptr_equal(find("SR.scan", API_M_METHOD)->result, &api_void);
}

static void
test_implied(void **state)
{
	const struct api_message *m;

	(void)state;
	m = find("VDI.get_all_records", API_M_GET_ALL_RECORDS);
	assert_true(m->flags & API_READ_ONLY);
	assert_string_equal(m->result->key->name, "VDI");
	assert_int_equal(m->result->elem->kind, API_RECORD);

	m = find("SR.add_to_other_config", API_M_ADD_TO);
	assert_false(m->flags & API_READ_ONLY);
	assert_string_equal(m->params[0].name, "self");
	assert_string_equal(m->params[0].type->name, "SR");
	assert_string_equal(m->params[1].name, "key");
	assert_string_equal(m->params[2].name, "value");
	assert_null(m->params[3].name);

	find("SR.remove_from_other_config", API_M_REMOVE_FROM);
	find("SR.add_tags", API_M_ADD);
	find("SR.remove_tags", API_M_REMOVE);
	find("SR.get_VDIs", API_M_GET_FIELD);
	find("pool.set_default_SR", API_M_SET_FIELD);
	find("SM.get_by_name_label", API_M_GET_BY_NAME_LABEL);
	find("task.add_to_other_config", API_M_ADD_TO);
	find("session.get_this_host", API_M_GET_FIELD);
}

static void
test_absent(void **state)
{
	static const char *const names[] = {
		"", ".", "VDI", "VDI.", "VDI.nothing", "vdi.get_all", "VDI.set_uuid", "VDI.set_managed",
		"session.get_all", "session.get_all_records", "event.get_all", "PBD.get_by_name_label",
		"VDI.read_database", "VIF.get_all_records", "host_.get_all", "VDI__get_all",
	};

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (api_message_find(names[i]))
			fail_msg("%s should not be there", names[i]);
	}
}

static void
test_alias(void **state)
{
	(void)state;
	assert_ptr_equal(api_message_find("task_create"), api_message_find("task.create"));
	assert_ptr_equal(api_message_find("host_get_servertime"),
			 api_message_find("host.get_servertime"));
	assert_string_equal(find("host_metrics_get_all", API_M_GET_ALL)->cls->name, "host_metrics");
}

struct listed {
	size_t n, watched, hidden;
	char last[128];
};

static void
count(void *opaque, const struct api_message *m)
{
	struct listed *l = opaque;
	size_t len = strlen(m->name);

	l->n++;
	l->hidden += (m->flags & API_HIDDEN) != 0;
	if (len > 16 && strcmp(m->name + len - 16, ".get_all_records") == 0)
		l->watched++;
	assert_ptr_equal(api_message_find(m->name), m);
}

static void
test_listed(void **state)
{
	struct listed l = { 0 };
	size_t expected = 0;

	(void)state;
	api_messages(count, &l);
	for (size_t i = 0; api_classes[i]; i++)
		expected += (api_classes[i]->flags & (API_NO_RECORDS | API_NO_GET_ALL)) == 0;
	/* Clients watch every class whose get_all_records is listed. */
	assert_int_equal(l.watched, expected);
	assert_int_equal(l.hidden, 0);
	assert_true(l.n > 400);
}

static void
check_class(const struct api_class *cls)
{
	for (const struct api_field *f = cls->fields; f->name; f++) {
		json *dflt = api_value_default(f->type, f->dflt);
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

		assert_non_null(f->doc);
		assert_ptr_equal(api_field_find(cls, f->name), f);
		if (api_value_check(f->type, dflt, f->name, &err) < 0)
			fail_msg("%s.%s: %s", cls->name, f->name, err.message);
		if (f->inverse) {
			const char *dot = strchr(f->inverse, '.');
			char name[32] = "";

			assert_true(f->flags & API_DERIVED);
			memcpy(name, f->inverse, (size_t)(dot - f->inverse));
			assert_non_null(api_field_find(api_class_find(name, false), dot + 1));
		}
		json_object_put(dflt);
	}
	for (const struct api_method *m = cls->methods; m->name; m++) {
		bool defaults = false;

		assert_non_null(m->since);
		assert_non_null(m->doc);
		assert_int_equal(!m->result, !m->result_doc);
		assert_true(m->errors[0] >= 0);
		for (const struct api_param *p = m->params; p->name; p++) {
			assert_non_null(p->doc);
			/* Defaults bind from the right only. */
			assert_true(p->dflt || !defaults);
			defaults = p->dflt != NULL;
		}
	}
}

static void
test_tables(void **state)
{
	(void)state;
	for (size_t i = 0; api_classes[i]; i++) {
		assert_ptr_equal(api_class_find(api_classes[i]->name, false), api_classes[i]);
		if (i > 0)
			assert_true(strcmp(api_classes[i - 1]->name, api_classes[i]->name) < 0);
		check_class(api_classes[i]);
	}
	assert_null(api_class_find("vdi", false));
	assert_non_null(api_class_find("vdi", true));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_declared), cmocka_unit_test(test_implied),
		cmocka_unit_test(test_absent), cmocka_unit_test(test_alias),
		cmocka_unit_test(test_listed), cmocka_unit_test(test_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
