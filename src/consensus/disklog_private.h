/* Inside of the durable log, shared by disklog.c (changes), disklog_files.c (segment files) and
 * disklog_open.c (reading and judging): names begin with dl_. Log thread. */
#ifndef TESSERA_CONSENSUS_DISKLOG_PRIVATE_H
#define TESSERA_CONSENSUS_DISKLOG_PRIVATE_H

#include "consensus/disklog.h"
#include "consensus/highmark.h"
#include "consensus/segment.h"
#include "tessera/base/buf.h"

enum { DISKLOG_PATH_SIZE = 1024 };

struct dl_segment {
    uint64_t first, bytes;
};

struct disklog {
    struct fs *fs;
    char *dir;
    uint64_t segment_bytes;
    struct highmark mark; /* its file is NULL as long as nothing was ever written */
    struct dl_segment *segments;
    size_t count, capacity;
    struct fs_file *file; /* of the last segment */
    struct segment_at at; /* the last record, and where the next one goes in the last segment */
    struct buf batch;
    bool spare, failed;
};

/* What reading needs: the log, what the caller expects of it, and the segment at hand. */
struct dl_loading {
    struct disklog *log;
    uint64_t start_index, start_term;
    disklog_load_cb load;
    void *arg;
    struct err *err;
    uint64_t limit; /* what a truncation under way leaves */
    size_t synced;  /* in the last segment: surely durable up to here */
    uint8_t *data;  /* the segment at hand */
    size_t size;
    char name[SEGMENT_NAME_SIZE];
};

/* disklog_files.c: none of these sets `failed`. */
int dl_new(struct fs *fs, const char *dir, uint64_t segment_bytes, struct disklog **out);
void dl_free(struct disklog *log);
/* The directory is there, its name is durable, and so are the names in it (a killed process may
 * have left them in memory only). */
int dl_make_dir(struct fs *fs, const char *dir);
int dl_path(const struct disklog *log, const char *name, char out[DISKLOG_PATH_SIZE]);
int dl_segment_path(const struct disklog *log, uint64_t first, char out[DISKLOG_PATH_SIZE]);
/* List the segments that are there. */
int dl_scan(struct disklog *log);
/* Remove the last segment's file. */
int dl_pop(struct disklog *log);
struct dl_segment *dl_last(const struct disklog *log);
int dl_open_last(struct disklog *log);
int dl_write_zeros(struct disklog *log, size_t from, size_t to);
/* A new last segment behind log->at. */
int dl_add_segment(struct disklog *log, uint64_t bytes);
void dl_make_spare(struct disklog *log);
void dl_remove_new(struct disklog *log); /* what a crash left while making a segment */
/* The mark shall say that the log ends at log->at; not written yet. */
void dl_mark_here(struct disklog *log, enum highmark_work work);
int dl_reset_to(struct disklog *log, uint64_t index, uint64_t term);
/* The mark says RESETTING: do it. */
int dl_finish_reset(struct disklog *log);

/* disklog_open.c: read one segment whole into l->data. */
int dl_read(struct dl_loading *l, struct dl_segment *s);

#endif
