/* An image's signature: the four properties img_signature, img_signature_hash_method,
 * img_signature_key_type and img_signature_certificate_uuid, verified against the certificate that
 * the operator put into a directory as UUID.pem. The data is hashed while it streams by; the
 * certificate is read, and the signature looked at, in a pool at the end. Private to image/.
 * Thread: the loop of the image_ctx. */
#ifndef IMAGE_SIGNED_DATA_H
#define IMAGE_SIGNED_DATA_H

#include "tessera/image.h"

struct signed_data;

/* *out NULL: nothing to verify (no directory is set, or not all four properties are). TSR_EINVAL: a
 * property makes no sense. */
int signed_data_new(struct image_ctx *ctx, const json_t *image, struct signed_data **out,
                    struct err *err);
void signed_data_write(struct signed_data *s, const void *data, size_t size);
/* @cb, once, later, unless freed before: 0, or TSR_EINVAL with a sentence. */
typedef void (*signed_data_cb)(void *arg, int status, const struct err *err);
void signed_data_verify(struct signed_data *s, signed_data_cb cb, void *arg);
/* Is @cb still to come? NULL: no. */
bool signed_data_busy(const struct signed_data *s);
/* Any time; NULL is fine. */
void signed_data_free(struct signed_data *s);

#endif
