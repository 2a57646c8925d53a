# SPDX-License-Identifier: BSD-2-Clause
EXTRA_DIST += \
	job/job.h \
	job/task.h \
	job/worker.h \
	$(NULL)
