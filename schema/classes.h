/* SPDX-License-Identifier: BSD-2-Clause */
/* The classes' tables, one per schema/class-NAME.c. Everyone else goes through
 * api_classes (schema/api.h). */
#ifndef SMD_SCHEMA_CLASSES_H
#define SMD_SCHEMA_CLASSES_H

#include "schema/api.h"

extern const struct api_class api_class_PBD, api_class_PIF, api_class_SM, api_class_SR,
	api_class_VBD, api_class_VDI, api_class_VM, api_class_VM_metrics, api_class_event,
	api_class_host, api_class_host_metrics, api_class_message, api_class_network,
	api_class_pool, api_class_session, api_class_system, api_class_task;

#endif
