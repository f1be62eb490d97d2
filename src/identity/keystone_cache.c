/* Tokens that Keystone was asked about, by digest, in order of use. Valid and refused ones have
 * bounds of their own. */
#include <stdlib.h>
#include <string.h>

#include "identity/keystone_internal.h"
#include "tessera/base/assert.h"

void known_token_free(struct known_token *token)
{
    if (token != NULL) {
        access_rules_free(&token->rules);
        free(token);
    }
}

void known_init(struct known_tokens *known)
{
    map_init(&known->map);
    list_init(&known->good);
    list_init(&known->bad);
    known->good_count = known->bad_count = 0;
}

static void drop(struct known_tokens *known, struct known_token *token)
{
    list_remove(&token->link);
    (void)map_del(&known->map, token->digest, sizeof(token->digest));
    *(token->good ? &known->good_count : &known->bad_count) -= 1;
    known_token_free(token);
}

void known_free(struct known_tokens *known)
{
    list_each(node, &known->good)
    {
        drop(known, container_of(node, struct known_token, link));
    }
    list_each(node, &known->bad)
    {
        drop(known, container_of(node, struct known_token, link));
    }
    map_free(&known->map);
}

const struct known_token *known_get(struct known_tokens *known, const uint8_t digest[32],
                                    uint64_t now_ms)
{
    struct known_token *token = map_get(&known->map, digest, 32);
    if (token == NULL) {
        return NULL;
    }
    if (token->until_ms <= now_ms) {
        drop(known, token);
        return NULL;
    }
    list_remove(&token->link);
    list_push(token->good ? &known->good : &known->bad, &token->link);
    return token;
}

void known_put(struct known_tokens *known, struct known_token *token)
{
    struct known_token *old = map_get(&known->map, token->digest, sizeof(token->digest));
    struct list *list = token->good ? &known->good : &known->bad;
    size_t *count = token->good ? &known->good_count : &known->bad_count;
    size_t max = token->good ? KEYSTONE_GOOD_MAX : KEYSTONE_BAD_MAX;
    if (old != NULL) {
        drop(known, old);
    }
    if (*count >= max) {
        drop(known, container_of(list->next, struct known_token, link));
    }
    if (map_put(&known->map, token->digest, sizeof(token->digest), token) != 0) {
        known_token_free(token); /* it is only asked for again */
        return;
    }
    list_push(list, &token->link);
    (*count)++;
}
