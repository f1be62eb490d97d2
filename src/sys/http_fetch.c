/* Two threads meet here: the pool's, which blocks in libcurl, and the loop's.
 *
 * Happy path: pool thread: a body piece is copied, queued, and the loop is told; over QUEUE_MAX
 * bytes it waits until the loop has taken some. Loop: takes pieces while on_data says yes. End: the
 * call returns, `done` runs on the loop after all tasks posted before; on_done is told once the
 * queue is empty. Failure: what was queued before an error is dropped. Cancel: the waiting pool
 * thread is woken and ends its call; a call that waits for the network looks about once a second.
 */
#include "tessera/sys/http_fetch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"

enum { QUEUE_MAX = 4 << 20 };

struct piece {
    struct piece *next;
    size_t size;
    char data[];
};

struct http_fetch {
    struct http_fetch_options o;
    char *url, *ca_file, *header;
    struct work work;
    struct task task;
    atomic_bool canceled;
    atomic_int_fast64_t size; /* as the server says; 0: not known */

    pthread_mutex_t lock;
    pthread_cond_t room;
    struct piece *first, **last; /* under the lock */
    size_t queued;
    bool told; /* task is on its way */

    /* loop */
    bool paused, ended;
    /* pool thread, then loop after `done` */
    int status;
    struct err err;
    struct http_fetch_result result;
};

/* --- pool thread --------------------------------------------------------------------------------
 */

static bool stop_cb(void *arg)
{
    struct http_fetch *f = arg;
    return atomic_load(&f->canceled);
}

static void progress_cb(void *arg, int64_t sent, int64_t sent_total, int64_t received,
                        int64_t received_total)
{
    struct http_fetch *f = arg;
    (void)sent;
    (void)sent_total;
    (void)received;
    atomic_store(&f->size, received_total);
}

static int write_cb(void *arg, const void *data, size_t size)
{
    struct http_fetch *f = arg;
    struct piece *p = malloc(sizeof(*p) + size);
    if (p == NULL) {
        return TSR_ENOMEM;
    }
    p->next = NULL;
    p->size = size;
    memcpy(p->data, data, size);
    pthread_mutex_lock(&f->lock);
    while (f->queued >= QUEUE_MAX && !atomic_load(&f->canceled)) {
        pthread_cond_wait(&f->room, &f->lock);
    }
    if (atomic_load(&f->canceled)) {
        pthread_mutex_unlock(&f->lock);
        free(p);
        return TSR_ECANCELED;
    }
    *f->last = p;
    f->last = &p->next;
    f->queued += size;
    f->result.size += (int64_t)size;
    bool tell = !f->told;
    f->told = true;
    pthread_mutex_unlock(&f->lock);
    if (tell) {
        loop_post(f->o.loop, &f->task);
    }
    return 0;
}

static void run_cb(struct work *work)
{
    struct http_fetch *f = container_of(work, struct http_fetch, work);
    const char *headers[] = {f->header};
    struct http_client_request request = {
        .url = f->url,
        .ca_file = f->ca_file,
        .headers = headers,
        .header_count = f->header != NULL ? 1 : 0,
        .write_body = write_cb,
        .stop = stop_cb,
        .progress = progress_cb,
        .arg = f,
        .address_allowed = f->o.address_allowed,
        .address_arg = f->o.address_arg,
        .connect_timeout_ms = f->o.connect_timeout_ms,
        .stall_timeout_ms = f->o.stall_timeout_ms,
        .timeout_ms = f->o.timeout_ms,
        .reply_max = 1 << 20,
    };
    struct http_client_reply reply;
    f->status =
        atomic_load(&f->canceled) ? TSR_ECANCELED : http_client_call(&request, &reply, &f->err);
    if (f->status == 0) {
        f->result.status = reply.status;
        if (!http_client_header(&reply, "Location", f->result.location,
                                sizeof(f->result.location))) {
            f->result.location[0] = 0;
        }
        http_client_reply_free(&reply);
    }
}

/* --- loop ---------------------------------------------------------------------------------------
 */

static struct piece *take(struct http_fetch *f)
{
    pthread_mutex_lock(&f->lock);
    struct piece *p = f->first;
    if (p != NULL) {
        f->first = p->next;
        if (f->first == NULL) {
            f->last = &f->first;
        }
        f->queued -= p->size;
        pthread_cond_signal(&f->room);
    }
    pthread_mutex_unlock(&f->lock);
    return p;
}

static void strings_free(struct http_fetch *f)
{
    if (f->header != NULL) {
        explicit_bzero(f->header, strlen(f->header)); /* it may be a secret */
    }
    free(f->header);
    free(f->url);
    free(f->ca_file);
}

static void fetch_free(struct http_fetch *f)
{
    struct piece *p;
    while ((p = take(f)) != NULL) {
        free(p);
    }
    pthread_cond_destroy(&f->room);
    pthread_mutex_destroy(&f->lock);
    strings_free(f);
    free(f);
}

/* Is the task on its way? It then ends the fetch. */
static bool is_told(struct http_fetch *f)
{
    pthread_mutex_lock(&f->lock);
    bool told = f->told;
    pthread_mutex_unlock(&f->lock);
    return told;
}

/* Give pieces; at the end tell it. @f may be gone then. */
static void give(struct http_fetch *f)
{
    struct piece *p;
    bool dropped = atomic_load(&f->canceled) || (f->ended && f->status != 0);
    while (!f->paused && !dropped && (p = take(f)) != NULL) {
        f->paused = !f->o.on_data(f->o.arg, p->data, p->size);
        free(p);
        dropped = atomic_load(&f->canceled);
    }
    if (f->ended && (dropped || !f->paused) && !is_told(f)) {
        int status = atomic_load(&f->canceled) ? TSR_ECANCELED : f->status;
        f->o.on_done(f->o.arg, status, &f->result, &f->err);
        fetch_free(f);
    }
}

static void task_cb(struct task *task)
{
    struct http_fetch *f = container_of(task, struct http_fetch, task);
    pthread_mutex_lock(&f->lock);
    f->told = false;
    pthread_mutex_unlock(&f->lock);
    give(f);
}

static void done_cb(struct work *work)
{
    struct http_fetch *f = container_of(work, struct http_fetch, work);
    f->ended = true;
    give(f);
}

int http_fetch_start(const struct http_fetch_options *options, struct http_fetch **out)
{
    struct http_fetch *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return TSR_ENOMEM;
    }
    f->o = *options;
    f->url = strdup(options->url);
    f->last = &f->first;
    bool ca = options->ca_file != NULL && options->ca_file[0] != 0;
    f->ca_file = ca ? strdup(options->ca_file) : NULL;
    f->header = options->header != NULL ? strdup(options->header) : NULL;
    if (f->url == NULL || (ca && f->ca_file == NULL) ||
        (options->header != NULL && f->header == NULL)) {
        strings_free(f);
        free(f);
        return TSR_ENOMEM;
    }
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->room, NULL);
    atomic_init(&f->canceled, false);
    atomic_init(&f->size, 0);
    f->task.run = task_cb;
    f->work.loop = options->loop;
    f->work.run = run_cb;
    f->work.done = done_cb;
    *out = f;
    pool_submit(options->pool, &f->work);
    return 0;
}

/* Later, from the loop: resume is called from inside other callbacks. */
static void wake(struct http_fetch *f)
{
    pthread_mutex_lock(&f->lock);
    bool tell = !f->told;
    f->told = true;
    pthread_mutex_unlock(&f->lock);
    if (tell) {
        loop_post(f->o.loop, &f->task);
    }
}

void http_fetch_resume(struct http_fetch *f)
{
    if (f->paused) {
        f->paused = false;
        wake(f);
    }
}

int64_t http_fetch_size(const struct http_fetch *f)
{
    int64_t size = atomic_load(&f->size);
    return size > 0 ? size : -1;
}

void http_fetch_cancel(struct http_fetch *f)
{
    if (!atomic_exchange(&f->canceled, true)) {
        pthread_mutex_lock(&f->lock);
        pthread_cond_signal(&f->room);
        pthread_mutex_unlock(&f->lock);
        if (f->ended) {
            wake(f);
        }
    }
}
