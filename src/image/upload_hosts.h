/* What uploads, imports and downloads share: which hosts take part, how data is inspected. */
#ifndef IMAGE_UPLOAD_HOSTS_H
#define IMAGE_UPLOAD_HOSTS_H

#include "tessera/image.h"

struct upload_hosts {
    uint64_t ids[REPLICA_HOSTS_MAX];
    size_t count;
    size_t seals_min;
};

/* Choose for an image of @size bytes (-1 unknown). TSR_EUNAVAILABLE: too few hosts are up;
 * TSR_ENOSPC: they have no room. */
int upload_hosts_choose(struct image_ctx *ctx, const char *image_id, int64_t size,
                        struct upload_hosts *out, struct err *err);
/* Wanted holders of the sealed data; returns the count. */
size_t upload_hosts_placement(struct image_ctx *ctx, const char *image_id,
                              const struct upload_hosts *chosen,
                              const struct replica_result *sealed, uint64_t out[REPLICA_HOSTS_MAX]);

/* image.activate, image.stage or import.finish of sealed data. NULL: out of memory.
 * @virtual_size -1: null. */
json_t *upload_seal_command(struct image_ctx *ctx, const char *op, const char *image_id,
                            const char *session, const struct upload_hosts *chosen,
                            const struct replica_result *sealed, int64_t virtual_size);

/* Hosts with a replica of the data, the best first; behind them the others of the placement, which
 * may have it by now. Returns the count. */
size_t upload_hosts_holding(struct image_ctx *ctx, const json_t *record,
                            uint64_t hosts[REPLICA_HOSTS_MAX]);

/* As the operator wants it. NULL: out of memory. */
struct inspect *upload_inspect_new(const struct image_ctx *ctx, const char *disk_format,
                                   const char *container_format);

#endif
