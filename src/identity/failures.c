/* Failed logins of one user in this process: more than FAILURES_MAX within a minute and further
 * tries are refused until that minute is over. A fixed table: when it is full of other users the
 * oldest count is forgotten, which a flood of names can use to hide, but not to lock anybody out.
 */
#include <string.h>

#include "identity/internal.h"
#include "tessera/base/digest.h"

enum { WAYS = 8, WINDOW_MS = 60 * 1000, NAME_MAX_HASHED = 512 };

/* Never 0. */
uint64_t failure_key(const char *a, const char *b)
{
    uint8_t text[2 * NAME_MAX_HASHED + 1], digest[32];
    size_t a_size = strnlen(a, NAME_MAX_HASHED), b_size = strnlen(b, NAME_MAX_HASHED);
    memcpy(text, a, a_size);
    text[a_size] = 0;
    memcpy(text + a_size + 1, b, b_size);
    digest_of(DIGEST_SHA256, text, a_size + 1 + b_size, digest);
    uint64_t key;
    memcpy(&key, digest, sizeof(key));
    return key | 1;
}

static struct failure_slot *bucket(struct identity *id, uint64_t who)
{
    return &id->failures[(who >> 8) % (FAILURE_SLOTS / WAYS) * WAYS];
}

static struct failure_slot *find(struct failure_slot *slots, uint64_t who)
{
    for (size_t i = 0; i < WAYS; i++) {
        if (slots[i].who == who) {
            return &slots[i];
        }
    }
    return NULL;
}

bool failures_exceeded(struct identity *id, uint64_t who, uint64_t now_ms)
{
    pthread_mutex_lock(&id->failure_lock);
    const struct failure_slot *slot = find(bucket(id, who), who);
    bool over = slot != NULL && slot->count >= FAILURES_MAX &&
                (int64_t)(now_ms - slot->since_ms) < WINDOW_MS;
    pthread_mutex_unlock(&id->failure_lock);
    return over;
}

void failures_add(struct identity *id, uint64_t who, uint64_t now_ms)
{
    pthread_mutex_lock(&id->failure_lock);
    struct failure_slot *slots = bucket(id, who), *slot = find(slots, who);
    if (slot == NULL) {
        slot = &slots[0];
        for (size_t i = 1; i < WAYS; i++) {
            if (slots[i].since_ms < slot->since_ms) {
                slot = &slots[i];
            }
        }
        *slot = (struct failure_slot){.who = who, .since_ms = now_ms};
    }
    if ((int64_t)(now_ms - slot->since_ms) >= WINDOW_MS) {
        slot->since_ms = now_ms;
        slot->count = 0;
    }
    slot->count++;
    pthread_mutex_unlock(&id->failure_lock);
}
