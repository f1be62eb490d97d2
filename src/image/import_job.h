/* An import as it runs, and what it is asked for. Private to image/. */
#ifndef IMAGE_IMPORT_JOB_H
#define IMAGE_IMPORT_JOB_H

#include "image/reserve.h"
#include "image/upload_hosts.h"
#include "tessera/base/id.h"
#include "tessera/base/list.h"
#include "tessera/image/import.h"
#include "tessera/sys/http_fetch.h"

/* POST import's body, understood. Strings are borrowed from it. */
struct import_request {
    const char *method, *uri;
    bool download;
    const char *unknown_store; /* names a store that is not the cluster's; NULL: none does */
};
/* The shape of the body (400). */
int import_request_parse(const struct import_rules *rules, const json_t *body,
                         const char *header_store, const char *store_id, struct import_request *out,
                         struct err *err);
/* Checks that need the image, in order (409). */
int import_request_check(const struct import_request *q, const json_t *image, struct err *err);

struct image_importer {
    struct image_ctx *ctx;
    struct list jobs;
    struct timer timer; /* looks for imports of this host */
    bool watching, busy, closing;
    struct meta_submit submit; /* busy */
    void (*close_cb)(void *arg);
    void *close_arg;
};

struct import_job;
/* Run the import of @image (a record in `importing` whose session is ours) with the task's @uri. */
void import_job_run(struct import_job *job, const json_t *image);

enum job_state { JOB_ASKING, JOB_RUNNING, JOB_SEALING, JOB_FINISHING, JOB_FAILING, JOB_ENDED };

struct import_job {
    struct list node; /* of the importer's jobs */
    struct image_importer *importer;
    struct image_ctx *ctx;
    enum job_state state;
    char id[UUID_TEXT + 1], task[UUID_TEXT + 1];
    uint8_t session[SESSION_ID_SIZE];
    char session_hex[2 * SESSION_ID_SIZE + 1];
    bool download;
    char *url;

    /* asking */
    image_cb cb;
    void *cb_arg;
    json_t *start; /* import.start or import.claim */
    struct work resolve;
    char host[256];
    int resolve_status;

    /* running */
    char disk_format[64], container_format[64];
    struct inspect *inspect;
    uint64_t size;
    int64_t virtual_size;
    struct upload_hosts hosts; /* of the writer, or of the staged data */
    struct chunk_id manifest;
    struct replica_reader *reader;
    struct replica_writer *writer;
    struct replica_result sealed;
    struct reservation reservation; /* of a download: its size is not known */
    bool writer_full;
    struct http_fetch *fetch;
    struct import_guard *guard;
    unsigned redirects, attempts;

    /* what is in flight beside reader, writer and fetch */
    bool submitting, resolving, writer_aborting, task_posted, opened;
    struct meta_submit submit;
    uint8_t command[COMMAND_ID_SIZE];
    struct task fail_task;
    struct timer timer, check; /* retries; is it still ours? */
    uint64_t retry_ms, sealed_ms;
    int status; /* why it failed */
    struct err err;
};

struct import_job *import_job_new(struct image_importer *i, const char *image_id);
/* Stop without a word: the import is another's, over, or this process ends. May free @job. */
void import_job_end(struct import_job *job);
/* Send job->start (again) until it is decided. */
void import_job_ask(struct import_job *job);

#endif
