/* Which handler a request is for: the tables of all faces, and the versions that a path or an
 * Accept header may name. See face.h. */
#include "api/face.h"

#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/str.h"

static const struct api_route *const tables[] = {
    api_image_routes,    api_image_file_routes, api_metadef_routes,
    api_identity_routes, api_cluster_routes,    api_quota_routes,
    api_openrc_routes,   api_health_routes,     api_keystone_routes,
};

/* --- routing
 * ------------------------------------------------------------------------------------------ */

/* Does @pattern match? Fills args. */
static bool pattern_match(const char *pattern, const struct http_segments *segments,
                          const char **args)
{
    size_t n = 0, arg = 0;
    const char *p = pattern;
    if (strcmp(pattern, "/") == 0) {
        return segments->count == 0 || (segments->count == 1 && segments->segment[0][0] == '\0');
    }
    while (*p == '/') {
        p++;
        size_t len = strcspn(p, "/");
        if (n == segments->count) {
            return false;
        }
        const char *segment = segments->segment[n++];
        if (len == 2 && memcmp(p, "{}", 2) == 0) {
            if (segment[0] == '\0' || arg == 4) {
                return false;
            }
            args[arg++] = segment;
        } else if (strlen(segment) != len || memcmp(segment, p, len) != 0) {
            return false;
        }
        p += len;
    }
    return n == segments->count;
}

static bool is_minor_version(const char *segment)
{
    for (size_t i = 0; i < api_minor_count; i++) {
        if (str_starts(segment, "v2.") && strcmp(api_minors[i], segment + 3) == 0) {
            return true;
        }
    }
    return false;
}

static const char *const method_names[] = {
    [HTTP_METHOD_GET] = "GET", [HTTP_METHOD_HEAD] = "HEAD",   [HTTP_METHOD_POST] = "POST",
    [HTTP_METHOD_PUT] = "PUT", [HTTP_METHOD_PATCH] = "PATCH", [HTTP_METHOD_DELETE] = "DELETE",
};

/* HEAD is answered as GET without a body. */
static bool method_fits(enum http_method want, enum http_method have)
{
    return want == have || (want == HTTP_METHOD_GET && have == HTTP_METHOD_HEAD);
}

static void find_route(struct api_req *r, struct api_match *m)
{
    enum http_method method = http_method(r->http);
    memset(m, 0, sizeof(*m));
    for (size_t t = 0; t < array_len(tables); t++) {
        if (r->o->keystone != NULL && tables[t] == api_identity_routes) {
            continue; /* users and tokens are Keystone's */
        }
        for (const struct api_route *route = tables[t]; route->pattern != NULL; route++) {
            const char *args[4] = {NULL};
            if (!pattern_match(route->pattern, &r->segments, args)) {
                continue;
            }
            /* The exact method wins over GET-for-HEAD. */
            if (route->method == method ||
                (m->route == NULL && method_fits(route->method, method))) {
                m->route = route;
                memcpy(r->args, args, sizeof(args));
            }
            if (m->allow[0] != '\0') {
                strncat(m->allow, ", ", sizeof(m->allow) - strlen(m->allow) - 1);
            }
            strncat(m->allow, method_names[route->method], sizeof(m->allow) - strlen(m->allow) - 1);
        }
    }
}

/* "/v2.7/images" is "/v2/images". */
static void fold_minor_version(struct http_segments *segments)
{
    if (segments->count > 0 && is_minor_version(segments->segment[0])) {
        segments->segment[0][2] = '\0';
    }
}

/* "Accept: application/vnd.openstack.images-v2.7" asks for that version of a path that names none.
 */
static void add_version(struct api_req *r)
{
    static const char media[] = "application/vnd.openstack.images-";
    const char *accept = http_header(r->http, "Accept");
    struct http_segments *s = &r->segments;
    if (accept == NULL || !str_starts(accept, media) || s->count == 0 ||
        s->count == HTTP_SEGMENTS_MAX || s->segment[0][0] == '\0') {
        return;
    }
    char version[8];
    const char *at = accept + sizeof(media) - 1;
    size_t size = strcspn(at, ",; +");
    if (size >= sizeof(version)) {
        return;
    }
    memcpy(version, at, size);
    version[size] = '\0';
    if (strcmp(version, "v2") == 0 || is_minor_version(version)) {
        static char v2[] = "v2";
        memmove(&s->segment[1], &s->segment[0], s->count * sizeof(s->segment[0]));
        s->segment[0] = v2;
        s->count++;
    }
}

void api_route_find(struct api_req *r, struct api_match *m)
{
    fold_minor_version(&r->segments);
    find_route(r, m);
    if (m->route == NULL && m->allow[0] == '\0') {
        add_version(r);
        find_route(r, m);
    }
}
