/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS of the TCP listeners: the certificate and its key, and the moments when we
 * write to a client behind libmicrohttpd's back. GnuTLS is met in tls.c only.
 */
#ifndef SMD_DAEMON_RPC_TLS_H
#define SMD_DAEMON_RPC_TLS_H

#include <stddef.h>

#include "common/error.h"
#include "daemon/config.h"

#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* The two as PEM text, from tls_certificate and tls_key or state_dir's tls.crt and
 * tls.key; the caller frees. */
int tls_load(const struct config *config, char **ret_certificate, char **ret_key,
	     struct smd_error *err);
/* Make a key, and a certificate for this machine's names signed with it, where tls_load
 * looks; *ret_path: the certificate's. What is there is left alone, and an error. */
int tls_make_certificate(const struct config *config, char **ret_path, struct smd_error *err);

/* Send all on a session of MHD's; nothing to be done when it fails. */
void tls_send(void *session, const char *data, size_t len);
/* Nothing more is sent: what came was all of it. */
void tls_end(void *session);

#endif
