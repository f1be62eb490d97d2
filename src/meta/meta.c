#include <stdlib.h>
#include <string.h>

#include "meta/internal.h"
#include "meta/usage.h"
#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/log.h"

static int fsm_point(struct fsm *fsm, struct fsm_point *out)
{
    return meta_point(meta_of(fsm), out);
}

static int fsm_sync(struct fsm *fsm)
{
    return kv_sync(meta_of(fsm)->kv);
}

static const struct fsm_ops ops = {
    .apply = meta_apply,
    .point = fsm_point,
    .sync = fsm_sync,
    .export_open = meta_export_open,
    .export_read = meta_export_read,
    .export_close = meta_export_close,
    .import_file = meta_import_file,
};

/* --- opening
 * ------------------------------------------------------------------------------------------ */

/* Format 1 had no counters of projects: count what is there. */
static int usage_migrate(struct kv *kv, struct kv_txn *txn, struct err *err)
{
    struct kv_cursor *cursor = NULL;
    struct kv_val key = {0}, value;
    log_info("meta", "counting what projects have stored (store format 1)");
    int rc = kv_cursor_open(kv, txn, DB_IMAGE, &cursor);
    while (rc == 0 && (rc = kv_cursor_move(kv, cursor, KV_NEXT, &key, &value)) == 0) {
        json_t *image = NULL;
        rc = record_parse(key, value, &image);
        rc = rc == 0 ? usage_count(kv, txn, image) : rc;
        json_decref(image);
    }
    if (cursor != NULL) {
        kv_cursor_close(kv, cursor);
    }
    rc = rc == TSR_ENOENT ? store_version_write(kv, txn) : rc;
    return rc == 0 ? 0 : err_set(err, rc, "the metadata store of format 1 cannot be read");
}

/* *migrated_out: it was brought up to this format; the transaction is to be committed. */
static int check_version(struct kv *kv, struct kv_txn *txn, bool *migrated_out, struct err *err)
{
    struct key key;
    struct kv_val value;
    json_t *version = NULL;
    key_of_text(&key, "version");
    int rc = kv_get(kv, txn, DB_META, key_val(&key), &value);
    if (rc == TSR_ENOENT) {
        return rc;
    }
    if (rc == 0) {
        rc = record_parse(key_val(&key), value, &version);
    }
    if (rc != 0) {
        return err_set(err, rc, "the metadata store's version cannot be read");
    }
    int64_t format = json_int(version, "format", 0);
    json_decref(version);
    *migrated_out = format == 1;
    if (format == 1) {
        return usage_migrate(kv, txn, err);
    }
    if (format != META_FORMAT) {
        return err_set(err, TSR_ENOTSUP,
                       "the metadata store has format %lld, this program knows format %d",
                       (long long)format, META_FORMAT);
    }
    return 0;
}

/* A store without a version must be empty: anything else is not ours or is damaged. */
static int check_empty(struct kv *kv, struct kv_txn *txn, struct err *err)
{
    for (unsigned db = 0; db < DB_COUNT; db++) {
        uint64_t n;
        int rc = kv_count(kv, txn, db, &n);
        if (rc != 0) {
            return err_set(err, rc, "the metadata store cannot be read");
        }
        if (n != 0) {
            return err_set(err, TSR_ECORRUPT, "the metadata store holds data but no version");
        }
    }
    return 0;
}

/* *fresh_out: the store is to be formatted (new, or an import did not end). */
static int inspect(struct kv *kv, struct kv_txn *txn, struct fsm_point *at, bool *fresh_out,
                   bool *migrated_out, struct err *err)
{
    struct store_point point;
    *fresh_out = false;
    *at = (struct fsm_point){0};
    *migrated_out = false;
    int rc = check_version(kv, txn, migrated_out, err);
    if (rc == TSR_ENOENT) {
        *fresh_out = true;
        return check_empty(kv, txn, err);
    }
    if (rc != 0) {
        return rc;
    }
    rc = store_point_read(kv, txn, &point);
    if (rc != 0) {
        return err_set(err, rc == TSR_ENOENT ? TSR_ECORRUPT : rc,
                       "the metadata store's position cannot be read");
    }
    if (point.importing) {
        log_warn("meta", "a snapshot was not received whole; starting with an empty store");
        *fresh_out = true;
        return 0;
    }
    *at = point.at;
    return 0;
}

static int open_store(struct kv *kv, struct fsm_point *at, struct err *err)
{
    struct kv_txn *txn;
    bool fresh, migrated;
    int rc = kv_begin(kv, true, &txn);
    if (rc != 0) {
        return err_set(err, rc, "the metadata store cannot be opened: %s", err_text(rc));
    }
    rc = inspect(kv, txn, at, &fresh, &migrated, err);
    if (rc != 0 || (!fresh && !migrated)) {
        kv_abort(kv, txn);
        return rc;
    }
    rc = fresh ? store_format(kv, txn) : 0;
    if (rc == 0) {
        rc = kv_commit(kv, txn);
    } else {
        kv_abort(kv, txn);
    }
    return rc == 0 ? 0 : err_set(err, rc, "the metadata store cannot be written: %s", err_text(rc));
}

int meta_open(struct kv *kv, struct meta **out, struct err *err)
{
    struct fsm_point at;
    int rc = open_store(kv, &at, err);
    struct meta *m = rc == 0 ? calloc(1, sizeof(*m)) : NULL;
    struct digest *digest = m == NULL ? NULL : digest_new(DIGEST_SHA256);
    if (digest == NULL) {
        free(m);
        kv_close(kv);
        return rc != 0 ? rc : err_set(err, TSR_ENOMEM, "%s", err_text(TSR_ENOMEM));
    }
    m->fsm.ops = &ops;
    m->run_bytes = META_RUN_BYTES;
    m->kv = kv;
    m->digest = digest;
    m->at = at;
    atomic_store(&m->applied, at.index);
    atomic_store(&m->directory, 1);
    list_init(&m->watches);
    tsr_assert(pthread_mutex_init(&m->watch_lock, NULL) == 0);
    *out = m;
    return 0;
}

void meta_close(struct meta *m)
{
    if (m == NULL) {
        return;
    }
    tsr_assert(list_empty(&m->watches)); /* their owners are closed first */
    pthread_mutex_destroy(&m->watch_lock);
    digest_free(m->digest);
    kv_close(m->kv);
    free(m);
}

struct fsm *meta_fsm(struct meta *m)
{
    return &m->fsm;
}

void meta_attach(struct meta *m, struct consensus *consensus, struct loop *control)
{
    m->consensus = consensus;
    atomic_store(&m->control, control);
}

void meta_detach(struct meta *m)
{
    m->consensus = NULL; /* the loop stays: requests on their way are answered from it */
}

/* --- where the store stands
 * ------------------------------------------------------------------------------ */

int meta_point(struct meta *m, struct fsm_point *out)
{
    struct kv_txn *txn;
    struct store_point point;
    int rc = kv_begin(m->kv, false, &txn);
    if (rc != 0) {
        return rc;
    }
    rc = store_point_read(m->kv, txn, &point);
    kv_abort(m->kv, txn);
    if (rc != 0) {
        return rc == TSR_ENOENT || rc == TSR_ECORRUPT ? meta_report_damage(m, DB_META) : rc;
    }
    *out = point.importing ? (struct fsm_point){0} : point.at;
    return 0;
}

int meta_digest_at(struct meta *m, uint64_t index, uint8_t digest_out[FSM_DIGEST_SIZE])
{
    struct kv_txn *txn;
    int rc = kv_begin(m->kv, false, &txn);
    if (rc == 0) {
        rc = store_ring_read(m->kv, txn, index, digest_out);
        kv_abort(m->kv, txn);
    }
    return rc == TSR_ECORRUPT ? meta_report_damage(m, DB_RING) : rc;
}

uint64_t meta_damaged(struct meta *m)
{
    return atomic_load(&m->damaged);
}

int meta_space(struct meta *m, struct kv_stat *out)
{
    return kv_stat(m->kv, out);
}
