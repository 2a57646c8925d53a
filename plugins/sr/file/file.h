/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An SR that is a directory: each volume a file in it. Files whose names begin
 * with a dot are the driver's own:
 *   .smd-sr            the uuid of the SR and a newline; locked while attached
 *   .smd-records.json  the records smd keeps with the SR
 *   .smd-*.tmp         one of these being replaced; left by a crash, harmless
 */
#ifndef SMD_SR_FILE_H
#define SMD_SR_FILE_H

#include "plugins/smd-sr.h"

#define FILE_MARKER ".smd-sr"
#define FILE_RECORDS ".smd-records.json"
#define FILE_NAME_MAX 128u
#define FILE_UUID_LEN 36u
#define FILE_RECORDS_MAX (256u << 20)

struct file_sr {
	int dir;		/* every name is opened beneath it */
	int marker;		/* holds the lock */
	char uuid[FILE_UUID_LEN + 1];
	char *location;		/* for messages */
};

/* Open a name beneath dir, following no link. -1 with errno. */
int file_open_beneath(int dir, const char *name, uint64_t flags, uint64_t mode);
/* Whether a volume may have this name. */
bool file_name_ok(const char *name);
/* Replace a file of the driver's own, durably. */
int file_replace(int dir, const char *name, const char *text, size_t len);

int file_scan(void *opaque, smd_sr_volume_fn *add, void *add_opaque, struct smd_error *err);
int file_volume_create(void *opaque, const char *name, uint64_t size, int *ret_fd,
		       struct smd_error *err);
int file_volume_open(void *opaque, const char *name, uint32_t flags, int *ret_fd,
		     struct smd_error *err);
int file_volume_stat(void *opaque, const char *name, struct smd_sr_volume *ret,
		     struct smd_error *err);
int file_scan_stamped(void *opaque, smd_sr_stamped_fn *add, void *add_opaque,
		      struct smd_error *err);
int file_scan_names(void *opaque, smd_sr_volume_fn *add, void *add_opaque, struct smd_error *err);
int file_volume_open_stamped(void *opaque, const char *name, int *ret_fd,
			     struct smd_sr_volume *ret, char stamp[SMD_SR_STAMP_MAX],
			     struct smd_error *err);
int file_volume_stamp(void *opaque, const char *name, char ret[SMD_SR_STAMP_MAX],
		      struct smd_error *err);
int file_shares(void *opaque, char ret[SMD_SR_SHARES_MAX], struct smd_error *err);
int file_volume_rename(void *opaque, const char *from, const char *to, struct smd_error *err);
int file_volume_rename_soon(void *opaque, const char *from, const char *to,
			    struct smd_error *err);
int file_sync_names(void *opaque, struct smd_error *err);
int file_volume_delete(void *opaque, const char *name, struct smd_error *err);
int file_records_load(void *opaque, char **ret_text, struct smd_error *err);
int file_records_save(void *opaque, const char *text, struct smd_error *err);

#endif
