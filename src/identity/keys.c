/* Keys that sign tokens: which one is used, and a cache of opened ones.
 *
 * A key signs from one minute after it was made (so that every host has its record by then; the
 * very first one at once) until a newer one does. There is no end date in the record: a cluster
 * that can not rotate for a day (no majority) must go on letting people in. Old keys are removed by
 * duties.c; a host notices within a minute, as that is how long an opened key is used without
 * looking. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "identity/internal.h"
#include "tessera/base/id.h"
#include "tessera/base/log.h"
#include "tessera/sys/cert.h"

static const int64_t minute_us = 60 * INT64_C(1000000);
enum { SEALED_MAX = 256, KEYS_MAX = 1000 };

int auth_code(int rv)
{
    if (rv == 0) {
        return 0;
    }
    return rv == TSR_ENOENT || rv == TSR_EUNAUTHORIZED ? TSR_EUNAUTHORIZED : TSR_EUNAVAILABLE;
}

/* --- records
 * -------------------------------------------------------------------------------------- */

int key_record_new(const uint8_t cluster_key[32], struct loop *loop, int64_t now_us, char id_out[9],
                   json_t **out)
{
    uint8_t secret[TOKEN_KEY_SIZE], *sealed = NULL;
    size_t size = 0;
    char text[4 * (SEALED_MAX + 2) / 3 + 1];
    uint32_t id = 0;
    loop_random(loop, &id, sizeof(id));
    loop_random(loop, secret, sizeof(secret));
    (void)snprintf(id_out, 9, "%08" PRIx32, id);
    int rv = seal_encrypt(cluster_key, secret, sizeof(secret), &sealed, &size);
    explicit_bzero(secret, sizeof(secret));
    if (rv != 0) {
        return rv;
    }
    if (size > SEALED_MAX) {
        free(sealed);
        return TSR_EINTERNAL;
    }
    base64url_encode(sealed, size, text);
    free(sealed);
    *out = json_pack("{s:s,s:s,s:I}", "id", id_out, "key", text, "created_at", (json_int_t)now_us);
    return *out == NULL ? TSR_ENOMEM : 0;
}

static int record_open(const struct identity *id, const json_t *record, uint8_t out[TOKEN_KEY_SIZE])
{
    uint8_t sealed[SEALED_MAX], *secret = NULL;
    size_t size = 0;
    const char *text = json_str_or(record, "key", "");
    long sealed_size = base64url_decode(text, strlen(text), sealed, sizeof(sealed));
    int rv = sealed_size < 0
                 ? TSR_ECORRUPT
                 : seal_decrypt(id->cluster_key, sealed, (size_t)sealed_size, &secret, &size);
    if (rv == 0 && size != TOKEN_KEY_SIZE) {
        rv = TSR_ECORRUPT;
    }
    if (rv == 0) {
        memcpy(out, secret, TOKEN_KEY_SIZE);
    }
    if (secret != NULL) {
        explicit_bzero(secret, size);
        free(secret);
    }
    if (rv != 0) {
        log_error("identity", "token key %s can not be opened: %s", json_str_or(record, "id", "?"),
                  err_text(rv));
        return TSR_EUNAVAILABLE;
    }
    return 0;
}

/* --- cache
 * ----------------------------------------------------------------------------------------- */

static bool is_fresh(const struct cached_key *k, int64_t now_us)
{
    return now_us - k->loaded_us < minute_us && k->loaded_us - now_us < minute_us;
}

static bool cache_get(struct identity *id, uint32_t key_id, int64_t now_us,
                      uint8_t out[TOKEN_KEY_SIZE])
{
    bool found = false;
    pthread_mutex_lock(&id->key_lock);
    for (size_t i = 0; i < KEY_CACHE_SIZE && !found; i++) {
        struct cached_key *k = &id->keys[i];
        if (k->used && k->id == key_id && is_fresh(k, now_us)) {
            memcpy(out, k->secret, TOKEN_KEY_SIZE);
            found = true;
        }
    }
    pthread_mutex_unlock(&id->key_lock);
    return found;
}

/* Replaces the same id, else a free place, else what was loaded longest ago. */
static void cache_put(struct identity *id, uint32_t key_id, int64_t now_us,
                      const uint8_t secret[TOKEN_KEY_SIZE])
{
    pthread_mutex_lock(&id->key_lock);
    struct cached_key *best = &id->keys[0];
    for (size_t i = 0; i < KEY_CACHE_SIZE; i++) {
        struct cached_key *k = &id->keys[i];
        if (k->used && k->id == key_id) {
            best = k;
            break;
        }
        if (best->used && (!k->used || k->loaded_us < best->loaded_us)) {
            best = k;
        }
    }
    best->used = true;
    best->id = key_id;
    best->loaded_us = now_us;
    memcpy(best->secret, secret, TOKEN_KEY_SIZE);
    pthread_mutex_unlock(&id->key_lock);
}

int key_find(struct identity *id, struct meta_view *view, uint32_t key_id, int64_t now_us,
             uint8_t out[TOKEN_KEY_SIZE])
{
    char text[9];
    json_t *record = NULL;
    if (cache_get(id, key_id, now_us, out)) {
        return 0;
    }
    (void)snprintf(text, sizeof(text), "%08" PRIx32, key_id);
    int rv = auth_code(meta_dir_get(view, "token_key", text, &record));
    if (rv == 0) {
        rv = record_open(id, record, out);
        json_decref(record);
    }
    if (rv == 0) {
        cache_put(id, key_id, now_us, out);
    }
    return rv;
}

/* --- signing
 * ----------------------------------------------------------------------------------------- */

static bool is_newer(const json_t *a, const json_t *b)
{
    return b == NULL || json_int(a, "created_at", 0) > json_int(b, "created_at", 0);
}

/* Newest of those that every host should have; if all are younger, the oldest. */
static const json_t *choose(const json_t *records, int64_t now_us)
{
    const json_t *settled = NULL, *oldest = NULL, *record;
    size_t i;
    json_array_foreach(records, i, record)
    {
        bool old_enough = json_int(record, "created_at", 0) <= now_us - minute_us;
        if (old_enough && is_newer(record, settled)) {
            settled = record;
        }
        if (oldest == NULL || is_newer(oldest, record)) {
            oldest = record;
        }
    }
    return settled != NULL ? settled : oldest;
}

int key_signing(struct identity *id, struct meta_view *view, int64_t now_us, uint32_t *key_id_out,
                uint8_t out[TOKEN_KEY_SIZE])
{
    json_t *records = NULL;
    uint8_t bytes[4];
    int rv = meta_dir_list(view, "token_key", "", "", KEYS_MAX, &records);
    if (rv != 0) {
        return TSR_EUNAVAILABLE;
    }
    const json_t *record = choose(records, now_us);
    const char *text = json_str_or(record, "id", "");
    rv = record == NULL || hex_decode(text, strlen(text), bytes, sizeof(bytes)) != 0
             ? TSR_EUNAVAILABLE
             : 0;
    if (rv == 0) {
        *key_id_out = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 |
                      (uint32_t)bytes[2] << 8 | bytes[3];
        rv = key_find(id, view, *key_id_out, now_us, out);
    }
    json_decref(records);
    return rv == TSR_EUNAUTHORIZED ? TSR_EUNAVAILABLE : rv;
}
