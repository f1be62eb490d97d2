/* Clients' uploads and downloads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

/* --- uploads
 * ---------------------------------------------------------------------------------------------------
 */

static void upload_more(struct run *r);

static void upload_finished(void *arg, int status, json_t *result, const struct err *err)
{
    struct run *r = arg;
    (void)result;
    r->upload = NULL;
    if (!run_end(r)) {
        return;
    }
    if (status == 0) {
        check_acknowledged(r->h, client_image(r->c), true);
        client_decided(r->c, OUTCOME_OK);
    } else if (status == TSR_EGONE || status == TSR_ENOENT || status == TSR_ENOSPC) {
        client_end(r->c, err_name(status));
    } else {
        world_note(r->c->w, "client %u upload: %s (%s)", r->c->n, err->msg, err_name(status));
        client_decided(r->c, OUTCOME_MAYBE);
    }
}

static void upload_failed(void *arg, int status, const struct err *err)
{
    struct run *r = arg;
    (void)err;
    r->upload = NULL;
    if (run_end(r)) {
        client_end(r->c, err_name(status));
    }
}

static void upload_more_task(struct task *task)
{
    upload_more(container_of(task, struct run, task));
}

static void upload_drain(void *arg)
{
    struct run *r = arg;
    if (!r->ended && r->upload != NULL) {
        upload_more(r);
    }
}

static void upload_done_sending(struct run *r)
{
    struct client *c = r->c;
    if (c->op != OP_abandon) {
        image_upload_finish(r->upload, upload_finished, r);
        return;
    }
    image_upload_abort(r->upload);
    r->upload = NULL;
    if (run_end(r)) {
        client_end(c, "given up");
    }
}

static void upload_more(struct run *r)
{
    struct client *c = r->c;
    if (r->ended || r->upload == NULL) {
        return;
    }
    size_t size = content_size(c->content);
    size_t end = c->op == OP_abandon ? size / 2 : size;
    if (r->at >= end) {
        upload_done_sending(r);
        return;
    }
    size_t n = 1 + (size_t)world_below(c->w, 9000);
    n = n < end - r->at ? n : end - r->at;
    size_t from = r->at;
    r->at += n;
    bool more = image_upload_write(r->upload, content_data(c->content) + from, n);
    if (more && r->upload != NULL && !r->ended) { /* the next piece comes from the network */
        r->task.run = upload_more_task;
        loop_post(r->h->worker, &r->task);
    }
}

static void upload_ready(void *arg, int status, json_t *result, const struct err *err)
{
    struct run *r = arg;
    (void)result;
    (void)err;
    if (r->ended) {
        return;
    }
    if (status == 0) {
        upload_more(r);
        return;
    }
    r->upload = NULL;
    if (!run_end(r)) {
        return;
    }
    if (status == TSR_ENOENT && r->c->op != OP_abandon) {
        client_decided(r->c, OUTCOME_ABSENT);
    } else {
        client_end(r->c, err_name(status));
    }
}

void client_upload(struct run *r)
{
    int64_t size = (int64_t)content_size(r->c->content);
    struct image_upload_options options = {
        .caller = sim_caller(),
        .id = client_image(r->c),
        .content_length = world_below(r->c->w, 2) == 0 ? size : -1,
        .size_header = -1,
        .stage = r->c->op == OP_stage || (r->c->op == OP_abandon && r->c->value % 2 == 0),
        .on_ready = upload_ready,
        .on_drain = upload_drain,
        .on_fail = upload_failed,
        .arg = r,
    };
    image_upload_start(&r->h->image, &options, &r->upload);
}

/* --- downloads
 * --------------------------------------------------------------------------------------------------
 */

static void download_end(struct run *r, int status)
{
    struct client *c = r->c;
    struct sim_event e = {
        .live = true, .fields = SEEN_CONTENT, .content = c->content, .off = c->off};
    image_download_close(r->download);
    r->download = NULL;
    if (!run_end(r)) {
        return;
    }
    if (status != 0) {
        client_end(c, err_name(status));
        return;
    }
    c->w->ops_ok[OP_download]++;
    client_record(c, &e, OUTCOME_OK);
    client_end(c, "ok");
}

/* What rots below the file system after it was verified is found at the next verification only:
 * until then that host itself gives wrong bytes; whoever has them from it must not. */
static bool rot_is_unseen(const struct run *r, size_t from)
{
    return r->h->blind_life == r->h->life &&
           strcmp(content_chunk(r->c->content, (unsigned)(from / SIM_CHUNK_BYTES)),
                  r->h->blind_chunk) == 0;
}

static void download_piece(void *arg, int status, const struct replica_piece *piece)
{
    struct run *r = arg;
    struct client *c = r->c;
    if (r->ended) {
        return;
    }
    if (status != 0) {
        download_end(r, status);
        return;
    }
    if (piece->size == 0) {
        if ((int64_t)r->at != r->info.length) {
            world_fail(c->w, "download of image %u on host %u ends well after %zu of %lld bytes",
                       c->image, r->h->n, r->at, (long long)r->info.length);
        }
        download_end(r, 0);
        return;
    }
    size_t from = (size_t)r->info.offset + r->at;
    if (piece->file || from + piece->size > content_size(c->content) ||
        (memcmp(piece->data, content_data(c->content) + from, piece->size) != 0 &&
         !rot_is_unseen(r, from))) {
        world_fail(c->w, "download of image %u on host %u: wrong bytes at %zu", c->image, r->h->n,
                   from);
    }
    r->at += piece->size;
    image_download_next(r->download, download_piece, r);
}

static void download_open(void *arg, int status, const struct image_download_info *info,
                          const struct err *err)
{
    struct run *r = arg;
    (void)err;
    if (r->ended) {
        return;
    }
    if (status != 0) {
        download_end(r, status);
        return;
    }
    if (info->empty != (r->c->content == 0)) {
        world_fail(r->c->w, "download of image %u: empty is %d, content %u", r->c->image,
                   info->empty, r->c->content);
    }
    if (info->empty) {
        download_end(r, 0);
        return;
    }
    r->info = *info;
    image_download_next(r->download, download_piece, r);
}

void client_download(struct run *r, struct meta_view *view)
{
    struct client *c = r->c;
    struct sim_event e = {0};
    struct err err = {0};
    json_t *image = NULL;
    char range[64];
    int rv = image_find(view, sim_caller(), client_image(c), ACT_DOWNLOAD, &image, &err);
    if (rv != 0) {
        if (run_end(r) && rv == TSR_ENOENT) {
            client_record(c, &e, OUTCOME_OK);
        }
        client_end(c, err_name(rv));
        return;
    }
    client_see_content(c->w, image, &e);
    c->content = e.content;
    c->off = e.off;
    bool part = c->content != 0 && world_below(c->w, 3) == 0;
    if (part) {
        size_t size = content_size(c->content), from = (size_t)world_below(c->w, size);
        (void)snprintf(range, sizeof(range), "bytes=%zu-%zu", from,
                       from + (size_t)world_below(c->w, size - from));
    }
    rv = image_download_open(&r->h->image, sim_caller(), image, part ? range : NULL, false,
                             download_open, r, &r->download);
    json_decref(image);
    if (rv != 0 && run_end(r)) {
        client_end(c, err_name(rv));
    }
}
