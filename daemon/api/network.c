/* SPDX-License-Identifier: BSD-2-Clause */
/* network and PIF: the interfaces of this machine as they are at start, and networks
 * that clients make. smd configures neither. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"

#define BRIDGE_NAME_MAX 15	/* of Linux: IFNAMSIZ less its NUL */

/* ---- The interfaces of this machine ------------------------------------------------- */

static json *
interface_row(json *interfaces, const char *device)
{
	json *row = smd_json_member(interfaces, device);

	if (row)
		return row;
	row = json_object_new_object();
	smd_json_set_str(row, "device", device);
	smd_json_set_int(row, "VLAN", -1);
	smd_json_set_int(row, "MTU", 1500);
	smd_json_set_bool(row, "physical", true);
	smd_json_set_str(row, "ip_configuration_mode", "None");
	smd_json_set_str(row, "IP", "");
	smd_json_set_str(row, "netmask", "");
	smd_json_set(row, "IPv6", json_object_new_array());
	smd_json_set(interfaces, device, row);
	return row;
}

static void
add_hardware(json *row, const struct sockaddr_ll *addr)
{
	const unsigned char *m = addr->sll_addr;
	char text[18];

	if (addr->sll_halen != 6)
		return;
	snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
		 m[5]);
	smd_json_set_str(row, "MAC", text);
}

static void
add_ipv4(json *row, const struct ifaddrs *ifa)
{
	char text[INET_ADDRSTRLEN];

	if (*smd_json_str(row, "IP", ""))
		return;		/* the first is its main address */
	inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)ifa->ifa_addr)->sin_addr,
		  text, sizeof text);
	smd_json_set_str(row, "IP", text);
	smd_json_set_str(row, "ip_configuration_mode", "Static");
	if (!ifa->ifa_netmask)
		return;
	inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)ifa->ifa_netmask)->sin_addr,
		  text, sizeof text);
	smd_json_set_str(row, "netmask", text);
}

static unsigned
prefix_length(const struct in6_addr *mask)
{
	unsigned n = 0;

	for (size_t i = 0; i < sizeof mask->s6_addr; i++)
		n += (unsigned)__builtin_popcount(mask->s6_addr[i]);
	return n;
}

static void
add_ipv6(json *row, const struct ifaddrs *ifa)
{
	const struct sockaddr_in6 *addr = (const void *)ifa->ifa_addr;
	const struct sockaddr_in6 *mask = (const void *)ifa->ifa_netmask;
	CLEANUP_FREE char *full = NULL;
	char text[INET6_ADDRSTRLEN];

	if (IN6_IS_ADDR_LINKLOCAL(&addr->sin6_addr))
		return;
	inet_ntop(AF_INET6, &addr->sin6_addr, text, sizeof text);
	full = smd_asprintf("%s/%u", text, mask ? prefix_length(&mask->sin6_addr) : 128);
	json_object_array_add(smd_json_member(row, "IPv6"), json_object_new_string(full));
	smd_json_set_str(row, "ipv6_configuration_mode", "Static");
}

/* {device: PIF's fields} of what is up. Without leave to ask: none, which is fine. */
static json *
interfaces_now(void)
{
	json *interfaces = json_object_new_object();
	struct ifaddrs *list = NULL;

	if (getifaddrs(&list) != 0) {
		smd_log(SMD_LOG_INFO, "the network interfaces cannot be listed: %m");
		return interfaces;
	}
	for (const struct ifaddrs *ifa = list; ifa; ifa = ifa->ifa_next) {
		json *row;

		if (!ifa->ifa_addr || !(ifa->ifa_flags & IFF_UP) || (ifa->ifa_flags & IFF_LOOPBACK))
			continue;
		row = interface_row(interfaces, ifa->ifa_name);
		if (ifa->ifa_addr->sa_family == AF_PACKET)
			add_hardware(row, (const void *)ifa->ifa_addr);
		else if (ifa->ifa_addr->sa_family == AF_INET)
			add_ipv4(row, ifa);
		else if (ifa->ifa_addr->sa_family == AF_INET6)
			add_ipv6(row, ifa);
	}
	freeifaddrs(list);
	return interfaces;
}

/* ---- Their rows ---------------------------------------------------------------------- */

static int
insert_pif(struct daemon *daemon, const char *device, json *row, struct smd_error *err)
{
	CLEANUP_FREE char *ref = db_new_ref(), *network = db_new_ref();
	CLEANUP_FREE char *name = smd_asprintf("Network of %s", device);
	CLEANUP_JSON json *net = json_object_new_object();

	smd_json_set_str(net, "name_label", name);
	smd_json_set_str(net, "bridge", device);
	smd_json_set_str(row, "network", network);
	smd_json_set_str(row, "host", daemon->host_ref);
	if (db_insert(daemon->db, "network", network, net, err) != 0)
		return -1;
	return db_insert(daemon->db, "PIF", ref, row, err);
}

static int
refresh_pif(struct db *db, const char *ref, json *row, struct smd_error *err)
{
	json_object_object_foreach(row, field, value) {
		if (db_set(db, "PIF", ref, field, value, err) != 0)
			return -1;
	}
	return 0;
}

/* Rows of earlier starts are brought up to date, or go; the rest is new. */
static int
sync_pifs(struct daemon *daemon, json *interfaces, struct smd_error *err)
{
	CLEANUP_JSON json *rows = NULL;

	if (db_all_records(daemon->db, "PIF", NULL, &rows, err) != 0)
		return -1;
	json_object_object_foreach(rows, ref, old) {
		const char *device = smd_json_str(old, "device", "");
		json *row = smd_json_member(interfaces, device);

		if (row ? refresh_pif(daemon->db, ref, row, err) != 0
			: db_delete(daemon->db, "PIF", ref, err) != 0)
			return -1;
		json_object_object_del(interfaces, device);
	}
	json_object_object_foreach(interfaces, device, row) {
		if (insert_pif(daemon, device, row, err) != 0)
			return -1;
	}
	return 0;
}

int
api_network_start(struct daemon *daemon, struct smd_error *err)
{
	CLEANUP_JSON json *interfaces = interfaces_now();
	bool managed = false;

	/* Clients reach the host by the first that has an address. */
	json_object_object_foreach(interfaces, device, row) {
		bool is = !managed && *smd_json_str(row, "IP", "") != '\0';

		(void)device;
		smd_json_set_bool(row, "management", is);
		managed = managed || is;
	}
	if (db_begin(daemon->db, DB_DURABLE, err) != 0)
		return -1;
	if (sync_pifs(daemon, interfaces, err) != 0) {
		db_rollback(daemon->db);
		return smd_error_prefix(err, "the records of network interfaces");
	}
	return db_commit(daemon->db, err);
}

/* ---- Networks -------------------------------------------------------------------------- */

static int
choose_bridge(struct db *db, json *row, struct smd_error *err)
{
	const char *bridge = smd_json_str(row, "bridge", "");
	CLEANUP_JSON json *others = NULL;

	if (strlen(bridge) > BRIDGE_NAME_MAX)
		return smd_fail_INVALID_VALUE(err, "bridge", bridge,
					      "the name of a bridge has %d characters at most",
					      BRIDGE_NAME_MAX);
	for (int n = 0;; n++) {
		CLEANUP_FREE char *made = smd_asprintf("xapi%d", n);
		const char *name = *bridge ? bridge : made;

		json_object_put(others);
		others = NULL;
		if (db_find(db, "network", "bridge", name, &others, err) != 0)
			return -1;
		if (json_object_array_length(others) == 0) {
			smd_json_set_str(row, "bridge", name);
			return 0;
		}
		if (*bridge)
			return smd_fail_BRIDGE_NAME_EXISTS(err, bridge,
							   "another network has the bridge %s",
							   bridge);
	}
}

static int
network_create(struct call *call, json **ret, struct smd_error *err)
{
	struct db *db = call->daemon->db;
	CLEANUP_FREE char *ref = db_new_ref();
	json *row = call_arg(call, 0);

	if (smd_json_int(row, "MTU", 0) <= 0)
		smd_json_set_int(row, "MTU", 1500);
	if (db_begin(db, DB_DURABLE, err) != 0)
		return -1;
	if (choose_bridge(db, row, err) != 0 || db_insert(db, "network", ref, row, err) != 0) {
		db_rollback(db);
		return -1;
	}
	if (db_commit(db, err) != 0)
		return -1;
	*ret = json_object_new_string(ref);
	return 0;
}

static int
delete_network(struct db *db, const char *self, struct smd_error *err)
{
	CLEANUP_FREE const char **refs = NULL;
	CLEANUP_JSON json *pifs = NULL;
	size_t n;

	if (db_get(db, "network", self, "PIFs", &pifs, err) != 0)
		return -1;
	n = json_object_array_length(pifs);
	if (n == 0)
		return db_delete(db, "network", self, err);
	refs = smd_calloc(n + 1, sizeof *refs);
	for (size_t i = 0; i < n; i++)
		refs[i] = json_object_get_string(json_object_array_get_idx(pifs, i));
	return smd_fail_NETWORK_CONTAINS_PIF(err, refs, "%zu interfaces of hosts are on it", n);
}

static int
network_destroy(struct call *call, json **ret, struct smd_error *err)
{
	struct db *db = call->daemon->db;

	(void)ret;
	if (db_begin(db, DB_DURABLE, err) != 0)
		return -1;
	return db_end(db, delete_network(db, call_str(call, 0), err), err);
}

/* ---- Purposes ---------------------------------------------------------------------------- */

/* NBD is served either with TLS or without, on all networks alike. */
static int
check_purpose(struct db *db, const char *purpose, struct smd_error *err)
{
	const char *other = strcmp(purpose, "nbd") == 0 ? "insecure_nbd" : "nbd";
	CLEANUP_JSON json *networks = NULL;

	if (db_all_records(db, "network", NULL, &networks, err) != 0)
		return -1;
	json_object_object_foreach(networks, ref, row) {
		if (smd_json_has_str(smd_json_member(row, "purpose"), other))
			return smd_fail_NETWORK_INCOMPATIBLE_PURPOSES(err, purpose, other,
					"network %s has the purpose %s", ref, other);
	}
	return 0;
}

static int
change_purpose(struct call *call, bool add, struct smd_error *err)
{
	const char *self = call_str(call, 0), *purpose = call_str(call, 1);
	CLEANUP_JSON json *now = NULL, *changed = json_object_new_array();
	struct db *db = call->daemon->db;

	if (db_get(db, "network", self, "purpose", &now, err) != 0)
		return -1;
	if (smd_json_has_str(now, purpose) == add)
		return 0;
	if (add && check_purpose(db, purpose, err) != 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(now); i++) {
		json *member = json_object_array_get_idx(now, i);

		if (strcmp(json_object_get_string(member), purpose) != 0)
			json_object_array_add(changed, json_object_get(member));
	}
	if (add)
		json_object_array_add(changed, json_object_new_string(purpose));
	return db_set(db, "network", self, "purpose", changed, err);
}

static int
set_purpose(struct call *call, bool add, struct smd_error *err)
{
	struct db *db = call->daemon->db;

	if (db_begin(db, DB_DURABLE, err) != 0)
		return -1;
	return db_end(db, change_purpose(call, add, err), err);
}

static int
network_add_purpose(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return set_purpose(call, true, err);
}

static int
network_remove_purpose(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return set_purpose(call, false, err);
}

const struct call_binding api_network_handlers[] = {
	{ "network.add_purpose", network_add_purpose },
	{ "network.create", network_create },
	{ "network.destroy", network_destroy },
	{ "network.remove_purpose", network_remove_purpose },
	{ NULL, NULL },
};
