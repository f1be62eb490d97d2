/* One change sent to the log for a service, and its answer; refusals that are known at once. */
#ifndef IMAGE_CHANGE_H
#define IMAGE_CHANGE_H

#include "tessera/image.h"

/* What the answer's result becomes. */
enum change_result { RESULT_NONE, RESULT_IMAGE, RESULT_MEMBER };

/* Takes @command (NULL: out of memory). @id: command id or NULL. */
void change_submit(struct image_ctx *ctx, json_t *command, const uint8_t *id,
                   enum change_result result, image_cb cb, void *arg);
/* The same under the caller's Idempotency-Key, if there is one. */
void change_submit_keyed(struct image_ctx *ctx, const struct caller *caller, json_t *command,
                         enum change_result result, image_cb cb, void *arg);
/* The id of the caller's command and its fingerprint into @command. false: no key. */
bool change_key(const struct caller *caller, unsigned attempt, json_t *command,
                uint8_t id[COMMAND_ID_SIZE]);
/* Answer later, from the loop. @result (taken, may be NULL) goes with status 0. */
void change_answer(struct image_ctx *ctx, int status, json_t *result, const struct err *err,
                   image_cb cb, void *arg);
/* It is not known whether the command was done: the same id may be sent again. */
bool change_undecided(int status);
/* Find @id on a fresh view and check @action. *image_out (may be NULL): new reference. */
int change_find(struct image_ctx *ctx, const struct caller *caller, const char *id,
                enum image_action action, json_t **image_out, struct err *err);

#endif
