/* The log's high-water mark: up to where the log was durable, kept outside of it. Also the log's
 * memory of a truncation or reset that is under way, so that a crash in its middle is finished at
 * open and never taken for damage. Format in docs/formats.md. Blocking; log thread.
 *
 * highmark_open / highmark_create -> highmark_note, highmark_force -> highmark_close. Two slots are
 * written in turn, the newest valid one counts. */
#ifndef TESSERA_CONSENSUS_HIGHMARK_H
#define TESSERA_CONSENSUS_HIGHMARK_H

#include "tessera/base/err.h"
#include "tessera/sys/fs.h"

enum highmark_work {
    HIGHMARK_IDLE = 0,
    HIGHMARK_CUTTING = 1,   /* records above index are being removed */
    HIGHMARK_RESETTING = 2, /* all are being removed; the log goes on after (index, term) */
};

struct highmark {
    struct fs *fs;
    struct fs_file *file;
    uint64_t generation;
    /* what is recorded: the last durable record */
    uint64_t log_id, index, term, chain;
    enum highmark_work work;
};

/* TSR_ENOENT: no file. TSR_ECORRUPT: no valid slot. */
int highmark_open(struct highmark *m, struct fs *fs, const char *dir);
/* Make the file durable with what @m's second half says. */
int highmark_create(struct highmark *m, struct fs *fs, const char *dir);
/* Write one slot; it reaches the disk some time later. */
int highmark_note(struct highmark *m);
/* Write both slots and sync. */
int highmark_force(struct highmark *m);
void highmark_close(struct highmark *m);
/* True also when it cannot be told. */
bool highmark_exists(struct fs *fs, const char *dir);

#endif
