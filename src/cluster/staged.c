#include "cluster/staged.h"

#include <stdlib.h>
#include <string.h>

struct age {
    int64_t at;
    uint64_t since_ms;
    unsigned look;
};

void staged_ages_init(struct staged_ages *s)
{
    map_init(&s->by_image);
    s->look = 0;
}

static void forget(struct staged_ages *s, bool all)
{
    size_t at = 0, size;
    const void *key;
    void *value;
    while (map_next(&s->by_image, &at, &key, &size, &value)) {
        struct age *age = value;
        if (all || age->look != s->look) {
            map_del(&s->by_image, key, size);
            free(age);
        }
    }
}

void staged_ages_free(struct staged_ages *s)
{
    forget(s, true);
    map_free(&s->by_image);
    map_init(&s->by_image);
}

void staged_ages_begin(struct staged_ages *s)
{
    s->look++;
}

void staged_ages_end(struct staged_ages *s)
{
    forget(s, false);
}

bool staged_ages_due(struct staged_ages *s, const char *image, int64_t at, uint64_t now_ms,
                     uint64_t life_ms)
{
    struct age *age = map_get(&s->by_image, image, strlen(image));
    if (age == NULL) {
        age = calloc(1, sizeof(*age));
        if (age == NULL || map_put(&s->by_image, image, strlen(image), age) != 0) {
            free(age); /* begins with the next look */
            return false;
        }
        age->at = at;
        age->since_ms = now_ms;
    }
    if (age->at != at) {
        age->at = at;
        age->since_ms = now_ms;
    }
    age->look = s->look;
    return now_ms - age->since_ms >= life_ms;
}
