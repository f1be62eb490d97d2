/* What a host keeps about itself: host.json and certs/ below data_dir (docs/formats.md). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/daemon.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"
#include "tessera/sys/fs.h"

enum { FILE_MAX = 64 * 1024 };

void path_join(char out[PATH_BYTES], const char *a, const char *b)
{
    /* data_dir is bounded by its setting, the names below it are ours: they fit. */
    bool fits = str_copy(out, PATH_BYTES, a) && strlen(out) + 1 + strlen(b) < PATH_BYTES;
    tsr_assert(fits);
    strcat(out, "/");
    strcat(out, b);
}

static int read_pem(const char *dir, const char *name, char **out, struct err *err)
{
    char path[PATH_BYTES];
    size_t size = 0;
    path_join(path, dir, name);
    int rv = fs_read_file(fs_real(), path, FILE_MAX, out, &size);
    return rv == 0 ? 0 : err_set(err, rv, "%s can not be read: %s", path, err_text(rv));
}

/* host.json is the last file that forming writes; the metadata store is made by a member that runs.
 */
static bool was_member(const char *data_dir)
{
    char path[PATH_BYTES];
    struct fs_stat st;
    path_join(path, data_dir, "meta");
    return fs_stat(fs_real(), path, &st) == 0;
}

int host_files_load(const char *data_dir, struct host_files *out, struct err *err)
{
    char path[PATH_BYTES], *text = NULL;
    size_t size = 0;
    memset(out, 0, sizeof(*out));
    path_join(path, data_dir, "host.json");
    int rv = fs_read_file(fs_real(), path, FILE_MAX, &text, &size);
    if (rv == TSR_ENOENT && was_member(data_dir)) {
        return err_set(err, TSR_ECORRUPT, "%s is missing, but there is a metadata store beside it",
                       path);
    }
    if (rv != 0) {
        return err_set(err, rv, "%s can not be read: %s", path, err_text(rv));
    }
    json_t *j = json_parse(text, size);
    free(text);
    (void)str_copy(out->me.cluster_id, sizeof(out->me.cluster_id),
                   json_str_or(j, "cluster_id", ""));
    (void)str_copy(out->me.name, sizeof(out->me.name), json_str_or(j, "name", ""));
    out->me.host_id = (uint64_t)json_int(j, "host_id", 0);
    out->me.raft_id = (uint64_t)json_int(j, "raft_id", 0);
    out->me.chunk_bytes = (uint32_t)json_int(j, "chunk_bytes", 0);
    out->fresh = json_bool(j, "fresh", false);
    out->discard = json_bool(j, "discard", false);
    out->discard_index = json_bool(j, "discard_index", false);
    const json_t *rebuilt = json_obj(j, "rebuilt");
    (void)str_copy(out->rebuilt_code, sizeof(out->rebuilt_code), json_str_or(rebuilt, "code", ""));
    (void)str_copy(out->rebuilt_reason, sizeof(out->rebuilt_reason),
                   json_str_or(rebuilt, "reason", ""));
    json_decref(j);
    if (out->me.host_id == 0 || out->me.raft_id == 0 || out->me.chunk_bytes == 0) {
        return err_set(err, TSR_ECORRUPT, "%s is damaged", path);
    }
    char *key = NULL;
    path_join(path, data_dir, "certs");
    if ((rv = read_pem(path, "ca.pem", &out->ca_pem, err)) != 0 ||
        (rv = read_pem(path, "host.pem", &out->cert_pem, err)) != 0 ||
        (rv = read_pem(path, "host.key", &out->key_pem, err)) != 0 ||
        (rv = read_pem(path, "cluster.key", &key, err)) != 0) {
        host_files_free(out);
        return rv == TSR_ENOENT ? TSR_ECORRUPT : rv; /* there is a host.json, so this is a member */
    }
    if (hex_decode(key, strcspn(key, "\n"), out->cluster_key, 32) != 0) {
        rv = err_set(err, TSR_ECORRUPT, "%s/cluster.key is damaged", path);
        host_files_free(out);
    }
    free(key);
    return rv;
}

static int write_text(const char *dir, const char *name, const char *text)
{
    char path[PATH_BYTES];
    path_join(path, dir, name);
    return fs_write_file(fs_real(), path, text, strlen(text));
}

int host_files_store(const char *data_dir, const struct host_files *f)
{
    char certs[PATH_BYTES], key[66];
    int rv;
    path_join(certs, data_dir, "certs");
    hex_encode(f->cluster_key, 32, key);
    strcat(key, "\n");
    if ((rv = fs_mkdirs(fs_real(), certs)) != 0 ||
        (rv = write_text(certs, "ca.pem", f->ca_pem)) != 0 ||
        (rv = write_text(certs, "host.pem", f->cert_pem)) != 0 ||
        (rv = write_text(certs, "host.key", f->key_pem)) != 0 ||
        (rv = write_text(certs, "cluster.key", key)) != 0 ||
        (rv = fs_sync_dir(fs_real(), data_dir)) != 0) {
        return rv;
    }
    json_t *j = json_pack("{s:s,s:s,s:I,s:I,s:I}", "cluster_id", f->me.cluster_id, "name",
                          f->me.name, "host_id", (json_int_t)f->me.host_id, "raft_id",
                          (json_int_t)f->me.raft_id, "chunk_bytes", (json_int_t)f->me.chunk_bytes);
    if (f->fresh) {
        json_set_bool(j, "fresh", true);
    }
    if (f->discard) {
        json_set_bool(j, "discard", true);
        json_set_bool(j, "discard_index", f->discard_index);
    }
    if (f->rebuilt_code[0] != '\0') {
        json_object_set_new(
            j, "rebuilt",
            json_pack("{s:s,s:s}", "code", f->rebuilt_code, "reason", f->rebuilt_reason));
    }
    char *text = j != NULL ? json_text(j, NULL) : NULL;
    json_decref(j);
    if (text == NULL) {
        return TSR_ENOMEM;
    }
    rv = write_text(data_dir, "host.json", text);
    free(text);
    return rv;
}

void host_files_free(struct host_files *f)
{
    free(f->ca_pem);
    free(f->cert_pem);
    free(f->key_pem);
    f->ca_pem = f->cert_pem = f->key_pem = NULL;
}

static int remove_entry(void *arg, const char *name, bool is_dir)
{
    char path[PATH_BYTES];
    path_join(path, arg, name);
    return is_dir ? remove_tree(path) : fs_unlink(fs_real(), path);
}

int remove_tree(const char *path)
{
    char copy[PATH_BYTES];
    (void)str_copy(copy, sizeof(copy), path);
    int rv = fs_list(fs_real(), path, remove_entry, copy);
    if (rv == TSR_ENOENT) {
        return 0;
    }
    return rv != 0 ? rv : fs_unlink(fs_real(), path);
}
