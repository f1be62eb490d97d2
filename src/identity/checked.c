/* Tokens that were checked against a state of the directory: the same token against the same state
 * gives the same caller, so only its end is left to be looked at. Saves the reading of five records
 * a request while nothing changes. Tokens are known by their digest; those of application
 * credentials, whose own end may come earlier, are not kept. */
#include <string.h>

#include "identity/internal.h"
#include "tessera/base/digest.h"

static struct checked_slot *slot_of(struct identity *id, const uint8_t digest[32])
{
    return &id->checked[(digest[0] | (size_t)digest[1] << 8) % CHECKED_SLOTS];
}

bool checked_get(struct identity *id, const uint8_t digest[32], uint64_t state, int64_t now_us,
                 struct caller *out)
{
    pthread_mutex_lock(&id->checked_lock);
    const struct checked_slot *slot = slot_of(id, digest);
    bool found = slot->state == state && state != 0 && slot->caller.expires_us > now_us &&
                 digest_compare(slot->digest, digest, sizeof(slot->digest)) == 0;
    if (found) {
        *out = slot->caller;
    }
    pthread_mutex_unlock(&id->checked_lock);
    return found;
}

void checked_put(struct identity *id, const uint8_t digest[32], uint64_t state,
                 const struct caller *caller)
{
    if (caller->appcred_id[0] != '\0') {
        return;
    }
    pthread_mutex_lock(&id->checked_lock);
    struct checked_slot *slot = slot_of(id, digest);
    memcpy(slot->digest, digest, sizeof(slot->digest));
    slot->state = state;
    slot->caller = *caller;
    pthread_mutex_unlock(&id->checked_lock);
}
