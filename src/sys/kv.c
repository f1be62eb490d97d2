/* Calls through the vtable of a store, and the checks that both implementations share. */
#include "tessera/sys/kv.h"

#include "tessera/base/err.h"

static bool key_ok(struct kv_val key)
{
    return key.data != NULL && key.size >= 1 && key.size <= KV_KEY_MAX;
}

int kv_begin(struct kv *kv, bool write, struct kv_txn **txn_out)
{
    return kv->ops->begin(kv, write, txn_out);
}

int kv_commit(struct kv *kv, struct kv_txn *txn)
{
    return kv->ops->commit(kv, txn);
}

void kv_abort(struct kv *kv, struct kv_txn *txn)
{
    if (txn != NULL) {
        kv->ops->abort(kv, txn);
    }
}

int kv_get(struct kv *kv, struct kv_txn *txn, unsigned db, struct kv_val key, struct kv_val *val)
{
    return key_ok(key) ? kv->ops->get(kv, txn, db, key, val) : TSR_EINVAL;
}

int kv_put(struct kv *kv, struct kv_txn *txn, unsigned db, struct kv_val key, struct kv_val val)
{
    return key_ok(key) ? kv->ops->put(kv, txn, db, key, val) : TSR_EINVAL;
}

int kv_del(struct kv *kv, struct kv_txn *txn, unsigned db, struct kv_val key)
{
    return key_ok(key) ? kv->ops->del(kv, txn, db, key) : TSR_EINVAL;
}

int kv_drop(struct kv *kv, struct kv_txn *txn, unsigned db)
{
    return kv->ops->drop(kv, txn, db);
}

int kv_cursor_open(struct kv *kv, struct kv_txn *txn, unsigned db, struct kv_cursor **out)
{
    return kv->ops->cursor_open(kv, txn, db, out);
}

int kv_cursor_move(struct kv *kv, struct kv_cursor *c, enum kv_seek how, struct kv_val *key,
                   struct kv_val *val)
{
    if (how == KV_GE && !key_ok(*key)) {
        return TSR_EINVAL;
    }
    return kv->ops->cursor_move(kv, c, how, key, val);
}

void kv_cursor_close(struct kv *kv, struct kv_cursor *c)
{
    if (c != NULL) {
        kv->ops->cursor_close(kv, c);
    }
}

int kv_count(struct kv *kv, struct kv_txn *txn, unsigned db, uint64_t *out)
{
    return kv->ops->count(kv, txn, db, out);
}

int kv_sync(struct kv *kv)
{
    return kv->ops->sync(kv);
}

int kv_stat(struct kv *kv, struct kv_stat *out)
{
    return kv->ops->stat(kv, out);
}

void kv_close(struct kv *kv)
{
    if (kv != NULL) {
        kv->ops->close(kv);
    }
}
