/* One step back: an LMDB data file at the transaction before its last one. Private to kv_lmdb.c.
 *
 * LMDB keeps two meta pages, 0 and 1, and writes them in turn; the one with the higher transaction
 * id counts. The tree of the other one is whole until the next commit, as pages that a transaction
 * gives up are used again by the second one after it at the earliest. */
#ifndef SYS_LMDB_BACK_H
#define SYS_LMDB_BACK_H

/* @path: the folder. A file that is absent, or whose meta pages are not two neighbours, is left
 * alone. 0, TSR_EIO and the like. Blocking. */
int lmdb_step_back(const char *path);

/* Whether the folder's store was closed in order: the mark is taken away by asking. */
int lmdb_take_clean_mark(const char *path, int *clean_out);
int lmdb_set_clean_mark(const char *path);

#endif
