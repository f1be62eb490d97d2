/* Signatures over a digest, checked against an X.509 certificate (RFC 5280): RSA-PSS (RFC 8017 8.1,
 * any salt length), DSA and ECDSA (FIPS 186). Thread: any; some milliseconds. */
#ifndef TESSERA_SYS_SIGNATURE_H
#define TESSERA_SYS_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/digest.h"
#include "tessera/base/err.h"

/* "RSA-PSS", "DSA", "ECC_SECT571K1" and the other curves that OpenStack names. */
bool signature_type_known(const char *key_type);

/* Is @signature (DER for DSA and ECDSA) that of @digest by the key of the certificate? 0;
 * TSR_EINVAL with a sentence: it is not, the key is of another type, the certificate is not one or
 * not valid at @now_s (seconds since the epoch). */
int signature_check(const char *cert_pem, const char *key_type, enum digest_kind kind,
                    const uint8_t *digest, const void *signature, size_t signature_size,
                    int64_t now_s, struct err *err);

#endif
