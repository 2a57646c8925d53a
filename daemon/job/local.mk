# SPDX-License-Identifier: BSD-2-Clause
noinst_LTLIBRARIES += libjob.la
libjob_la_SOURCES = \
	job/job.c \
	job/job.h \
	job/move.c \
	job/move.h \
	job/task.c \
	job/task.h \
	job/worker.c \
	job/worker.h \
	$(NULL)
libjob_la_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS)
