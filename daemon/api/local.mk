# SPDX-License-Identifier: BSD-2-Clause
EXTRA_DIST += \
	api/handlers.h \
	$(NULL)
