# SPDX-License-Identifier: BSD-2-Clause
sbin_PROGRAMS += smd
smd_SOURCES = \
	config.c \
	config.def \
	config.h \
	daemon.h \
	journald.c \
	journald.h \
	main.c \
	$(NULL)
smd_CPPFLAGS = $(AM_CPPFLAGS) \
	-DSMD_PLUGINDIR='"$(pkglibdir)"' \
	-DSMD_STATEDIR='"$(localstatedir)/lib/smd"' \
	-DSMD_SYSCONFDIR='"$(sysconfdir)/smd"' \
	-DSMD_WORKER='"$(libexecdir)/smd-worker"'
smd_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(SYSTEMD_CFLAGS)
smd_LDADD = \
	libapi.la \
	libjob.la \
	libsr.la \
	librpc.la \
	libdb.la \
	$(top_builddir)/schema/libschema.la \
	$(top_builddir)/common/libcommon.la \
	$(SYSTEMD_LIBS) \
	$(JSON_C_LIBS) \
	$(NULL)

man8_MANS += smd.8
EXTRA_DIST += smd.pod
CLEANFILES += smd.8
