/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/worker/walls.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>


/* Lines for the handlers, made before anything can go wrong. */
static char memory_line[128], cpu_line[128], quota_line[128];

/* In handlers: no stdio, no allocation. */
static void
say(const char *line)
{
	(void)!write(STDOUT_FILENO, line, strlen(line));
}

static const char *
call_name(int nr)
{
	for (size_t i = 0; i < n_wall_calls; i++) {
		if (wall_calls[i].nr == nr)
			return wall_calls[i].name;
	}
	return "that is not allowed";
}

/* The call fails with EPERM. False: not known how, on this machine. */
static bool
fail_call(void *context)
{
	ucontext_t *uc = context;

#if defined(__x86_64__)
	uc->uc_mcontext.gregs[REG_RAX] = -EPERM;
	return true;
#elif defined(__aarch64__)
	uc->uc_mcontext.regs[0] = (unsigned long long)-EPERM;
	return true;
#else
	(void)uc;
	return false;
#endif
}

/* Libraries look for files of their own and live without (the number of processors, an
 * archive's character sets): a path is denied, and told. Nothing else is let go on. */
static void
on_call(int sig, siginfo_t *info, void *context)
{
	static volatile sig_atomic_t told;
	const char *name = call_name(info->si_syscall);

	(void)sig;
	if (strncmp(name, "open", 4) == 0 && fail_call(context)) {
		if (!told)
			say("\n{\"denied\":\"a path, by system call openat\"}\n");
		told = 1;
		return;
	}
	say("\n{\"wall\":\"killed by seccomp: system call ");
	say(name);
	say("\"}\n");
	/* Denied again while the signal is blocked: the kernel ends the process. */
	for (;;)
		syscall(SYS_kill, 0, 0);
}

/* Whoever got no memory and did not look: errno is of the allocation still. */
static void
on_fault(int sig)
{
	if (errno == ENOMEM)
		say(memory_line);
	raise(sig);
}

static void
on_cpu(int sig)
{
	say(cpu_line);
	raise(sig);
}

/* The write fails then, with EFBIG. */
static void
on_quota(int sig)
{
	(void)sig;
	say(quota_line);
}

static void
catch(int sig, void (*handler)(int), int flags)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = flags };

	sigaction(sig, &sa, NULL);
}

void
walls_tell(const struct sandbox_limits *limits, bool sanitized)
{
	struct sigaction sa = { .sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_RESTART };

	snprintf(memory_line, sizeof memory_line,
		 "\n{\"wall\":\"out of its memory limit of %llu MiB\"}\n",
		 (unsigned long long)(limits->memory >> 20));
	snprintf(cpu_line, sizeof cpu_line,
		 "\n{\"wall\":\"out of its CPU limit of %llu s of processor time\"}\n",
		 (unsigned long long)limits->cpu_seconds);
	snprintf(quota_line, sizeof quota_line,
		 "\n{\"wall\":\"a write past its quota of %llu MiB for a file\"}\n",
		 (unsigned long long)(limits->file_size >> 20));
	catch(SIGXFSZ, on_quota, SA_RESTART);
	if (sanitized)		/* which has handlers and reports of its own */
		return;
	sigaction(SIGSYS, &sa, NULL);
	catch(SIGSEGV, on_fault, (int)SA_RESETHAND);
	catch(SIGBUS, on_fault, (int)SA_RESETHAND);
	catch(SIGABRT, on_fault, (int)SA_RESETHAND);
	catch(SIGXCPU, on_cpu, (int)SA_RESETHAND);
}
