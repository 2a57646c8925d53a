-- SPDX-License-Identifier: BSD-2-Clause
-- One table per stored class, one column per stored field (schema/class-NAME.c);
-- sets and maps are JSON text. created_gen and modified_gen are generations of
-- daemon/db/events.c.

CREATE TABLE meta (
	key TEXT NOT NULL PRIMARY KEY,
	value INTEGER NOT NULL
) WITHOUT ROWID;

-- Objects that are gone: for events to those who knew them. The newest are kept.
CREATE TABLE deleted (
	gen INTEGER PRIMARY KEY,
	created_gen INTEGER NOT NULL,
	cls TEXT NOT NULL,
	ref TEXT NOT NULL
);

-- Plans of jobs that have not ended (daemon/job/job.h).
CREATE TABLE jobs (
	id TEXT NOT NULL PRIMARY KEY,
	plan TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE "PBD" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"host" TEXT NOT NULL,
	"SR" TEXT NOT NULL,
	"device_config" TEXT NOT NULL,
	"currently_attached" INTEGER NOT NULL,
	"other_config" TEXT NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "PBD_uuid" ON "PBD" (uuid);
CREATE INDEX "PBD_modified" ON "PBD" (modified_gen);
CREATE INDEX "PBD_SR" ON "PBD" ("SR");
CREATE INDEX "PBD_host" ON "PBD" ("host");

CREATE TABLE "SM" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"name_label" TEXT NOT NULL,
	"name_description" TEXT NOT NULL,
	"type" TEXT NOT NULL,
	"vendor" TEXT NOT NULL,
	"copyright" TEXT NOT NULL,
	"version" TEXT NOT NULL,
	"required_api_version" TEXT NOT NULL,
	"configuration" TEXT NOT NULL,
	"capabilities" TEXT NOT NULL,
	"features" TEXT NOT NULL,
	"other_config" TEXT NOT NULL,
	"driver_filename" TEXT NOT NULL,
	"required_cluster_stack" TEXT NOT NULL,
	"supported_image_formats" TEXT NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "SM_uuid" ON "SM" (uuid);
CREATE INDEX "SM_modified" ON "SM" (modified_gen);

CREATE TABLE "SR" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"name_label" TEXT NOT NULL,
	"name_description" TEXT NOT NULL,
	"allowed_operations" TEXT NOT NULL,
	"current_operations" TEXT NOT NULL,
	"virtual_allocation" INTEGER NOT NULL,
	"physical_utilisation" INTEGER NOT NULL,
	"physical_size" INTEGER NOT NULL,
	"type" TEXT NOT NULL,
	"content_type" TEXT NOT NULL,
	"shared" INTEGER NOT NULL,
	"other_config" TEXT NOT NULL,
	"tags" TEXT NOT NULL,
	"sm_config" TEXT NOT NULL,
	"blobs" TEXT NOT NULL,
	"local_cache_enabled" INTEGER NOT NULL,
	"introduced_by" TEXT NOT NULL,
	"clustered" INTEGER NOT NULL,
	"is_tools_sr" INTEGER NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "SR_uuid" ON "SR" (uuid);
CREATE INDEX "SR_modified" ON "SR" (modified_gen);

CREATE TABLE "VDI" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"name_label" TEXT NOT NULL,
	"name_description" TEXT NOT NULL,
	"allowed_operations" TEXT NOT NULL,
	"current_operations" TEXT NOT NULL,
	"SR" TEXT NOT NULL,
	"virtual_size" INTEGER NOT NULL,
	"physical_utilisation" INTEGER NOT NULL,
	"type" TEXT NOT NULL,
	"sharable" INTEGER NOT NULL,
	"read_only" INTEGER NOT NULL,
	"other_config" TEXT NOT NULL,
	"storage_lock" INTEGER NOT NULL,
	"location" TEXT NOT NULL,
	"managed" INTEGER NOT NULL,
	"missing" INTEGER NOT NULL,
	"parent" TEXT NOT NULL,
	"xenstore_data" TEXT NOT NULL,
	"sm_config" TEXT NOT NULL,
	"is_a_snapshot" INTEGER NOT NULL,
	"snapshot_of" TEXT NOT NULL,
	"snapshot_time" TEXT NOT NULL,
	"tags" TEXT NOT NULL,
	"allow_caching" INTEGER NOT NULL,
	"on_boot" TEXT NOT NULL,
	"metadata_of_pool" TEXT NOT NULL,
	"metadata_latest" INTEGER NOT NULL,
	"is_tools_iso" INTEGER NOT NULL,
	"cbt_enabled" INTEGER NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "VDI_uuid" ON "VDI" (uuid);
CREATE INDEX "VDI_modified" ON "VDI" (modified_gen);
CREATE INDEX "VDI_SR" ON "VDI" ("SR");
CREATE INDEX "VDI_metadata_of_pool" ON "VDI" ("metadata_of_pool");
CREATE INDEX "VDI_snapshot_of" ON "VDI" ("snapshot_of");

CREATE TABLE "host" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"name_label" TEXT NOT NULL,
	"name_description" TEXT NOT NULL,
	"memory_overhead" INTEGER NOT NULL,
	"allowed_operations" TEXT NOT NULL,
	"current_operations" TEXT NOT NULL,
	"API_version_major" INTEGER NOT NULL,
	"API_version_minor" INTEGER NOT NULL,
	"API_version_vendor" TEXT NOT NULL,
	"API_version_vendor_implementation" TEXT NOT NULL,
	"enabled" INTEGER NOT NULL,
	"software_version" TEXT NOT NULL,
	"other_config" TEXT NOT NULL,
	"capabilities" TEXT NOT NULL,
	"cpu_configuration" TEXT NOT NULL,
	"sched_policy" TEXT NOT NULL,
	"supported_bootloaders" TEXT NOT NULL,
	"logging" TEXT NOT NULL,
	"suspend_image_sr" TEXT NOT NULL,
	"crash_dump_sr" TEXT NOT NULL,
	"updates" TEXT NOT NULL,
	"cpu_info" TEXT NOT NULL,
	"hostname" TEXT NOT NULL,
	"address" TEXT NOT NULL,
	"metrics" TEXT NOT NULL,
	"license_params" TEXT NOT NULL,
	"ha_statefiles" TEXT NOT NULL,
	"ha_network_peers" TEXT NOT NULL,
	"blobs" TEXT NOT NULL,
	"tags" TEXT NOT NULL,
	"external_auth_type" TEXT NOT NULL,
	"external_auth_service_name" TEXT NOT NULL,
	"external_auth_configuration" TEXT NOT NULL,
	"edition" TEXT NOT NULL,
	"license_server" TEXT NOT NULL,
	"bios_strings" TEXT NOT NULL,
	"power_on_mode" TEXT NOT NULL,
	"power_on_config" TEXT NOT NULL,
	"local_cache_sr" TEXT NOT NULL,
	"chipset_info" TEXT NOT NULL,
	"ssl_legacy" INTEGER NOT NULL,
	"guest_VCPUs_params" TEXT NOT NULL,
	"display" TEXT NOT NULL,
	"virtual_hardware_platform_versions" TEXT NOT NULL,
	"control_domain" TEXT NOT NULL,
	"updates_requiring_reboot" TEXT NOT NULL,
	"iscsi_iqn" TEXT NOT NULL,
	"multipathing" INTEGER NOT NULL,
	"uefi_certificates" TEXT NOT NULL,
	"editions" TEXT NOT NULL,
	"pending_guidances" TEXT NOT NULL,
	"tls_verification_enabled" INTEGER NOT NULL,
	"last_software_update" TEXT NOT NULL,
	"https_only" INTEGER NOT NULL,
	"latest_synced_updates_applied" TEXT NOT NULL,
	"numa_affinity_policy" TEXT NOT NULL,
	"pending_guidances_recommended" TEXT NOT NULL,
	"pending_guidances_full" TEXT NOT NULL,
	"last_update_hash" TEXT NOT NULL,
	"ssh_enabled" INTEGER NOT NULL,
	"ssh_enabled_timeout" INTEGER NOT NULL,
	"ssh_expiry" TEXT NOT NULL,
	"console_idle_timeout" INTEGER NOT NULL,
	"ssh_auto_mode" INTEGER NOT NULL,
	"max_cstate" TEXT NOT NULL,
	"secure_boot" INTEGER NOT NULL,
	"ntp_mode" TEXT NOT NULL,
	"ntp_custom_servers" TEXT NOT NULL,
	"timezone" TEXT NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "host_uuid" ON "host" (uuid);
CREATE INDEX "host_modified" ON "host" (modified_gen);

CREATE TABLE "host_metrics" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"memory_total" INTEGER NOT NULL,
	"memory_free" INTEGER NOT NULL,
	"live" INTEGER NOT NULL,
	"last_updated" TEXT NOT NULL,
	"other_config" TEXT NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "host_metrics_uuid" ON "host_metrics" (uuid);
CREATE INDEX "host_metrics_modified" ON "host_metrics" (modified_gen);

CREATE TABLE "pool" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"name_label" TEXT NOT NULL,
	"name_description" TEXT NOT NULL,
	"master" TEXT NOT NULL,
	"default_SR" TEXT NOT NULL,
	"suspend_image_SR" TEXT NOT NULL,
	"crash_dump_SR" TEXT NOT NULL,
	"other_config" TEXT NOT NULL,
	"ha_enabled" INTEGER NOT NULL,
	"ha_configuration" TEXT NOT NULL,
	"ha_statefiles" TEXT NOT NULL,
	"ha_host_failures_to_tolerate" INTEGER NOT NULL,
	"ha_plan_exists_for" INTEGER NOT NULL,
	"ha_allow_overcommit" INTEGER NOT NULL,
	"ha_overcommitted" INTEGER NOT NULL,
	"blobs" TEXT NOT NULL,
	"tags" TEXT NOT NULL,
	"gui_config" TEXT NOT NULL,
	"health_check_config" TEXT NOT NULL,
	"wlb_url" TEXT NOT NULL,
	"wlb_username" TEXT NOT NULL,
	"wlb_enabled" INTEGER NOT NULL,
	"wlb_verify_cert" INTEGER NOT NULL,
	"redo_log_enabled" INTEGER NOT NULL,
	"redo_log_vdi" TEXT NOT NULL,
	"vswitch_controller" TEXT NOT NULL,
	"restrictions" TEXT NOT NULL,
	"ha_cluster_stack" TEXT NOT NULL,
	"allowed_operations" TEXT NOT NULL,
	"current_operations" TEXT NOT NULL,
	"guest_agent_config" TEXT NOT NULL,
	"cpu_info" TEXT NOT NULL,
	"policy_no_vendor_device" INTEGER NOT NULL,
	"live_patching_disabled" INTEGER NOT NULL,
	"igmp_snooping_enabled" INTEGER NOT NULL,
	"uefi_certificates" TEXT NOT NULL,
	"custom_uefi_certificates" TEXT NOT NULL,
	"is_psr_pending" INTEGER NOT NULL,
	"tls_verification_enabled" INTEGER NOT NULL,
	"repositories" TEXT NOT NULL,
	"client_certificate_auth_enabled" INTEGER NOT NULL,
	"client_certificate_auth_name" TEXT NOT NULL,
	"repository_proxy_url" TEXT NOT NULL,
	"repository_proxy_username" TEXT NOT NULL,
	"repository_proxy_password" TEXT NOT NULL,
	"migration_compression" INTEGER NOT NULL,
	"coordinator_bias" INTEGER NOT NULL,
	"local_auth_max_threads" INTEGER NOT NULL,
	"ext_auth_max_threads" INTEGER NOT NULL,
	"ext_auth_cache_enabled" INTEGER NOT NULL,
	"ext_auth_cache_size" INTEGER NOT NULL,
	"ext_auth_cache_expiry" INTEGER NOT NULL,
	"telemetry_uuid" TEXT NOT NULL,
	"telemetry_frequency" TEXT NOT NULL,
	"telemetry_next_collection" TEXT NOT NULL,
	"last_update_sync" TEXT NOT NULL,
	"update_sync_frequency" TEXT NOT NULL,
	"update_sync_day" INTEGER NOT NULL,
	"update_sync_enabled" INTEGER NOT NULL,
	"recommendations" TEXT NOT NULL,
	"license_server" TEXT NOT NULL,
	"ha_reboot_vm_on_internal_shutdown" INTEGER NOT NULL,
	"limit_console_sessions" INTEGER NOT NULL,
	"vm_console_idle_timeout" INTEGER NOT NULL,
	"auto_update_vm_secureboot_certificates" INTEGER NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "pool_uuid" ON "pool" (uuid);
CREATE INDEX "pool_modified" ON "pool" (modified_gen);

CREATE TABLE "task" (
	ref TEXT NOT NULL UNIQUE,
	"uuid" TEXT NOT NULL,
	"name_label" TEXT NOT NULL,
	"name_description" TEXT NOT NULL,
	"allowed_operations" TEXT NOT NULL,
	"current_operations" TEXT NOT NULL,
	"created" TEXT NOT NULL,
	"finished" TEXT NOT NULL,
	"status" TEXT NOT NULL,
	"resident_on" TEXT NOT NULL,
	"progress" REAL NOT NULL,
	"type" TEXT NOT NULL,
	"result" TEXT NOT NULL,
	"error_info" TEXT NOT NULL,
	"other_config" TEXT NOT NULL,
	"subtask_of" TEXT NOT NULL,
	"backtrace" TEXT NOT NULL,
	created_gen INTEGER NOT NULL,
	modified_gen INTEGER NOT NULL
);
CREATE UNIQUE INDEX "task_uuid" ON "task" (uuid);
CREATE INDEX "task_modified" ON "task" (modified_gen);
CREATE INDEX "task_subtask_of" ON "task" ("subtask_of");
