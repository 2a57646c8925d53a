/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes as the body of a JSON-RPC request, through to a handler. */
#include <stdint.h>

#include "daemon/rpc/fuzz.h"
#include "daemon/rpc/rpc.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_request(rpc_json, data, size);
}
