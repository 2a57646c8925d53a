/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <seccomp.h>

#include "common/checked.h"
#include "common/cleanup.h"
#include "common/mem.h"
#include "daemon/worker/protocol.h"
#include "daemon/worker/walls.h"

#define SANDBOX_UID 65534	/* nobody, everywhere */
#define CPU_SLACK_S 2		/* for what is said at the end of it */
#define SANDBOX_FDS_MAX 256	/* the worker's, its modules' and the standard three */

/* Where the low half of a call's argument is: the kernel's seccomp_data. A pid has no
 * more of it that tgkill would look at. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARGUMENT_LOW(n) offsetof(struct seccomp_data, args[n])
#else
#define ARGUMENT_LOW(n) (offsetof(struct seccomp_data, args[n]) + 4)
#endif

/* A sanitizer maps terabytes and reads /proc at exit: limits and seccomp would
 * stop it, not the code under test. The other walls stand. */
#if defined(__SANITIZE_ADDRESS__)
#define SANDBOX_SANITIZED 1
#else
#define SANDBOX_SANITIZED 0
#endif

#if SANDBOX_SANITIZED
/* The leak checker walks /proc/self/task at the exit, which is out of the sandbox. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

static int
sandbox_fail(struct smd_error *err, const char *what)
{
	int e = errno;

	smd_fail_INTERNAL_ERROR(err, what, "sandbox: %s: %s", what, strerror(e));
	err->errnum = e;
	return -1;
}

/* Root's rights end here. In a user namespace without the id mapped the calls
 * fail; the other walls are then the whole of the sandbox. */
static void
sandbox_drop_root(void)
{
	if (geteuid() != 0)
		return;
	if (setgroups(0, NULL) != 0 || setresgid(SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) != 0)
		return;
	if (setresuid(SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) != 0)
		return;
}

/* slack: between what a signal tells of, and what kills. */
static int
sandbox_limit_soft(int resource, uint64_t value, uint64_t slack, struct smd_error *err)
{
	struct rlimit old;
	struct rlimit limit = { value, value + slack };

	if (getrlimit(resource, &old) == 0 && old.rlim_max < value)
		limit.rlim_cur = limit.rlim_max = old.rlim_max;
	if (setrlimit(resource, &limit) != 0)
		return sandbox_fail(err, "setrlimit");
	return 0;
}

static int
sandbox_limit(int resource, uint64_t value, struct smd_error *err)
{
	return sandbox_limit_soft(resource, value, 0, err);
}

static int
sandbox_limit_all(const struct sandbox_limits *limits, struct smd_error *err)
{
	if (sandbox_limit(RLIMIT_CORE, 0, err) != 0 ||
	    (limits->file_size != UINT64_MAX &&
	     sandbox_limit(RLIMIT_FSIZE, limits->file_size, err) != 0))
		return -1;
	if (SANDBOX_SANITIZED)
		return 0;
	if (sandbox_limit(RLIMIT_AS, limits->memory, err) != 0 ||
	    sandbox_limit(RLIMIT_NOFILE, SANDBOX_FDS_MAX, err) != 0)
		return -1;
	if (limits->cpu_seconds > 0 &&
	    sandbox_limit_soft(RLIMIT_CPU, limits->cpu_seconds, CPU_SLACK_S, err) != 0)
		return -1;
	return 0;
}

/* glibc's own goes through newfstatat, with AT_EMPTY_PATH and "". A filter sees flags,
 * not what a pointer points at: a path would pass with them, and Landlock guards no
 * stat. So that call is denied, and everyone in this process has these in its place;
 * the kernel's struct is glibc's where there is one size of it. */
#if __WORDSIZE == 64 && !SANDBOX_SANITIZED
__attribute__((visibility("default"))) int
fstat(int fd, struct stat *st)
{
	return (int)syscall(SYS_fstat, fd, st);
}

__attribute__((visibility("default"))) int
fstat64(int fd, struct stat64 *st)
{
	return (int)syscall(SYS_fstat, fd, st);
}
#endif

void
sandbox_walls(int *ret_landlock, bool *ret_seccomp)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	uint32_t action = SECCOMP_RET_TRAP;

	*ret_landlock = abi > 0 ? (int)abi : 0;
	*ret_seccomp = !SANDBOX_SANITIZED &&
		       syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

/* A ruleset that handles every right of the kernel's ABI and allows none. See
 * the kernel's userspace-api/landlock: rights grow by version. */
static int
sandbox_landlock(struct smd_error *err)
{
	static const uint64_t rights[] = {
		[1] = (1ull << 13) - 1,	/* execute … make_sym */
		[2] = (1ull << 14) - 1,	/* + refer */
		[3] = (1ull << 15) - 1,	/* + truncate */
	};
	struct landlock_ruleset_attr attr = { 0 };
	CLEANUP_CLOSE int fd = -1;
	long abi;

	abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 1)
		return 0;	/* a kernel without it */
	attr.handled_access_fs = rights[smd_min_u64((uint64_t)abi, 3)];
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	if (fd < 0)
		return sandbox_fail(err, "landlock_create_ruleset");
	if (syscall(SYS_landlock_restrict_self, fd, 0) != 0)
		return sandbox_fail(err, "landlock_restrict_self");
	return 0;
}

/* What moving bytes between open descriptors takes, with threads. */
static const int sandbox_calls[] = {
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev),
	SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(preadv), SCMP_SYS(pwritev),
	SCMP_SYS(lseek), SCMP_SYS(fstat), SCMP_SYS(fstatfs), SCMP_SYS(ftruncate), SCMP_SYS(fallocate),
	SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(sync_file_range),
	SCMP_SYS(io_setup), SCMP_SYS(io_submit), SCMP_SYS(io_getevents), SCMP_SYS(io_destroy),
	SCMP_SYS(copy_file_range), SCMP_SYS(fadvise64), SCMP_SYS(close), SCMP_SYS(dup),
	SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk),
	SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq),
	SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack), SCMP_SYS(restart_syscall),
	SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_yield),
	SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday), SCMP_SYS(getrandom), SCMP_SYS(gettid), SCMP_SYS(getpid),
	SCMP_SYS(getrusage), SCMP_SYS(poll), SCMP_SYS(ppoll),
	SCMP_SYS(exit), SCMP_SYS(exit_group),
};

static const unsigned long sandbox_ioctls[] = {
	FICLONERANGE, BLKGETSIZE64, BLKSSZGET, BLKPBSZGET, BLKDISCARD, BLKZEROOUT,
};

static const int sandbox_fcntls[] = {
	F_GETFL, F_GETFD, F_DUPFD_CLOEXEC, F_OFD_GETLK, F_OFD_SETLK,
};

static int
seccomp_arguments(scmp_filter_ctx ctx)
{
	int rc = 0;

	for (size_t i = 0; i < sizeof sandbox_ioctls / sizeof *sandbox_ioctls; i++)
		rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				       SCMP_A1(SCMP_CMP_EQ, sandbox_ioctls[i]));
	for (size_t i = 0; i < sizeof sandbox_fcntls / sizeof *sandbox_fcntls; i++)
		rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				       SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)sandbox_fcntls[i]));
	rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
			       SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
			       SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	/* Threads, not processes. clone3 hides its flags in memory: glibc falls
	 * back to clone when told that there is none. */
	rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
			       SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	rc |= seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* Reading one's own limits (glibc does, for thread stacks). */
	rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
			       SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A2(SCMP_CMP_EQ, 0));
	/* Itself only (abort, and a thread's end): seccomp_own_pid. */
	rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 0);
	/* Nobody takes our handler of denied calls away. */
	rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(rt_sigaction), 1,
			       SCMP_A0(SCMP_CMP_NE, SIGSYS));
	return rc;
}

/* What nothing that moves bytes between open descriptors ever asks for. */
#define CALL(name) { SCMP_SYS(name), #name }
const struct wall_call wall_calls[] = {
	CALL(open), CALL(openat), CALL(openat2), CALL(creat), CALL(open_by_handle_at),
	CALL(socket), CALL(socketpair), CALL(connect), CALL(bind), CALL(listen), CALL(accept),
	CALL(accept4), CALL(sendto), CALL(sendmsg), CALL(recvmsg),
	CALL(fork), CALL(vfork), CALL(clone), CALL(execve), CALL(execveat),
	CALL(ptrace), CALL(kill), CALL(tkill), CALL(tgkill), CALL(process_vm_readv),
	CALL(process_vm_writev), CALL(pidfd_open), CALL(pidfd_getfd), CALL(pidfd_send_signal),
	CALL(rt_sigqueueinfo), CALL(rt_tgsigqueueinfo), CALL(setuid), CALL(setresuid),
	CALL(unlink), CALL(unlinkat), CALL(rename), CALL(renameat), CALL(renameat2), CALL(mkdir),
	CALL(mkdirat), CALL(rmdir), CALL(link), CALL(linkat), CALL(symlink), CALL(symlinkat),
	CALL(mknod), CALL(mknodat), CALL(chmod), CALL(fchmodat), CALL(chown), CALL(fchownat),
	CALL(truncate), CALL(chdir), CALL(chroot), CALL(mount), CALL(umount2), CALL(pivot_root),
	CALL(unshare), CALL(setns), CALL(bpf), CALL(perf_event_open), CALL(userfaultfd),
	CALL(io_uring_setup), CALL(keyctl), CALL(add_key), CALL(init_module), CALL(finit_module),
	CALL(kexec_load), CALL(reboot),
};
const size_t n_wall_calls = sizeof wall_calls / sizeof wall_calls[0];

/* Of one that stays: what comes; and for each new file what it may grow to. */
static int
seccomp_receiving(scmp_filter_ctx ctx, enum sandbox_receives receives)
{
	int rc = 0;

	if (receives != SANDBOX_RECEIVES_NOTHING)
		rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(recvmsg), 1,
				       SCMP_A0(SCMP_CMP_EQ, WORKER_FD_FIRST));
	if (receives == SANDBOX_RECEIVES_NEW_FILES)
		rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
				       SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A1(SCMP_CMP_EQ, RLIMIT_FSIZE));
	return rc;
}

static int
seccomp_walls(scmp_filter_ctx ctx, enum sandbox_receives receives)
{
	const uint32_t trap = SCMP_ACT_TRAP;
	int rc = 0;

	for (size_t i = 0; i < n_wall_calls; i++) {
		int nr = wall_calls[i].nr;

		if (nr == SCMP_SYS(clone))
			rc |= seccomp_rule_add(ctx, trap, nr, 1,
					       SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
		else if (nr == SCMP_SYS(tgkill))
			continue;
		else if (nr == SCMP_SYS(recvmsg) && receives != SANDBOX_RECEIVES_NOTHING)
			rc |= seccomp_rule_add(ctx, trap, nr, 1,
					       SCMP_A0(SCMP_CMP_NE, WORKER_FD_FIRST));
		else if (nr >= 0)	/* this architecture has it */
			rc |= seccomp_rule_add(ctx, trap, nr, 0);
	}
	return rc;
}

/* The filter as the kernel takes it; made once, for it takes as long as all the rest. It
 * holds nothing of the process: who forks for jobs makes it for them. */
static struct sock_fprog filters[SANDBOX_RECEIVES_IMAGES + 1];	/* by what who has it receives */

/* What libseccomp has made of the rules, which it writes into a file. */
static int
filter_export(scmp_filter_ctx ctx, struct sock_fprog *ret)
{
	CLEANUP_CLOSE int fd = (int)syscall(SYS_memfd_create, "filter", MFD_CLOEXEC);
	CLEANUP_FREE struct sock_filter *code = NULL;
	struct stat st;
	int rc = fd < 0 ? -errno : seccomp_export_bpf(ctx, fd);

	if (rc != 0)
		return rc;
	if (fstat(fd, &st) != 0)
		return -errno;
	if (st.st_size <= 0 || (size_t)st.st_size > BPF_MAXINSNS * sizeof *code)
		return -EINVAL;
	code = smd_calloc((size_t)st.st_size, 1);
	if (pread(fd, code, (size_t)st.st_size, 0) != st.st_size)
		return -EIO;
	ret->len = (unsigned short)((size_t)st.st_size / sizeof *code);
	ret->filter = TAKE_PTR(code);
	return 0;
}

static int
filter_make(enum sandbox_receives receives, struct smd_error *err)
{
	scmp_filter_ctx ctx;
	int rc = 0;

	if (SANDBOX_SANITIZED || filters[receives].filter)
		return 0;
	ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!ctx)
		return sandbox_fail(err, "seccomp_init");
	for (size_t i = 0; i < sizeof sandbox_calls / sizeof *sandbox_calls; i++)
		rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, sandbox_calls[i], 0);
	rc |= seccomp_arguments(ctx);
	rc |= seccomp_receiving(ctx, receives);
	rc |= seccomp_walls(ctx, receives);
	if (rc == 0)
		rc = filter_export(ctx, &filters[receives]);
	seccomp_release(ctx);
	if (rc != 0) {
		errno = rc < 0 ? -rc : EINVAL;
		return sandbox_fail(err, "seccomp");
	}
	return 0;
}

/* A signal for another process, such as another worker or, where it does not run as root,
 * the daemon, which have the same uid. Of two filters the stricter one decides. */
static int
seccomp_own_pid(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tgkill, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT_LOW(0)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)getpid(), 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog filter = { sizeof code / sizeof code[0], code };

	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
}

static int
sandbox_seccomp(enum sandbox_receives receives, struct smd_error *err)
{
	if (SANDBOX_SANITIZED)
		return 0;
	if (filter_make(receives, err) != 0)
		return -1;
	/* The other one lets nobody add filters. */
	if (seccomp_own_pid() != 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filters[receives]) != 0)
		return sandbox_fail(err, "seccomp");
	return 0;
}

int
sandbox_prepare(struct smd_error *err)
{
	return filter_make(SANDBOX_RECEIVES_NOTHING, err) != 0 ||
	       filter_make(SANDBOX_RECEIVES_IMAGES, err) != 0 ? -1 : 0;
}

/* Who started us: the daemon made the socket that is our standard input, and may be
 * gone by now. */
static pid_t
parent_wanted(void)
{
	struct ucred peer;
	socklen_t len = sizeof peer;

	if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid > 0)
		return peer.pid;
	return getppid();
}

int
sandbox_enter(const struct sandbox_limits *limits, struct smd_error *err)
{
	pid_t parent = parent_wanted();

	clearenv();
	sandbox_drop_root();
	/* After the change of uid, which clears it. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		return sandbox_fail(err, "PR_SET_PDEATHSIG");
	if (getppid() != parent)
		raise(SIGKILL);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return sandbox_fail(err, "PR_SET_NO_NEW_PRIVS");
	if (sandbox_limit_all(limits, err) != 0 || sandbox_landlock(err) != 0)
		return -1;
	walls_tell(limits, SANDBOX_SANITIZED);
	return sandbox_seccomp(limits->receives, err);
}
