/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/spelling.h"

#include <stddef.h>
#include <string.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

static const struct spelling_class classes[] = {
	{ "SM", "uuid,type,name-label,name-description,vendor,copyright,configuration",
	  "uuid,name-label,name-description,type,vendor,copyright,required-api-version,"
	  "capabilities,features,configuration,driver-filename,required-cluster-stack,"
	  "supported-image-formats" },
	{ "SR", "uuid,name-label,name-description,host,type,content-type",
	  "uuid,name-label,name-description,host,allowed-operations,current-operations,VDIs,PBDs,"
	  "virtual-allocation,physical-utilisation,physical-size,type,content-type,shared,"
	  "introduced-by,is-tools-sr,other-config,sm-config,blobs,local-cache-enabled,tags,"
	  "clustered" },
	{ "PBD", "uuid,host-uuid,sr-uuid,device-config,currently-attached",
	  "uuid,host-uuid,host-name-label,sr-uuid,sr-name-label,device-config,"
	  "currently-attached,other-config" },
	{ "VDI", "uuid,name-label,name-description,virtual-size,read-only,sharable,sr-uuid",
	  "uuid,name-label,name-description,is-a-snapshot,snapshot-of,snapshots,snapshot-time,"
	  "allowed-operations,current-operations,sr-uuid,sr-name-label,vbd-uuids,"
	  "crashdump-uuids,virtual-size,physical-utilisation,location,type,sharable,read-only,"
	  "storage-lock,managed,parent,missing,is-tools-iso,other-config,xenstore-data,"
	  "sm-config,on-boot,allow-caching,metadata-latest,metadata-of-pool,tags,cbt-enabled" },
	{ "VBD", "uuid,vm-uuid,vm-name-label,vdi-uuid,device,empty",
	  "uuid,vm-uuid,vm-name-label,vdi-uuid,vdi-name-label" },
	{ "task", "uuid,name-label,name-description,status,progress",
	  "uuid,name-label,name-description,subtask_of,subtasks,resident-on,status,progress,"
	  "type,result,created,finished,error_info,allowed-operations" },
	{ "pool", "uuid,name-label,name-description,master,default-SR", "" },
	{ "VM", "uuid,name-label,power-state", "" },
};

static const struct spelling_field fields[] = {
	{ "SM", "version", NULL, SPELLING_HIDDEN },
	{ "SM", "other_config", NULL, SPELLING_HIDDEN },
	{ "SM", "configuration", NULL, SPELLING_PLAIN },
	{ "SM", "capabilities", NULL, SPELLING_PLAIN },
	{ "SM", "required_cluster_stack", NULL, SPELLING_PLAIN | SPELLING_COMMA },
	{ "SM", "supported_image_formats", NULL, SPELLING_PLAIN },
	{ "SR", "blobs", NULL, SPELLING_PLAIN },
	{ "VDI", "VBDs", "vbd-uuids", 0 },
	{ "VDI", "crash_dumps", "crashdump-uuids", 0 },
	{ "VDI", "snapshots", NULL, SPELLING_PLAIN },
	{ "task", "subtask_of", "subtask_of", 0 },
	{ "task", "subtasks", NULL, SPELLING_PLAIN },
	{ "task", "error_info", "error_info", 0 },
	{ "task", "progress", NULL, SPELLING_3_DIGITS },
	{ NULL, "tags", NULL, SPELLING_COMMA },
	{ NULL, "current_operations", NULL, SPELLING_VALUES },
};

static const struct spelling_extra extras[] = {
	{ "SR", "PBDs", "host", SPELLING_HOST_OF_PBDS },
	{ "PBD", "host", "host-name-label", SPELLING_NAME_OF },
	{ "PBD", "SR", "sr-name-label", SPELLING_NAME_OF },
	{ "VDI", "SR", "sr-name-label", SPELLING_NAME_OF },
	{ "VBD", "VM", "vm-name-label", SPELLING_NAME_OF },
	{ "VBD", "VDI", "vdi-name-label", SPELLING_NAME_OF },
};

static const struct spelling_param params[] = {
	{ "VDI.create", "type", NULL, "\"user\"" },
	{ "VDI.introduce", "type", NULL, "\"user\"" },
	{ "VDI.introduce", "name_label", NULL, "\"\"" },
	{ "VDI.resize", "size", "disk-size", NULL },
	{ "VDI.resize_online", "size", "disk-size", NULL },
	{ "VDI.list_changed_blocks", "vdi_from", "vdi-from-uuid", NULL },
	{ "SR.create", "physical_size", NULL, "0" },
	{ "task.create", "description", NULL, "\"\"" },
	{ NULL, "name_description", NULL, "\"\"" },
	{ NULL, "content_type", NULL, "\"\"" },
};

const struct spelling_class *
spelling_class(const char *cls)
{
	static const struct spelling_class none = {
		"", "uuid,name-label,name-description", "",
	};

	for (size_t i = 0; i < N(classes); i++) {
		if (strcmp(classes[i].cls, cls) == 0)
			return &classes[i];
	}
	return &none;
}

const struct spelling_field *
spelling_field(const char *cls, const char *field)
{
	static const struct spelling_field none;

	for (size_t i = 0; i < N(fields); i++) {
		if (strcmp(fields[i].field, field) == 0 &&
		    (!fields[i].cls || strcmp(fields[i].cls, cls) == 0))
			return &fields[i];
	}
	return &none;
}

const struct spelling_extra *
spelling_extra(const char *cls, unsigned n)
{
	for (size_t i = 0; i < N(extras); i++) {
		if (strcmp(extras[i].cls, cls) == 0 && n-- == 0)
			return &extras[i];
	}
	return NULL;
}

const struct spelling_param *
spelling_param(const char *method, const char *param)
{
	static const struct spelling_param none;

	for (size_t i = 0; i < N(params); i++) {
		if (strcmp(params[i].param, param) == 0 &&
		    (!params[i].method || strcmp(params[i].method, method) == 0))
			return &params[i];
	}
	return &none;
}
