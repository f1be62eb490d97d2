/* A received snapshot on its way in.
 *
 * Happy path: stage_open makes the directory "stage" with a file "head" and an empty file "stream";
 * stage_write appends; stage_finish syncs and reads it all again to check the digest, then renames
 * the directory to "install" and syncs the parent: from that moment the install will be finished.
 * install_remove takes the head away first: without it the rest is waste.
 *
 * Failure modes: a crash while staging leaves a stage that is resumed if the sender comes with the
 * same head, where a power cut may have left holes; then the digest is wrong at the end, the stage
 * is deleted and the next try begins anew. A failed write ends the stage object, not the file. */
#include "consensus/marker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/segment.h"
#include "tessera/base/digest.h"
#include "tessera/base/str.h"

enum {
    PATH_SIZE = 1024,
    STAGE_MAGIC = 0x47545354, /* "TSTG" */
    STAGE_VERSION = 1,
    HEAD_BYTES_MAX = MARKER_CONF_MAX + 4096,
    CHECK_STEP = 1024 * 1024,
};

#define STAGE "stage"
#define INSTALL "install"

struct stage {
    struct fs *fs;
    char *dir;
    struct fs_file *stream;
    uint64_t have, total;
    uint8_t sha256[32];
    bool failed;
};

/* @sub: STAGE or INSTALL; @name: file in it, or NULL. */
static int path_of(char out[PATH_SIZE], const char *dir, const char *sub, const char *name)
{
    int n = snprintf(out, PATH_SIZE, "%s/%s%s%s", dir, sub, name ? "/" : "", name ? name : "");
    return n < 0 || n >= PATH_SIZE ? TSR_EINVAL : 0;
}

/* --- the head --------------------------------------------------------------------------------- */

static int head_encode(struct buf *out, const struct stage_head *h)
{
    (void)buf_put_u32(out, STAGE_MAGIC);
    (void)buf_put_u32(out, 0);
    (void)buf_put_u32(out, STAGE_VERSION);
    (void)buf_put_u64(out, h->stream_bytes);
    (void)buf_append(out, h->stream_sha256, sizeof(h->stream_sha256));
    int rv = marker_encode(out, &h->marker);
    if (rv == 0)
        le_put32((uint8_t *)out->data + 4, crc32c(0, out->data + 8, out->size - 8));
    return rv;
}

static int head_decode(const void *data, size_t size, struct stage_head *out)
{
    struct reader r = reader_of(data, size);
    uint32_t magic = read_u32(&r), crc = read_u32(&r), version = read_u32(&r);
    if (r.failed || magic != STAGE_MAGIC || crc != crc32c(0, (const uint8_t *)data + 8, size - 8))
        return TSR_ECORRUPT;
    if (version != STAGE_VERSION)
        return version > STAGE_VERSION ? TSR_ENOTSUP : TSR_ECORRUPT;
    out->stream_bytes = read_u64(&r);
    const void *sha256 = read_bytes(&r, sizeof(out->stream_sha256));
    if (!sha256)
        return TSR_ECORRUPT;
    memcpy(out->stream_sha256, sha256, sizeof(out->stream_sha256));
    int rv = marker_decode(&r, &out->marker);
    if (rv == 0 && reader_left(&r) != 0) {
        marker_free(&out->marker);
        rv = TSR_ECORRUPT;
    }
    return rv;
}

/* --- removing --------------------------------------------------------------------------------- */

static int unlink_if_there(struct fs *fs, const char *path)
{
    int rv = fs_unlink(fs, path);
    return rv == TSR_ENOENT ? 0 : rv;
}

static int remove_sub(struct fs *fs, const char *dir, const char *sub)
{
    static const char *const names[] = {"head", "head.tmp", "stream"};
    char path[PATH_SIZE];
    struct fs_stat st;
    int rv = path_of(path, dir, sub, NULL);
    if (rv == 0)
        rv = fs_stat(fs, path, &st);
    if (rv != 0)
        return rv == TSR_ENOENT ? 0 : rv;
    for (size_t i = 0; rv == 0 && i < sizeof(names) / sizeof(names[0]); i++) {
        rv = path_of(path, dir, sub, names[i]);
        if (rv == 0)
            rv = unlink_if_there(fs, path);
        /* The head is gone for good before the rest may go. */
        if (rv == 0 && i == 0)
            rv = path_of(path, dir, sub, NULL);
        if (rv == 0 && i == 0)
            rv = fs_sync_dir(fs, path);
    }
    if (rv == 0)
        rv = path_of(path, dir, sub, NULL);
    if (rv == 0)
        rv = unlink_if_there(fs, path);
    return rv != 0 ? rv : fs_sync_dir(fs, dir);
}

/* --- staging ---------------------------------------------------------------------------------- */

/* Whether the stage on disk was begun for this head. */
static int same_head(struct fs *fs, const char *path, const struct buf *head, bool *same_out)
{
    char *data;
    size_t size;
    int rv = fs_read_file(fs, path, HEAD_BYTES_MAX, &data, &size);
    *same_out = false;
    if (rv == TSR_ENOENT || rv == TSR_ETOOBIG)
        return 0;
    if (rv != 0)
        return rv;
    *same_out = size == head->size && memcmp(data, head->data, size) == 0;
    free(data);
    return 0;
}

static int begin_anew(struct fs *fs, const char *dir, const char *path, const struct buf *head)
{
    char sub[PATH_SIZE];
    int rv = remove_sub(fs, dir, STAGE);
    if (rv == 0)
        rv = path_of(sub, dir, STAGE, NULL);
    if (rv == 0)
        rv = fs_mkdirs(fs, sub);
    if (rv == 0)
        rv = fs_write_file(fs, path, head->data, head->size);
    return rv;
}

static int open_stream(struct stage *s)
{
    char path[PATH_SIZE];
    struct fs_stat st;
    int rv = path_of(path, s->dir, STAGE, "stream");
    if (rv == 0)
        rv = fs_open(s->fs, path, FS_WRITE | FS_CREATE, &s->stream);
    if (rv == 0)
        rv = fs_fstat(s->fs, s->stream, &st);
    if (rv != 0)
        return rv;
    s->have = (uint64_t)st.size;
    if (s->have > s->total) {
        s->have = s->total;
        rv = fs_truncate(s->fs, s->stream, (int64_t)s->total);
    }
    return rv;
}

int stage_open(struct fs *fs, const char *dir, const struct stage_head *head, struct stage **out,
               uint64_t *have_out)
{
    char path[PATH_SIZE];
    bool same = false;
    struct buf encoded = {0};
    struct stage *s = calloc(1, sizeof(*s));
    if (s)
        s->dir = strdup(dir);
    int rv = s && s->dir ? head_encode(&encoded, head) : TSR_ENOMEM;
    if (rv == 0 && head->stream_bytes > INT64_MAX)
        rv = TSR_EINVAL;
    if (rv == 0)
        rv = path_of(path, dir, STAGE, "head");
    if (rv == 0)
        rv = same_head(fs, path, &encoded, &same);
    if (rv == 0 && !same)
        rv = begin_anew(fs, dir, path, &encoded);
    if (rv == 0) {
        s->fs = fs;
        s->total = head->stream_bytes;
        memcpy(s->sha256, head->stream_sha256, sizeof(s->sha256));
        rv = open_stream(s);
    }
    buf_free(&encoded);
    if (rv != 0) {
        stage_close(s);
        return rv;
    }
    *out = s;
    *have_out = s->have;
    return 0;
}

int stage_write(struct stage *s, uint64_t offset, const void *data, size_t size)
{
    if (s->failed)
        return TSR_EIO;
    if (offset != s->have || size > s->total - s->have)
        return TSR_EINVAL;
    int rv = fs_pwrite(s->fs, s->stream, data, size, (int64_t)offset);
    if (rv == 0)
        s->have += size;
    else
        s->failed = true;
    return rv;
}

/* Read @f whole and compare its length and digest. */
static int check_stream(struct fs *fs, struct fs_file *f, uint64_t total, const uint8_t sha256[32])
{
    uint8_t seen[DIGEST_MAX];
    uint64_t at = 0;
    long n = 0;
    char *piece = malloc(CHECK_STEP);
    struct digest *d = digest_new(DIGEST_SHA256);
    int rv = piece && d ? 0 : TSR_ENOMEM;
    while (rv == 0) {
        n = fs_pread(fs, f, piece, CHECK_STEP, (int64_t)at);
        if (n <= 0)
            break;
        digest_update(d, piece, (size_t)n);
        at += (uint64_t)n;
    }
    if (rv == 0 && n < 0)
        rv = (int)n;
    if (rv == 0) {
        digest_final(d, seen);
        rv = at == total && digest_compare(seen, sha256, 32) == 0 ? 0 : TSR_ECORRUPT;
    }
    digest_free(d);
    free(piece);
    return rv;
}

/* No install is under way (one without head was removed, but not to its end). */
static int install_is_free(struct fs *fs, const char *dir)
{
    char path[PATH_SIZE];
    struct fs_stat st;
    int rv = path_of(path, dir, INSTALL, "head");
    if (rv == 0)
        rv = fs_stat(fs, path, &st);
    if (rv == TSR_ENOENT)
        return remove_sub(fs, dir, INSTALL);
    return rv == 0 ? TSR_EEXIST : rv;
}

static int show_install(struct stage *s)
{
    char from[PATH_SIZE], to[PATH_SIZE];
    int rv = path_of(from, s->dir, STAGE, NULL);
    if (rv == 0)
        rv = path_of(to, s->dir, INSTALL, NULL);
    if (rv == 0)
        rv = fs_sync_dir(s->fs, from);
    if (rv == 0)
        rv = fs_rename(s->fs, from, to);
    return rv != 0 ? rv : fs_sync_dir(s->fs, s->dir);
}

int stage_finish(struct stage *s)
{
    if (s->failed)
        return TSR_EIO;
    if (s->have != s->total)
        return TSR_EINVAL;
    int rv = install_is_free(s->fs, s->dir);
    if (rv == TSR_EEXIST)
        return rv;
    if (rv == 0)
        rv = fs_sync(s->fs, s->stream);
    if (rv == 0)
        rv = check_stream(s->fs, s->stream, s->total, s->sha256);
    if (rv == TSR_ECORRUPT) {
        int removed = remove_sub(s->fs, s->dir, STAGE);
        rv = removed != 0 ? removed : rv;
    } else if (rv == 0) {
        rv = show_install(s);
    }
    s->failed = true; /* it is an install now, or gone, or of unknown state */
    return rv;
}

void stage_close(struct stage *s)
{
    if (!s)
        return;
    if (s->stream)
        fs_close(s->fs, s->stream);
    free(s->dir);
    free(s);
}

/* --- install ---------------------------------------------------------------------------------- */

static int check_install(struct fs *fs, const char *path, const struct stage_head *head)
{
    struct fs_file *f;
    int rv = fs_open(fs, path, FS_READ, &f);
    if (rv != 0)
        return rv == TSR_ENOENT ? TSR_ECORRUPT : rv;
    rv = check_stream(fs, f, head->stream_bytes, head->stream_sha256);
    fs_close(fs, f);
    return rv;
}

int install_load(struct fs *fs, const char *dir, struct stage_head *head, char *path_out,
                 size_t path_size, struct err *err)
{
    char path[PATH_SIZE];
    char *data;
    size_t size;
    int rv = path_of(path, dir, INSTALL, "head");
    if (rv == 0)
        rv = fs_read_file(fs, path, HEAD_BYTES_MAX, &data, &size);
    if (rv == TSR_ENOENT)
        return rv;
    if (rv == 0) {
        rv = head_decode(data, size, head);
        free(data);
    }
    if (rv == 0) {
        rv = path_of(path, dir, INSTALL, "stream");
        if (rv == 0 && !str_copy(path_out, path_size, path))
            rv = TSR_EINVAL;
        if (rv == 0)
            rv = check_install(fs, path, head);
        if (rv != 0)
            marker_free(&head->marker);
    }
    if (rv == TSR_ECORRUPT || rv == TSR_ETOOBIG)
        return err_set(err, TSR_ECORRUPT, "received snapshot damaged");
    if (rv == TSR_ENOTSUP)
        return err_set(err, rv, "the received snapshot was written by a newer version");
    return rv != 0 ? err_set(err, rv, "received snapshot: %s", err_text(rv)) : 0;
}

int install_remove(struct fs *fs, const char *dir)
{
    return remove_sub(fs, dir, INSTALL);
}
