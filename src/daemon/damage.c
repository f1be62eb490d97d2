/* A host that can not vouch for its log, vote or store: what it notes, and how the files go.
 *
 * damage.json says that this host shall not use its log and store any more: written when the leader
 * (cluster/rejoin.c) told it to rebuild, when a page of a store could not be read while running,
 * and before the nonce in it is sent to a leader. With it, or when log or store can not be opened,
 * a start ends in rejoin.c. Damage that a start finds leaves no note: an operator who puts the
 * right files back only starts the host again.
 *
 * damage_finish: host.json gets the new incarnation and "discard" in one step; raft/ and meta/ are
 * moved to damaged/<time>-<old incarnation>/; host.json loses "discard". A crash in between goes on
 * at the next start. The KEPT newest folders below damaged/ stay. blobs/ and index/ stay where they
 * are; a chunk index that is damaged itself is moved aside too, and made anew from blobs/. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"
#include "tessera/sys/fs.h"

enum { KEPT = 3, NOTE_MAX = 16 * 1024, NAME_BYTES = 64 };

/* --- the note -----------------------------------------------------------------------------------
 */

int damage_load(const char *data_dir, struct damage *out)
{
    char path[PATH_BYTES], *text = NULL;
    size_t size = 0;
    memset(out, 0, sizeof(*out));
    path_join(path, data_dir, "damage.json");
    int rv = fs_read_file(fs_real(), path, NOTE_MAX, &text, &size);
    if (rv != 0) {
        return rv;
    }
    json_t *note = json_parse(text, size);
    free(text);
    /* A note that can not be read still says that there is one. */
    (void)str_copy(out->code, sizeof(out->code), json_str_or(note, "code", "LOG_DAMAGED"));
    (void)str_copy(out->reason, sizeof(out->reason),
                   json_str_or(note, "reason", "damage.json can not be read"));
    (void)str_copy(out->nonce, sizeof(out->nonce), json_str_or(note, "nonce", ""));
    out->index = json_bool(note, "index", false);
    json_decref(note);
    return 0;
}

int damage_store(const char *data_dir, const struct damage *damage)
{
    char path[PATH_BYTES];
    size_t size = 0;
    json_t *note = json_pack("{s:s,s:s,s:s,s:b}", "code", damage->code, "reason", damage->reason,
                             "nonce", damage->nonce, "index", damage->index);
    char *text = note != NULL ? json_text(note, &size) : NULL;
    json_decref(note);
    if (text == NULL) {
        return TSR_ENOMEM;
    }
    path_join(path, data_dir, "damage.json");
    int rv = fs_write_file(fs_real(), path, text, size);
    free(text);
    return rv;
}

int damage_forget(const char *data_dir)
{
    char path[PATH_BYTES];
    path_join(path, data_dir, "damage.json");
    int rv = fs_unlink(fs_real(), path);
    return rv == TSR_ENOENT ? 0 : rv;
}

void damage_set(struct damage *damage, const char *code, const char *reason)
{
    memset(damage, 0, sizeof(*damage));
    (void)str_copy(damage->code, sizeof(damage->code), code);
    (void)str_copy(damage->reason, sizeof(damage->reason), reason);
}

void damage_rebuild(struct daemon *d, const char *code, const char *reason, bool index)
{
    struct damage damage;
    damage_set(&damage, code, reason);
    damage.index = index;
    log_error("daemon", "%s: %s: this host stops serving and rebuilds its store", code, reason);
    if (damage_store(d->cfg.data_dir, &damage) == 0) {
        exec_self(d->argv);
    }
    _exit(EXIT_DAMAGED);
}

/* By its path, so that the process keeps its name; by the kernel's link when the file was replaced.
 */
void exec_self(char **argv)
{
    char path[PATH_BYTES];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n > 0) {
        path[n] = '\0';
        (void)execv(path, argv);
    }
    (void)execv("/proc/self/exe", argv);
}

/* --- moving aside -------------------------------------------------------------------------------
 */

struct folders {
    char names[64][NAME_BYTES];
    size_t count;
};

static int note_folder(void *arg, const char *name, bool is_dir)
{
    struct folders *f = arg;
    if (is_dir && f->count < sizeof(f->names) / sizeof(f->names[0]) &&
        str_copy(f->names[f->count], NAME_BYTES, name)) {
        f->count++;
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Names begin with the time, so the oldest come first. */
static void prune(const char *damaged)
{
    struct folders f = {.count = 0};
    char path[PATH_BYTES];
    if (fs_list(fs_real(), damaged, note_folder, &f) != 0) {
        return;
    }
    qsort(f.names, f.count, NAME_BYTES, by_name);
    for (size_t i = 0; i + KEPT < f.count; i++) {
        path_join(path, damaged, f.names[i]);
        (void)remove_tree(path); /* what stays takes room, nothing else */
    }
}

static int move_one(const char *data_dir, const char *target, const char *name)
{
    char from[PATH_BYTES], to[PATH_BYTES];
    struct fs_stat st;
    path_join(from, data_dir, name);
    int rv = fs_stat(fs_real(), from, &st);
    if (rv != 0) {
        return rv == TSR_ENOENT ? 0 : rv;
    }
    if ((rv = fs_mkdirs(fs_real(), target)) != 0) {
        return rv;
    }
    path_join(to, target, name);
    return fs_rename(fs_real(), from, to);
}

int damage_set_aside(const char *data_dir, uint64_t raft_id, const char *const *names, size_t count)
{
    char damaged[PATH_BYTES], target[PATH_BYTES], folder[NAME_BYTES];
    struct tm tm;
    time_t now = time(NULL);
    (void)gmtime_r(&now, &tm);
    size_t n = strftime(folder, sizeof(folder), "%Y%m%dT%H%M%SZ", &tm);
    (void)snprintf(folder + n, sizeof(folder) - n, "-%llu", (unsigned long long)(raft_id & 0xffff));
    path_join(damaged, data_dir, "damaged");
    path_join(target, damaged, folder);
    int rv = 0;
    for (size_t i = 0; rv == 0 && i < count; i++) {
        rv = move_one(data_dir, target, names[i]);
    }
    if (rv == 0) {
        rv = fs_sync_dir(fs_real(), data_dir);
    }
    prune(damaged);
    return rv;
}

static int discard(struct daemon *d, bool index)
{
    static const char *const names[] = {"raft", "meta", "index"};
    return damage_set_aside(d->cfg.data_dir, d->files.me.raft_id - 1, names, index ? 3 : 2);
}

int damage_finish(struct daemon *d, uint64_t raft_id)
{
    d->files.me.raft_id = raft_id;
    d->files.discard = true;
    (void)str_copy(d->files.rebuilt_code, sizeof(d->files.rebuilt_code), d->damage.code);
    (void)str_copy(d->files.rebuilt_reason, sizeof(d->files.rebuilt_reason), d->damage.reason);
    d->files.discard_index = d->damage.index;
    int rv = host_files_store(d->cfg.data_dir, &d->files);
    return rv == 0 ? damage_resume(d) : rv;
}

int damage_resume(struct daemon *d)
{
    int rv = damage_forget(d->cfg.data_dir);
    if (rv == 0) {
        rv = discard(d, d->files.discard_index);
    }
    if (rv == 0) {
        d->files.discard = d->files.discard_index = false;
        d->files.fresh = true;
        rv = host_files_store(d->cfg.data_dir, &d->files);
    }
    return rv;
}
