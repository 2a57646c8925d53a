/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "daemon/rpc/fake.h"
#include "daemon/rpc/rpc.h"
#include "daemon/rpc/session.h"
#include "daemon/rpc/wire.h"
#include "daemon/rpc/xml-scan.h"

static struct daemon *d;
static char *session;

static int
handler(struct call *call, json **ret, struct smd_error *err)
{
	(void)call;
	(void)ret;
	return smd_fail_INTERNAL_ERROR(err, "unused", "unused");
}

/* ---- XML in ---- */

/* The parameters of a call with one <value> as JSON text; "500" where it is none. */
static const char *
value_in(const char *value)
{
	static char out[1024];
	CLEANUP_FREE char *body = smd_asprintf(
		"<?xml version='1.0'?><methodCall><methodName>a.b</methodName><params><param><value>%s"
		"</value></param></params></methodCall>", value);
	CLEANUP_FREE char *name = NULL;
	CLEANUP_JSON json *params = NULL;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (xmlrpc_parse(body, strlen(body), &name, &params, &err) < 0)
		return "500";
	assert_string_equal(name, "a.b");
	snprintf(out, sizeof out, "%s",
		 json_object_to_json_string_ext(params, JSON_C_TO_STRING_PLAIN));
	return out;
}

static void
test_xml_values(void **state)
{
	(void)state;
	assert_string_equal(value_in("text"), "[\"text\"]");
	assert_string_equal(value_in(" a b "), "[\" a b \"]");
	assert_string_equal(value_in("<string>a&lt;b</string>"), "[\"a<b\"]");
	assert_string_equal(value_in(""), "[\"\"]");
	assert_string_equal(value_in("<int>4294967296</int>"), "[4294967296]");
	assert_string_equal(value_in("<i4> -7 </i4>"), "[-7]");
	assert_string_equal(value_in("<i8>+9223372036854775807</i8>"), "[9223372036854775807]");
	assert_string_equal(value_in("<boolean>1</boolean>"), "[true]");
	assert_string_equal(value_in("<double>0.5</double>"), "[0.5]");
	assert_string_equal(value_in("<nil/>"), "[null]");
	assert_string_equal(value_in("<dateTime.iso8601>2026-11-21T04:00:00Z</dateTime.iso8601>"),
			    "[\"2026-11-21T04:00:00Z\"]");
	assert_string_equal(value_in("<base64>aGk=</base64>"), "[\"hi\"]");
	assert_string_equal(value_in("<array><data><value>x</value><value/></data></array>"),
			    "[[\"x\",\"\"]]");
	assert_string_equal(value_in("<struct><member><name>k</name><value>v</value></member>"
				     "</struct>"), "[{\"k\":\"v\"}]");
	assert_string_equal(value_in("<!-- no --><![CDATA[<y>]]>"), "[\"<y>\"]");
}

static void
test_xml_refused(void **state)
{
	static const char *const bad[] = {
		/* An <i8> past 64 bits ends the process inside xmlrpc-c 1.33. */
		"<i8>9223372036854775808</i8>", "<i8>99999999999999999999999999</i8>",
		"<i8></i8>", "<i8/>", "<int>x</int>", "<int>1<b/></int>", "<int>1 2</int>",
		"<int>-</int>", "<int>++1</int>", "<int", "<", "</value></value>", "<value>",
		"<boolean>2</boolean>", "<thing/>", "&amp", "&unknown;", "<!DOCTYPE a>",
		"<!ENTITY a 'b'>", "<!--", "<![CDATA[", "<?", "<a b='>", "<a <b>/>", "</>", "<>",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (strcmp(value_in(bad[i]), "500") != 0)
			fail_msg("%s was taken", bad[i]);
	}
}

static void
test_xml_depth(void **state)
{
	CLEANUP_FREE char *deep = smd_malloc(300000);
	CLEANUP_FREE char *out = NULL;
	size_t n = 0, len;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	for (int i = 0; i < XML_DEPTH_MAX; i++)
		n += (size_t)sprintf(deep + n, "<a>");
	for (int i = 0; i < XML_DEPTH_MAX; i++)
		n += (size_t)sprintf(deep + n, "</a>");
	assert_int_equal(xml_scan(deep, n, &out, &len, &err), 0);
	/* Ends inside comments do not count. */
	n = 0;
	for (int i = 0; i < 10000; i++)
		n += (size_t)sprintf(deep + n, "<a><!--</a>-->");
	assert_int_equal(xml_scan(deep, n, &out, &len, &err), -1);
}

/* Whatever is cut off is refused, and never read past. */
static void
test_xml_cut(void **state)
{
	static const char call[] =
		"<?xml version=\"1.0\"?><methodCall><methodName>VDI.get_all</methodName><params><param>"
		"<value><struct><member><name>a</name><value><i8>1</i8></value></member></struct>"
		"</value></param></params></methodCall>";

	(void)state;
	for (size_t len = 0; len < sizeof call - 1; len++) {
		CLEANUP_FREE char *exact = smd_malloc(len + 1);
		CLEANUP_FREE char *name = NULL;
		CLEANUP_JSON json *params = NULL;
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

		memcpy(exact, call, len);
		assert_int_equal(xmlrpc_parse(exact, len, &name, &params, &err), -1);
	}
}

/* ---- XML out ---- */

static void
prints(const struct api_type *type, const char *text, const char *want)
{
	CLEANUP_JSON json *value = json_tokener_parse(text);
	CLEANUP_FREE char *got = call_result_xml(type, value);

	assert_string_equal(got, want);
}

static void
test_xml_out(void **state)
{
	(void)state;
	prints(&api_string, "\"a<b>&\\\"'\\u0001\\t\"", "<value>a&lt;b&gt;&amp;&quot;'\t</value>");
	prints(&api_string, "\"x\xef\xbf\xbfy\xc3\xa9\"", "<value>xy\xc3\xa9</value>");
	prints(&api_int, "1099511627776", "<value>1099511627776</value>");
	prints(&api_int32, "5", "<value><i4>5</i4></value>");
	prints(&api_bool, "true", "<value><boolean>1</boolean></value>");
	prints(&api_float, "0.1", "<value><double>0.1</double></value>");
	prints(&api_datetime, "\"20261121T04:00:00Z\"",
	       "<value><dateTime.iso8601>20261121T04:00:00Z</dateTime.iso8601></value>");
	prints(&api_void, "\"\"", "<value></value>");
	prints(&api_string_set, "[]", "<value><array><data></data></array></value>");
	prints(&api_int_set, "[1]",
	       "<value><array><data><value>1</value></data></array></value>");
	prints(&api_string_map, "{\"k&\":\"v\"}", "<value><struct><member><name>k&amp;</name>"
	       "<value>v</value></member></struct></value>");
}

/* ---- Whole requests ---- */

static char *
serve(http_rpc_fn *fn, const char *body, size_t len, unsigned want_status)
{
	CLEANUP_FREE char *message = NULL;
	char *reply = NULL;
	const char *type = NULL;
	size_t reply_len;

	assert_int_equal(fn(d, &fake_peer, body, len, &reply, &reply_len, &type, &message),
			 want_status);
	assert_int_equal(strlen(reply), reply_len);
	if (want_status == 200)
		assert_string_equal(type, fn == rpc_xml ? "text/xml" : "application/json");
	return reply;
}

static void
expect(http_rpc_fn *fn, const char *body, const char *want)
{
	CLEANUP_FREE char *reply = serve(fn, body, strlen(body), want ? 200 : 500);

	if (want)
		assert_string_equal(reply, want);
}

#define XML_HEAD "<?xml version=\"1.0\"?><methodResponse><params><param>"
#define XML_FOOT "</param></params></methodResponse>"

static void
test_xml_serve(void **state)
{
	CLEANUP_FREE char *list = NULL;
	static const char list_head[] = XML_HEAD "<value><array><data><value>PBD.";
	static const char list_call[] =
		"<methodCall><methodName>system.listMethods</methodName></methodCall>";

	(void)state;
	expect(rpc_xml, "<methodCall><methodName>system.isAlive:x</methodName><params><param>"
	       "<value>hi</value></param></params></methodCall>",
	       XML_HEAD "<value><struct><member><name>Status</name><value>Success</value></member>"
	       "<member><name>Value</name><value>hi</value></member></struct></value>" XML_FOOT);
	expect(rpc_xml, "<methodCall><methodName>no.such</methodName><params/></methodCall>",
	       XML_HEAD "<value><struct><member><name>Status</name><value>Failure</value></member>"
	       "<member><name>ErrorDescription</name><value><array><data>"
	       "<value>MESSAGE_METHOD_UNKNOWN</value><value>no.such</value></data></array></value>"
	       "</member></struct></value>" XML_FOOT);
	/* A bare array, without Status. */
	list = serve(rpc_xml, list_call, sizeof list_call - 1, 200);
	assert_memory_equal(list, list_head, sizeof list_head - 1);
	expect(rpc_xml, "", NULL);
	expect(rpc_xml, "{}", NULL);
	expect(rpc_xml, "<methodCall/>", NULL);
}

static void
same_text(const char *xml, const char *text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	char *body = smd_asprintf("<methodCall><methodName>m</methodName><params><param><value>"
				  "<string>%s</string></value></param></params></methodCall>", xml);
	char *name = NULL;
	json *params = NULL;

	assert_int_equal(xmlrpc_parse(body, strlen(body), &name, &params, &err), 0);
	assert_string_equal(json_object_get_string(json_object_array_get_idx(params, 0)), text);
	json_object_put(params);
	free(name);
	free(body);
}

/* Past U+FFFF, and those of the private use area that stand for them meanwhile. */
static void
test_all_planes(void **state)
{
	(void)state;
	same_text("a\xf0\x9f\x98\x80z", "a\xf0\x9f\x98\x80z");
	same_text("&#128512;&#x1F600;&#65;&amp;#128512;", "\xf0\x9f\x98\x80\xf0\x9f\x98\x80"
		  "A&#128512;");
	same_text("<![CDATA[&#128512;\xf4\x8f\xbf\xbf]]>&#x10000;", "&#128512;\xf4\x8f\xbf\xbf"
		  "\xf0\x90\x80\x80");
	same_text("\xee\x80\x80\xee\x90\x80\xee\xa0\x80&#xe800;\xee\xa0\x81",
		  "\xee\x80\x80\xee\x90\x80\xee\xa0\x80\xee\xa0\x80\xee\xa0\x81");
	same_text("\xe2\x82\xac\xc3\xa4\xef\xbf\xbd", "\xe2\x82\xac\xc3\xa4\xef\xbf\xbd");
}

static void
test_bad_utf8(void **state)
{
	(void)state;
	expect(rpc_xml, "<methodCall><methodName>system.isAlive:x</methodName><params><param>"
	       "<value>a\xff</value></param></params></methodCall>",
	       XML_HEAD "<value><struct><member><name>Status</name><value>Failure</value></member>"
	       "<member><name>ErrorDescription</name><value><array><data><value>INVALID_VALUE</value>"
	       "<value>Invalid UTF-8 string in parameter</value><value>a\xef\xbf\xbd</value></data>"
	       "</array></value></member></struct></value>" XML_FOOT);
	expect(rpc_json, "{\"id\":1,\"method\":\"system.isAlive:x\",\"params\":[\"\xc3(\"]}",
	       "{\"result\":null,\"error\":[\"INVALID_VALUE\",\"Invalid UTF-8 string in parameter\","
	       "\"\xef\xbf\xbd(\"],\"id\":1}");
	expect(rpc_json, "{\"id\":1,\"\xff", NULL);
}

static void
test_json_serve(void **state)
{
	(void)state;
	expect(rpc_json, "{\"method\":\"system.isAlive:x\",\"params\":[\"hi\"],\"id\":\"a\"}",
	       "{\"result\":\"hi\",\"error\":null,\"id\":\"a\"}");
	expect(rpc_json, "{\"jsonrpc\":\"2.0\",\"method\":\"system.isAlive:x\",\"params\":[\"hi\"],"
	       "\"id\":0}", "{\"jsonrpc\":\"2.0\",\"result\":\"hi\",\"id\":0}");
	expect(rpc_json, "{\"method\":\"no.such\",\"params\":[],\"id\":1}",
	       "{\"result\":null,\"error\":[\"MESSAGE_METHOD_UNKNOWN\",\"no.such\"],\"id\":1}");
	expect(rpc_json, "{\"jsonrpc\":\"2.0\",\"method\":\"no.such\",\"id\":1}",
	       "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":\"MESSAGE_METHOD_UNKNOWN\","
	       "\"data\":[\"no.such\"]},\"id\":1}");
	/* Named parameters are one positional parameter. */
	expect(rpc_json, "{\"jsonrpc\":\"2.0\",\"method\":\"system.isAlive:x\",\"params\":{\"x\":1},"
	       "\"id\":1}",
	       "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":\"INTERNAL_ERROR\","
	       "\"data\":[\"x takes string, not object\"]},\"id\":1}");
}

static void
test_json_refused(void **state)
{
	static const char *const bad[] = {
		"", "null", "[]", "5", "{}", "{\"method\":\"a\",\"params\":[]}",
		"{\"method\":\"a\",\"params\":[],\"id\":null}", "{\"method\":\"a\",\"id\":1}",
		"{\"method\":\"a\",\"params\":{},\"id\":1}", "{\"method\":5,\"params\":[],\"id\":1}",
		"{\"method\":\"a\",\"params\":[],\"id\":1.5}",
		"{\"jsonrpc\":\"1.0\",\"method\":\"a\",\"params\":[],\"id\":1}",
		"{\"jsonrpc\":2.0,\"method\":\"a\",\"params\":[],\"id\":1}",
		"{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"params\":5,\"id\":1}",
		"[{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"params\":[],\"id\":1}]",
		"{\"method\":\"a\",\"params\":[],\"id\":1} x", "{\"method\":\"a\",\"params\":[NaN],\"id\":1}",
	};
	CLEANUP_FREE char *deep = smd_malloc(20100), *reply = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect(rpc_json, bad[i], NULL);
	memset(deep, '[', 20000);
	deep[20000] = '\0';
	reply = serve(rpc_json, deep, 20000, 500);
}

/* ---- Replies that are printed as they are read ---- */

/* One request for them on either wire. */
static char *
ask(size_t i)
{
	static const char *const parts[][2] = {
		{ "<methodCall><methodName>host_metrics.get_all_records</methodName><params><param>"
		  "<value>", "</value></param></params></methodCall>" },
		{ "{\"method\":\"host_metrics.get_all_records\",\"params\":[\"", "\"],\"id\":7}" },
		{ "{\"jsonrpc\":\"2.0\",\"method\":\"host_metrics.get_all_records\",\"params\":[\"",
		  "\"],\"id\":\"\\\"\"}" },
	};
	CLEANUP_FREE char *body = smd_asprintf("%s%s%s", parts[i][0], session, parts[i][1]);

	return serve(i == 0 ? rpc_xml : rpc_json, body, strlen(body), 200);
}

static json *
some_record(void)
{
	const struct api_class *cls = api_class_find("host_metrics", false);
	json *record = json_object_new_object();

	for (const struct api_field *f = cls->fields; f->name; f++)
		smd_json_set(record, f->name, f->type->kind == API_STRING ?
			     json_object_new_string("\"<&\n") : api_value_default(f->type, NULL));
	return record;
}

static void
test_rows(void **state)
{
	(void)state;
	fake_row = some_record();
	for (fake_n_rows = 0; fake_n_rows < 1000; fake_n_rows = 3 * fake_n_rows + 1) {
		for (size_t i = 0; i < 3; i++) {
			CLEANUP_FREE char *rows = NULL, *map = NULL;

			fake_as_map = false;
			rows = ask(i);
			fake_as_map = true;
			map = ask(i);
			assert_string_equal(rows, map);
			assert_true(strlen(rows) >= 60 * fake_n_rows);
		}
	}
	fake_as_map = false;
	json_object_put(fake_row);
	fake_row = NULL;
}

#define XML_INTERNAL(what) XML_HEAD "<value><struct><member><name>Status</name>" \
	"<value>Failure</value></member><member><name>ErrorDescription</name><value><array><data>" \
	"<value>INTERNAL_ERROR</value><value>" what "</value></data></array></value>" \
	"</member></struct></value>" XML_FOOT
#define JSON_INTERNAL(what) "{\"result\":null,\"error\":[\"INTERNAL_ERROR\",\"" what "\"]," \
	"\"id\":7}"

/* Whatever was printed by then, it is a failure and nothing else. */
static void
test_rows_break(void **state)
{
	CLEANUP_FREE char *xml = NULL, *v1 = NULL, *v2 = NULL, *wrong = NULL;

	(void)state;
	fake_row = some_record();
	fake_n_rows = 500;
	fake_rows_break = true;
	xml = ask(0);
	assert_string_equal(xml, XML_INTERNAL("the disk"));
	v1 = ask(1);
	assert_string_equal(v1, JSON_INTERNAL("the disk"));
	v2 = ask(2);
	assert_string_equal(v2, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":"
			    "\"INTERNAL_ERROR\",\"data\":[\"the disk\"]},\"id\":\"\\\"\"}");
	fake_rows_break = false;
	smd_json_set_int(fake_row, "uuid", 5);
	wrong = ask(1);
	assert_non_null(strstr(wrong, "{\"result\":null,\"error\":[\"INTERNAL_ERROR\","));
	json_object_put(fake_row);
	fake_row = NULL;
}

static int
setup(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	d = fake_daemon();
	fake_bind(handler);
	return session_login(d->sessions, &fake_peer, "root", "", "test", &session, &err);
}

static int
teardown(void **state)
{
	(void)state;
	free(session);
	fake_daemon_free(d);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_xml_values), cmocka_unit_test(test_xml_refused),
		cmocka_unit_test(test_xml_depth), cmocka_unit_test(test_xml_cut),
		cmocka_unit_test(test_xml_out), cmocka_unit_test(test_xml_serve),
		cmocka_unit_test(test_all_planes), cmocka_unit_test(test_bad_utf8), cmocka_unit_test(test_json_serve),
		cmocka_unit_test(test_json_refused), cmocka_unit_test(test_rows),
		cmocka_unit_test(test_rows_break),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
