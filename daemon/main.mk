# SPDX-License-Identifier: BSD-2-Clause
EXTRA_DIST += \
	config.h \
	daemon.h \
	$(NULL)
