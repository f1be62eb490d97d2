#include "sim_fs_tree.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"

/* splitmix64 */
uint64_t sim_draw(struct sim_fs *s)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void *sim_xalloc(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    tsr_assert(p != NULL);
    return p;
}

/* --- bytes ------------------------------------------------------------------------------------ */

void sim_bytes_resize(struct sim_bytes *b, size_t size)
{
    if (size > b->capacity) {
        size_t capacity = b->capacity == 0 || size > 2 * b->capacity ? size : 2 * b->capacity;
        uint8_t *data = sim_xalloc(capacity);
        if (b->size > 0)
            memcpy(data, b->data, b->size);
        free(b->data);
        b->data = data;
        b->capacity = capacity;
    }
    if (size < b->size)
        memset(b->data + size, 0, b->size - size);
    b->size = size;
}

void sim_bytes_write(struct sim_bytes *b, size_t offset, const uint8_t *data, size_t size)
{
    if (offset + size > b->size)
        sim_bytes_resize(b, offset + size);
    if (size > 0)
        memcpy(b->data + offset, data, size);
}

void sim_bytes_copy(struct sim_bytes *to, const struct sim_bytes *from)
{
    sim_bytes_resize(to, 0);
    sim_bytes_write(to, 0, from->data, from->size);
}

/* --- nodes and names -------------------------------------------------------------------------- */

struct sim_node *sim_node_new(struct sim_fs *s, bool is_dir)
{
    struct sim_node *n = sim_xalloc(sizeof(*n));
    n->inode = s->next_inode++;
    n->is_dir = is_dir;
    n->ops_tail = &n->ops;
    n->mtime_ns = n->ctime_ns = (int64_t)(s->tick += 1000);
    n->next = s->nodes;
    s->nodes = n;
    return n;
}

void sim_touch(struct sim_fs *s, struct sim_node *n)
{
    n->mtime_ns = n->ctime_ns = (int64_t)(s->tick += 1000);
}

static void ops_clear(struct sim_node *n)
{
    while (n->ops) {
        struct sim_data_op *op = n->ops;
        n->ops = op->next;
        free(op);
    }
    n->ops_tail = &n->ops;
}

static void list_clear(struct sim_fs *s, struct sim_name **list, bool live);

void sim_node_unref(struct sim_fs *s, struct sim_node *n)
{
    tsr_assert(n->refs > 0);
    if (--n->refs > 0)
        return;
    list_clear(s, &n->live_list, true);
    list_clear(s, &n->disk_list, false);
    struct sim_node **p = &s->nodes;
    while (*p != n)
        p = &(*p)->next;
    *p = n->next;
    ops_clear(n);
    free(n->live.data);
    free(n->disk.data);
    free(n);
}

static uint32_t name_hash(const char *text)
{
    uint32_t h = 2166136261u;
    for (; *text; text++)
        h = (h ^ (uint8_t)*text) * 16777619u;
    return h;
}

struct sim_name **sim_list_find(struct sim_name **list, const char *text)
{
    uint32_t hash = name_hash(text);
    while (*list && ((*list)->hash != hash || strcmp((*list)->text, text) != 0))
        list = &(*list)->next;
    return list;
}

static void list_remove(struct sim_fs *s, struct sim_name **list, const char *text, bool live)
{
    struct sim_name **p = sim_list_find(list, text), *gone = *p;
    if (!gone)
        return;
    *p = gone->next;
    if (live)
        gone->node->live_names--;
    sim_node_unref(s, gone->node);
    free(gone);
}

static void list_clear(struct sim_fs *s, struct sim_name **list, bool live)
{
    while (*list)
        list_remove(s, list, (*list)->text, live);
}

static void list_set(struct sim_fs *s, struct sim_name **list, const char *text, struct sim_node *n,
                     bool live)
{
    n->refs++;
    list_remove(s, list, text, live);
    struct sim_name *name = sim_xalloc(sizeof(*name));
    memcpy(name->text, text, strlen(text) + 1);
    name->hash = name_hash(text);
    name->node = n;
    name->next = *list;
    *list = name;
    if (live)
        n->live_names++;
}

/* --- name operations -------------------------------------------------------------------------- */

static void name_op_run(struct sim_fs *s, const struct sim_name_op *op, bool live)
{
    if (op->from_dir)
        list_remove(s, live ? &op->from_dir->live_list : &op->from_dir->disk_list, op->from, live);
    if (op->to_dir)
        list_set(s, live ? &op->to_dir->live_list : &op->to_dir->disk_list, op->to, op->node, live);
}

static void name_op_free(struct sim_fs *s, struct sim_name_op *op)
{
    if (op->from_dir)
        sim_node_unref(s, op->from_dir);
    if (op->to_dir)
        sim_node_unref(s, op->to_dir);
    sim_node_unref(s, op->node);
    free(op);
}

/* Do it in `live` and remember it for `disk`. */
void sim_name_op_add(struct sim_fs *s, struct sim_node *from_dir, const char *from,
                     struct sim_node *to_dir, const char *to, struct sim_node *node)
{
    struct sim_name_op *op = sim_xalloc(sizeof(*op));
    op->node = node;
    node->refs++;
    if (from_dir) {
        op->from_dir = from_dir;
        from_dir->refs++;
        memcpy(op->from, from, strlen(from) + 1);
        sim_touch(s, from_dir);
    }
    if (to_dir) {
        op->to_dir = to_dir;
        to_dir->refs++;
        memcpy(op->to, to, strlen(to) + 1);
        sim_touch(s, to_dir);
    }
    *s->name_ops_tail = op;
    s->name_ops_tail = &op->next;
    name_op_run(s, op, true);
}

/* Take the operations out that touch @dir (NULL: all), doing the first @keep of them on disk. */
void sim_name_ops_settle(struct sim_fs *s, const struct sim_node *dir, uint64_t keep)
{
    struct sim_name_op **p = &s->name_ops;
    while (*p) {
        struct sim_name_op *op = *p;
        if (dir && op->from_dir != dir && op->to_dir != dir) {
            p = &op->next;
            continue;
        }
        *p = op->next;
        if (keep > 0) {
            keep--;
            name_op_run(s, op, false);
        }
        name_op_free(s, op);
    }
    s->name_ops_tail = p;
}

/* --- data operations -------------------------------------------------------------------------- */

void sim_data_op_add(struct sim_node *n, enum data_kind kind, size_t offset, const void *data,
                     size_t size, bool grow_only)
{
    size_t held = kind == DATA_WRITE ? size : 0;
    struct sim_data_op *op = sim_xalloc(sizeof(*op) + held);
    op->kind = kind;
    op->offset = offset;
    op->size = size;
    op->grow_only = grow_only;
    if (held > 0)
        memcpy(op->data, data, held);
    *n->ops_tail = op;
    n->ops_tail = &op->next;
}

static void data_op_run(const struct sim_data_op *op, struct sim_bytes *b)
{
    if (op->kind == DATA_WRITE)
        sim_bytes_write(b, op->offset, op->data, op->size);
    else if (!op->grow_only || op->size > b->size)
        sim_bytes_resize(b, op->size);
}

/* Each sector that the write touches is kept or not. */
static void data_op_tear(struct sim_fs *s, const struct sim_data_op *op, struct sim_bytes *b)
{
    size_t at = op->offset, end = op->offset + op->size;
    while (at < end) {
        size_t next = (at / SIM_SECTOR + 1) * SIM_SECTOR;
        next = next < end ? next : end;
        if (sim_draw(s) & 1)
            sim_bytes_write(b, at, op->data + (at - op->offset), next - at);
        at = next;
    }
}

/* Keep, drop or tear, a third each. */
static void data_op_gamble(struct sim_fs *s, const struct sim_data_op *op, struct sim_bytes *b)
{
    uint64_t what = sim_draw(s) % 3;
    if (what == 0 || (what == 2 && op->kind != DATA_WRITE))
        data_op_run(op, b);
    else if (what == 2)
        data_op_tear(s, op, b);
}

void sim_ops_settle(struct sim_fs *s, struct sim_node *n, enum sim_fs_crash_mode mode)
{
    for (struct sim_data_op *op = n->ops; op; op = op->next) {
        if (mode == SIM_FS_KEEP)
            data_op_run(op, &n->disk);
        else if (mode == SIM_FS_RANDOM)
            data_op_gamble(s, op, &n->disk);
    }
    ops_clear(n);
}

/* `live` becomes what is on disk. */
void sim_show_disk(struct sim_fs *s, struct sim_node *n)
{
    if (!n->is_dir) {
        sim_bytes_copy(&n->live, &n->disk);
        return;
    }
    n->refs++; /* it may lose its last name meanwhile */
    list_clear(s, &n->live_list, true);
    /* From the oldest on, so that the order of names stays. */
    size_t count = 0;
    for (struct sim_name *d = n->disk_list; d; d = d->next)
        count++;
    while (count-- > 0) {
        struct sim_name *d = n->disk_list;
        for (size_t i = 0; i < count; i++)
            d = d->next;
        list_set(s, &n->live_list, d->text, d->node, true);
    }
    for (struct sim_name *d = n->disk_list; d; d = d->next)
        sim_show_disk(s, d->node);
    sim_node_unref(s, n);
}
