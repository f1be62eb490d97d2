#include "image/data_check.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"

struct data_check {
    struct digest *digest;
    const char *algo;
    uint8_t want[DIGEST_MAX];
    size_t size;
};

static const struct {
    const char *name;
    enum digest_kind kind;
} kinds[] = {{"md5", DIGEST_MD5},
             {"sha1", DIGEST_SHA1},
             {"sha256", DIGEST_SHA256},
             {"sha512", DIGEST_SHA512}};

int data_check_new(const char *algo, const char *hex, struct data_check **out, struct err *err)
{
    for (size_t n = 0; n < array_len(kinds); n++) {
        if (strcmp(kinds[n].name, algo) != 0) {
            continue;
        }
        struct data_check *c = calloc(1, sizeof(*c));
        if (c == NULL) {
            return TSR_ENOMEM;
        }
        c->algo = kinds[n].name;
        c->size = digest_size(kinds[n].kind);
        if (strlen(hex) != 2 * c->size || hex_decode(hex, 2 * c->size, c->want, c->size) != 0) {
            free(c);
            return err_set(err, TSR_EINVAL, "The hash is not one of %s in hexadecimal digits.",
                           kinds[n].name);
        }
        c->digest = digest_new(kinds[n].kind);
        if (c->digest == NULL) {
            free(c);
            return TSR_ENOMEM;
        }
        *out = c;
        return 0;
    }
    return err_set(err, TSR_EINVAL, "The hash algorithm is none of md5, sha1, sha256, sha512.");
}

void data_check_free(struct data_check *c)
{
    if (c != NULL) {
        digest_free(c->digest);
        free(c);
    }
}

void data_check_write(struct data_check *c, const void *data, size_t size)
{
    digest_update(c->digest, data, size);
}

int data_check_finish(struct data_check *c, struct err *err)
{
    uint8_t got[DIGEST_MAX];
    digest_final(c->digest, got);
    return memcmp(got, c->want, c->size) == 0
               ? 0
               : err_set(err, TSR_EINVAL, "The data does not have the %s hash that was given.",
                         c->algo);
}
