# SPDX-License-Identifier: BSD-2-Clause
EXTRA_DIST += \
	worker/protocol.h \
	$(NULL)
