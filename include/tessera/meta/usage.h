/* What a project has stored and what it may store: counters that apply keeps with each change of an
 * image, and the limits that it holds them to.
 *
 * Limits are directory entries of kind "quota": id "*" for all projects, or a project's id, whose
 * values win. A value is a whole number (sizes of the first two in MiB, user_storage_quota in
 * bytes); absent: as "*" says; -1, and absent in "*": no limit. A command that would raise a
 * counter past its limit is refused with TSR_ETOOBIG; what lowers one, or leaves it, always passes.
 * Thread: any; a view is its owner's. */
#ifndef TESSERA_META_USAGE_H
#define TESSERA_META_USAGE_H

#include "tessera/meta.h"

enum meta_limit {
    LIMIT_SIZE,      /* image_size_total: stored, and reserved by running uploads and imports */
    LIMIT_STAGE,     /* image_stage_total: staged, and reserved by running stagings */
    LIMIT_COUNT,     /* image_count_total: images */
    LIMIT_UPLOADING, /* image_count_uploading: images in saving, uploading, importing */
    LIMIT_STORAGE,   /* user_storage_quota: as LIMIT_SIZE, in bytes */
    LIMIT_NUMBER,
};
extern const char *const meta_limit_names[LIMIT_NUMBER];
extern const char meta_quota_all[]; /* the id of the entry for all projects: "*" */

/* Sizes in bytes; counts. */
struct meta_usage {
    int64_t size, stage, count, uploading;
};
/* Limits as they are set; sizes in MiB but for LIMIT_STORAGE; -1: none. */
struct meta_quota {
    int64_t limit[LIMIT_NUMBER];
};

/* What one image record counts for its owner. */
void meta_usage_of(const json_t *image, struct meta_usage *out);
/* A project's counters; zeros if it has none. TSR_ECORRUPT, TSR_EIO. */
int meta_usage_get(struct meta_view *v, const char *project, struct meta_usage *out);
/* The limits that hold for a project (@project NULL: those of all). */
int meta_quota_get(struct meta_view *v, const char *project, struct meta_quota *out);
/* Number of the limit of that name, or -1. */
int meta_limit_find(const char *name);
/* A limit in the unit of its counter (bytes or images); -1: none. */
int64_t meta_limit_counted(enum meta_limit limit, int64_t value);
/* The counter that a limit is about. */
int64_t meta_usage_counter(const struct meta_usage *usage, enum meta_limit limit);

#endif
