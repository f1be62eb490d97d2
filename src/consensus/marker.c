#include "consensus/marker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/segment.h"
#include "tessera/base/digest.h"

enum {
    PATH_SIZE = 1024,
    MARKER_MAGIC = 0x52414d54, /* "TMAR" */
    MARKER_VERSION = 1,
    MARKER_BYTES_MAX = MARKER_CONF_MAX + 1024,
};

static int path_of(char out[PATH_SIZE], const char *dir)
{
    int n = snprintf(out, PATH_SIZE, "%s/marker", dir);
    return n < 0 || n >= PATH_SIZE ? TSR_EINVAL : 0;
}

int marker_encode(struct buf *out, const struct marker *m)
{
    if (m->conf_size > MARKER_CONF_MAX)
        return TSR_ETOOBIG;
    (void)buf_put_u64(out, m->index);
    (void)buf_put_u64(out, m->term);
    (void)buf_append(out, m->digest, sizeof(m->digest));
    (void)buf_put_u64(out, m->conf_index);
    (void)buf_put_blob(out, m->conf, m->conf_size);
    return out->failed ? TSR_ENOMEM : 0;
}

int marker_decode(struct reader *r, struct marker *out)
{
    struct marker m = {0};
    m.index = read_u64(r);
    m.term = read_u64(r);
    const void *digest = read_bytes(r, sizeof(m.digest));
    m.conf_index = read_u64(r);
    const void *conf = read_blob(r, &m.conf_size);
    if (r->failed || m.conf_size > MARKER_CONF_MAX || m.index == 0 || m.term == 0)
        return TSR_ECORRUPT;
    memcpy(m.digest, digest, sizeof(m.digest));
    m.conf = malloc(m.conf_size + 1);
    if (!m.conf)
        return TSR_ENOMEM;
    if (m.conf_size > 0)
        memcpy(m.conf, conf, m.conf_size);
    *out = m;
    return 0;
}

static int file_decode(const void *data, size_t size, struct marker *out)
{
    struct reader r = reader_of(data, size);
    uint32_t magic = read_u32(&r), crc = read_u32(&r), version = read_u32(&r);
    if (r.failed || magic != MARKER_MAGIC || crc != crc32c(0, (const uint8_t *)data + 8, size - 8))
        return TSR_ECORRUPT;
    if (version != MARKER_VERSION)
        return version > MARKER_VERSION ? TSR_ENOTSUP : TSR_ECORRUPT;
    int rv = marker_decode(&r, out);
    if (rv == 0 && reader_left(&r) != 0) {
        marker_free(out);
        rv = TSR_ECORRUPT;
    }
    return rv;
}

int marker_load(struct fs *fs, const char *dir, struct marker *out, struct err *err)
{
    char path[PATH_SIZE];
    char *data;
    size_t size;
    int rv = path_of(path, dir);
    if (rv == 0)
        rv = fs_read_file(fs, path, MARKER_BYTES_MAX, &data, &size);
    if (rv == 0) {
        rv = file_decode(data, size, out);
        free(data);
    }
    if (rv == TSR_ECORRUPT || rv == TSR_ETOOBIG)
        return err_set(err, TSR_ECORRUPT, "snapshot marker damaged");
    if (rv == TSR_ENOTSUP)
        return err_set(err, rv, "the snapshot marker was written by a newer version");
    return rv != 0 ? err_set(err, rv, "snapshot marker: %s", err_text(rv)) : 0;
}

int marker_store(struct fs *fs, const char *dir, const struct marker *m)
{
    char path[PATH_SIZE];
    struct buf b = {0};
    (void)buf_put_u32(&b, MARKER_MAGIC);
    (void)buf_put_u32(&b, 0);
    (void)buf_put_u32(&b, MARKER_VERSION);
    int rv = marker_encode(&b, m);
    if (rv == 0)
        rv = path_of(path, dir);
    if (rv == 0) {
        le_put32((uint8_t *)b.data + 4, crc32c(0, b.data + 8, b.size - 8));
        rv = fs_write_file(fs, path, b.data, b.size);
    }
    buf_free(&b);
    return rv;
}

void marker_free(struct marker *m)
{
    free(m->conf);
    m->conf = NULL;
    m->conf_size = 0;
}

bool marker_exists(struct fs *fs, const char *dir)
{
    char path[PATH_SIZE];
    struct fs_stat st;
    return path_of(path, dir) == 0 && fs_stat(fs, path, &st) != TSR_ENOENT;
}
