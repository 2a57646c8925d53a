# SPDX-License-Identifier: BSD-2-Clause
EXTRA_DIST += \
	rpc/call.h \
	rpc/http.h \
	rpc/session.h \
	$(NULL)
