/* Idempotency-Key: a request that comes again is answered as the first time and changes nothing.
 *
 * The key, with the project, the method and the path, is the id of the command that the request
 * becomes, so that the log applies it once, whichever hosts it was sent to. Its recorded outcome
 * tells what the answer was; a fingerprint of the body tells another request under the same key.
 * What was refused without a command has changed nothing and is judged anew. */
#include <stdlib.h>
#include <string.h>

#include "api/image_face.h"
#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"

enum { KEY_MAX = 128 };

static bool is_keyed_change(const struct api_req *r)
{
    enum http_method m = http_method(r->http);
    return m == HTTP_METHOD_POST || m == HTTP_METHOD_PUT || m == HTTP_METHOD_PATCH ||
           m == HTTP_METHOD_DELETE;
}

/* The same body, whatever its blanks and the order of its keys, gives the same fingerprint. */
static bool fingerprint(struct api_req *r)
{
    size_t size = 0;
    uint8_t hash[DIGEST_MAX];
    char *text = r->body != NULL ? json_text(r->body, &size) : NULL;
    if (r->body != NULL && text == NULL) {
        return false;
    }
    digest_of(DIGEST_SHA256, text != NULL ? text : "", size, hash);
    hex_encode(hash, 32, r->caller.key_fp);
    free(text);
    return true;
}

bool api_key_set(struct api_req *r)
{
    const char *key = http_header(r->http, "Idempotency-Key");
    r->caller.keyed = false;
    if (key == NULL || !is_keyed_change(r)) {
        return true;
    }
    if (key[0] == '\0' || strlen(key) > KEY_MAX) {
        api_errorf(r, TSR_EINVAL, "Idempotency-Key has 1 to %d characters.", KEY_MAX);
        return false;
    }
    struct digest *d = digest_new(DIGEST_SHA256);
    if (d == NULL || !fingerprint(r)) {
        digest_free(d);
        api_error(r, TSR_ENOMEM, NULL);
        return false;
    }
    const char *parts[] = {"idempotency", r->caller.project_id, key, http_method_text(r->http),
                           http_path(r->http)};
    uint8_t full[DIGEST_MAX];
    for (size_t i = 0; i < array_len(parts); i++) {
        digest_update(d, parts[i], strlen(parts[i]) + 1);
    }
    digest_final(d, full);
    digest_free(d);
    memcpy(r->caller.key_id, full, COMMAND_ID_SIZE);
    r->caller.keyed = true;
    return true;
}

static bool is_metadef(const struct api_req *r)
{
    return strncmp(r->route->pattern, "/v2/metadefs", 12) == 0;
}

/* An attempt that was followed by another one. */
static bool others_first(const struct api_req *r, int code)
{
    return code == TSR_EVERSION || (is_metadef(r) && (code == TSR_EEXIST || code == TSR_ENOENT));
}

/* The last attempt that was decided. */
static int recorded(struct api_req *r, struct meta_view *view, int *code, json_t **result)
{
    int rv = TSR_ENOENT;
    for (unsigned n = 0; n < IMAGE_ATTEMPTS; n++) {
        uint8_t id[COMMAND_ID_SIZE];
        image_key_attempt(&r->caller, n, id);
        rv = meta_result_get(view, id, r->caller.key_fp, code, result);
        if (rv != 0 || !others_first(r, *code)) {
            return rv;
        }
        json_decref(*result);
        *result = NULL;
    }
    return rv != 0 ? rv : TSR_ENOENT;
}

static void answer_metadef(struct api_req *r, const json_t *answer)
{
    const json_t *body = json_obj(answer, "body");
    if (json_int(answer, "status", 200) == 201 && json_str(body, "self") != NULL) {
        image_set_location(r, json_str(body, "self"));
    }
}

static void answer_again(struct api_req *r, int code, const json_t *result)
{
    const json_t *answer = image_result_answer(result);
    const char *what = r->segments.count >= 4 ? r->segments.segment[3] : "";
    bool removal = http_method(r->http) == HTTP_METHOD_DELETE;
    bool body = http_method(r->http) == HTTP_METHOD_PATCH || strcmp(what, "members") == 0;
    json_t *shown = body && !removal ? image_replay(result) : NULL;
    bool import = strcmp(what, "import") == 0 || strcmp(what, "locations") == 0;
    if (code != 0) {
        json_decref(shown);
        api_errorf(r, code, "%s", json_str_or(result, "msg", err_text(code)));
    } else if (strcmp(r->route->pattern, "/v2/tasks") == 0) {
        json_decref(shown);
        const json_t *session = json_obj(json_obj(result, "image"), "session");
        image_task_made(r, json_str_or(session, "task", ""));
    } else if (answer != NULL) {
        json_decref(shown);
        if (is_metadef(r)) {
            answer_metadef(r, answer);
        }
        api_json(r, (int)json_int(answer, "status", 200),
                 json_incref(json_object_get(answer, "body")));
    } else if (import) {
        json_decref(shown);
        api_empty(r, 202);
    } else if (shown != NULL) {
        image_protect(&r->caller, shown);
        api_json(r, 200, shown);
    } else {
        api_empty(r, 204);
    }
}

bool api_replay(struct api_req *r)
{
    struct meta_view *view = NULL;
    json_t *result = NULL;
    int code = 0;
    bool create =
        r->route->method == HTTP_METHOD_POST && strcmp(r->route->pattern, "/v2/images") == 0;
    if (r->caller.keyed && (r->route->flags & API_DATA) != 0) {
        return image_upload_again(r);
    }
    if (!r->caller.keyed || create || r->o->meta == NULL ||
        meta_view_open(r->o->meta, &view) != 0) {
        return false; /* a create gets its recorded answer through the log */
    }
    int rv = recorded(r, view, &code, &result);
    meta_view_close(view);
    if (rv == TSR_EUNPROCESSABLE) {
        api_error(r, rv, NULL);
        return true;
    }
    if (rv == 0) {
        answer_again(r, code, result);
    }
    json_decref(result);
    return rv == 0;
}
