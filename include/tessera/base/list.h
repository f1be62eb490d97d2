/* Intrusive doubly linked list: a `struct list` is a head or a node. Head-only functions say so.
 * Thread: one owner. */
#ifndef TESSERA_BASE_LIST_H
#define TESSERA_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}
static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}
static inline void list_insert_before(struct list *at, struct list *node)
{
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}
/* Head: append at the tail. */
static inline void list_push(struct list *head, struct list *node)
{
    list_insert_before(head, node);
}
/* Remove from whatever list it is in; the node is left self-linked, so removing twice is fine. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
/* Head: first node taken off, or NULL. */
static inline struct list *list_pop(struct list *head)
{
    if (list_empty(head)) {
        return NULL;
    }
    struct list *n = head->next;
    list_remove(n);
    return n;
}
/* Move all nodes of @from to the tail of @to. */
static inline void list_splice(struct list *to, struct list *from)
{
    while (!list_empty(from)) {
        list_push(to, list_pop(from));
    }
}

/* Iterate; the body may remove `node` itself. */
#define list_each(node, head)                                                         \
    for (struct list *node = (head)->next, *node##_next = node->next; node != (head); \
         node = node##_next, node##_next = node->next)

#endif
