/* An import as it runs, and what it is asked for. Private to image/. */
#ifndef IMAGE_IMPORT_JOB_H
#define IMAGE_IMPORT_JOB_H

#include "image/data_check.h"
#include "image/reserve.h"
#include "image/signed_data.h"
#include "image/upload_hosts.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"
#include "tessera/base/list.h"
#include "tessera/image/import.h"
#include "tessera/sys/http_fetch.h"
#include "tessera/sys/unpack.h"

enum import_kind {
    IMPORT_DIRECT, /* glance-direct: the staged data */
    IMPORT_WEB,    /* web-download, a location */
    IMPORT_COPY,   /* copy-image: there is one store, so nothing is ever to be copied */
    IMPORT_REMOTE, /* glance-download: from the image service of another region */
};

/* POST import's body, understood. Strings are borrowed from it. */
struct import_request {
    const char *method, *uri;
    enum import_kind kind;
    const char *region, *remote_id;
    const char *wrong; /* IMPORT_REMOTE: why it will fail, static; NULL: nothing known against it */
    bool all_stores;
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

enum job_state { JOB_ASKING, JOB_RUNNING, JOB_SEALING, JOB_FINISHING, JOB_FAILING, JOB_ENDED };

struct import_job {
    struct list node; /* of the importer's jobs */
    struct image_importer *importer;
    struct image_ctx *ctx;
    enum job_state state;
    char id[UUID_TEXT + 1], task[UUID_TEXT + 1];
    uint8_t session[SESSION_ID_SIZE];
    char session_hex[2 * SESSION_ID_SIZE + 1];
    enum import_kind kind;
    char *url;         /* of the data; IMPORT_REMOTE: of the image, without /file */
    const char *wrong; /* as of import_request */
    char *token; /* IMPORT_REMOTE: header with the caller's token; only here, never in the log */
    struct signed_data *signature; /* of what came; NULL: not signed */
    struct data_check *check_data; /* what the data must be; may be NULL */
    char expect_algo[16], expect_hex[2 * DIGEST_MAX + 1];

    /* asking */
    image_cb cb;
    void *cb_arg;
    json_t *start; /* import.start or import.claim */
    struct work resolve;
    char host[256];
    int resolve_status;

    /* running */
    json_t *image; /* the record as it was when the import began */
    char disk_format[64], container_format[64];
    struct inspect *inspect;
    uint64_t came; /* bytes from the source */
    uint64_t size; /* bytes that came */
    bool rewrite;  /* the data is written anew; false: staged data becomes the image's as it is */
    int64_t virtual_size;
    struct upload_hosts holders; /* of the staged data */
    struct upload_hosts hosts;   /* of the writer */
    struct chunk_id manifest;
    struct replica_reader *reader;
    struct replica_writer *writer;
    struct replica_result sealed;
    struct reservation reservation; /* in the quota; of a download: its size is not known */
    bool writer_full;
    struct http_fetch *fetch;
    struct import_guard *guard;
    unsigned redirects, attempts;
    struct import_convert *convert; /* NULL: the data is stored in the format that it comes in */
    bool taken_over;                /* another host had begun */
    bool judged;
    /* packed data, which is unpacked on the way (import_unpack.c) */
    bool head_seen, all_came, unpacking;
    struct buf packed; /* came, and is not used yet; also the first bytes, until they are enough */
    size_t packed_at;
    struct unpack *unpack; /* NULL: it is stored as it comes */
    struct work unpack_work;
    uint8_t *unpacked; /* what one step gave */
    size_t unpacked_size;
    int unpack_status;
    bool unpack_moved;

    struct buf remote;    /* the other region's image, as it comes */
    uint64_t remote_size; /* of its data; UINT64_MAX: not told */

    /* what is in flight beside reader, writer and fetch */
    bool remote_over; /* more came than an image can be */
    bool submitting, telling, resolving, writer_aborting, task_posted, opened;
    struct meta_submit submit;
    uint8_t command[COMMAND_ID_SIZE];
    struct meta_submit tell; /* telling */
    uint64_t told;           /* of `came` */
    unsigned checks;
    struct task fail_task;
    struct timer timer, check; /* retries; is it still ours? */
    uint64_t retry_ms, sealed_ms;
    int status; /* why it failed */
    struct err err;
};

/* --- import.c: life, and the commands
 * ------------------------------------------------------------- */
struct import_job *import_job_new(struct image_importer *i, const char *image_id);
/* Stop without a word: the import is another's, over, or this process ends. May free @job. */
void import_job_end(struct import_job *job);
/* Frees it if it has ended and nothing is in flight. */
void import_job_maybe_free(struct import_job *job);
/* Send job->start (again) until it is decided. */
void import_job_ask(struct import_job *job);
/* Tell the request's caller, if it waits. */
void import_job_answer(struct import_job *job, int status, const struct err *err);
/* One command, under a new id. */
void import_job_submit(struct import_job *job, json_t *command, meta_submit_cb cb);
void import_job_fail(struct import_job *job, int status, const struct err *err);
/* The same from inside a callback of writer or fetch, which must be left first. */
void import_job_fail_later(struct import_job *job, int status, const struct err *err);
/* The data is durable and as it must be. */
void import_job_finish(struct import_job *job);

/* --- import_progress.c: how far it has come
 * ----------------------------------------------------------- */
/* From time to time while it runs. */
void import_progress_check(struct import_job *job);

/* --- import_source.c: where the data comes from
 * ------------------------------------------------------- */
/* Bytes that there are in all; -1: not known (yet). */
int64_t import_source_size(const struct import_job *job);
/* Run the import of @image (a record in `importing` whose session is ours). */
void import_source_begin(struct import_job *job, const json_t *image);
/* Download job->url. */
void import_source_fetch(struct import_job *job);
void import_source_resume(struct import_job *job);
void import_source_stop(struct import_job *job);

/* --- import_remote.c: what the other region says of the image, before its data
 * ------------------------- */
void import_remote_begin(struct import_job *job);

/* --- import_data.c: what becomes of the data
 * ---------------------------------------------------------- */
/* What @image says of its data: a signature; whose quota it counts for. */
void import_data_prepare(struct import_job *job, const json_t *image);
/* Before the first byte; rewrite: a writer is opened. */
int import_data_open(struct import_job *job, struct err *err);
/* false: pause the source until import_source_resume. */
bool import_data_write(struct import_job *job, const void *data, size_t size);
/* All has come. */
void import_data_end(struct import_job *job);
/* What the image is to hold: inspected and written. false: pause until import_data_more's turn. */
bool import_data_store(struct import_job *job, const void *data, size_t size);
/* Go on, if more can be stored. */
void import_data_more(struct import_job *job);
/* The data comes anew, in job->disk_format. */
int import_data_begin_again(struct import_job *job, struct err *err);
/* Can more be stored at once? */
bool import_data_ready(const struct import_job *job);
/* All of it was stored. */
void import_data_judge(struct import_job *job);
/* The first bytes tell: begin to write anew, if staged data was only to be judged. */
int import_data_rewrite(struct import_job *job, struct err *err);
void import_data_stop(struct import_job *job);

/* --- import_convert.c: into another format
 * -------------------------------------------------------------- */
/* Before the first byte. *declared: the format that it must be in; "": any. */
int import_convert_open(struct import_job *job, const char **declared, struct err *err);
bool import_convert_takes(const struct import_job *job);
bool import_convert_gives(const struct import_job *job);
bool import_convert_busy(const struct import_job *job); /* something of it is in flight */
/* A piece for qemu-img. false, always: it is written first. */
bool import_convert_take(struct import_job *job, const void *data, size_t size);
/* All was taken, and is what it shall be. */
void import_convert_run(struct import_job *job);
void import_convert_go(struct import_job *job); /* give on */
void import_convert_stop(struct import_job *job);
void import_convert_free(struct import_job *job); /* and its files */
/* What the process before left. Blocking, at start. */
void import_convert_sweep(const char *dir);

/* --- import_unpack.c: packed data
 * ---------------------------------------------------------------------- */
/* Is the data to be unpacked? job->packed holds its first bytes, or all there are. 0: job->unpack
 * tells. */
int import_unpack_decide(struct import_job *job, struct err *err);
/* Go on with job->packed, now that more has come, all has come, or more can be stored. */
void import_unpack_go(struct import_job *job);

#endif
