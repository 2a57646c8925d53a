/* SPDX-License-Identifier: BSD-2-Clause */
/* The two wires, as routes take them: XML-RPC, and JSON-RPC 1.0 and 2.0. */
#ifndef SMD_DAEMON_RPC_RPC_H
#define SMD_DAEMON_RPC_RPC_H

#include "daemon/rpc/http.h"

http_rpc_fn rpc_xml;
http_rpc_fn rpc_json;

#endif
