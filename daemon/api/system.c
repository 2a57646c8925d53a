/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/api/handlers.h"

static void
add_name(void *opaque, const struct api_message *message)
{
	json_object_array_add(opaque, json_object_new_string(message->name));
}

static int
system_list_methods(struct call *call, json **ret, struct smd_error *err)
{
	(void)call;
	(void)err;
	*ret = json_object_new_array();
	api_messages(add_name, *ret);
	return 0;
}

static int
find_message(struct call *call, const struct api_message **ret, struct smd_error *err)
{
	const char *name = call_str(call, 0);

	*ret = api_message_find(name);
	return *ret ? 0 : smd_fail_MESSAGE_METHOD_UNKNOWN(err, name, "there is no %s", name);
}

static int
system_method_signature(struct call *call, json **ret, struct smd_error *err)
{
	const struct api_message *message;

	if (find_message(call, &message, err) != 0)
		return -1;
	*ret = api_message_signatures(message);
	return 0;
}

static int
system_method_help(struct call *call, json **ret, struct smd_error *err)
{
	const struct api_message *message;
	CLEANUP_FREE char *help = NULL;

	if (find_message(call, &message, err) != 0)
		return -1;
	help = api_message_help(message);
	*ret = json_object_new_string(help);
	return 0;
}

static int
system_is_alive(struct call *call, json **ret, struct smd_error *err)
{
	(void)err;
	*ret = json_object_get(call_arg(call, 0));
	return 0;
}

static int
system_describe(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *api = api_describe();
	CLEANUP_FREE char *text = smd_json_print(api);

	(void)call;
	(void)err;
	*ret = json_object_new_string(text);
	return 0;
}

const struct call_binding api_system_handlers[] = {
	{ "system.listMethods", system_list_methods },
	{ "system.methodHelp", system_method_help },
	{ "system.methodSignature", system_method_signature },
	{ "system.isAlive:x", system_is_alive },
	{ "system.describe", system_describe },
	{ 0 },
};
