/* Inside of the simulated file system: what is stored and what waits to be stored. Only sim_fs.c
 * uses this.
 *
 * Two views of everything: `live`, what calls see, and `disk`, what a power cut leaves when nothing
 * more happens. What is in `live` but not on disk waits in two kinds of lists: per file the data
 * operations, per file system the name operations. A sync applies them to `disk`; a power cut
 * applies some, then makes `live` equal to `disk`.
 *
 * A node (file or directory) is freed when neither a name (live, disk or waiting) nor a handle
 * refers to it. */
#ifndef TESSERA_TESTS_SIM_FS_TREE_H
#define TESSERA_TESTS_SIM_FS_TREE_H

#include "sim_fs.h"

enum { SIM_SECTOR = 512, SIM_NAME_SIZE = 128, SIM_PART_SIZE = 64, SIM_KINDS = 8 };

struct sim_bytes {
    uint8_t *data;
    size_t size, capacity; /* data between size and capacity is zero */
};

enum data_kind { DATA_WRITE, DATA_RESIZE };
struct sim_data_op {
    struct sim_data_op *next;
    enum data_kind kind;
    size_t offset, size; /* RESIZE: size */
    bool grow_only;      /* RESIZE: allocate */
    uint8_t data[];
};

struct sim_name {
    struct sim_name *next;
    struct sim_node *node;
    uint32_t hash; /* of text: most comparisons end there */
    char text[SIM_NAME_SIZE];
};

struct sim_node {
    struct sim_node *next; /* all nodes */
    uint64_t inode;
    unsigned refs, handles, live_names;
    bool is_dir;
    int64_t mtime_ns, ctime_ns;
    struct sim_bytes live, disk; /* file */
    struct sim_data_op *ops, **ops_tail;
    struct sim_name *live_list, *disk_list; /* directory */
};

/* unlink: from only; link: to only; rename: both. */
struct sim_name_op {
    struct sim_name_op *next;
    struct sim_node *from_dir, *to_dir, *node;
    char from[SIM_NAME_SIZE], to[SIM_NAME_SIZE];
};

struct fs_file {
    struct sim_node *node;
    uint64_t life;
    bool writable;
    char path[SIM_NAME_SIZE]; /* its end */
};

struct sim_fs {
    struct fs base;
    uint64_t random;
    uint64_t life; /* grows with each crash */
    uint64_t next_inode, tick;
    struct sim_node *nodes, *root;
    struct sim_name_op *name_ops, **name_ops_tail;
    unsigned open_files;
    /* orders */
    unsigned fail_kinds;
    uint64_t fail_after, fail_times, stop_after;
    int fail_code;
    bool fail_set, stop_set, hit;
    uint64_t calls[SIM_KINDS], latency[SIM_KINDS], time_us;
    int64_t limit;
    char bad_part[SIM_PART_SIZE];
    enum sim_fs_bad_write bad_kind;
    int64_t bad_shift;
    bool bad_set, bad_made;
};

uint64_t sim_draw(struct sim_fs *s);
void *sim_xalloc(size_t size); /* zeroed; never NULL */

void sim_bytes_resize(struct sim_bytes *b, size_t size);
void sim_bytes_write(struct sim_bytes *b, size_t offset, const uint8_t *data, size_t size);
void sim_bytes_copy(struct sim_bytes *to, const struct sim_bytes *from);

struct sim_node *sim_node_new(struct sim_fs *s, bool is_dir);
void sim_node_unref(struct sim_fs *s, struct sim_node *n);
void sim_touch(struct sim_fs *s, struct sim_node *n);
struct sim_name **sim_list_find(struct sim_name **list, const char *text);

/* Do it in `live` and remember it for `disk`. */
void sim_name_op_add(struct sim_fs *s, struct sim_node *from_dir, const char *from,
                     struct sim_node *to_dir, const char *to, struct sim_node *node);
/* Take the operations out that touch @dir (NULL: all), doing the first @keep of them on disk. */
void sim_name_ops_settle(struct sim_fs *s, const struct sim_node *dir, uint64_t keep);
/* Remember it for `disk`; `live` is the caller's. */
void sim_data_op_add(struct sim_node *n, enum data_kind kind, size_t offset, const void *data,
                     size_t size, bool grow_only);
/* Take all operations of a file out, doing on disk what @mode leaves. */
void sim_ops_settle(struct sim_fs *s, struct sim_node *n, enum sim_fs_crash_mode mode);
/* `live` becomes what is on disk, from @n down. */
void sim_show_disk(struct sim_fs *s, struct sim_node *n);

#endif
