/* Requests of browsers from other origins (Fetch standard, CORS): preflights and the headers of
 * replies. Origins that are not configured are answered like everybody, without these headers: the
 * browser then keeps the reply from the page. */
#include <string.h>

#include "api/face.h"
#include "tessera/base/config.h"

static const char methods[] = "GET, HEAD, PUT, POST, PATCH, DELETE";

static bool origin_allowed(const struct api_req *r, const char *origin)
{
    const struct config_list *list = r->o->cors_origins;
    for (size_t i = 0; list != NULL && i < list->count; i++) {
        if (strcmp(list->items[i], "*") == 0 || strcmp(list->items[i], origin) == 0) {
            return true;
        }
    }
    return false;
}

static void preflight_headers(struct api_req *r)
{
    http_set_header(r->http, "Access-Control-Allow-Methods", methods);
    http_set_header(
        r->http, "Access-Control-Allow-Headers",
        "Accept, Content-Type, Idempotency-Key, Range, X-Auth-Token, X-Image-Meta-Store, "
        "X-OpenStack-Image-Size, X-OpenStack-Request-ID, X-Subject-Token");
    http_set_header(r->http, "Access-Control-Max-Age", "3600");
}

bool api_cors(struct api_req *r)
{
    const char *origin = http_header(r->http, "Origin");
    bool preflight = http_method(r->http) == HTTP_METHOD_OPTIONS;
    if (origin != NULL && r->o->cors_origins != NULL && r->o->cors_origins->count > 0) {
        http_set_header(r->http, "Vary", "Origin"); /* also where it is not allowed */
        if (origin_allowed(r, origin)) {
            http_set_header(r->http, "Access-Control-Allow-Origin", origin);
            http_set_header(
                r->http, "Access-Control-Expose-Headers",
                "x-openstack-request-id, Content-MD5, Content-Range, Location, ETag, Retry-After, "
                "OpenStack-image-import-methods, OpenStack-image-store-ids, X-Subject-Token, "
                "X-Tessera-Stale");
            if (preflight) {
                preflight_headers(r);
            }
        }
    }
    if (preflight) {
        http_set_header(r->http, "Allow", methods);
        api_empty(r, 200);
    }
    return preflight;
}
