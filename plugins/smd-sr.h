/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contract between smd and an SR driver. See smd-sr(3).
 *
 * A driver knows where bytes live: it makes, opens, lists, renames and deletes
 * volumes and says how much room there is. It does not know what a volume holds.
 * A driver is a shared object that includes this header and nothing else of
 * smd's, exports smd_sr_init (SMD_REGISTER_SR makes it) and is loaded by the
 * daemon, so it parses nothing that a guest or a client wrote.
 *
 * History of the ABI
 *   1  (0.1)  first release
 * Members are appended, never reordered or removed, as in smd-format.h.
 *
 * Units: bytes, uint64_t. Strings in are borrowed; strings passed to a callback
 * are valid during the call. Descriptors returned are the host's to close, and
 * are O_CLOEXEC.
 * Threads: the host serialises create, probe, attach, detach and destroy of one SR;
 * the functions on an attached SR may run in parallel for different volumes. What a driver
 * is to call for each volume it may call from a thread of its own, but one at a time.
 * Errors: 0, or -1 after one call of smd_sr_fail().
 */
#ifndef SMD_SR_H
#define SMD_SR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SMD_SR_ABI 1

struct smd_error;			/* opaque here */

/* xapi's numbers for what can go wrong below an SR: the code becomes
 * SR_BACKEND_FAILURE_<n> ["", reason, detail], except where xapi has a name. */
enum smd_sr_failure {
	SMD_SR_FAIL_NO_SPACE = 44,
	SMD_SR_FAIL_SCAN = 40,
	SMD_SR_FAIL_VOLUME_EXISTS = 43,
	SMD_SR_FAIL_VOLUME_UNAVAILABLE = 46,
	SMD_SR_FAIL_SR_UNAVAILABLE = 47,
	SMD_SR_FAIL_CREATE_SR = 61,
	SMD_SR_FAIL_DELETE_SR = 62,
	SMD_SR_FAIL_DELETE_VOLUME = 64,
	SMD_SR_FAIL_CREATE_VOLUME = 78,
	SMD_SR_FAIL_NO_LOCATION = 94,
	SMD_SR_FAIL_OTHER = 202,
	SMD_SR_FAIL_IN_USE = 16,	/* SR_DEVICE_IN_USE */
	SMD_SR_FAIL_NOT_EMPTY = 39,	/* SR_NOT_EMPTY */
};

struct smd_sr_host {
	uint32_t abi;
	uint32_t struct_size;
	/* errnum: errno where it began, 0: none; it joins the message. */
	void (*fail)(struct smd_error *err, enum smd_sr_failure failure, int errnum,
		     const char *fmt, va_list ap);
	void (*debug)(const char *fmt, va_list ap);
};

extern const struct smd_sr_host *smd_sr_host __attribute__((visibility("hidden")));

/* return smd_sr_fail(err, SMD_SR_FAIL_…, errno, "…", …); always -1. */
__attribute__((format(printf, 4, 5), unused)) static int
smd_sr_fail(struct smd_error *err, enum smd_sr_failure failure, int errnum, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(smd_sr_host->fail)(err, failure, errnum, fmt, ap);	/* cmocka.h has a macro fail() */
	va_end(ap);
	return -1;
}

/* A map of strings, for device_config: n pairs. */
struct smd_sr_config {
	size_t n;
	const char *const *keys;
	const char *const *values;
};

/* A key a driver's device_config may have, for SM.configuration and checks. */
struct smd_sr_key {
	const char *name;
	const char *doc;
	bool required;
};

struct smd_sr_stat {
	uint64_t total;		/* physical size */
	uint64_t free;		/* room for new volumes now */
	uint64_t used;		/* what is taken; 0: total less free. The rest is kept back from
				 * volumes, as a file system does for root */
};

struct smd_sr_volume {
	const char *name;	/* unique in the SR; what volume_open takes */
	uint64_t size;		/* of the store */
	uint64_t allocated;	/* what it really takes */
};
typedef int smd_sr_volume_fn(void *opaque, const struct smd_sr_volume *volume,
			     struct smd_error *err);
typedef int smd_sr_stamped_fn(void *opaque, const struct smd_sr_volume *volume, const char *stamp,
			     struct smd_error *err);

/* One SR found by probe: its uuid where it carries one, else "". */
typedef int smd_sr_found_fn(void *opaque, const char *uuid, const struct smd_sr_config *config,
			    uint64_t total, struct smd_error *err);

#define SMD_SR_STAMP_MAX 128u	/* bytes of a volume_stamp, with its NUL */

#define SMD_SR_SHARES_MAX 64u	/* bytes of a shares, with its NUL */

#define SMD_SR_CAN_GROW 0x1u	/* volumes grow as they are written: thin */

#define SMD_SR_OPEN_WRITE 0x1u

struct smd_sr_driver {
	uint32_t abi;
	uint32_t struct_size;
	const char *type;		/* lower case: SR.type, SM.type */
	const char *name_label;
	const char *name_description;
	const char *vendor;
	const char *copyright;
	const char *version;
	const char *required_api_version;
	const struct smd_sr_key *configuration;	/* ended by a NULL name */
	const char *const *features;		/* "SR_PROBE", "VDI_CREATE/1", …; NULL-terminated */
	/* Image formats the driver takes, in the order it prefers; NULL-terminated.
	 * The host drops those no loaded module serves. { NULL }: all loaded ones
	 * whose needs the driver meets. NULL: undeclared; SM.supported_image_formats
	 * is empty, nothing is checked, and choose_format is asked. */
	const char *const *formats;
	uint64_t caps;			/* SMD_SR_CAN_* */
	uint64_t max_volume_size;	/* 0: no limit of the driver's own */

	/* Prepare a place that must not hold an SR yet. May not run twice. */
	int (*create)(const char *sr_uuid, const struct smd_sr_config *config, struct smd_error *err);
	/* Make *ret_sr usable. Idempotent over a crash. */
	int (*attach)(const char *sr_uuid, const struct smd_sr_config *config, void **ret_sr,
		      struct smd_error *err);
	void (*detach)(void *sr);
	/* Remove an attached, empty SR from its place; then it is detached. */
	int (*destroy)(void *sr, struct smd_error *err);
	int (*stat)(void *sr, struct smd_sr_stat *ret, struct smd_error *err);
	/* Every volume, in any order; the driver's own bookkeeping left out. What else
	 * lies there, under a name that volume_open refuses, may be among them. */
	int (*scan)(void *sr, smd_sr_volume_fn *add, void *opaque, struct smd_error *err);
	int (*probe)(const struct smd_sr_config *config, smd_sr_found_fn *found, void *opaque,
		     struct smd_error *err);

	/* Names are plain: [A-Za-z0-9._-]+, no leading dot, at most 128 bytes.
	 * volume_create: size is the least room the volume must have (0: thin
	 * drivers allocate as it is written). Fails where the name exists. A power
	 * cut may take it away again until it is renamed. */
	int (*volume_create)(void *sr, const char *name, uint64_t size, int *ret_fd,
			     struct smd_error *err);
	/* open, stat: a volume that is not there is VOLUME_UNAVAILABLE, errnum ENOENT. */
	int (*volume_open)(void *sr, const char *name, uint32_t flags, int *ret_fd,
			   struct smd_error *err);
	int (*volume_stat)(void *sr, const char *name, struct smd_sr_volume *ret,
			   struct smd_error *err);
	/* Atomic and durable on return; fails where to exists. */
	int (*volume_rename)(void *sr, const char *from, const char *to, struct smd_error *err);
	/* Durable on return. A volume that is gone already is fine. */
	int (*volume_delete)(void *sr, const char *name, struct smd_error *err);

	/* A driver with undeclared formats names the one it wants: asked is the
	 * caller's wish or "". Returns a string of the driver's. */
	const char *(*choose_format)(void *sr, const char *asked);

	/* The records smd keeps with the SR (JSON, opaque to the driver), so that it
	 * can be forgotten here and introduced elsewhere. Replaced atomically and
	 * durably. load: *ret_text is malloc'ed by the driver and freed by the
	 * host; NULL when there are none. Both NULL: the driver keeps none. */
	int (*records_load)(void *sr, char **ret_text, struct smd_error *err);
	int (*records_save)(void *sr, const char *text, struct smd_error *err);

	/* What tells whether a volume's bytes may have changed: two equal texts say
	 * that they have not, "" that this volume tells nothing now (it was changed
	 * so lately that another change would not show). NULL: no volume does. */
	int (*volume_stamp)(void *sr, const char *name, char ret[SMD_SR_STAMP_MAX],
			    struct smd_error *err);

	/* With which other SRs of the driver's the volumes of this one can share extents
	 * (FICLONERANGE): with those that give the same text, itself among them; "": none.
	 * NULL: no SR does. The host then asks for no room for what a copy shares. */
	int (*shares)(void *sr, char ret[SMD_SR_SHARES_MAX], struct smd_error *err);

	/* scan, with the volume_stamp of each: where the driver learns it with the rest, so
	 * that very many are looked at once and not twice. NULL: the host asks for each. */
	int (*scan_stamped)(void *sr, smd_sr_stamped_fn *add, void *opaque, struct smd_error *err);

	/* volume_rename in two steps, for names that need not be durable one by one: a name that
	 * volume_rename_soon gave is durable once sync_names, begun after it, has returned.
	 * Both or none; NULL: the host takes volume_rename. */
	int (*volume_rename_soon)(void *sr, const char *from, const char *to, struct smd_error *err);
	int (*sync_names)(void *sr, struct smd_error *err);

	/* For who is going to open all of them: scan that tells of no sizes (0), and volume_open
	 * for reading, with what volume_stat and volume_stamp say then. Both or none; NULL: the
	 * host takes those. */
	int (*scan_names)(void *sr, smd_sr_volume_fn *add, void *opaque, struct smd_error *err);
	int (*volume_open_stamped)(void *sr, const char *name, int *ret_fd,
				   struct smd_sr_volume *ret, char stamp[SMD_SR_STAMP_MAX],
				   struct smd_error *err);
	/* --- ABI 1 ends here: append below, never reorder, never remove. --- */
};

typedef const struct smd_sr_driver *smd_sr_init_fn(const struct smd_sr_host *host);
extern smd_sr_init_fn smd_sr_init;

/* SMD_REGISTER_SR(file_driver), in one source file of the driver. */
#define SMD_REGISTER_SR(driver)							\
	const struct smd_sr_host *smd_sr_host;					\
	__attribute__((visibility("default"))) const struct smd_sr_driver *	\
	smd_sr_init(const struct smd_sr_host *host)				\
	{									\
		static struct smd_sr_driver registered;				\
										\
		smd_sr_host = host;						\
		registered = (driver);						\
		registered.abi = SMD_SR_ABI;					\
		registered.struct_size = sizeof registered;			\
		return &registered;						\
	}

#ifdef __cplusplus
}
#endif

#endif
