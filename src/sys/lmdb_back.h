/* Where an LMDB data file stood when it was last synced, and back to there. Private to sys/.
 *
 * LMDB keeps two meta pages, 0 and 1, and writes them in turn; the one with the higher transaction
 * id counts. A file whose commits are not synced may have a meta page on the disk without its tree.
 * So the meta page of the last synced transaction is kept apart, in the file "synced", and put back
 * before LMDB opens a file that was not closed in order. Its tree is whole as long as a reader that
 * began at it kept its pages from being used again (lmdb_late.h).
 *
 * "synced", two slots 4096 bytes apart, written in turn, the newest one that is whole counts:
 *   magic "TSYN" | crc32c u32 of what follows | version u32 | 0 u32 | number u64 |
 *   the meta page without its header (136 bytes); native byte order, as LMDB's own file. */
#ifndef SYS_LMDB_BACK_H
#define SYS_LMDB_BACK_H

#include <stdint.h>

/* A meta page of LMDB 0.9 (data version 1), native byte order, behind the page's header (16 bytes).
 */
struct lmdb_meta {
    uint32_t magic, version;
    uint64_t address, map_size;
    uint8_t dbs[2][48]; /* free list, main; the first begins with the page size u32 */
    uint64_t last_page, txn;
};
_Static_assert(sizeof(struct lmdb_meta) == 136, "LMDB's layout");

/* All: @path is the store's folder. 0, TSR_EIO and the like. Blocking. */

/* Before LMDB opens the file: a store that was not closed in order goes back to what "synced"
 * says, or, without that file, to the transaction before its last one. TSR_ECORRUPT: the data file
 * is older than what "synced" vouches for. */
int lmdb_go_back(const char *path);
/* The store is closed and synced whole: LMDB's own newest meta page may be taken next time. */
int lmdb_set_clean_mark(const char *path);

/* The meta page of transaction @txn, which must be one of the last two committed. */
int lmdb_meta_read(int fd, uint64_t txn, struct lmdb_meta *out);

/* "synced", open for writing. */
struct lmdb_synced {
    int fd;
    uint64_t number; /* of the slot written last */
};
int lmdb_synced_open(const char *path, struct lmdb_synced *out);
/* Durable afterwards. */
int lmdb_synced_write(struct lmdb_synced *s, const struct lmdb_meta *meta);
void lmdb_synced_close(struct lmdb_synced *s);

#endif
