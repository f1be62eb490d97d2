/* GET /v2/images.
 *
 * Most pages are read at once. A question that no index answers (filters on properties, several
 * sort keys) may have to read every image: that goes on in steps with the loop's other work between
 * them, on one view, and no longer than LISTING_MS. When the client goes away the view is closed at
 * once and the job is freed by its next step. */
#include <stdlib.h>

#include "api/image_face.h"
#include "tessera/base/assert.h"

/* A view that is held keeps the pages of its moment from being used again. */
enum { LISTING_MS = 60000 };

struct listing_job {
    struct task task;
    struct api_req *r;
    struct meta_view *view;
    struct image_listing *listing;
    struct image_param *params;
    char *store;
    uint64_t started_ms;
};

static void job_close(struct listing_job *job)
{
    image_listing_close(job->listing);
    meta_view_close(job->view);
    job->listing = NULL;
    job->view = NULL;
}

static void job_free(struct listing_job *job)
{
    job_close(job);
    free(job->params);
    free(job->store);
    free(job);
}

static void client_gone(struct api_req *r)
{
    job_close(r->state);
}

/* The parameters as the service takes them; the texts live as long as the request. */
static struct image_param *list_params(const struct api_req *r)
{
    size_t count = r->params.count;
    struct image_param *params = calloc(count + 1, sizeof(*params));
    for (size_t i = 0; i < count && params != NULL; i++) {
        params[i] = (struct image_param){.name = r->params.items[i].name,
                                         .value = r->params.items[i].value};
    }
    return params;
}

static void step(struct listing_job *job);

static void step_task(struct task *task)
{
    struct listing_job *job = container_of(task, struct listing_job, task);
    if (api_release(job->r)) {
        job_free(job);
        return;
    }
    step(job);
}

static void step(struct listing_job *job)
{
    struct api_req *r = job->r;
    struct buf page = {0};
    int rv = image_listing_step(job->listing, job->store, &page);
    bool late = loop_now_ms(r->o->loop) - job->started_ms > LISTING_MS;
    if (rv == TSR_EAGAIN && !late) {
        api_hold(r);
        loop_post(r->o->loop, &job->task);
        return;
    }
    r->on_dead = NULL;
    job_free(job);
    if (rv == TSR_EAGAIN) {
        api_errorf(r, TSR_EUNAVAILABLE, "The listing reads too many images; use other filters.");
    } else if (rv != 0) {
        api_error(r, rv, NULL);
    } else {
        api_json_text(r, 200, page.data, page.size);
    }
    buf_free(&page);
}

void image_index(struct api_req *r)
{
    struct err err = {0};
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    struct listing_job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        meta_view_close(view);
        api_error(r, TSR_ENOMEM, NULL);
        return;
    }
    *job = (struct listing_job){.task.run = step_task,
                                .r = r,
                                .view = view,
                                .params = list_params(r),
                                .store = image_store_text(r),
                                .started_ms = loop_now_ms(r->o->loop)};
    int rv = job->params == NULL || job->store == NULL ? TSR_ENOMEM : 0;
    if (rv == 0) {
        rv = image_listing_open(view, &r->caller, job->params, r->params.count, r->o->limit_default,
                                r->o->limit_max, &job->listing, &err);
    }
    if (rv != 0) {
        job_free(job);
        api_error(r, rv, &err);
        return;
    }
    r->state = job;
    r->on_dead = client_gone;
    step(job);
}
