/* The calls, the orders to fail them, and crashes; what is stored is in sim_fs_tree.c. */
#include "sim_fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim_fs_tree.h"
#include "tessera/base/assert.h"
#include "tessera/base/err.h"

static struct sim_fs *sim_of(const struct fs *fs)
{
    return (struct sim_fs *)(uintptr_t)fs; /* base is the first member */
}

/* --- orders ----------------------------------------------------------------------------------- */

static int kind_number(unsigned kind)
{
    int i = 0;
    while (!(kind >> i & 1))
        i++;
    return i;
}

/* Count one call; 0 or what it has to fail with. *effect: whether a failing call does half its
 * work. */
static int call(struct sim_fs *s, unsigned kind, bool *effect)
{
    *effect = false;
    if (s->stop_set) {
        if (s->stop_after == 0) {
            s->hit = true;
            return TSR_EIO;
        }
        s->stop_after--;
    }
    if (s->fail_set && (s->fail_kinds & kind)) {
        if (s->fail_after > 0) {
            s->fail_after--;
        } else if (s->fail_times > 0) {
            if (s->fail_times != SIM_FS_FOREVER)
                s->fail_times--;
            s->hit = *effect = true;
            return s->fail_code;
        }
    }
    s->calls[kind_number(kind)]++;
    s->time_us += s->latency[kind_number(kind)];
    return 0;
}

static int plain_call(struct sim_fs *s, unsigned kind)
{
    bool effect;
    return call(s, kind, &effect);
}

static uint64_t used(const struct sim_fs *s)
{
    uint64_t sum = 0;
    for (const struct sim_node *n = s->nodes; n; n = n->next)
        if (n->live_names > 0 || n->handles > 0)
            sum += n->live.size;
    return sum;
}

static int room_for(struct sim_fs *s, const struct sim_node *n, size_t size)
{
    if (s->limit == 0 || size <= n->live.size)
        return 0;
    return used(s) + (size - n->live.size) > (uint64_t)s->limit ? TSR_ENOSPC : 0;
}

/* --- paths ------------------------------------------------------------------------------------ */

/* Walk to the directory that holds the last component, which goes to @last ("" for the root). */
static int walk(struct sim_fs *s, const char *path, struct sim_node **dir_out,
                char last[SIM_NAME_SIZE])
{
    struct sim_node *dir = s->root;
    last[0] = 0;
    for (;;) {
        while (*path == '/')
            path++;
        size_t size = strcspn(path, "/");
        if (size == 0 || (size == 1 && *path == '.')) {
            path += size;
            if (*path == 0)
                break;
            continue;
        }
        if (size >= SIM_NAME_SIZE)
            return TSR_EINVAL;
        if (last[0]) {
            struct sim_name *n = *sim_list_find(&dir->live_list, last);
            if (!n)
                return TSR_ENOENT;
            if (!n->node->is_dir)
                return err_from_errno(ENOTDIR);
            dir = n->node;
        }
        memcpy(last, path, size);
        last[size] = 0;
        path += size;
    }
    *dir_out = dir;
    return 0;
}

static int find(struct sim_fs *s, const char *path, struct sim_node **out)
{
    struct sim_node *dir;
    char last[SIM_NAME_SIZE];
    int rv = walk(s, path, &dir, last);
    if (rv != 0)
        return rv;
    struct sim_name *n = last[0] ? *sim_list_find(&dir->live_list, last) : NULL;
    if (last[0] && !n)
        return TSR_ENOENT;
    *out = n ? n->node : dir;
    return 0;
}

/* --- the vtable: files ------------------------------------------------------------------------ */

static int check_handle(struct sim_fs *s, const struct fs_file *f, bool write)
{
    if (f->life != s->life)
        return TSR_EIO;
    return write && !f->writable ? TSR_EINVAL : 0;
}

static int open_node(struct sim_fs *s, const char *path, int flags, struct sim_node **out)
{
    struct sim_node *dir;
    char last[SIM_NAME_SIZE];
    int rv = walk(s, path, &dir, last);
    if (rv != 0)
        return rv;
    struct sim_name *n = last[0] ? *sim_list_find(&dir->live_list, last) : NULL;
    if (!last[0] || (n && n->node->is_dir))
        return err_from_errno(EISDIR);
    if (n && (flags & FS_CREATE) && (flags & FS_EXCL))
        return TSR_EEXIST;
    if (!n && !(flags & FS_CREATE))
        return TSR_ENOENT;
    if (n) {
        *out = n->node;
        return 0;
    }
    *out = sim_node_new(s, false);
    sim_name_op_add(s, NULL, NULL, dir, last, *out);
    return 0;
}

static int op_open(struct fs *fs, const char *path, int flags, struct fs_file **file_out)
{
    struct sim_fs *s = sim_of(fs);
    struct sim_node *n = NULL;
    int rv = plain_call(s, SIM_FS_OPEN);
    if (rv == 0)
        rv = open_node(s, path, flags, &n);
    if (rv != 0)
        return rv;
    if ((flags & FS_TRUNC) && n->live.size > 0) {
        sim_bytes_resize(&n->live, 0);
        sim_data_op_add(n, DATA_RESIZE, 0, NULL, 0, false);
        sim_touch(s, n);
    }
    struct fs_file *f = sim_xalloc(sizeof(*f));
    f->node = n;
    f->life = s->life;
    f->writable = (flags & FS_WRITE) != 0;
    size_t size = strlen(path), skip = size >= SIM_NAME_SIZE ? size - SIM_NAME_SIZE + 1 : 0;
    memcpy(f->path, path + skip, size - skip + 1);
    n->refs++;
    n->handles++;
    s->open_files++;
    *file_out = f;
    return 0;
}

static void op_close(struct fs *fs, struct fs_file *f)
{
    struct sim_fs *s = sim_of(fs);
    f->node->handles--;
    sim_node_unref(s, f->node);
    s->open_files--;
    free(f);
}

static long op_pread(struct fs *fs, struct fs_file *f, void *data, size_t size, int64_t offset)
{
    struct sim_fs *s = sim_of(fs);
    int rv = plain_call(s, SIM_FS_READ);
    if (rv == 0)
        rv = check_handle(s, f, false);
    if (rv != 0)
        return rv;
    const struct sim_bytes *b = &f->node->live;
    if (offset < 0)
        return TSR_EINVAL;
    if ((uint64_t)offset >= b->size)
        return 0;
    size_t n = b->size - (size_t)offset < size ? b->size - (size_t)offset : size;
    if (n > 0)
        memcpy(data, b->data + offset, n);
    return (long)n;
}

/* The write goes to `live`; whether and where it will reach the disk is for the orders to say. */
static void write_data(struct sim_fs *s, struct fs_file *f, const void *data, size_t size,
                       size_t offset)
{
    struct sim_node *n = f->node;
    sim_bytes_write(&n->live, offset, data, size);
    sim_touch(s, n);
    if (!s->bad_set || !strstr(f->path, s->bad_part)) {
        sim_data_op_add(n, DATA_WRITE, offset, data, size, false);
        return;
    }
    s->bad_set = false;
    s->bad_made = true;
    if (s->bad_kind == SIM_FS_LOST) {
        sim_data_op_add(n, DATA_RESIZE, 0, NULL, n->live.size, true);
        return;
    }
    int64_t to = (int64_t)offset + s->bad_shift;
    if (to >= 0)
        sim_data_op_add(n, DATA_WRITE, (size_t)to, data, size, false);
}

static int op_pwrite(struct fs *fs, struct fs_file *f, const void *data, size_t size,
                     int64_t offset)
{
    struct sim_fs *s = sim_of(fs);
    bool effect;
    int rv = check_handle(s, f, true);
    if (rv != 0)
        return rv;
    if (offset < 0)
        return TSR_EINVAL;
    rv = call(s, SIM_FS_WRITE, &effect);
    if (rv != 0) {
        size_t part = effect && size > 0 ? (size_t)(sim_draw(s) % size) : 0;
        if (part > 0 && room_for(s, f->node, (size_t)offset + part) == 0)
            write_data(s, f, data, part, (size_t)offset);
        return rv;
    }
    rv = room_for(s, f->node, (size_t)offset + size);
    if (rv == 0)
        write_data(s, f, data, size, (size_t)offset);
    return rv;
}

static int op_sync(struct fs *fs, struct fs_file *f)
{
    struct sim_fs *s = sim_of(fs);
    bool effect;
    int rv = check_handle(s, f, false);
    if (rv != 0)
        return rv;
    rv = call(s, SIM_FS_SYNC, &effect);
    if (rv == 0)
        sim_ops_settle(s, f->node, SIM_FS_KEEP);
    else if (effect)
        sim_ops_settle(s, f->node, SIM_FS_RANDOM);
    return rv;
}

static int resize(struct sim_fs *s, struct fs_file *f, int64_t size, bool grow_only)
{
    struct sim_node *n = f->node;
    int rv = check_handle(s, f, true);
    if (rv == 0)
        rv = plain_call(s, SIM_FS_RESIZE);
    if (rv == 0 && size < 0)
        rv = TSR_EINVAL;
    if (rv == 0)
        rv = room_for(s, n, (size_t)size);
    if (rv != 0 || (grow_only && (size_t)size <= n->live.size))
        return rv;
    sim_bytes_resize(&n->live, (size_t)size);
    sim_data_op_add(n, DATA_RESIZE, 0, NULL, (size_t)size, grow_only);
    sim_touch(s, n);
    return 0;
}

static int op_truncate(struct fs *fs, struct fs_file *f, int64_t size)
{
    return resize(sim_of(fs), f, size, false);
}

static int op_allocate(struct fs *fs, struct fs_file *f, int64_t size)
{
    return resize(sim_of(fs), f, size, true);
}

static void fill_stat(const struct sim_node *n, struct fs_stat *out)
{
    *out = (struct fs_stat){
        .inode = n->inode,
        .size = (int64_t)n->live.size,
        .blocks = (int64_t)((n->live.size + SIM_SECTOR - 1) / SIM_SECTOR),
        .mtime_ns = n->mtime_ns,
        .ctime_ns = n->ctime_ns,
        .is_dir = n->is_dir,
        .mode = n->is_dir ? 0700 : 0600,
    };
}

static int op_fstat(struct fs *fs, struct fs_file *f, struct fs_stat *out)
{
    struct sim_fs *s = sim_of(fs);
    int rv = plain_call(s, SIM_FS_STAT);
    if (rv == 0)
        rv = check_handle(s, f, false);
    if (rv == 0)
        fill_stat(f->node, out);
    return rv;
}

static int op_fd(struct fs *fs, struct fs_file *f)
{
    (void)fs;
    (void)f;
    return -1;
}

/* --- the vtable: names ------------------------------------------------------------------------ */

static int op_stat(struct fs *fs, const char *path, struct fs_stat *out)
{
    struct sim_fs *s = sim_of(fs);
    struct sim_node *n;
    int rv = plain_call(s, SIM_FS_STAT);
    if (rv == 0)
        rv = find(s, path, &n);
    if (rv == 0)
        fill_stat(n, out);
    return rv;
}

static int rename_checked(struct sim_fs *s, const char *from, const char *to)
{
    struct sim_node *from_dir, *to_dir;
    char from_name[SIM_NAME_SIZE], to_name[SIM_NAME_SIZE];
    int rv = walk(s, from, &from_dir, from_name);
    if (rv == 0)
        rv = walk(s, to, &to_dir, to_name);
    if (rv != 0)
        return rv;
    struct sim_name *n = from_name[0] ? *sim_list_find(&from_dir->live_list, from_name) : NULL;
    struct sim_name *old = to_name[0] ? *sim_list_find(&to_dir->live_list, to_name) : NULL;
    if (!n)
        return TSR_ENOENT;
    if (!to_name[0])
        return TSR_EINVAL;
    if (old && old->node->is_dir != n->node->is_dir)
        return err_from_errno(n->node->is_dir ? ENOTDIR : EISDIR);
    if (old && old->node->live_list)
        return err_from_errno(ENOTEMPTY);
    if (old != n)
        sim_name_op_add(s, from_dir, from_name, to_dir, to_name, n->node);
    return 0;
}

static int op_rename(struct fs *fs, const char *from, const char *to)
{
    struct sim_fs *s = sim_of(fs);
    int rv = plain_call(s, SIM_FS_NAME);
    return rv != 0 ? rv : rename_checked(s, from, to);
}

static int op_unlink(struct fs *fs, const char *path)
{
    struct sim_fs *s = sim_of(fs);
    struct sim_node *dir;
    char last[SIM_NAME_SIZE];
    int rv = plain_call(s, SIM_FS_NAME);
    if (rv == 0)
        rv = walk(s, path, &dir, last);
    if (rv != 0)
        return rv;
    struct sim_name *n = last[0] ? *sim_list_find(&dir->live_list, last) : NULL;
    if (!n)
        return TSR_ENOENT;
    if (n->node->live_list)
        return err_from_errno(ENOTEMPTY);
    sim_name_op_add(s, dir, last, NULL, NULL, n->node);
    return 0;
}

static int op_mkdir(struct fs *fs, const char *path)
{
    struct sim_fs *s = sim_of(fs);
    struct sim_node *dir;
    char last[SIM_NAME_SIZE];
    int rv = plain_call(s, SIM_FS_NAME);
    if (rv == 0)
        rv = walk(s, path, &dir, last);
    if (rv != 0)
        return rv;
    struct sim_name *n = last[0] ? *sim_list_find(&dir->live_list, last) : NULL;
    if (n || !last[0])
        return !n || n->node->is_dir ? 0 : TSR_EEXIST;
    sim_name_op_add(s, NULL, NULL, dir, last, sim_node_new(s, true));
    return 0;
}

static int op_sync_dir(struct fs *fs, const char *path)
{
    struct sim_fs *s = sim_of(fs);
    struct sim_node *n;
    int rv = plain_call(s, SIM_FS_SYNC_DIR);
    if (rv == 0)
        rv = find(s, path, &n);
    if (rv == 0 && !n->is_dir)
        rv = err_from_errno(ENOTDIR);
    if (rv == 0)
        sim_name_ops_settle(s, n, UINT64_MAX);
    return rv;
}

/* The callback may change the directory, so it sees a copy. Newest first: nobody may rely on an
 * order. */
static int op_list(struct fs *fs, const char *path, fs_list_cb cb, void *arg)
{
    struct sim_fs *s = sim_of(fs);
    struct sim_node *dir;
    int rv = plain_call(s, SIM_FS_STAT);
    if (rv == 0)
        rv = find(s, path, &dir);
    if (rv == 0 && !dir->is_dir)
        rv = err_from_errno(ENOTDIR);
    if (rv != 0)
        return rv;
    size_t count = 0;
    for (struct sim_name *n = dir->live_list; n; n = n->next)
        count++;
    struct {
        char text[SIM_NAME_SIZE];
        bool is_dir;
    } *copy = sim_xalloc(count * sizeof(*copy));
    size_t i = 0;
    for (struct sim_name *n = dir->live_list; n; n = n->next, i++) {
        memcpy(copy[i].text, n->text, SIM_NAME_SIZE);
        copy[i].is_dir = n->node->is_dir;
    }
    for (i = 0; rv == 0 && i < count; i++)
        rv = cb(arg, copy[i].text, copy[i].is_dir);
    free(copy);
    return rv;
}

static int op_space(struct fs *fs, const char *path, struct fs_space *out)
{
    struct sim_fs *s = sim_of(fs);
    struct sim_node *n;
    int rv = plain_call(s, SIM_FS_STAT);
    if (rv == 0)
        rv = find(s, path, &n);
    if (rv != 0)
        return rv;
    int64_t total = s->limit > 0 ? s->limit : INT64_C(1) << 40, now = (int64_t)used(s);
    *out = (struct fs_space){.total = total, .available = now < total ? total - now : 0};
    return 0;
}

static const struct fs_ops sim_ops = {
    .open = op_open,
    .close = op_close,
    .pread = op_pread,
    .pwrite = op_pwrite,
    .sync = op_sync,
    .truncate = op_truncate,
    .allocate = op_allocate,
    .fstat = op_fstat,
    .fd = op_fd,
    .stat = op_stat,
    .rename = op_rename,
    .unlink = op_unlink,
    .mkdir = op_mkdir,
    .sync_dir = op_sync_dir,
    .list = op_list,
    .space = op_space,
};

/* --- life and crashes ------------------------------------------------------------------------- */

struct fs *sim_fs_new(uint64_t seed)
{
    struct sim_fs *s = sim_xalloc(sizeof(*s));
    s->base.ops = &sim_ops;
    s->random = seed;
    s->name_ops_tail = &s->name_ops;
    s->next_inode = (sim_draw(s) >> 32) + 1;
    s->tick = sim_draw(s) >> 16;
    s->root = sim_node_new(s, true);
    s->root->refs = 1;
    s->root->live_names = 1;
    return &s->base;
}

void sim_fs_free(struct fs *fs)
{
    if (!fs)
        return;
    struct sim_fs *s = sim_of(fs);
    sim_name_ops_settle(s, NULL, 0);
    sim_node_unref(s, s->root);
    tsr_assert(s->nodes == NULL); /* else a handle was not closed */
    free(s);
}

void sim_fs_crash(struct fs *fs, uint64_t seed, enum sim_fs_crash_mode mode)
{
    struct sim_fs *s = sim_of(fs);
    s->life++;
    s->fail_set = s->stop_set = s->bad_set = false;
    if (mode == SIM_FS_KILL)
        return;
    s->random ^= seed * 0x9e3779b97f4a7c15u;
    for (struct sim_node *n = s->nodes; n; n = n->next)
        sim_ops_settle(s, n, mode);
    uint64_t waiting = 0;
    for (struct sim_name_op *op = s->name_ops; op; op = op->next)
        waiting++;
    uint64_t keep = mode == SIM_FS_KEEP   ? waiting
                    : mode == SIM_FS_DROP ? 0
                                          : sim_draw(s) % (waiting + 1);
    sim_name_ops_settle(s, NULL, keep);
    sim_show_disk(s, s->root);
}

void sim_fs_drop_caches(struct fs *fs)
{
    for (struct sim_node *n = sim_of(fs)->nodes; n; n = n->next)
        if (!n->is_dir && !n->ops)
            sim_bytes_copy(&n->live, &n->disk);
}

/* --- orders and queries ----------------------------------------------------------------------- */

void sim_fs_fail(struct fs *fs, unsigned kinds, uint64_t after, int code, uint64_t times)
{
    struct sim_fs *s = sim_of(fs);
    s->fail_kinds = kinds;
    s->fail_after = after;
    s->fail_code = code;
    s->fail_times = times;
    s->fail_set = times > 0;
    s->hit = false;
}

void sim_fs_stop(struct fs *fs, uint64_t after)
{
    struct sim_fs *s = sim_of(fs);
    s->stop_after = after;
    s->stop_set = true;
    s->hit = false;
}

bool sim_fs_failed(const struct fs *fs)
{
    return sim_of(fs)->hit;
}

uint64_t sim_fs_calls(const struct fs *fs, unsigned kinds)
{
    uint64_t sum = 0;
    for (int i = 0; i < SIM_KINDS; i++)
        sum += kinds >> i & 1 ? sim_of(fs)->calls[i] : 0;
    return sum;
}

void sim_fs_limit(struct fs *fs, int64_t bytes)
{
    sim_of(fs)->limit = bytes;
}

void sim_fs_latency(struct fs *fs, unsigned kinds, uint64_t us)
{
    for (int i = 0; i < SIM_KINDS; i++)
        if (kinds >> i & 1)
            sim_of(fs)->latency[i] = us;
}

uint64_t sim_fs_take_time(struct fs *fs)
{
    struct sim_fs *s = sim_of(fs);
    uint64_t us = s->time_us;
    s->time_us = 0;
    return us;
}

bool sim_fs_flip(struct fs *fs, const char *path, int64_t offset, uint8_t mask)
{
    struct sim_node *n;
    if (find(sim_of(fs), path, &n) != 0 || n->is_dir || offset < 0 ||
        (uint64_t)offset >= n->live.size)
        return false;
    n->live.data[offset] ^= mask;
    if ((uint64_t)offset < n->disk.size)
        n->disk.data[offset] ^= mask;
    return true;
}

void sim_fs_bad_write(struct fs *fs, const char *part, enum sim_fs_bad_write kind, int64_t shift)
{
    struct sim_fs *s = sim_of(fs);
    size_t size = strlen(part);
    tsr_assert(size < SIM_PART_SIZE);
    memcpy(s->bad_part, part, size + 1);
    s->bad_kind = kind;
    s->bad_shift = shift;
    s->bad_set = true;
    s->bad_made = false;
}

bool sim_fs_bad_write_made(const struct fs *fs)
{
    return sim_of(fs)->bad_made;
}

void sim_fs_bad_write_cancel(struct fs *fs)
{
    sim_of(fs)->bad_set = false;
}

bool sim_fs_has(struct fs *fs, const char *path)
{
    struct sim_node *n;
    return find(sim_of(fs), path, &n) == 0 && !n->is_dir;
}

uint64_t sim_fs_used(const struct fs *fs)
{
    return used(sim_of(fs));
}

unsigned sim_fs_open_files(const struct fs *fs)
{
    return sim_of(fs)->open_files;
}
