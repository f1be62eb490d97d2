/* The real pool: POSIX threads that take works from one queue, first in, first out. */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

#include "tessera/base/assert.h"
#include "tessera/base/err.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"
#include "tessera/sys/loop.h"

enum { THREAD_NAME = 16, HOST_NAME = 64 };

struct thread_pool {
    struct pool base;
    pthread_mutex_t lock; /* guards all below but the names */
    pthread_cond_t some;  /* the queue is not empty, or stopping */
    struct work *head, *tail;
    size_t depth;
    bool stopping;
    unsigned count;
    pthread_t *threads;
    char name[THREAD_NAME];
    char host[HOST_NAME];
};

static struct thread_pool *self(struct pool *pool)
{
    return container_of(pool, struct thread_pool, base);
}

static void run_done(struct task *task)
{
    struct work *work = container_of(task, struct work, task);
    work->done(work);
}

static void op_submit(struct pool *pool, struct work *work)
{
    struct thread_pool *p = self(pool);
    tsr_assert(work->run != NULL && (work->loop == NULL || work->done != NULL));
    work->next = NULL;
    pthread_mutex_lock(&p->lock);
    if (p->head == NULL) {
        p->head = work;
    } else {
        p->tail->next = work;
    }
    p->tail = work;
    p->depth++;
    pthread_mutex_unlock(&p->lock);
    pthread_cond_signal(&p->some); /* who wakes finds the lock free */
}

static size_t op_depth(struct pool *pool)
{
    struct thread_pool *p = self(pool);
    pthread_mutex_lock(&p->lock);
    size_t depth = p->depth;
    pthread_mutex_unlock(&p->lock);
    return depth;
}

/* Called with the lock held; NULL when stopping and nothing is left. */
static struct work *next_work(struct thread_pool *p)
{
    while (p->head == NULL) {
        if (p->stopping) {
            return NULL;
        }
        pthread_cond_wait(&p->some, &p->lock);
    }
    struct work *work = p->head;
    p->head = work->next;
    return work;
}

static void *thread_main(void *arg)
{
    struct thread_pool *p = arg;
    (void)pthread_setname_np(pthread_self(), p->name);
    log_set_host(p->host);
    pthread_mutex_lock(&p->lock);
    for (struct work *work = next_work(p); work != NULL; work = next_work(p)) {
        pthread_mutex_unlock(&p->lock);
        struct loop *loop = work->loop; /* without a loop, `run` may free the work */
        work->run(work);
        pthread_mutex_lock(&p->lock);
        p->depth--; /* before the completion: who hears of it sees the depth without it */
        if (loop != NULL) {
            pthread_mutex_unlock(&p->lock);
            work->task.run = run_done;
            loop_post(loop, &work->task);
            pthread_mutex_lock(&p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static const struct pool_ops thread_pool_ops = {.submit = op_submit, .depth = op_depth};

int thread_pool_new(const char *name, unsigned threads, struct pool **pool_out)
{
    tsr_assert(threads > 0);
    struct thread_pool *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return TSR_ENOMEM;
    }
    p->threads = calloc(threads, sizeof(*p->threads));
    if (p->threads == NULL) {
        free(p);
        return TSR_ENOMEM;
    }
    p->base.ops = &thread_pool_ops;
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->some, NULL);
    (void)str_copy(p->name, sizeof(p->name), name);
    (void)str_copy(p->host, sizeof(p->host), log_host());
    for (; p->count < threads; p->count++) {
        if (pthread_create(&p->threads[p->count], NULL, thread_main, p) != 0) {
            thread_pool_free(&p->base);
            return TSR_ENOMEM;
        }
    }
    *pool_out = &p->base;
    return 0;
}

void thread_pool_free(struct pool *pool)
{
    if (pool == NULL) {
        return;
    }
    struct thread_pool *p = self(pool);
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->some);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->count; i++) {
        tsr_assert(pthread_join(p->threads[i], NULL) == 0);
    }
    tsr_assert(p->depth == 0);
    pthread_cond_destroy(&p->some);
    pthread_mutex_destroy(&p->lock);
    free(p->threads);
    free(p);
}
