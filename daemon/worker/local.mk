# SPDX-License-Identifier: BSD-2-Clause
EXTRA_DIST += \
	worker/main.c \
	worker/protocol.h \
	worker/request.c \
	worker/request.h \
	worker/sandbox.c \
	worker/sandbox.h \
	worker/smd-worker.pod \
	$(NULL)
