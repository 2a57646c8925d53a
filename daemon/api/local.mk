# SPDX-License-Identifier: BSD-2-Clause
EXTRA_DIST += \
	api/handlers.h \
	api/event.c \
	api/generic.c \
	api/host.c \
	api/pool.c \
	api/session.c \
	api/system.c \
	$(NULL)
