/* SPDX-License-Identifier: BSD-2-Clause */
/* The tables of handlers, one per class, for call_bind. */
#ifndef SMD_DAEMON_API_HANDLERS_H
#define SMD_DAEMON_API_HANDLERS_H

#include "daemon/rpc/call.h"
#include "daemon/rpc/http.h"

extern const struct call_binding api_event_handlers[];
extern const struct call_binding api_generic_handlers[];	/* get_record, set_X … */
extern const struct call_binding api_host_handlers[];
extern const struct call_binding api_measure_handlers[];
extern const struct call_binding api_message_handlers[];
extern const struct call_binding api_network_handlers[];
extern const struct call_binding api_pbd_handlers[];
extern const struct call_binding api_pool_handlers[];
extern const struct call_binding api_session_handlers[];
extern const struct call_binding api_sm_handlers[];
extern const struct call_binding api_sr_handlers[];
extern const struct call_binding api_system_handlers[];
extern const struct call_binding api_task_handlers[];
extern const struct call_binding api_vbd_handlers[];
extern const struct call_binding api_vdi_handlers[];
extern const struct call_binding api_vdi_cbt_handlers[];
extern const struct call_binding api_vdi_chain_handlers[];
extern const struct call_binding api_vdi_snapshot_handlers[];
extern const struct call_binding api_vm_handlers[];

/* The rows of this host (with its metrics) and of the pool: made at the first start,
 * brought up to date at each. They set daemon->host_ref and daemon->pool_ref. */
int api_host_start(struct daemon *daemon, struct smd_error *err);
int api_pool_start(struct daemon *daemon, struct smd_error *err);
/* The rows of the interfaces this machine has now, each with a network. */
int api_network_start(struct daemon *daemon, struct smd_error *err);

/* Places of disks in a VM: 0, 1 …; -1 for text that names none. */
#define VBD_DEVICES_MAX 255
int vbd_device_number(const char *userdevice);
/* used[n]: a VBD of the VM is at place n. */
int vbd_devices_used(struct db *db, const char *vm, bool used[VBD_DEVICES_MAX],
		     struct smd_error *err);

/* GET /export_raw_vdi, PUT /import_raw_vdi. */
extern const struct http_stream api_export_raw_vdi;
extern const struct http_stream api_head_raw_vdi;	/* HEAD of the same */
extern const struct http_stream api_import_raw_vdi;
/* GET /export_image, PUT /import_image. */
extern const struct http_stream api_export_image;
extern const struct http_stream api_import_image;

#endif
