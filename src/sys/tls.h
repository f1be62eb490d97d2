/* TLS contexts as sys/ sees them: the one door to OpenSSL's libssl. */
#ifndef SYS_TLS_H
#define SYS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "tessera/sys/net.h"

enum { TLS_NAME_MAX = 256 };

/* A new session over the non-blocking socket @fd, ready for SSL_do_handshake. NULL when out of
 * memory or @server_name is impossible. */
SSL *tls_session_new(struct tls *tls, int fd, const char *server_name);
/* Common name of the verified peer; false when there is none. */
bool tls_peer_name(SSL *ssl, char out[TLS_NAME_MAX]);
/* Fingerprints of @leaf and of the last certificate of @chain, if @leaf is really signed by that
 * one: anybody can show the authority's certificate behind a leaf of his own. */
int tls_chain_check(X509 *leaf, STACK_OF(X509) * chain, uint8_t leaf_out[32], uint8_t root_out[32]);
/* Writing to a connection that the other side closed must not kill the process. */
void tls_ignore_sigpipe(void);

#endif
