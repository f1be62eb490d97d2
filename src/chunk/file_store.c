/* The file store: one file a chunk, one file a manifest.
 *
 *   <dir>/identity                      {cluster, host, uuid}: whose disk this is
 *   <dir>/chunks/ab/abcdef...           <dir>/manifests/ab/abcdef...
 *   <dir>/tmp/<n>                       being written; emptied at open
 *   <dir>/quarantine/abcdef....<n>      bad copies, for a person to look at
 *
 * Happy path of a put: tmp/<n> is written and synced, then renamed. The data are synced in the put
 * and not at the seal, since puts run on several disk threads while the network brings the next
 * chunk: a seal of 4 GiB then syncs at most 256 directories instead of 1,000 files. `sync` makes
 * the names durable: each directory counts its changes, and a sync covers all changes counted
 * before it.
 *
 * Failures: a put that fails leaves at most a file in tmp/. A failed directory sync is never
 * retried: it is unknown which of the names in it are on disk, so from then on until the store is
 * opened anew each sync writes the objects of that directory again, under new files (`suspect`). A
 * directory that is not ours, or that went away below us (unmounted: the identity file is gone), is
 * an error, never "nothing is here".
 * Thread: any (disk pool); no shared state but atomic counters. */
#include "tessera/chunk.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"

enum { DIRS = 256, PATH_MAX_BYTES = 1024, IDENTITY_MAX = 512, OBJECT_MAX = 16 * 1024 * 1024 + 64 };

struct dir_state {
    atomic_uint changed; /* names that came or went */
    atomic_uint synced;  /* of these, how many are surely on disk */
    atomic_bool suspect;
};

struct file_store {
    struct chunk_store base;
    struct fs *fs;
    char dir[512];
    atomic_ullong tmp_next;
    atomic_ullong quarantine_next;
    struct dir_state dirs[2][DIRS]; /* by kind */
};

static const char *const kind_names[2] = {"chunks", "manifests"};

static struct file_store *of(struct chunk_store *s)
{
    return container_of(s, struct file_store, base);
}

static void dir_path(const struct file_store *fs, enum chunk_kind kind, unsigned n, char *out)
{
    snprintf(out, PATH_MAX_BYTES, "%s/%s/%02x", fs->dir, kind_names[kind], n);
}

static void object_path(const struct file_store *fs, enum chunk_kind kind,
                        const struct chunk_id *id, char *out)
{
    char hex[65];
    hex_encode(id->bytes, sizeof id->bytes, hex);
    snprintf(out, PATH_MAX_BYTES, "%s/%s/%.2s/%s", fs->dir, kind_names[kind], hex, hex);
}

static struct dir_state *dir_of(struct file_store *fs, enum chunk_kind kind,
                                const struct chunk_id *id)
{
    return &fs->dirs[kind][id->bytes[0]];
}

/* "Not found" is only believed while the identity file is there. */
static int absent(struct file_store *fs)
{
    char path[PATH_MAX_BYTES];
    struct fs_stat st;
    snprintf(path, sizeof path, "%s/identity", fs->dir);
    return fs_stat(fs->fs, path, &st) == 0 ? TSR_ENOENT : TSR_EIO;
}

/* --- put ------------------------------------------------------------------------------------ */

static int write_synced(struct file_store *fs, const char *path, const void *data, size_t size)
{
    struct fs_file *f;
    int rv = fs_open(fs->fs, path, FS_WRITE | FS_CREATE | FS_TRUNC, &f);
    if (rv != 0) {
        return rv;
    }
    rv = size > 0 ? fs_pwrite(fs->fs, f, data, size, 0) : 0;
#ifndef TSR_BREAK_CHUNK_SYNC
    if (rv == 0) {
        rv = fs_sync(fs->fs, f);
    }
#endif
    fs_close(fs->fs, f);
    return rv;
}

static int write_object(struct file_store *fs, enum chunk_kind kind, const struct chunk_id *id,
                        const void *data, size_t size)
{
    char tmp[PATH_MAX_BYTES], path[PATH_MAX_BYTES];
    snprintf(tmp, sizeof tmp, "%s/tmp/%llu", fs->dir, atomic_fetch_add(&fs->tmp_next, 1));
    object_path(fs, kind, id, path);
    int rv = write_synced(fs, tmp, data, size);
    if (rv == 0) {
        rv = fs_rename(fs->fs, tmp, path);
    }
    if (rv != 0) {
        fs_unlink(fs->fs, tmp);
        return rv == TSR_ENOENT ? TSR_EIO : rv; /* no tmp/: the disk went away */
    }
    atomic_fetch_add(&dir_of(fs, kind, id)->changed, 1);
    return 0;
}

static int store_put(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *id,
                     const void *data, size_t size)
{
    struct file_store *fs = of(s);
    char path[PATH_MAX_BYTES];
    struct fs_stat st;
    object_path(fs, kind, id, path);
    if (fs_stat(fs->fs, path, &st) == 0 && st.size == (int64_t)size) {
        return 0;
    }
    return write_object(fs, kind, id, data, size);
}

/* --- get ------------------------------------------------------------------------------------ */

static int store_open(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *id,
                      struct chunk_place *out)
{
    struct file_store *fs = of(s);
    char path[PATH_MAX_BYTES];
    struct fs_file *f;
    struct fs_stat st;
    object_path(fs, kind, id, path);
    int rv = fs_open(fs->fs, path, FS_READ, &f);
    if (rv != 0) {
        return rv == TSR_ENOENT ? absent(fs) : rv;
    }
    rv = fs_fstat(fs->fs, f, &st);
    if (rv != 0 || st.size < 0) {
        fs_close(fs->fs, f);
        return rv != 0 ? rv : TSR_EIO;
    }
    *out = (struct chunk_place){
        .fd = fs_fd(fs->fs, f),
        .size = (size_t)st.size,
        .file = f,
        .stamp = {st.inode, (uint64_t)st.size, (uint64_t)st.mtime_ns, (uint64_t)st.ctime_ns},
    };
    return 0;
}

static void store_close(struct chunk_store *s, struct chunk_place *place)
{
    fs_close(of(s)->fs, place->file);
    place->file = NULL;
    place->fd = -1;
}

static long store_read(struct chunk_store *s, const struct chunk_place *place, void *data,
                       size_t size, size_t offset)
{
    return fs_pread(of(s)->fs, place->file, data, size, (int64_t)offset);
}

static long store_get(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *id,
                      void *data, size_t capacity)
{
    struct chunk_place place;
    int rv = store_open(s, kind, id, &place);
    if (rv != 0) {
        return rv;
    }
    long n = TSR_ETOOBIG;
    if (place.size <= capacity) {
        n = store_read(s, &place, data, place.size, 0);
    }
    store_close(s, &place);
    return n;
}

static int store_has(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *id)
{
    struct file_store *fs = of(s);
    char path[PATH_MAX_BYTES];
    struct fs_stat st;
    object_path(fs, kind, id, path);
    int rv = fs_stat(fs->fs, path, &st);
    return rv == TSR_ENOENT ? absent(fs) : rv;
}

/* --- remove, quarantine --------------------------------------------------------------------- */

static int store_remove(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *id)
{
    struct file_store *fs = of(s);
    char path[PATH_MAX_BYTES];
    object_path(fs, kind, id, path);
    int rv = fs_unlink(fs->fs, path);
    if (rv == TSR_ENOENT) {
        return absent(fs);
    }
    if (rv == 0) {
        atomic_fetch_add(&dir_of(fs, kind, id)->changed, 1);
    }
    return rv;
}

static int store_quarantine(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *id)
{
    struct file_store *fs = of(s);
    char path[PATH_MAX_BYTES], aside[PATH_MAX_BYTES], hex[65];
    struct fs_stat st;
    object_path(fs, kind, id, path);
    hex_encode(id->bytes, sizeof id->bytes, hex);
    do { /* earlier bad copies of it stay for a person to look at */
        snprintf(aside, sizeof aside, "%s/quarantine/%s.%llu", fs->dir, hex,
                 atomic_fetch_add(&fs->quarantine_next, 1));
    } while (fs_stat(fs->fs, aside, &st) == 0);
    int rv = fs_rename(fs->fs, path, aside);
    if (rv == TSR_ENOENT) {
        return absent(fs);
    }
    if (rv == 0) {
        atomic_fetch_add(&dir_of(fs, kind, id)->changed, 1);
    }
    return rv;
}

/* --- sync ----------------------------------------------------------------------------------- */

/* Write an object again under a new file: its old name may not be on disk. */
static int write_again(struct file_store *fs, enum chunk_kind kind, const struct chunk_id *id)
{
    char path[PATH_MAX_BYTES];
    char *data;
    size_t size;
    object_path(fs, kind, id, path);
    int rv = fs_read_file(fs->fs, path, OBJECT_MAX, &data, &size);
    if (rv != 0) {
        return rv == TSR_ENOENT ? 0 : rv; /* a removal that is to be made durable */
    }
    rv = write_object(fs, kind, id, data, size);
    free(data);
    return rv;
}

static int sync_one_dir(struct file_store *fs, enum chunk_kind kind, unsigned n)
{
    struct dir_state *d = &fs->dirs[kind][n];
    char path[PATH_MAX_BYTES];
    unsigned changed = atomic_load(&d->changed);
    unsigned synced = atomic_load(&d->synced);
    if ((int)(changed - synced) <= 0) {
        return 0;
    }
    dir_path(fs, kind, n, path);
    int rv = fs_sync_dir(fs->fs, path);
    if (rv != 0) {
        log_error("chunk", "sync of a directory failed dir=%s/%02x error=%s", kind_names[kind], n,
                  err_name(rv));
        atomic_store(&d->suspect, true);
        return rv;
    }
    while ((int)(changed - synced) > 0 &&
           !atomic_compare_exchange_weak(&d->synced, &synced, changed)) {
    }
    return 0;
}

static int store_sync(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *ids,
                      size_t count)
{
    struct file_store *fs = of(s);
    bool touched[DIRS] = {false};
    for (size_t i = 0; i < count; i++) {
        touched[ids[i].bytes[0]] = true;
        if (atomic_load(&dir_of(fs, kind, &ids[i])->suspect)) {
            int rv = write_again(fs, kind, &ids[i]);
            if (rv != 0) {
                return rv;
            }
        }
    }
    for (unsigned n = 0; n < DIRS; n++) {
        int rv = touched[n] ? sync_one_dir(fs, kind, n) : 0;
        if (rv != 0) {
            return rv;
        }
    }
    return 0;
}

/* --- each, stats ---------------------------------------------------------------------------- */

struct each_state {
    struct file_store *fs;
    enum chunk_kind kind;
    unsigned dir;
    chunk_store_each_cb cb;
    void *arg;
};

static int each_name(void *arg, const char *name, bool is_dir)
{
    struct each_state *e = arg;
    struct chunk_id id;
    size_t size = strlen(name);
    if (is_dir || size != 64 || hex_decode(name, size, id.bytes, 32) != 0 ||
        id.bytes[0] != e->dir) {
        return 0; /* not ours */
    }
    return e->cb(e->arg, e->kind, &id, 0);
}

static int store_each(struct chunk_store *s, chunk_store_each_cb cb, void *arg)
{
    struct each_state e = {.fs = of(s), .cb = cb, .arg = arg};
    static const enum chunk_kind order[2] = {CHUNK_MANIFEST, CHUNK_DATA};
    for (unsigned k = 0; k < 2; k++) {
        e.kind = order[k];
        for (e.dir = 0; e.dir < DIRS; e.dir++) {
            char path[PATH_MAX_BYTES];
            dir_path(e.fs, e.kind, e.dir, path);
            int rv = fs_list(e.fs->fs, path, each_name, &e);
            if (rv != 0) {
                return rv == TSR_ENOENT ? TSR_EIO : rv;
            }
        }
    }
    return 0;
}

static int store_stats(struct chunk_store *s, struct chunk_store_stats *out)
{
    struct fs_space space;
    int rv = fs_space(of(s)->fs, of(s)->dir, &space);
    if (rv == 0) {
        out->total_bytes = space.total;
        out->available_bytes = space.available;
    }
    return rv;
}

static void store_free(struct chunk_store *s)
{
    free(of(s));
}

/* --- open ----------------------------------------------------------------------------------- */

static int read_identity(struct file_store *fs, const char *path, const char *cluster_id,
                         uint64_t host_id, struct err *err)
{
    char *text;
    size_t size;
    int rv = fs_read_file(fs->fs, path, IDENTITY_MAX, &text, &size);
    if (rv != 0) {
        return rv;
    }
    char cluster[128], uuid[33];
    unsigned long long host;
    int at = 0;
    if (sscanf(text, "tessera-store 1\ncluster %127s\nhost %llu\nuuid %32s\n%n", cluster, &host,
               uuid, &at) != 3 ||
        (size_t)at != size || hex_decode(uuid, strlen(uuid), fs->base.uuid, 16) != 0) {
        rv = err_set(err, TSR_ECORRUPT, "identity file of the image directory is damaged");
    } else if (strcmp(cluster, cluster_id) != 0 || host != host_id) {
        rv = err_set(err, TSR_ECORRUPT,
                     "image directory belongs to host %llu of cluster %s, not to this host", host,
                     cluster);
    }
    free(text);
    return rv;
}

static int write_identity(struct file_store *fs, const char *path, const char *cluster_id,
                          uint64_t host_id, const uint8_t random[16])
{
    char text[IDENTITY_MAX], uuid[33];
    memcpy(fs->base.uuid, random, 16);
    hex_encode(random, 16, uuid);
    int n = snprintf(text, sizeof text, "tessera-store 1\ncluster %s\nhost %llu\nuuid %s\n",
                     cluster_id, (unsigned long long)host_id, uuid);
    return fs_write_file(fs->fs, path, text, (size_t)n);
}

static int make_dirs(struct file_store *fs)
{
    char path[PATH_MAX_BYTES];
    static const char *const names[4] = {"chunks", "manifests", "tmp", "quarantine"};
    for (unsigned i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", fs->dir, names[i]);
        int rv = fs_mkdir(fs->fs, path);
        for (unsigned n = 0; rv == 0 && i < 2 && n < DIRS; n++) {
            char sub[PATH_MAX_BYTES];
            dir_path(fs, (enum chunk_kind)i, n, sub);
            rv = fs_mkdir(fs->fs, sub);
        }
        if (rv == 0 && i < 2) {
            rv = fs_sync_dir(fs->fs, path);
        }
        if (rv != 0) {
            return rv;
        }
    }
    return fs_sync_dir(fs->fs, fs->dir);
}

static int note_leftover(void *arg, const char *name, bool is_dir)
{
    struct file_store *fs = arg;
    char path[PATH_MAX_BYTES];
    snprintf(path, sizeof path, "%s/tmp/%s", fs->dir, name);
    return is_dir ? 0 : fs_unlink(fs->fs, path);
}

/* Chunks or manifests without an identity file are somebody else's or a half-restored disk. */
static int check_fresh(struct file_store *fs, struct err *err)
{
    char path[PATH_MAX_BYTES];
    struct fs_stat st;
    snprintf(path, sizeof path, "%s/quarantine", fs->dir);
    if (fs_stat(fs->fs, path, &st) == 0) {
        return err_set(err, TSR_ECORRUPT, "image directory has data but no identity file");
    }
    return 0;
}

/* The directory's own name, and those of parents that were made with it. Parents that belong to
 * others may refuse: they were there before. */
static int sync_parents(struct file_store *fs)
{
    char path[PATH_MAX_BYTES];
    str_copy(path, sizeof path, fs->dir);
    for (char *slash = strrchr(path, '/'); slash != NULL; slash = strrchr(path, '/')) {
        bool root = slash == path;
        slash[root ? 1 : 0] = '\0';
        int rv = fs_sync_dir(fs->fs, path);
        if (rv != 0 && rv != TSR_EFORBIDDEN) {
            return rv;
        }
        if (root) {
            return 0;
        }
    }
    int rv = fs_sync_dir(fs->fs, "."); /* a relative path: its first name is in here */
    return rv == TSR_EFORBIDDEN ? 0 : rv;
}

static int open_dir(struct file_store *fs, const char *cluster_id, uint64_t host_id,
                    const uint8_t random[16], struct err *err)
{
    char identity[PATH_MAX_BYTES], tmp[PATH_MAX_BYTES];
    snprintf(identity, sizeof identity, "%s/identity", fs->dir);
    snprintf(tmp, sizeof tmp, "%s/tmp", fs->dir);
    int rv = fs_mkdirs(fs->fs, fs->dir);
    if (rv != 0) {
        return err_set(err, rv, "image directory cannot be made: %s", err_text(rv));
    }
    rv = read_identity(fs, identity, cluster_id, host_id, err);
    if (rv == TSR_ENOENT) {
        rv = check_fresh(fs, err);
        if (rv == 0) {
            rv = sync_parents(fs);
        }
        if (rv == 0) {
            rv = write_identity(fs, identity, cluster_id, host_id, random);
        }
    }
    if (rv == 0) {
        rv = make_dirs(fs);
    }
    if (rv == 0) {
        rv = fs_list(fs->fs, tmp, note_leftover, fs);
    }
    if (rv != 0 && (err == NULL || err->code != rv)) {
        err_set(err, rv, "image directory cannot be opened: %s", err_text(rv));
    }
    return rv;
}

static const struct chunk_store_ops file_store_ops = {
    .put = store_put,
    .get = store_get,
    .read = store_read,
    .open = store_open,
    .close = store_close,
    .has = store_has,
    .remove = store_remove,
    .quarantine = store_quarantine,
    .sync = store_sync,
    .each = store_each,
    .stats = store_stats,
    .free = store_free,
};

int file_store_open(struct fs *fs, const char *dir, const char *cluster_id, uint64_t host_id,
                    const uint8_t random[16], struct chunk_store **out, struct err *err)
{
    if (strlen(dir) >= sizeof((struct file_store *)NULL)->dir || strlen(cluster_id) > 127) {
        return err_set(err, TSR_EINVAL, "image directory path is too long");
    }
    struct file_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    store->base.ops = &file_store_ops;
    store->fs = fs;
    str_copy(store->dir, sizeof store->dir, dir);
    for (unsigned i = 0; i < 2 * DIRS; i++) {
        /* What happened before this start may not be on disk yet. */
        atomic_init(&store->dirs[i / DIRS][i % DIRS].changed, 1);
    }
    int rv = open_dir(store, cluster_id, host_id, random, err);
    if (rv != 0) {
        free(store);
        return rv;
    }
    *out = &store->base;
    return 0;
}
