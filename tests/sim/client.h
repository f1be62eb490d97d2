/* Inside of the clients: one operation on its way. Only tests/sim/client*.c use this. */
#ifndef TESSERA_TESTS_SIM_CLIENT_H
#define TESSERA_TESTS_SIM_CLIENT_H

#include "world.h"

/* One try on one host. */
struct run {
    struct client *c;
    struct sim_host *h;
    unsigned life;
    struct meta_barrier barrier;
    struct meta_submit submit;
    struct image_upload *upload;
    struct image_download *download;
    size_t at; /* bytes sent or got */
    struct image_download_info info;
    bool ended;
    struct task task;
    struct timer timer;
};

struct client {
    struct world *w;
    unsigned n;
    struct run *run; /* NULL: thinking or waiting to try again */
    bool busy;       /* an operation is open */
    enum sim_op op;
    unsigned image;
    uint64_t value;
    uint32_t content, off;
    char task[UUID_TEXT + 1]; /* of an import that was accepted */
    uint8_t id[COMMAND_ID_SIZE];
    uint64_t invoked, began_ms;
    unsigned tries;
    bool unsure; /* the last operation had no answer: it looks at the image first of all */
};

/* --- client.c: the end of a try or an operation ------------------------------------------------
 */

/* Whether this try still counts; it ends now. */
bool run_end(struct run *r);
/* What was seen or done goes into the history of the image. */
void client_record(struct client *c, struct sim_event *e, int outcome);
/* The operation ends with that outcome, which goes into the history. */
void client_decided(struct client *c, int outcome);
/* Nobody knows whether it happened: again, or into the history as that. */
void client_unclear(struct client *c);
void client_refused(struct client *c, int status);
/* It ends, and there is nothing to remember. */
void client_end(struct client *c, const char *how);
/* Try again on any host, after a while. */
void client_again(struct client *c, uint64_t us);
const char *client_image(const struct client *c);

extern const char *const sim_visibilities[SIM_VISIBILITIES];

/* --- what a try does once its host has caught up -----------------------------------------------
 */

void client_change(struct run *r); /* client_change.c */
void client_upload(struct run *r); /* client_data.c */
void client_download(struct run *r, struct meta_view *view);
void client_import(struct run *r); /* client_import.c */
void client_import_look(struct run *r, struct meta_view *view);
/* An import that happened or failed, then or later: what others see may be explained by either. */
void client_import_unsure(struct client *c);
void client_show(struct run *r, struct meta_view *view); /* client_read.c */
void client_list(struct run *r, struct meta_view *view);
/* Status, size and checksum of a record must agree. */
void client_see_content(struct world *w, const json_t *image, struct sim_event *e);

#endif
