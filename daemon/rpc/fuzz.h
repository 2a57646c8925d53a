/* SPDX-License-Identifier: BSD-2-Clause */
/* What the two fuzzers share. */
#ifndef SMD_DAEMON_RPC_FUZZ_H
#define SMD_DAEMON_RPC_FUZZ_H

#include <stdint.h>

#include "daemon/rpc/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int fuzz_request(http_rpc_fn *fn, const uint8_t *data, size_t size);

#endif
