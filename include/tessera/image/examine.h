/* Looking at stored data again: the inspector of uploads over an image that is there, read from the
 * hosts that hold it. For administrators: what was stored before a rule came, or behind a container
 * format that is not inspected. Thread: the loop of the image_ctx. */
#ifndef TESSERA_IMAGE_EXAMINE_H
#define TESSERA_IMAGE_EXAMINE_H

#include "tessera/image.h"

struct image_examination;

/* @record has data. @cb, once, unless stopped: 0 with {"image_id", "disk_format",
 * "container_format", "size", "virtual_size", "format" (what was found), "ok", "finding" (a
 * sentence or null)}; or why it could not be read. Only what matters is read. TSR_ENOMEM,
 * TSR_ECORRUPT: @cb never runs. */
int image_examine(struct image_ctx *ctx, const json_t *record, image_cb cb, void *arg,
                  struct image_examination **out);
/* The client left. */
void image_examine_stop(struct image_examination *e);

#endif
