/* The body of POST /v2/images, checked and turned into the image of the command. */
#ifndef IMAGE_CREATE_H
#define IMAGE_CREATE_H

#include "tessera/image.h"

/* Pure but for nothing: @random_id is used when the body names no id. In order: shapes
 * (TSR_EINVAL), names that are not the client's (TSR_EFORBIDDEN), the caller's rights
 * (TSR_EFORBIDDEN), limits (TSR_ETOOBIG). *image_out: new reference. */
int create_evaluate(const json_t *body, const struct caller *caller,
                    const struct image_limits *limits, const char *random_id, json_t **image_out,
                    struct err *err);
/* Rights that a new value of visibility needs; @image NULL: none yet. */
int visibility_allowed(const struct caller *caller, const char *visibility, const json_t *image,
                       struct err *err);

#endif
