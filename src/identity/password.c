/* Passwords as they are stored: "scrypt$<salt hex>$<hash hex>". */
#include <stdio.h>
#include <string.h>

#include "identity/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"
#include "tessera/sys/cert.h"

enum { SALT_SIZE = 16, HASH_SIZE = 32 };
static const char prefix[] = "scrypt$";
enum {
    PREFIX_SIZE = sizeof(prefix) - 1,
    TEXT_SIZE = PREFIX_SIZE + 2 * (SALT_SIZE + HASH_SIZE) + 1
};

int password_text(const char *password, const uint8_t salt[16], char out[PASSWORD_TEXT_MAX])
{
    uint8_t hash[HASH_SIZE];
    char salt_hex[2 * SALT_SIZE + 1], hash_hex[2 * HASH_SIZE + 1];
    int rv = password_hash(password, salt, hash);
    if (rv != 0) {
        return rv;
    }
    hex_encode(salt, SALT_SIZE, salt_hex);
    hex_encode(hash, HASH_SIZE, hash_hex);
    (void)snprintf(out, PASSWORD_TEXT_MAX, "%s%s$%s", prefix, salt_hex, hash_hex);
    return 0;
}

static bool parse(const char *text, uint8_t salt[SALT_SIZE], uint8_t hash[HASH_SIZE])
{
    if (text == NULL || strlen(text) != TEXT_SIZE || !str_starts(text, prefix)) {
        return false;
    }
    const char *salt_hex = text + PREFIX_SIZE, *dollar = salt_hex + 2 * SALT_SIZE;
    return *dollar == '$' && hex_decode(salt_hex, 2 * SALT_SIZE, salt, SALT_SIZE) == 0 &&
           hex_decode(dollar + 1, 2 * HASH_SIZE, hash, HASH_SIZE) == 0;
}

bool password_verify(const char *password, const char *text)
{
    uint8_t salt[SALT_SIZE] = {0}, want[HASH_SIZE] = {0}, got[HASH_SIZE] = {0};
    bool known = parse(text, salt, want);
    bool hashed = password_hash(password, salt, got) == 0;
    bool equal = digest_compare(want, got, HASH_SIZE) == 0;
    explicit_bzero(got, sizeof(got));
    return known && hashed && equal;
}

/* --- hashing in the auth pool
 * ------------------------------------------------------------------------ */

static void hash_run(struct work *work)
{
    struct identity_hash *req = container_of(work, struct identity_hash, work);
    req->status = password_text(req->password, req->salt, req->text);
}

static void hash_finish(struct identity_hash *req)
{
    req->cb(req, req->status, req->status == 0 ? req->text : NULL);
}

static void hash_done(struct work *work)
{
    hash_finish(container_of(work, struct identity_hash, work));
}

static void hash_refused(struct task *task)
{
    hash_finish(container_of(task, struct identity_hash, work.task));
}

void identity_hash_start(struct identity *id, struct identity_hash *req)
{
    req->status = pool_depth(id->auth_pool) >= AUTH_QUEUE_MAX ? TSR_EBUSY
                  : strnlen(req->password, PASSWORD_BYTES_MAX + 1) > PASSWORD_BYTES_MAX
                      ? TSR_ETOOBIG
                      : 0;
    if (req->status != 0) {
        req->work.task.run = hash_refused;
        loop_post(req->loop, &req->work.task);
        return;
    }
    loop_random(req->loop, req->salt, sizeof(req->salt));
    req->work.loop = req->loop;
    req->work.run = hash_run;
    req->work.done = hash_done;
    pool_submit(id->auth_pool, &req->work);
}
