/* SPDX-License-Identifier: BSD-2-Clause */
/* A network interface of a host. Objects come from the interfaces found at start. */
#include "schema/api.h"
#include "schema/classes.h"

static const struct api_type ip_configuration_mode = {
	API_ENUM, .name = "ip_configuration_mode", .values = API_VALUES("None", "DHCP", "Static"),
};
static const struct api_type ipv6_configuration_mode = {
	API_ENUM, .name = "ipv6_configuration_mode",
	.values = API_VALUES("None", "DHCP", "Static", "Autoconf"),
};
static const struct api_type primary_address_type = {
	API_ENUM, .name = "primary_address_type", .values = API_VALUES("IPv4", "IPv6"),
};
static const struct api_type pif_igmp_status = {
	API_ENUM, .name = "pif_igmp_status", .values = API_VALUES("enabled", "disabled", "unknown"),
};

const struct api_class api_class_PIF = {
	.name = "PIF",
	.doc = "A network interface of a host. Objects come from the interfaces found at start.",
	.fields = API_LIST(struct api_field,
		{ "uuid", &api_string, API_DYNAMIC_RO, .doc = "unique identifier of the PIF" },
		{ "device", &api_string, API_STATIC_RO,
		  .doc = "name of the interface on its host" },
		{ "network", &api_ref_network, API_STATIC_RO, .doc = "network it is on" },
		{ "host", &api_ref_host, API_STATIC_RO, .doc = "host it is in" },
		{ "MAC", &api_string, API_STATIC_RO, .doc = "hardware address" },
		{ "MTU", &api_int, API_STATIC_RO, .doc = "largest packet, in bytes" },
		{ "VLAN", &api_int, API_STATIC_RO, .doc = "VLAN tag; -1 without one" },
		{ "metrics", &api_ref_PIF_metrics, API_DYNAMIC_RO,
		  .doc = "what is measured about it; null, smd measures none" },
		{ "physical", &api_bool, API_DYNAMIC_RO, .doc = "whether it is a network card" },
		{ "currently_attached", &api_bool, API_DYNAMIC_RO, .doc = "whether it is up",
		  .dflt = "true" },
		{ "ip_configuration_mode", &ip_configuration_mode, API_DYNAMIC_RO,
		  .doc = "how it got its IPv4 address" },
		{ "IP", &api_string, API_DYNAMIC_RO, .doc = "IPv4 address" },
		{ "netmask", &api_string, API_DYNAMIC_RO, .doc = "IPv4 netmask" },
		{ "gateway", &api_string, API_DYNAMIC_RO, .doc = "IPv4 gateway" },
		{ "DNS", &api_string, API_DYNAMIC_RO, .doc = "DNS servers, comma-separated" },
		{ "bond_slave_of", &api_ref_Bond, API_DYNAMIC_RO, .doc = "bond it is a part of" },
		{ "bond_master_of", &api_set_Bond, API_DYNAMIC_RO, .doc = "bond it stands for",
		  .flags = API_DERIVED },
		{ "VLAN_master_of", &api_ref_VLAN, API_DYNAMIC_RO, .doc = "VLAN it stands for" },
		{ "VLAN_slave_of", &api_set_VLAN, API_DYNAMIC_RO, .doc = "VLANs on it",
		  .flags = API_DERIVED },
		{ "management", &api_bool, API_DYNAMIC_RO,
		  .doc = "whether clients reach the host by it" },
		{ "other_config", &api_string_map, API_RW, .doc = "free key/value pairs" },
		{ "disallow_unplug", &api_bool, API_DYNAMIC_RO, .doc = "whether it must stay up" },
		{ "tunnel_access_PIF_of", &api_set_tunnel, API_DYNAMIC_RO,
		  .doc = "tunnels it gives access to", .flags = API_DERIVED },
		{ "tunnel_transport_PIF_of", &api_set_tunnel, API_DYNAMIC_RO,
		  .doc = "tunnels it carries", .flags = API_DERIVED },
		{ "ipv6_configuration_mode", &ipv6_configuration_mode, API_DYNAMIC_RO,
		  .doc = "how it got its IPv6 addresses" },
		{ "IPv6", &api_string_set, API_DYNAMIC_RO,
		  .doc = "IPv6 addresses with their prefix lengths" },
		{ "ipv6_gateway", &api_string, API_DYNAMIC_RO, .doc = "IPv6 gateway" },
		{ "primary_address_type", &primary_address_type, API_DYNAMIC_RO,
		  .doc = "kind of its main address" },
		{ "managed", &api_bool, API_STATIC_RO, .doc = "whether it is configured here",
		  .dflt = "true" },
		{ "properties", &api_string_map, API_DYNAMIC_RO, .doc = "further settings" },
		{ "capabilities", &api_string_set, API_DYNAMIC_RO, .doc = "what the card can do" },
		{ "igmp_snooping_status", &pif_igmp_status, API_DYNAMIC_RO,
		  .doc = "whether IGMP snooping is on", .dflt = "\"unknown\"" },
		{ "sriov_physical_PIF_of", &api_set_network_sriov, API_DYNAMIC_RO,
		  .doc = "SR-IOV networks it carries", .flags = API_DERIVED },
		{ "sriov_logical_PIF_of", &api_set_network_sriov, API_DYNAMIC_RO,
		  .doc = "SR-IOV network it stands for", .flags = API_DERIVED },
		{ "PCI", &api_ref_PCI, API_DYNAMIC_RO, .doc = "PCI device of the card" }),
	.methods = API_NONE(struct api_method),
	.role = API_POOL_OPERATOR,
};
