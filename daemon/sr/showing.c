/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/showing.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/mem.h"
#include "daemon/worker/protocol.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10	/* Linux 5.1; a glibc that is older */
#endif

struct showing {
	int fd;
	struct shown *shown;	/* MAP_FAILED: not mapped */
};

/* All of its memory is taken here, where that can fail, and none of it goes while we or the
 * worker have it mapped. Whoever has the descriptor can write no more. */
static bool
take_memory(struct showing *showing)
{
	const size_t size = sizeof *showing->shown;
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

	showing->fd = memfd_create("smd-shown", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (showing->fd < 0 || fallocate(showing->fd, 0, 0, (off_t)size) != 0)
		return false;
	showing->shown = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			      showing->fd, 0);
	return showing->shown != MAP_FAILED && fcntl(showing->fd, F_ADD_SEALS, seals) == 0;
}

struct showing *
showing_new(void)
{
	struct showing *showing = smd_malloc(sizeof *showing);

	*showing = (struct showing){ .fd = -1, .shown = MAP_FAILED };
	if (take_memory(showing))
		return showing;
	showing_free(showing);
	return NULL;
}

void
showing_free(struct showing *showing)
{
	if (!showing)
		return;
	if (showing->shown != MAP_FAILED)
		munmap(showing->shown, sizeof *showing->shown);
	if (showing->fd >= 0)
		close(showing->fd);
	free(showing);
}

int
showing_fd(const struct showing *showing)
{
	return showing->fd;
}

static bool
put_word(char *place, size_t room, const char *word)
{
	size_t size = strlen(word) + 1;

	if (size > room)
		return false;
	memcpy(place, word, size);
	return true;
}

bool
showing_put(struct showing *showing, size_t i, int fd, const char *name, const char *format)
{
	struct shown_image *image = &showing->shown->images[i];
	struct stat st;

	if (!put_word(image->name, sizeof image->name, name) ||
	    !put_word(image->format, sizeof image->format, format) ||
	    fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	image->size = (uint64_t)st.st_size;
	image->head_len = smd_min_u64(image->size, SHOWN_HEAD);
	/* Why it cannot be read, or less of it, the worker says. */
	return pread(fd, showing->shown->heads[i], image->head_len, 0) ==
	       (ssize_t)image->head_len;
}
