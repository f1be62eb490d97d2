/* Records in the form of the Image API. */
#ifndef IMAGE_RENDER_H
#define IMAGE_RENDER_H

#include "tessera/image.h"

/* Member record -> API form; NULL when out of memory (or @member is NULL). */
json_t *member_render(const json_t *member);

#endif
