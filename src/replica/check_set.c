#include "replica/check_set.h"

#include <stdlib.h>

#include "tessera/base/assert.h"

struct check {
    struct list node;
    struct chunk_id id;
    uint64_t due_ms; /* 0 = now */
};

static struct check *check_of(struct list *node)
{
    return container_of(node, struct check, node);
}

void check_set_init(struct check_set *s)
{
    map_init(&s->by_id);
    list_init(&s->due);
    list_init(&s->later);
}

static void drop(struct check_set *s, struct check *check)
{
    map_del(&s->by_id, check->id.bytes, sizeof check->id.bytes);
    list_remove(&check->node);
    free(check);
}

void check_set_free(struct check_set *s)
{
    list_splice(&s->due, &s->later);
    while (!list_empty(&s->due)) {
        drop(s, check_of(s->due.next));
    }
    map_free(&s->by_id);
}

static int add(struct check_set *s, const struct chunk_id *id, uint64_t due_ms)
{
    struct check *check = calloc(1, sizeof *check);
    if (check == NULL || map_put(&s->by_id, id->bytes, sizeof id->bytes, check) != 0) {
        free(check);
        return TSR_ENOMEM;
    }
    check->id = *id;
    check->due_ms = due_ms;
    list_push(due_ms == 0 ? &s->due : &s->later, &check->node);
    return 0;
}

int check_set_add(struct check_set *s, const struct chunk_id *id)
{
    struct check *check = map_get(&s->by_id, id->bytes, sizeof id->bytes);
    if (check == NULL) {
        return add(s, id, 0);
    }
    if (check->due_ms != 0) {
        check->due_ms = 0;
        list_remove(&check->node);
        list_push(&s->due, &check->node);
    }
    return 0;
}

int check_set_add_later(struct check_set *s, const struct chunk_id *id, uint64_t due_ms)
{
    return map_get(&s->by_id, id->bytes, sizeof id->bytes) != NULL ? 0 : add(s, id, due_ms);
}

static struct check *first(const struct check_set *s, uint64_t now_ms)
{
    if (!list_empty(&s->due)) {
        return check_of(s->due.next);
    }
    struct check *check = list_empty(&s->later) ? NULL : check_of(s->later.next);
    return check != NULL && check->due_ms <= now_ms ? check : NULL;
}

bool check_set_has_due(const struct check_set *s, uint64_t now_ms)
{
    return first(s, now_ms) != NULL;
}

bool check_set_next(struct check_set *s, uint64_t now_ms, struct chunk_id *out)
{
    struct check *check = first(s, now_ms);
    if (check == NULL) {
        return false;
    }
    *out = check->id;
    drop(s, check);
    return true;
}
