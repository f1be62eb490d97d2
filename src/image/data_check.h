/* The digest that data is said to have, looked at while it streams by. Private to image/. */
#ifndef IMAGE_DATA_CHECK_H
#define IMAGE_DATA_CHECK_H

#include <stddef.h>

#include "tessera/base/err.h"

struct data_check;

/* @algo: md5, sha1, sha256, sha512. TSR_EINVAL: another one, or @hex is no such digest. */
int data_check_new(const char *algo, const char *hex, struct data_check **out, struct err *err);
void data_check_free(struct data_check *c);
void data_check_write(struct data_check *c, const void *data, size_t size);
/* After all data: TSR_EINVAL if it has another digest. */
int data_check_finish(struct data_check *c, struct err *err);

#endif
