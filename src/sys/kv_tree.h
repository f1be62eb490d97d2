/* A persistent ordered tree (treap): every change makes a new root that shares what is unchanged,
 * so that a snapshot is one reference. For kv_mem. Priorities come from the keys, so equal content
 * has equal shape. Running out of memory aborts: this is for tests and the simulator. Thread: roots
 * are immutable and may be read and released on any thread. */
#ifndef SYS_KV_TREE_H
#define SYS_KV_TREE_H

#include "tessera/sys/kv.h"

struct kv_node;

void kv_tree_ref(struct kv_node *root); /* NULL is the empty tree, everywhere */
void kv_tree_unref(struct kv_node *root);
/* New root; @root keeps its reference. @added_out: whether the key is new. */
struct kv_node *kv_tree_put(struct kv_node *root, struct kv_val key, struct kv_val val,
                            bool *added_out);
/* New root without @key, which must be there. */
struct kv_node *kv_tree_del(struct kv_node *root, struct kv_val key);
/* All NULL if there is none. */
const struct kv_node *kv_tree_find(const struct kv_node *root, struct kv_val key);
const struct kv_node *kv_tree_first(const struct kv_node *root);
const struct kv_node *kv_tree_last(const struct kv_node *root);
/* First key >= @key (> with @above). */
const struct kv_node *kv_tree_ge(const struct kv_node *root, struct kv_val key, bool above);
const struct kv_node *kv_tree_below(const struct kv_node *root, struct kv_val key);

struct kv_val kv_node_key(const struct kv_node *node);
struct kv_val kv_node_val(const struct kv_node *node);

#endif
