/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "common/mem.h"

#define PEM_MAX (256 * 1024)		/* a certificate with its chain */
#define VALID_S (3650L * 86400)		/* ten years: who trusts it pins it */
#define SEND_TRIES 100

static char *
path_of(const struct config *config, const char *key, const char *name)
{
	CLEANUP_FREE char *path = config_str(config, key);
	CLEANUP_FREE char *state_dir = NULL;

	if (*path)
		return TAKE_PTR(path);
	state_dir = config_str(config, "state_dir");
	return smd_asprintf("%s/%s", state_dir, name);
}

static int
fail_file(const char *path, const char *what, struct smd_error *err)
{
	int errnum = errno;

	smd_fail_INVALID_VALUE(err, "tls", path, "%s: %s: %s", path, what, strerror(errnum));
	err->errnum = errnum;
	return -1;
}

static int
read_pem(const char *path, char **ret, struct smd_error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *text = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) != 0)
		return fail_file(path, "cannot be read (smd --make-certificate makes one)", err);
	if (st.st_size > PEM_MAX) {
		errno = EFBIG;
		return fail_file(path, "is no certificate or key", err);
	}
	text = smd_calloc((size_t)st.st_size + 1, 1);
	n = read(fd, text, (size_t)st.st_size);
	if (n < 0)
		return fail_file(path, "cannot be read", err);
	text[n] = '\0';
	*ret = TAKE_PTR(text);
	return 0;
}

int
tls_load(const struct config *config, char **ret_certificate, char **ret_key,
	 struct smd_error *err)
{
	CLEANUP_FREE char *certificate_path = path_of(config, "tls_certificate", "tls.crt");
	CLEANUP_FREE char *key_path = path_of(config, "tls_key", "tls.key");
	CLEANUP_FREE char *certificate = NULL;

	if (read_pem(certificate_path, &certificate, err) < 0 || read_pem(key_path, ret_key, err) < 0)
		return -1;
	*ret_certificate = TAKE_PTR(certificate);
	return 0;
}

/* ---- A certificate of our own ---------------------------------------------------- */

struct made {
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t certificate;
	gnutls_datum_t key_pem, certificate_pem;
};

static void
made_done(struct made *m)
{
	if (m->key)
		gnutls_x509_privkey_deinit(m->key);
	if (m->certificate)
		gnutls_x509_crt_deinit(m->certificate);
	if (m->key_pem.data)
		gnutls_memset(m->key_pem.data, 0, m->key_pem.size);
	gnutls_free(m->key_pem.data);
	gnutls_free(m->certificate_pem.data);
}

static int
name_it(gnutls_x509_crt_t certificate)
{
	static const unsigned char loopback[4] = { 127, 0, 0, 1 };
	char host[256] = "localhost";
	int rc;

	gethostname(host, sizeof host - 1);
	rc = gnutls_x509_crt_set_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, host,
					   (unsigned)strlen(host));
	if (rc == 0)
		rc = gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME, host,
							  (unsigned)strlen(host), GNUTLS_FSAN_SET);
	if (rc == 0)
		rc = gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME,
							  "localhost", 9, GNUTLS_FSAN_APPEND);
	if (rc == 0)
		rc = gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS, loopback,
							  sizeof loopback, GNUTLS_FSAN_APPEND);
	return rc;
}

static int
sign(struct made *m)
{
	unsigned char serial[16];
	time_t now = time(NULL);
	int rc = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial);

	serial[0] &= 0x7f;	/* a positive number */
	if (rc == 0)
		rc = gnutls_x509_crt_set_version(m->certificate, 3);
	if (rc == 0)
		rc = gnutls_x509_crt_set_serial(m->certificate, serial, sizeof serial);
	if (rc == 0)
		rc = gnutls_x509_crt_set_activation_time(m->certificate, now - 3600);
	if (rc == 0)
		rc = gnutls_x509_crt_set_expiration_time(m->certificate, now + VALID_S);
	if (rc == 0)
		rc = gnutls_x509_crt_set_basic_constraints(m->certificate, 1, 0);
	if (rc == 0)
		rc = gnutls_x509_crt_set_key(m->certificate, m->key);
	if (rc == 0)
		rc = name_it(m->certificate);
	if (rc == 0)
		rc = gnutls_x509_crt_sign2(m->certificate, m->certificate, m->key, GNUTLS_DIG_SHA256, 0);
	return rc;
}

static int
make(struct made *m)
{
	int rc = gnutls_x509_privkey_init(&m->key);

	if (rc == 0)
		rc = gnutls_x509_crt_init(&m->certificate);
	if (rc == 0)
		rc = gnutls_x509_privkey_generate(m->key, GNUTLS_PK_ECDSA,
						  GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	if (rc == 0)
		rc = sign(m);
	if (rc == 0)
		rc = gnutls_x509_privkey_export2(m->key, GNUTLS_X509_FMT_PEM, &m->key_pem);
	if (rc == 0)
		rc = gnutls_x509_crt_export2(m->certificate, GNUTLS_X509_FMT_PEM,
					     &m->certificate_pem);
	return rc;
}

static int
write_new(const char *path, mode_t mode, const gnutls_datum_t *pem, struct smd_error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	if (fd < 0)
		return fail_file(path, "cannot be made", err);
	if (write(fd, pem->data, pem->size) != (ssize_t)pem->size || fsync(fd) != 0) {
		fail_file(path, "cannot be written", err);
		unlink(path);
		return -1;
	}
	return 0;
}

int
tls_make_certificate(const struct config *config, char **ret_path, struct smd_error *err)
{
	CLEANUP_FREE char *certificate_path = path_of(config, "tls_certificate", "tls.crt");
	CLEANUP_FREE char *key_path = path_of(config, "tls_key", "tls.key");
	CLEANUP(made_done) struct made m = { .key = NULL };
	int rc = make(&m);

	if (rc != 0)
		return smd_fail_INTERNAL_ERROR(err, "tls", "no certificate could be made: %s",
					       gnutls_strerror(rc));
	if (write_new(key_path, 0600, &m.key_pem, err) < 0)
		return -1;
	if (write_new(certificate_path, 0644, &m.certificate_pem, err) < 0) {
		unlink(key_path);
		return -1;
	}
	*ret_path = TAKE_PTR(certificate_path);
	return 0;
}

/* ---- On a session -------------------------------------------------------------------- */

void
tls_send(void *session, const char *data, size_t len)
{
	for (int tries = 0; len > 0 && tries < SEND_TRIES; tries++) {
		ssize_t n = gnutls_record_send(session, data, len);

		if (n < 0 && n != GNUTLS_E_AGAIN && n != GNUTLS_E_INTERRUPTED)
			return;
		if (n < 0) {
			const struct timespec pause = { 0, 10 * 1000000L };

			nanosleep(&pause, NULL);
			continue;
		}
		data += n;
		len -= (size_t)n;
		tries = 0;
	}
}

void
tls_end(void *session)
{
	gnutls_bye(session, GNUTLS_SHUT_WR);
}
