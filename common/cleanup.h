/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ownership by scope: CLEANUP(fn) frees a variable when its scope ends,
 * TAKE_PTR(p) and TAKE_FD(fd) hand it on first. Every cleaner takes the
 * address of the variable and bears NULL (or -1).
 */
#ifndef SMD_COMMON_CLEANUP_H
#define SMD_COMMON_CLEANUP_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

#define TAKE_PTR(p) __extension__({		\
	__typeof__(p) take_ptr_ = (p);		\
	(p) = NULL;				\
	take_ptr_;				\
})

#define TAKE_FD(fd) __extension__({		\
	int take_fd_ = (fd);			\
	(fd) = -1;				\
	take_fd_;				\
})

static inline void
cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void
cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void
cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void
cleanup_unlock(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}

/* Hold a mutex until the enclosing scope ends. */
#define LOCK_SCOPE(mutex) \
	CLEANUP(cleanup_unlock) __attribute__((unused)) pthread_mutex_t *lock_scope_ = (mutex); \
	pthread_mutex_lock(lock_scope_)

#define CLEANUP_FREE CLEANUP(cleanup_free)
#define CLEANUP_CLOSE CLEANUP(cleanup_close)

#endif
