/* Certificates of the cluster's own authority (X.509, EC P-256): make, sign, look at. PEM text in
 * and out; the caller frees results with free(). Thread: any, blocking for some milliseconds. */
#ifndef TESSERA_SYS_CERT_H
#define TESSERA_SYS_CERT_H

#include <stddef.h>
#include <stdint.h>

#include "tessera/base/err.h"

/* New key pair as PKCS#8 PEM. */
int cert_key_new(char **key_pem_out);
/* Self-signed authority, @days valid. */
int cert_authority_new(const char *common_name, int days, char **cert_pem_out, char **key_pem_out);
/* Certificate signing request for @key_pem with common name only (PKCS#10, RFC 2986). */
int cert_request_new(const char *key_pem, const char *common_name, char **csr_pem_out);
/* Sign a request: the CSR gives only the public key; names come from the caller.
 * @alt_names: "DNS:host1", "IP:127.0.0.1", ... ; server and client use. */
int cert_sign(const char *csr_pem, const char *common_name, const char *const *alt_names,
              size_t alt_count, int days, const char *ca_cert_pem, const char *ca_key_pem,
              char **cert_pem_out, struct err *err);
/* SHA-256 over the DER form. */
int cert_fingerprint(const char *cert_pem, uint8_t out[32]);
/* Seconds since the epoch at which it ends. */
int cert_not_after(const char *cert_pem, int64_t *seconds_out);
/* AES-256-GCM with a random nonce in front; @key has 32 bytes. Output freed by the caller. */
int seal_encrypt(const uint8_t key[32], const void *data, size_t size, uint8_t **out,
                 size_t *out_size);
int seal_decrypt(const uint8_t key[32], const void *data, size_t size, uint8_t **out,
                 size_t *out_size);
/* scrypt (RFC 7914) with N=2^14, r=8, p=1: for passwords; some 50 ms. */
int password_hash(const char *password, const uint8_t salt[16], uint8_t out[32]);

#endif
