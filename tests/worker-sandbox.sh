#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A format module gone bad reaches nothing: what smd-worker denies and does not end it for
# (worker-misbehaves.py) it says here; with sanitizers, which go without seccomp, paths too.
source "$(dirname "$0")/functions.sh"
requires cc
cd "$t"

cat > bad.c <<'END'
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "plugins/smd-format.h"

static int
bad_open(struct smd_io *io, uint32_t flags, void **ret_img, struct smd_error *err)
{
	int file = TRY_PATHS ? open("/etc/passwd", O_RDONLY) : -1;
	int made = TRY_PATHS ? open("/tmp/smd-sandbox-escape", O_CREAT | O_WRONLY, 0600) : -1;
	pid_t parent = atoi(io->name);
	struct rlimit limit;
	int limits = prlimit(parent, RLIMIT_NOFILE, NULL, &limit) == 0;
	int itself = syscall(SYS_tgkill, getpid(), getpid(), 0) == 0;
	/* Any path passes a filter that looks at the flag alone. */
	struct stat st;
	int stated = stat("/etc/passwd", &st) == 0 ||
		     fstatat(AT_FDCWD, "/etc/passwd", &st, AT_EMPTY_PATH) == 0;
	int own = fstat(3, &st) == 0 && st.st_size == 4096;
	int fds = 0;

	for (int fd = 4; fd < 256; fd++)
		fds += fcntl(fd, F_GETFD) >= 0;
	(void)flags;
	(void)ret_img;
	return smd_fail(err, SMD_REASON_BAD_HEADER, io->name,
			"read=%d create=%d limits=%d itself=%d "
			"stat=%d own=%d fds=%d env=%d", file >= 0, made >= 0, limits, itself, stated, own, fds, getenv("SMD_TEST_SECRET") != NULL);
}

static void
bad_close(void *img)
{
	(void)img;
}

static int
bad_info(void *img, struct smd_image_info *ret, struct smd_error *err)
{
	(void)img;
	(void)ret;
	(void)err;
	return 0;
}

static int
bad_extents(void *img, uint64_t offset, uint64_t count, smd_extent_fn *add, void *opaque,
	    struct smd_error *err)
{
	const struct smd_extent e = { SMD_EXTENT_ZERO, offset, count, 0 };

	(void)img;
	return add(opaque, &e, err);
}

/* Fills the SR. */
static int
bad_create(struct smd_io *io, const struct smd_create *params, struct smd_error *err)
{
	(void)params;
	return io->ops->pwrite(io, "x", 1, 1ull << 30, err);
}

static int
bad_measure(const struct smd_create *params, uint64_t data_size, uint64_t n_extents,
	    struct smd_measure *ret, struct smd_error *err)
{
	(void)data_size;
	(void)n_extents;
	(void)err;
	ret->required = ret->fully_allocated = params->virtual_size;
	return 0;
}

static const struct smd_format bad_format = {
	.name = "bad", .doc = "tries to get out", .max_virtual_size = 1 << 20, .size_unit = 512,
	.caps = SMD_CAP_CREATE, .create = bad_create, .measure = bad_measure,
	.open = bad_open, .close = bad_close, .info = bad_info, .extents = bad_extents,
};
SMD_REGISTER_FORMAT(bad_format)
END
mkdir modules
paths=0
if grep -q -e --enable-sanitizers "$SMD_BUILD/config.log"; then
	paths=1
fi
cc -D_GNU_SOURCE -DTRY_PATHS=$paths -I"$SMD_SRC" -shared -fPIC -o modules/smd-format-bad.so bad.c
head -c 4096 /dev/zero > image

export SMD_TEST_SECRET=1
# Its parent has the uid it has itself, as where smd does not run as root.
as=()
if [ "$(id -u)" -eq 0 ]; then
	chmod -R go+rX "$t"
	as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	"${as[@]}" test -r "$SMD_WORKER" -a -r "$t/modules/smd-format-bad.so" || as=()
fi
answer=$("${as[@]}" sh -c '
	echo "{\"op\":\"info\",\"source\":{\"layers\":[{\"fd\":3,\"name\":\"$$\",\"format\":\"bad\"}]}}" |
		"$0" --formats "$1"; exit $?' "$SMD_WORKER" "$t/modules" 3< image)
case $answer in *read=*) ;; *) fail "the module did not run: $answer" ;; esac
case $answer in *"read=0 create=0 "*) ;; *) fail "a path was opened: $answer" ;; esac
case $answer in *env=0*) ;; *) fail "the environment is there: $answer" ;; esac
# Sanitizers need calls that the filter denies: such builds go without it.
if [ $paths -eq 0 ]; then
	case $answer in *"limits=0 itself=1 stat=0 own=1 "*) ;; *) fail "a call got through: $answer" ;; esac
fi

# A file may be as large as its format says, and some.
: > new
answer=$("$SMD_WORKER" --formats "$t/modules" 3<> new <<-'END'
	{"op":"create","target":{"fd":3,"name":"new","format":"bad","size":4096}}
END
)
case $answer in *'"error":'*"File too large"*) ;; *) fail "a gigabyte was written: $answer" ;; esac
[ ! -s new ] || fail "the file has grown"
