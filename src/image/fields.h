/* What may stand in an image: names of fields, the values that fit them, who may set them. Pure. */
#ifndef IMAGE_FIELDS_H
#define IMAGE_FIELDS_H

#include "tessera/image.h"

enum {
    IMAGE_NAME_MAX = 255,       /* characters: names, tags, keys, owners, members */
    IMAGE_PROPERTY_MAX = 65535, /* bytes of a custom property's value */
    IMAGE_SHORT = 128,
};

enum field_class {
    FIELD_CUSTOM,
    FIELD_ID,
    FIELD_PLAIN,  /* set on create and patch */
    FIELD_FORMAT, /* only before there is data */
    FIELD_OWNER,
    FIELD_HASH, /* read-only on patch, ignored on create */
    FIELD_READ_ONLY,
    FIELD_RESERVED,
    FIELD_LOCATIONS, /* reserved on create; patches have rules of their own */
};

enum field_class field_class(const char *name);
/* Type, range, length, words allowed of @value for the field or custom property @name. TSR_EINVAL.
 */
int field_check(const char *name, const json_t *value, struct err *err);
/* A checked value as it is stored: whole numbers as integers, tags sorted and each once. New
 * reference, NULL when out of memory. */
json_t *field_value(const char *name, const json_t *value);
/* Copy for messages: cut at a character, not in it. */
const char *field_short(const char *text, char out[IMAGE_SHORT]);
/* Text of 1 .. IMAGE_NAME_MAX characters. */
bool field_name_ok(const char *text);

#endif
