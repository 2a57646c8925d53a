# SPDX-License-Identifier: BSD-2-Clause
noinst_LTLIBRARIES += libjob.la
libjob_la_SOURCES = \
	job/again.c \
	job/again.h \
	job/carry.c \
	job/carry.h \
	job/carry-commit.c \
	job/carry-impl.h \
	job/carry-resume.c \
	job/coalesce.c \
	job/coalesce.h \
	job/collect.c \
	job/collect.h \
	job/control.c \
	job/control.h \
	job/copy.c \
	job/copy.h \
	job/digest.c \
	job/digest.h \
	job/job.c \
	job/job.h \
	job/land.c \
	job/land.h \
	job/lasting.c \
	job/lasting.h \
	job/maker.c \
	job/maker.h \
	job/measure.c \
	job/measure.h \
	job/move.c \
	job/move.h \
	job/phase.c \
	job/phase.h \
	job/plan.c \
	job/plan.h \
	job/process.c \
	job/process.h \
	job/queue.c \
	job/queue.h \
	job/stall.c \
	job/stall.h \
	job/stayer.c \
	job/stayer.h \
	job/task.c \
	job/task.h \
	job/worker.c \
	job/worker.h \
	$(NULL)
libjob_la_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS)

if HAVE_CMOCKA
check_PROGRAMS += job/test-job job/test-task job/test-worker
TESTS += job/test-job job/test-task job/test-worker
job_test_job_SOURCES = job/test-job.c job/job.c
job_test_job_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(SQLITE_CFLAGS) $(CMOCKA_CFLAGS)
job_test_job_LDADD = libdb.la $(JSON_C_LIBS) $(CMOCKA_LIBS)
job_test_task_SOURCES = job/test-task.c job/task.c
job_test_task_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(SQLITE_CFLAGS) $(CMOCKA_CFLAGS)
job_test_task_LDADD = libdb.la $(JSON_C_LIBS) $(CMOCKA_LIBS)
job_test_worker_SOURCES = job/test-worker.c job/control.c job/maker.c job/process.c job/queue.c \
	job/stayer.c job/worker.c
job_test_worker_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(CMOCKA_CFLAGS)
job_test_worker_LDADD = $(top_builddir)/common/libcommon.la $(JSON_C_LIBS) $(CMOCKA_LIBS)
endif
