#include "sys/kv_tree.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"

/* Key and value, shared by all nodes that show them in different trees. */
struct item {
    atomic_uint refs;
    uint64_t priority;
    size_t key_size, val_size;
    unsigned char data[]; /* key, then value aligned to 8 */
};

struct kv_node {
    atomic_uint refs;
    struct item *item;
    struct kv_node *left, *right;
};

static size_t val_offset(size_t key_size)
{
    return (key_size + 7) & ~(size_t)7;
}

static struct item *item_new(struct kv_val key, struct kv_val val)
{
    struct item *item = calloc(1, sizeof(*item) + val_offset(key.size) + val.size);
    tsr_assert(item != NULL);
    atomic_init(&item->refs, 1);
    item->key_size = key.size;
    item->val_size = val.size;
    memcpy(item->data, key.data, key.size);
    if (val.size > 0) {
        memcpy(item->data + val_offset(key.size), val.data, val.size);
    }
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < key.size; i++) {
        h = (h ^ item->data[i]) * 0x100000001b3u;
    }
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u; /* neighbouring keys need unlike priorities */
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    item->priority = h ^ h >> 31;
    return item;
}

static struct item *item_ref(struct item *item)
{
    atomic_fetch_add_explicit(&item->refs, 1, memory_order_relaxed);
    return item;
}

static void item_unref(struct item *item)
{
    if (atomic_fetch_sub(&item->refs, 1) == 1) {
        free(item);
    }
}

static struct kv_node *ref(struct kv_node *n)
{
    if (n != NULL) {
        atomic_fetch_add_explicit(&n->refs, 1, memory_order_relaxed);
    }
    return n;
}

void kv_tree_ref(struct kv_node *root)
{
    (void)ref(root);
}

void kv_tree_unref(struct kv_node *n)
{
    if (n != NULL && atomic_fetch_sub(&n->refs, 1) == 1) {
        kv_tree_unref(n->left);
        kv_tree_unref(n->right);
        item_unref(n->item);
        free(n);
    }
}

/* Takes over all three references. */
static struct kv_node *node(struct item *item, struct kv_node *left, struct kv_node *right)
{
    struct kv_node *n = malloc(sizeof(*n));
    tsr_assert(n != NULL);
    atomic_init(&n->refs, 1);
    n->item = item;
    n->left = left;
    n->right = right;
    return n;
}

struct kv_val kv_node_key(const struct kv_node *n)
{
    return (struct kv_val){n->item->data, n->item->key_size};
}

struct kv_val kv_node_val(const struct kv_node *n)
{
    return (struct kv_val){n->item->data + val_offset(n->item->key_size), n->item->val_size};
}

static int compare(struct kv_val a, struct kv_val b)
{
    int rv = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return rv != 0 ? rv : (a.size > b.size) - (a.size < b.size);
}

static struct kv_val item_key(const struct item *item)
{
    return (struct kv_val){item->data, item->key_size};
}

/* Strict order of the heap; the key decides between equal priorities. */
static bool above(const struct item *a, const struct item *b)
{
    if (a->priority != b->priority) {
        return a->priority > b->priority;
    }
    return compare(item_key(a), item_key(b)) > 0;
}

/* All below borrow their arguments and return new references. */

static void split(struct kv_node *n, struct kv_val key, struct kv_node **left,
                  struct kv_node **right)
{
    if (n == NULL) {
        *left = *right = NULL;
        return;
    }
    struct kv_node *middle;
    if (compare(kv_node_key(n), key) < 0) {
        split(n->right, key, &middle, right);
        *left = node(item_ref(n->item), ref(n->left), middle);
    } else {
        split(n->left, key, left, &middle);
        *right = node(item_ref(n->item), middle, ref(n->right));
    }
}

static struct kv_node *merge(struct kv_node *left, struct kv_node *right)
{
    if (left == NULL || right == NULL) {
        return ref(left == NULL ? right : left);
    }
    if (above(left->item, right->item)) {
        return node(item_ref(left->item), ref(left->left), merge(left->right, right));
    }
    return node(item_ref(right->item), merge(left, right->left), ref(right->right));
}

static struct kv_node *put(struct kv_node *n, struct item *item, bool *added)
{
    if (n == NULL) {
        *added = true;
        return node(item_ref(item), NULL, NULL);
    }
    int order = compare(item_key(item), kv_node_key(n));
    if (order == 0) {
        *added = false;
        return node(item_ref(item), ref(n->left), ref(n->right));
    }
    if (above(item, n->item)) { /* so the key is nowhere below */
        struct kv_node *left, *right;
        split(n, item_key(item), &left, &right);
        *added = true;
        return node(item_ref(item), left, right);
    }
    if (order < 0) {
        return node(item_ref(n->item), put(n->left, item, added), ref(n->right));
    }
    return node(item_ref(n->item), ref(n->left), put(n->right, item, added));
}

struct kv_node *kv_tree_put(struct kv_node *root, struct kv_val key, struct kv_val val,
                            bool *added_out)
{
    struct item *item = item_new(key, val);
    struct kv_node *n = put(root, item, added_out);
    item_unref(item);
    return n;
}

struct kv_node *kv_tree_del(struct kv_node *n, struct kv_val key)
{
    tsr_assert(n != NULL);
    int order = compare(key, kv_node_key(n));
    if (order == 0) {
        return merge(n->left, n->right);
    }
    if (order < 0) {
        return node(item_ref(n->item), kv_tree_del(n->left, key), ref(n->right));
    }
    return node(item_ref(n->item), ref(n->left), kv_tree_del(n->right, key));
}

const struct kv_node *kv_tree_find(const struct kv_node *n, struct kv_val key)
{
    while (n != NULL) {
        int order = compare(key, kv_node_key(n));
        if (order == 0) {
            return n;
        }
        n = order < 0 ? n->left : n->right;
    }
    return NULL;
}

const struct kv_node *kv_tree_first(const struct kv_node *n)
{
    while (n != NULL && n->left != NULL) {
        n = n->left;
    }
    return n;
}

const struct kv_node *kv_tree_last(const struct kv_node *n)
{
    while (n != NULL && n->right != NULL) {
        n = n->right;
    }
    return n;
}

const struct kv_node *kv_tree_ge(const struct kv_node *n, struct kv_val key, bool strictly)
{
    const struct kv_node *best = NULL;
    while (n != NULL) {
        int order = compare(kv_node_key(n), key);
        if (order > 0 || (order == 0 && !strictly)) {
            best = n;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    return best;
}

const struct kv_node *kv_tree_below(const struct kv_node *n, struct kv_val key)
{
    const struct kv_node *best = NULL;
    while (n != NULL) {
        if (compare(kv_node_key(n), key) < 0) {
            best = n;
            n = n->right;
        } else {
            n = n->left;
        }
    }
    return best;
}
