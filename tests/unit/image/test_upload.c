/* Uploads and downloads as services: what the image becomes, whatever happens on the way. */
#include "world.h"

struct put {
    struct world *w;
    struct image_upload *u;
    struct answer ready, failed, finished;
    bool paused, repeats, rest_only;
    uint64_t at;
};

static void put_drain(void *arg)
{
    ((struct put *)arg)->paused = false;
}

static void put_ready(void *arg, int status, json_t *result, const struct err *err)
{
    answer_cb(&((struct put *)arg)->ready, status, result, err);
}

static void put_failed(void *arg, int status, const struct err *err)
{
    answer_cb(&((struct put *)arg)->failed, status, NULL, err);
}

/* By a client that sends what is left of a body again. */
static int put_start_repeating(struct put *p, struct world *w, const struct caller *caller,
                               const char *id, int64_t length, int64_t header)
{
    p->w = w;
    struct image_upload_options o = {.caller = caller,
                                     .id = id,
                                     .content_length = length,
                                     .size_header = header,
                                     .repeats = p->repeats,
                                     .rest_only = p->rest_only,
                                     .on_ready = put_ready,
                                     .on_drain = put_drain,
                                     .on_fail = put_failed,
                                     .arg = p};
    image_upload_start(&w->ctx, &o, &p->u);
    return world_wait(w, &p->ready);
}

static int put_start(struct put *p, struct world *w, const struct caller *caller, const char *id,
                     int64_t length, int64_t header)
{
    memset(p, 0, sizeof(*p));
    return put_start_repeating(p, w, caller, id, length, header);
}

/* Send @size bytes of image @n, as far as it is taken. */
static void put_bytes(struct put *p, unsigned n, size_t size)
{
    uint8_t piece[1000];
    for (size_t sent = 0; sent < size && !p->failed.done;) {
        if (p->paused) {
            check(virtual_step(&p->w->c.v, UINT64_MAX));
            continue;
        }
        size_t count = size - sent < sizeof(piece) ? size - sent : sizeof(piece);
        for (size_t i = 0; i < count; i++) {
            piece[i] = image_byte(n, p->at + i);
        }
        p->paused = !image_upload_write(p->u, piece, count);
        p->at += count;
        sent += count;
    }
}

static int put_finish(struct put *p)
{
    image_upload_finish(p->u, answer_cb, &p->finished);
    return world_wait(p->w, &p->finished);
}

static int put_whole(struct world *w, const char *id, unsigned n, size_t size)
{
    struct put p;
    int rv = put_start(&p, w, &w->owner, id, -1, -1);
    if (rv != 0) {
        return rv;
    }
    put_bytes(&p, n, size);
    return put_finish(&p);
}

static const char raw_body[] = "{\"disk_format\":\"raw\",\"container_format\":\"bare\"}";

/* --- downloads
 * --------------------------------------------------------------------------------------- */

struct get {
    bool opened, got;
    int status;
    struct image_download_info info;
    struct err err;
    struct replica_piece piece;
};

static void get_opened(void *arg, int status, const struct image_download_info *info,
                       const struct err *err)
{
    struct get *g = arg;
    g->opened = true;
    g->status = status;
    g->info = *info;
    g->err = *err;
}

static void get_piece(void *arg, int status, const struct replica_piece *piece)
{
    struct get *g = arg;
    g->got = true;
    g->status = status;
    if (status == 0) {
        g->piece = *piece;
    }
}

/* Reads and compares all that the range gives. */
static int get_range(struct world *w, const struct caller *caller, const char *id,
                     const char *range, unsigned n, struct get *g)
{
    struct image_download *d = NULL;
    json_t *record = world_record(w, id);
    memset(g, 0, sizeof(*g));
    check_ok(image_download_open(&w->ctx, caller, record, range, false, get_opened, g, &d));
    json_decref(record);
    check(!g->opened);
    virtual_until(&w->c.v, &g->opened);
    uint64_t at = (uint64_t)g->info.offset;
    while (g->status == 0 && !g->info.empty) {
        g->got = false;
        image_download_next(d, get_piece, g);
        virtual_until(&w->c.v, &g->got);
        if (g->status != 0 || g->piece.size == 0) {
            break;
        }
        for (size_t i = 0; i < g->piece.size; i++) {
            check_int(((const uint8_t *)g->piece.data)[i], image_byte(n, at + i));
        }
        at += g->piece.size;
    }
    if (g->status == 0 && !g->info.empty) {
        check_int(at, g->info.offset + g->info.length);
    }
    image_download_close(d);
    return g->status;
}

/* --- tests
 * --------------------------------------------------------------------------------------------- */

static void an_upload_turns_the_image_active_with_all_its_facts(void **state)
{
    (void)state;
    struct world w;
    struct get g;
    char id[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    check_ok(put_whole(&w, id, 1, 50000));
    json_t *record = world_record(&w, id);
    check_str(json_str(record, "status"), "active");
    check_int(json_int(record, "size", -1), 50000);
    check_int(json_int(record, "virtual_size", -1), 50000);
    check_str(json_str(record, "os_hash_algo"), "sha512");
    check_int(strlen(json_str(record, "os_hash_value")), 128);
    check_int(json_object_size(json_obj(record, "replicas")), 3);
    check_int(json_array_size(json_arr(record, "placement")), 3);
    check(json_is_null(json_object_get(record, "session")));
    json_decref(record);
    check_ok(get_range(&w, &w.owner, id, NULL, 1, &g));
    check_int(g.info.length, 50000);
    check(!g.info.partial);
    check_ok(get_range(&w, &w.owner, id, "bytes=100-40000", 1, &g));
    check(g.info.partial);
    check_int(g.info.offset, 100);
    check_int(g.info.length, 39901);
    check_ok(get_range(&w, &w.owner, id, "bytes=-1", 1, &g));
    check_int(g.info.offset, 49999);
    check_code(get_range(&w, &w.owner, id, "bytes=50000-", 1, &g), TSR_ERANGE);
    check_int(g.info.size, 50000);
    check_code(get_range(&w, &w.owner, id, "bytes=0-1,3-4", 1, &g), TSR_EINVAL);
    check_code(put_whole(&w, id, 1, 10), TSR_ECONFLICT);
    world_close(&w);
}

static void an_empty_body_makes_an_active_image_of_no_bytes(void **state)
{
    (void)state;
    struct world w;
    struct get g;
    char id[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    check_ok(get_range(&w, &w.owner, id, "bytes=0-", 1, &g));
    check(g.info.empty);
    check_ok(put_whole(&w, id, 1, 0));
    json_t *record = world_record(&w, id);
    check_str(json_str(record, "status"), "active");
    check_int(json_int(record, "size", -1), 0);
    check(json_is_null(json_object_get(record, "virtual_size")));
    check_str(json_str(record, "checksum"), "d41d8cd98f00b204e9800998ecf8427e");
    json_decref(record);
    check_ok(get_range(&w, &w.owner, id, NULL, 1, &g));
    check_int(g.info.length, 0);
    check_code(get_range(&w, &w.owner, id, "bytes=0-", 1, &g), TSR_ERANGE);
    world_close(&w);
}

static void refusals_before_the_body_leave_the_image_alone(void **state)
{
    (void)state;
    struct world w;
    struct put p;
    char id[40], bare[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    world_create(&w, "{\"container_format\":\"bare\"}", bare);
    check_code(put_start(&p, &w, &w.owner, "no-such-image", -1, -1), TSR_ENOENT);
    check_code(put_start(&p, &w, &w.other, id, -1, -1), TSR_ENOENT);
    struct caller reader = world_caller("p1", ROLE_READER);
    check_code(put_start(&p, &w, &reader, id, -1, -1), TSR_EFORBIDDEN);
    check_code(put_start(&p, &w, &w.owner, bare, -1, -1), TSR_EINVAL);
    check_str(p.ready.err.msg, "Property disk_format must be set prior to saving data.");
    check_code(put_start(&p, &w, &w.owner, id, (1 << 20) + 1, -1), TSR_ETOOBIG);
    check_code(put_start(&p, &w, &w.owner, id, -1, (1 << 20) + 1), TSR_ETOOBIG);
    check_code(put_start(&p, &w, &w.owner, id, 5, 6), TSR_EINVAL);
    world_hosts(&w, 0);
    check_code(put_start(&p, &w, &w.owner, id, 5, -1), TSR_EUNAVAILABLE);
    world_hosts(&w, 1);
    w.limits.strict_write_replicas = true;
    check_code(put_start(&p, &w, &w.owner, id, 5, -1), TSR_EUNAVAILABLE);
    world_is(&w, id, "queued");
    check_int(fake.submits, 2); /* only the creations */
    world_close(&w);
}

static void data_that_is_not_as_declared_takes_the_image_back(void **state)
{
    (void)state;
    struct world w;
    struct put p;
    char id[40];
    world_open(&w);
    world_create(&w, "{\"disk_format\":\"qcow2\",\"container_format\":\"bare\"}", id);
    check_ok(put_start(&p, &w, &w.owner, id, -1, -1));
    world_is(&w, id, "saving");
    put_bytes(&p, 1, 3000);
    virtual_until(&w.c.v, &p.failed.done);
    check_code(p.failed.status, TSR_EMEDIA);
    check_str(p.failed.err.msg, "Image disk_format qcow2 does not match stream data raw");
    world_is(&w, id, "queued");
    world_close(&w);
}

static void lengths_are_held_to(void **state)
{
    (void)state;
    struct world w;
    struct put p;
    char id[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    check_ok(put_start(&p, &w, &w.owner, id, -1, 9000)); /* short */
    put_bytes(&p, 1, 8999);
    check_code(put_finish(&p), TSR_EINVAL);
    world_is(&w, id, "queued");
    check_ok(put_start(&p, &w, &w.owner, id, -1, 9000)); /* long */
    put_bytes(&p, 1, 9001);
    check_code(put_finish(&p),
               TSR_EINVAL); /* the end of the body came before the failure was told */
    world_is(&w, id, "queued");
    w.limits.image_size_cap = 10000; /* chunked and over the limit */
    check_ok(put_start(&p, &w, &w.owner, id, -1, -1));
    put_bytes(&p, 1, 20000);
    virtual_until(&w.c.v, &p.failed.done);
    check_code(p.failed.status, TSR_ETOOBIG);
    world_is(&w, id, "queued");
    check_ok(put_whole(&w, id, 1, 10000));
    world_is(&w, id, "active");
    world_close(&w);
}

static void a_client_that_leaves_takes_the_image_back(void **state)
{
    (void)state;
    struct world w;
    struct put p;
    char id[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    check_ok(put_start(&p, &w, &w.owner, id, 90000, -1));
    put_bytes(&p, 1, 30000);
    image_upload_abort(p.u);
    cluster_settle(&w.c);
    world_is(&w, id, "queued");
    check(!p.failed.done && !p.finished.done);
    /* before saving was answered */
    memset(&p, 0, sizeof(p));
    struct image_upload_options o = {.caller = &w.owner,
                                     .id = id,
                                     .content_length = 5,
                                     .size_header = -1,
                                     .on_ready = put_ready,
                                     .arg = &p};
    image_upload_start(&w.ctx, &o, &p.u);
    image_upload_abort(p.u);
    cluster_settle(&w.c);
    check(!p.ready.done);
    world_is(&w, id, "queued");
    /* after the whole body: it goes on */
    check_ok(put_start(&p, &w, &w.owner, id, 30000, -1));
    put_bytes(&p, 1, 30000);
    image_upload_finish(p.u, answer_cb, &p.finished);
    image_upload_abort(p.u);
    cluster_settle(&w.c);
    check(!p.finished.done);
    world_is(&w, id, "active");
    world_close(&w);
}

static void a_second_upload_is_refused_while_one_runs(void **state)
{
    (void)state;
    struct world w;
    struct put p;
    char id[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    check_ok(put_start(&p, &w, &w.owner, id, -1, -1));
    check_code(put_whole(&w, id, 2, 100), TSR_ECONFLICT);
    put_bytes(&p, 1, 100);
    check_ok(put_finish(&p));
    world_is(&w, id, "active");
    world_close(&w);
}

static void lost_answers_are_asked_for_again(void **state)
{
    (void)state;
    struct world w;
    char id[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    fake.match = "image.activate";
    fake.lose = 2;
    fake.refuse = 2;
    check_ok(put_whole(&w, id, 1, 9000));
    world_is(&w, id, "active");
    world_close(&w);
}

static void a_saving_of_unknown_outcome_is_refused_and_undone(void **state)
{
    (void)state;
    struct world w;
    struct put p;
    char id[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    fake.match = "image.saving";
    fake.lose = 1;
    check_code(put_start(&p, &w, &w.owner, id, -1, -1), TSR_ETIMEOUT);
    world_is(&w, id, "saving");
    virtual_sleep(&w.c.v, 5000);
    world_is(&w, id, "queued");
    check(!p.failed.done);
    world_close(&w);
}

static void an_abort_is_sent_until_it_is_decided(void **state)
{
    (void)state;
    struct world w;
    struct put p;
    char id[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    fake.match = "image.abort";
    fake.refuse = 4;
    check_ok(put_start(&p, &w, &w.owner, id, -1, 5));
    put_bytes(&p, 1, 6);
    virtual_until(&w.c.v, &p.failed.done); /* told after the first attempt */
    world_is(&w, id, "saving");
    virtual_sleep(&w.c.v, 60000);
    world_is(&w, id, "queued");
    world_close(&w);
}

static void what_is_left_of_a_body_is_refused(void **state)
{
    (void)state;
    struct world w;
    struct put p, again = {.repeats = true}, whole = {.repeats = true};
    char id[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    check_ok(put_start(&p, &w, &w.owner, id, 9000, -1));
    put_bytes(&p, 1, 5000);
    image_upload_abort(p.u);
    virtual_sleep(&w.c.v, 1000);
    world_is(&w, id, "queued");
    check_code(put_start_repeating(&again, &w, &w.owner, id, 4000, -1), TSR_ECONFLICT);
    check_ok(put_start_repeating(&whole, &w, &w.owner, id, 9000, -1));
    put_bytes(&whole, 1, 9000);
    check_ok(put_finish(&whole));
    world_is(&w, id, "active");
    /* Refused for what came, and told: another body may follow. */
    world_create(&w, "{\"disk_format\":\"qcow2\",\"container_format\":\"bare\"}", id);
    check_ok(put_start(&p, &w, &w.owner, id, 100, -1));
    put_bytes(&p, 1, 100);
    check_code(put_finish(&p), TSR_EMEDIA);
    again = (struct put){.repeats = true};
    check_ok(put_start_repeating(&again, &w, &w.owner, id, 50, -1));
    image_upload_abort(again.u);
    virtual_sleep(&w.c.v, 1000);
    world_close(&w);
}

static void no_data_may_be_what_is_left(void **state)
{
    (void)state;
    struct world w;
    struct put p = {.repeats = true, .rest_only = true}, empty = p, some = p;
    char id[40], other[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    world_create(&w, raw_body, other);
    check_ok(put_start_repeating(&p, &w, &w.owner, id, -1, -1));
    check_code(put_finish(&p), TSR_ECONFLICT);
    world_is(&w, id, "queued");
    check_ok(put_start_repeating(&empty, &w, &w.owner, id, 0, -1)); /* it says that it is empty */
    check_ok(put_finish(&empty));
    check_ok(put_start_repeating(&some, &w, &w.owner, other, -1, -1));
    put_bytes(&some, 1, 10);
    check_ok(put_finish(&some));
    world_close(&w);
}

static void an_image_deleted_meanwhile_is_gone(void **state)
{
    (void)state;
    struct world w;
    struct put p;
    struct answer a = {0};
    char id[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    check_ok(put_start(&p, &w, &w.owner, id, -1, -1));
    put_bytes(&p, 1, 9000);
    image_delete(&w.ctx, &w.owner, id, answer_cb, &a);
    check_ok(world_wait(&w, &a));
    check_code(put_finish(&p), TSR_EGONE);
    check(world_record(&w, id) == NULL);
    world_close(&w);
}

static void an_upload_survives_a_host_that_goes_away(void **state)
{
    (void)state;
    struct world w;
    struct put p;
    struct get g;
    char id[40];
    world_open(&w);
    world_create(&w, raw_body, id);
    check_ok(put_start(&p, &w, &w.owner, id, -1, -1));
    put_bytes(&p, 1, 20000);
    /* One of the chosen hosts besides this one; which ones they are is placement's affair. */
    sim_peers_down(w.c.peers, 2, true);
    put_bytes(&p, 1, 20000);
    check_ok(put_finish(&p));
    world_is(&w, id, "active");
    check_ok(get_range(&w, &w.owner, id, NULL, 1, &g));
    world_close(&w);
}

static void with_two_hosts_an_upload_survives_the_loss_of_the_other(void **state)
{
    (void)state;
    struct world w;
    struct put p;
    char id[40];
    world_open(&w);
    world_submit(&w, "{\"op\":\"host.state\",\"id\":3,\"state\":\"down\"}");
    world_submit(&w, "{\"op\":\"host.state\",\"id\":4,\"state\":\"down\"}");
    world_hosts(&w, 2);
    world_create(&w, raw_body, id);
    check_ok(put_start(&p, &w, &w.owner, id, -1, -1));
    sim_peers_down(w.c.peers, 2, true);
    put_bytes(&p, 1, 20000);
    image_upload_finish(p.u, answer_cb, &p.finished);
    virtual_sleep(&w.c.v, 5000);
    world_is(&w, id, "saving"); /* one replica is not enough while two hosts count as up */
    world_submit(&w, "{\"op\":\"host.state\",\"id\":2,\"state\":\"down\"}");
    check_ok(world_wait(&w, &p.finished));
    world_is(&w, id, "active");
    /* and without that record it is refused */
    world_submit(&w, "{\"op\":\"host.state\",\"id\":2,\"state\":\"up\"}");
    world_create(&w, raw_body, id);
    check_code(put_whole(&w, id, 2, 20000), TSR_EUNAVAILABLE);
    world_is(&w, id, "queued");
    world_close(&w);
}

TEST_MAIN(cmocka_unit_test(with_two_hosts_an_upload_survives_the_loss_of_the_other),
          cmocka_unit_test(an_upload_turns_the_image_active_with_all_its_facts),
          cmocka_unit_test(an_empty_body_makes_an_active_image_of_no_bytes),
          cmocka_unit_test(what_is_left_of_a_body_is_refused),
          cmocka_unit_test(no_data_may_be_what_is_left),
          cmocka_unit_test(refusals_before_the_body_leave_the_image_alone),
          cmocka_unit_test(data_that_is_not_as_declared_takes_the_image_back),
          cmocka_unit_test(lengths_are_held_to),
          cmocka_unit_test(a_client_that_leaves_takes_the_image_back),
          cmocka_unit_test(a_second_upload_is_refused_while_one_runs),
          cmocka_unit_test(lost_answers_are_asked_for_again),
          cmocka_unit_test(a_saving_of_unknown_outcome_is_refused_and_undone),
          cmocka_unit_test(an_abort_is_sent_until_it_is_decided),
          cmocka_unit_test(an_image_deleted_meanwhile_is_gone),
          cmocka_unit_test(an_upload_survives_a_host_that_goes_away))
