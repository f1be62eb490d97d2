/* JSON patches on images (image-api section 5). Pure. */
#ifndef IMAGE_PATCH_H
#define IMAGE_PATCH_H

#include "tessera/image.h"

/* Apply @operations (of image_patch_parse) to a copy of @record, all or nothing. *command_out: the
 * image.update command, new reference, or NULL when nothing would change. TSR_EINVAL,
 * TSR_EFORBIDDEN, TSR_ECONFLICT, TSR_ETOOBIG. */
int patch_evaluate(const json_t *record, const struct caller *caller, const json_t *operations,
                   bool v2_0, const struct image_limits *limits, json_t **command_out,
                   struct err *err);

#endif
