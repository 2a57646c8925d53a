-- SPDX-License-Identifier: BSD-2-Clause
-- Virtual machines as records, their disks, the networks hosts are on, messages. A
-- VBD or PIF is found by what it points to; a message by its time.
CREATE TABLE "VBD" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"allowed_operations" TEXT NOT NULL,
	"current_operations" TEXT NOT NULL,
	"VM" TEXT NOT NULL,
	"VDI" TEXT NOT NULL,
	"device" TEXT NOT NULL,
	"userdevice" TEXT NOT NULL,
	"bootable" INTEGER NOT NULL,
	"mode" TEXT NOT NULL,
	"type" TEXT NOT NULL,
	"unpluggable" INTEGER NOT NULL,
	"storage_lock" INTEGER NOT NULL,
	"empty" INTEGER NOT NULL,
	"other_config" TEXT NOT NULL,
	"currently_attached" INTEGER NOT NULL,
	"status_code" INTEGER NOT NULL,
	"status_detail" TEXT NOT NULL,
	"runtime_properties" TEXT NOT NULL,
	"qos_algorithm_type" TEXT NOT NULL,
	"qos_algorithm_params" TEXT NOT NULL,
	"qos_supported_algorithms" TEXT NOT NULL,
	"metrics" TEXT NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "VBD_uuid" ON "VBD" (uuid);
CREATE INDEX "VBD_modified" ON "VBD" (modified_gen);
CREATE INDEX "VBD_VDI" ON "VBD" ("VDI");
CREATE INDEX "VBD_VM" ON "VBD" ("VM");

CREATE TABLE "VM" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"allowed_operations" TEXT NOT NULL,
	"current_operations" TEXT NOT NULL,
	"name_label" TEXT NOT NULL,
	"name_description" TEXT NOT NULL,
	"power_state" TEXT NOT NULL,
	"user_version" INTEGER NOT NULL,
	"is_a_template" INTEGER NOT NULL,
	"is_default_template" INTEGER NOT NULL,
	"suspend_VDI" TEXT NOT NULL,
	"resident_on" TEXT NOT NULL,
	"scheduled_to_be_resident_on" TEXT NOT NULL,
	"affinity" TEXT NOT NULL,
	"memory_overhead" INTEGER NOT NULL,
	"memory_target" INTEGER NOT NULL,
	"memory_static_max" INTEGER NOT NULL,
	"memory_dynamic_max" INTEGER NOT NULL,
	"memory_dynamic_min" INTEGER NOT NULL,
	"memory_static_min" INTEGER NOT NULL,
	"VCPUs_params" TEXT NOT NULL,
	"VCPUs_max" INTEGER NOT NULL,
	"VCPUs_at_startup" INTEGER NOT NULL,
	"actions_after_softreboot" TEXT NOT NULL,
	"actions_after_shutdown" TEXT NOT NULL,
	"actions_after_reboot" TEXT NOT NULL,
	"actions_after_crash" TEXT NOT NULL,
	"PV_bootloader" TEXT NOT NULL,
	"PV_kernel" TEXT NOT NULL,
	"PV_ramdisk" TEXT NOT NULL,
	"PV_args" TEXT NOT NULL,
	"PV_bootloader_args" TEXT NOT NULL,
	"PV_legacy_args" TEXT NOT NULL,
	"HVM_boot_policy" TEXT NOT NULL,
	"HVM_boot_params" TEXT NOT NULL,
	"HVM_shadow_multiplier" REAL NOT NULL,
	"platform" TEXT NOT NULL,
	"PCI_bus" TEXT NOT NULL,
	"other_config" TEXT NOT NULL,
	"domid" INTEGER NOT NULL,
	"domarch" TEXT NOT NULL,
	"last_boot_CPU_flags" TEXT NOT NULL,
	"is_control_domain" INTEGER NOT NULL,
	"metrics" TEXT NOT NULL,
	"guest_metrics" TEXT NOT NULL,
	"last_booted_record" TEXT NOT NULL,
	"recommendations" TEXT NOT NULL,
	"xenstore_data" TEXT NOT NULL,
	"ha_always_run" INTEGER NOT NULL,
	"ha_restart_priority" TEXT NOT NULL,
	"is_a_snapshot" INTEGER NOT NULL,
	"snapshot_of" TEXT NOT NULL,
	"snapshot_time" TEXT NOT NULL,
	"transportable_snapshot_id" TEXT NOT NULL,
	"blobs" TEXT NOT NULL,
	"tags" TEXT NOT NULL,
	"blocked_operations" TEXT NOT NULL,
	"snapshot_info" TEXT NOT NULL,
	"snapshot_metadata" TEXT NOT NULL,
	"parent" TEXT NOT NULL,
	"bios_strings" TEXT NOT NULL,
	"protection_policy" TEXT NOT NULL,
	"is_snapshot_from_vmpp" INTEGER NOT NULL,
	"snapshot_schedule" TEXT NOT NULL,
	"is_vmss_snapshot" INTEGER NOT NULL,
	"appliance" TEXT NOT NULL,
	"start_delay" INTEGER NOT NULL,
	"shutdown_delay" INTEGER NOT NULL,
	"order" INTEGER NOT NULL,
	"suspend_SR" TEXT NOT NULL,
	"version" INTEGER NOT NULL,
	"generation_id" TEXT NOT NULL,
	"hardware_platform_version" INTEGER NOT NULL,
	"has_vendor_device" INTEGER NOT NULL,
	"requires_reboot" INTEGER NOT NULL,
	"reference_label" TEXT NOT NULL,
	"domain_type" TEXT NOT NULL,
	"NVRAM" TEXT NOT NULL,
	"pending_guidances" TEXT NOT NULL,
	"pending_guidances_recommended" TEXT NOT NULL,
	"pending_guidances_full" TEXT NOT NULL,
	"secureboot_certificates_state" TEXT NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "VM_uuid" ON "VM" (uuid);
CREATE INDEX "VM_modified" ON "VM" (modified_gen);
CREATE INDEX "VM_parent" ON "VM" ("parent");
CREATE INDEX "VM_resident_on" ON "VM" ("resident_on");
CREATE INDEX "VM_snapshot_of" ON "VM" ("snapshot_of");

CREATE TABLE "VM_metrics" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"memory_actual" INTEGER NOT NULL,
	"VCPUs_number" INTEGER NOT NULL,
	"VCPUs_utilisation" TEXT NOT NULL,
	"VCPUs_CPU" TEXT NOT NULL,
	"VCPUs_params" TEXT NOT NULL,
	"VCPUs_flags" TEXT NOT NULL,
	"state" TEXT NOT NULL,
	"start_time" TEXT NOT NULL,
	"install_time" TEXT NOT NULL,
	"last_updated" TEXT NOT NULL,
	"other_config" TEXT NOT NULL,
	"hvm" INTEGER NOT NULL,
	"nested_virt" INTEGER NOT NULL,
	"nomigrate" INTEGER NOT NULL,
	"current_domain_type" TEXT NOT NULL,
	"numa_optimised" INTEGER NOT NULL,
	"numa_nodes" INTEGER NOT NULL,
	"numa_node_memory" TEXT NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "VM_metrics_uuid" ON "VM_metrics" (uuid);
CREATE INDEX "VM_metrics_modified" ON "VM_metrics" (modified_gen);

CREATE TABLE "PIF" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"device" TEXT NOT NULL,
	"network" TEXT NOT NULL,
	"host" TEXT NOT NULL,
	"MAC" TEXT NOT NULL,
	"MTU" INTEGER NOT NULL,
	"VLAN" INTEGER NOT NULL,
	"metrics" TEXT NOT NULL,
	"physical" INTEGER NOT NULL,
	"currently_attached" INTEGER NOT NULL,
	"ip_configuration_mode" TEXT NOT NULL,
	"IP" TEXT NOT NULL,
	"netmask" TEXT NOT NULL,
	"gateway" TEXT NOT NULL,
	"DNS" TEXT NOT NULL,
	"bond_slave_of" TEXT NOT NULL,
	"VLAN_master_of" TEXT NOT NULL,
	"management" INTEGER NOT NULL,
	"other_config" TEXT NOT NULL,
	"disallow_unplug" INTEGER NOT NULL,
	"ipv6_configuration_mode" TEXT NOT NULL,
	"IPv6" TEXT NOT NULL,
	"ipv6_gateway" TEXT NOT NULL,
	"primary_address_type" TEXT NOT NULL,
	"managed" INTEGER NOT NULL,
	"properties" TEXT NOT NULL,
	"capabilities" TEXT NOT NULL,
	"igmp_snooping_status" TEXT NOT NULL,
	"PCI" TEXT NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "PIF_uuid" ON "PIF" (uuid);
CREATE INDEX "PIF_modified" ON "PIF" (modified_gen);
CREATE INDEX "PIF_host" ON "PIF" ("host");
CREATE INDEX "PIF_network" ON "PIF" ("network");

CREATE TABLE "network" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"name_label" TEXT NOT NULL,
	"name_description" TEXT NOT NULL,
	"allowed_operations" TEXT NOT NULL,
	"current_operations" TEXT NOT NULL,
	"MTU" INTEGER NOT NULL,
	"other_config" TEXT NOT NULL,
	"bridge" TEXT NOT NULL,
	"managed" INTEGER NOT NULL,
	"blobs" TEXT NOT NULL,
	"tags" TEXT NOT NULL,
	"default_locking_mode" TEXT NOT NULL,
	"assigned_ips" TEXT NOT NULL,
	"purpose" TEXT NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "network_uuid" ON "network" (uuid);
CREATE INDEX "network_modified" ON "network" (modified_gen);

CREATE TABLE "message" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"name" TEXT NOT NULL,
	"priority" INTEGER NOT NULL,
	"cls" TEXT NOT NULL,
	"obj_uuid" TEXT NOT NULL,
	"timestamp" TEXT NOT NULL,
	"body" TEXT NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "message_uuid" ON "message" (uuid);
CREATE INDEX "message_modified" ON "message" (modified_gen);
CREATE INDEX "message_obj_uuid" ON "message" ("obj_uuid");
CREATE INDEX "message_timestamp" ON "message" ("timestamp");
