/* What clients upload: short images of blocks that repeat within and across images, zero chunks
 * among them, of sizes that do not fit the chunks. */
#include <stdlib.h>
#include <string.h>

#include "tessera/base/digest.h"
#include "tessera/base/id.h"
#include "world.h"

struct content {
    size_t size;
    uint8_t *data;
    char md5[33];
};

static struct content contents[SIM_CONTENTS_MAX];
static uint32_t content_count = 1;

static void fill_block(struct world *w, uint8_t *at, size_t size)
{
    unsigned kind = (unsigned)world_below(w, 10);
    if (kind < 2) {
        memset(at, 0, size);
        return;
    }
    /* One of a few that many images share, or one of its own. */
    uint64_t x = kind < 6 ? 1000 + world_below(w, 6) : world_below(w, UINT64_MAX) | 1;
    for (size_t i = 0; i < size; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        at[i] = (uint8_t)(x >> 11);
    }
}

uint32_t content_new(struct world *w)
{
    tsr_assert(content_count < SIM_CONTENTS_MAX);
    struct content *c = &contents[content_count];
    size_t chunks = (size_t)world_below(w, 12);
    c->size = chunks * SIM_CHUNK_BYTES + (size_t)world_below(w, SIM_CHUNK_BYTES) + 1;
    c->data = malloc(c->size);
    tsr_assert(c->data != NULL);
    for (size_t at = 0; at < c->size; at += SIM_CHUNK_BYTES) {
        size_t left = c->size - at;
        fill_block(w, c->data + at, left < SIM_CHUNK_BYTES ? left : SIM_CHUNK_BYTES);
    }
    uint8_t md5[DIGEST_MAX];
    digest_of(DIGEST_MD5, c->data, c->size, md5);
    hex_encode(md5, 16, c->md5);
    uint32_t same = content_of_md5(c->md5); /* short ones may repeat */
    if (same != UINT32_MAX) {
        free(c->data);
        return same;
    }
    return content_count++;
}

size_t content_size(uint32_t content)
{
    return contents[content].size;
}

const uint8_t *content_data(uint32_t content)
{
    return contents[content].data;
}

const char *content_md5(uint32_t content)
{
    return contents[content].md5;
}

uint32_t content_of_md5(const char *md5)
{
    if (md5 == NULL) {
        return 0;
    }
    for (uint32_t i = 1; i < content_count; i++) {
        if (strcmp(contents[i].md5, md5) == 0) {
            return i;
        }
    }
    return UINT32_MAX;
}
