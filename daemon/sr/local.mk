# SPDX-License-Identifier: BSD-2-Clause
EXTRA_DIST += \
	sr/sr.h \
	$(NULL)
