/* Linearizability of each image (Wing and Gong's search with Lowe's memory of seen states): the
 * operations must have an order that agrees with their times and explains every answer.
 *
 * The state of an image: absent, live or deleted; name, register, tags, members (and who of them
 * has accepted), visibility, content, whether it is deactivated, staged content. An operation
 * without an answer may take effect at any time after it began, or never. */
#include <stdlib.h>
#include <string.h>

#include "tessera/base/map.h"
#include "world.h"

enum { WORDS = 8, EVENTS_MAX = WORDS * 64, STATES_MAX = 3000000 };
enum { ABSENT, LIVE, DELETED };

struct state {
    uint32_t life, name, reg, tags, members, accepted, visibility, off, content, staged;
};

struct search {
    struct world *w;
    const struct sim_event *events; /* sorted by invocation */
    unsigned count;
    uint64_t done[WORDS];
    struct map seen;
    unsigned seen_count, deepest;
    struct state deepest_state;
    bool gave_up;
};

void history_add(struct world *w, unsigned image, const struct sim_event *event)
{
    struct sim_image *i = &w->images[image];
    if (i->count == i->capacity) {
        i->capacity = i->capacity == 0 ? 32 : i->capacity * 2;
        i->events = realloc(i->events, i->capacity * sizeof(*i->events));
        tsr_assert(i->events != NULL);
    }
    i->events[i->count++] = *event;
    i->open += event->returned == UINT64_MAX;
}

/* --- the model
 * -------------------------------------------------------------------------------------------------
 */

static bool seen_fits(const struct state *s, const struct sim_event *e)
{
    if (!e->live) {
        return s->life != LIVE;
    }
    return s->life == LIVE && (!(e->fields & SEEN_NAME) || e->name == s->name) &&
           (!(e->fields & SEEN_REG) || e->reg == s->reg) &&
           (!(e->fields & SEEN_TAGS) || e->tags == s->tags) &&
           (!(e->fields & SEEN_MEMBERS) ||
            (e->members == s->members && e->accepted == s->accepted)) &&
           (!(e->fields & SEEN_VISIBILITY) || e->visibility == s->visibility) &&
           (!(e->fields & SEEN_STAGED) || e->staged == s->staged) &&
           (!(e->fields & SEEN_CONTENT) || (e->content == s->content && e->off == s->off));
}

/* What a successful change does; false: it could not have succeeded. */
static bool change(struct state *s, const struct sim_event *e)
{
    uint32_t bit = UINT32_C(1) << (e->value & 31);
    uint32_t project = UINT32_C(1) << (e->value % SIM_ACCEPTED);
    if (e->op == OP_create) {
        if (s->life != ABSENT) {
            return false;
        }
        *s = (struct state){.life = LIVE, .name = e->value};
        return true;
    }
    if (s->life != LIVE) {
        return false;
    }
    switch (e->op) {
    case OP_patch:
        s->name = e->value;
        return true;
    case OP_put:
        s->reg = e->value;
        return true;
    case OP_update:
        s->name = s->reg = e->value;
        return true;
    case OP_visibility:
        s->visibility = e->value;
        return true;
    case OP_deactivate:
    case OP_reactivate:
        s->off = e->op == OP_deactivate;
        return s->content != 0;
    case OP_tag_add:
        s->tags |= bit;
        return true;
    case OP_tag_remove:
        if (!(s->tags & bit)) {
            return false;
        }
        s->tags &= ~bit;
        return true;
    case OP_member_add:
        if (s->visibility != 0 || (s->members & bit)) {
            return false;
        }
        s->members |= bit;
        s->accepted &= ~bit;
        return true;
    case OP_member_remove:
        if (!(s->members & bit)) {
            return false;
        }
        s->members &= ~bit;
        s->accepted &= ~bit;
        return true;
    case OP_member_status:
        if (!(s->members & project)) {
            return false;
        }
        s->accepted = e->value & SIM_ACCEPTED ? s->accepted | project : s->accepted & ~project;
        return true;
    case OP_delete:
        *s = (struct state){.life = DELETED};
        return true;
    case OP_upload:
        if (s->content != 0 || s->staged != 0) {
            return false;
        }
        s->content = e->value;
        return true;
    case OP_stage:
        if (s->content != 0 || s->staged != 0) {
            return false;
        }
        s->staged = e->value;
        return true;
    case OP_import:
        if (s->staged == 0) {
            return false;
        }
        s->content = s->staged;
        s->staged = 0;
        return true;
    default:
        return false;
    }
}

/* Whoever is not member, or of an image that is not shared, is told that there is no such image. */
static uint32_t missing_from(const struct state *s, const struct sim_event *e)
{
    return e->op == OP_tag_remove ? s->tags : s->visibility == 0 ? s->members : 0;
}

static bool step(struct state *s, const struct sim_event *e)
{
    unsigned number = e->op == OP_member_status ? e->value % SIM_ACCEPTED : e->value & 31;
    uint32_t bit = UINT32_C(1) << number;
    if (e->op == OP_show || e->op == OP_list || e->op == OP_download) {
        return seen_fits(s, e);
    }
    switch (e->outcome) {
    case OUTCOME_ABSENT:
        return s->life != LIVE;
    case OUTCOME_EXISTS:
        return e->op == OP_create ? s->life != ABSENT : s->life == LIVE && (s->members & bit) != 0;
    case OUTCOME_MISSING:
        return s->life != LIVE || (missing_from(s, e) & bit) == 0;
    case OUTCOME_DROPPED:
        s->staged = 0;
        return true;
    default:
        return change(s, e);
    }
}

/* --- the search
 * ------------------------------------------------------------------------------------------------
 */

static bool is_done(const struct search *h, unsigned i)
{
    return (h->done[i / 64] >> (i % 64) & 1) != 0;
}

static void flip(struct search *h, unsigned i)
{
    h->done[i / 64] ^= UINT64_C(1) << (i % 64);
}

/* Has this set with this state been tried? Remembers it. */
static bool known(struct search *h, const struct state *s)
{
    struct {
        uint64_t done[WORDS];
        struct state state;
    } key;
    memset(&key, 0, sizeof(key));
    memcpy(key.done, h->done, sizeof(key.done));
    key.state = *s;
    if (map_get(&h->seen, &key, sizeof(key)) != NULL) {
        return true;
    }
    tsr_assert(map_put(&h->seen, &key, sizeof(key), h) == 0);
    h->gave_up = ++h->seen_count > STATES_MAX;
    return h->gave_up;
}

static bool find_order(struct search *h, const struct state *s, unsigned first, unsigned answered)
{
    while (first < h->count && is_done(h, first)) {
        first++;
    }
    uint64_t limit = UINT64_MAX; /* nothing that began after the earliest answer may come first */
    bool left = false;
    for (unsigned i = first; i < h->count; i++) {
        if (!is_done(h, i) && h->events[i].returned != UINT64_MAX) {
            left = true;
            limit = h->events[i].returned < limit ? h->events[i].returned : limit;
        }
    }
    if (answered >= h->deepest) {
        h->deepest = answered;
        h->deepest_state = *s;
    }
    if (!left) {
        return true;
    }
    for (unsigned i = first; i < h->count && h->events[i].invoked < limit; i++) {
        struct state next = *s;
        if (is_done(h, i) || !step(&next, &h->events[i])) {
            continue;
        }
        flip(h, i);
        if (!known(h, &next) &&
            find_order(h, &next, first, answered + (h->events[i].returned != UINT64_MAX))) {
            return true;
        }
        flip(h, i);
    }
    return false;
}

static int by_invocation(const void *a, const void *b)
{
    const struct sim_event *x = a, *y = b;
    return x->invoked < y->invoked ? -1 : x->invoked > y->invoked;
}

static void tell(struct world *w, unsigned image, const struct search *h)
{
    static const char *const outcomes[] = {"ok", "absent", "exists", "maybe", "missing", "dropped"};
    const struct state *s = &h->deepest_state;
    for (unsigned i = 0; i < h->count; i++) {
        const struct sim_event *e = &h->events[i];
        world_note(w,
                   "  [%llu, %lld] %s value=%u %s live=%d name=%u reg=%u tags=%x members=%x/%x "
                   "vis=%u content=%u off=%u staged=%u seen=%x",
                   (unsigned long long)e->invoked, (long long)e->returned, sim_op_names[e->op],
                   e->value, outcomes[e->outcome], e->live, e->name, e->reg, e->tags, e->members,
                   e->accepted, e->visibility, e->content, e->off, e->staged, e->fields);
    }
    world_fail(w,
               "the history of image %u (%s) has no order; %u of %u explained up to life=%u "
               "name=%u reg=%u tags=%x members=%x/%x vis=%u content=%u off=%u staged=%u",
               image, w->images[image].id, h->deepest, h->count, s->life, s->name, s->reg, s->tags,
               s->members, s->accepted, s->visibility, s->content, s->off, s->staged);
}

void history_check(struct world *w)
{
    for (unsigned i = 0; i < w->image_count; i++) {
        struct sim_image *image = &w->images[i];
        struct search h = {.w = w, .events = image->events, .count = image->count};
        struct state s = {0};
        tsr_assert(image->count <= EVENTS_MAX);
        if (image->count == 0) {
            continue;
        }
        qsort(image->events, image->count, sizeof(*image->events), by_invocation);
        map_init(&h.seen);
        if (!find_order(&h, &s, 0, 0) && !h.gave_up) {
            tell(w, i, &h);
        }
        if (h.gave_up) {
            world_note(w, "history of image %u: too many orders, not decided", i);
        }
        map_free(&h.seen);
    }
}
