"""Section 1: discovery, the authentication layer, headers, errors, routing."""
from contract import (ANY, NONE_GIVEN, OCTETS, PATCH_1, like, holds, length, one_of, row, section, without)

VERSIONS = {"versions/0/status": "CURRENT", "versions/1/status": "SUPPORTED", "versions/0/links/0/rel": "self",
            "versions/0/links/0/href": "https://<address>/v2/"}

section("1.1 version discovery")
row("the root is 300 with the versions, without a token", "none", "GET /", 300, has=VERSIONS,
    gives={"Content-Type": like("^application/json")})
row("the root asked with a token is the same", "member", "GET /", 300, has=VERSIONS)
row("the root asked with a bad token is the same", "bad", "GET /", 300, has=VERSIONS)
for method in ("HEAD", "POST", "PUT", "DELETE"):
    row(f"the root answers {method} with 300", "none", f"{method} /", 300)
row("/versions is 200 with the same body", "none", "GET /versions", 200, has=VERSIONS)
row("/versions/ too", "none", "GET /versions/", 200, has=VERSIONS)
row("the newest version comes first and the oldest last", "none", "GET /versions", 200,
    has={"versions/0/id": "v2.18", "versions": length(19), "versions/18/id": "v2.0", "versions/0/status": "CURRENT"})
row("there are no gaps", "none", "GET /versions", 200, has={f"versions/{18 - n}/id": f"v2.{n}" for n in range(19)})
row("the older ones are supported", "none", "GET /versions", 200, has={f"versions/{n}/status": "SUPPORTED" for n in range(1, 19)})
row("links are the same for every version", "none", "GET /versions", 200,
    has={f"versions/{n}/links/0/href": "https://<address>/v2/" for n in range(19)})
for path in ("/foo", "/v3", "/v3/images", "/v2.99/images", "/v2.19/images"):
    row(f"{path} is no version: 300", "none", f"GET {path}", 300, has=VERSIONS)
row("a browser is not needed to see versions: Accept */*", "none", "GET /", 300, headers={"Accept": "*/*"}, has=VERSIONS)
row("an empty Accept is answered", "none", "GET /", 300, headers={"Accept": ""}, has=VERSIONS)
row("Accept application/json with text/html is an API client", "none", "GET /", 300,
    headers={"Accept": "text/html, application/json"}, has=VERSIONS)
row("/v2 with a token redirects or is not found", "member", "GET /v2", (302, 404))
row("/v2/ with a token is 404", "member", "GET /v2/", 404)
row("/v2/ without a token is 401", "none", "GET /v2/", 401)
row("/healthcheck needs no token", "none", "GET /healthcheck", 200, data=b"OK", gives={"Content-Type": like("^text/plain")})
row("/metrics is not the version list", "none", "GET /metrics", 401)
row("/v1 is the cluster's own API, not a version", "none", "GET /v1/nothing", 404)
row("OPTIONS * is a CORS preflight", "none", "OPTIONS *", 200)
row("X-Forwarded-Proto of a client that is no trusted proxy changes no link", "none", "GET /versions", 200,
    headers={"X-Forwarded-Proto": "gopher"}, has={"versions/0/links/0/href": "https://<address>/v2/"})
for minor in ("v2.0", "v2.1", "v2.5", "v2.7", "v2.9", "v2.11", "v2.13", "v2.14", "v2.15", "v2.16", "v2.17", "v2.18"):
    row(f"/{minor}/images is /v2/images", "member", f"GET /{minor}/images?limit=1", 200, has={"schema": "/v2/schemas/images"})
row("a minor version serves one image too", "member", "GET /v2.9/images/<id>", 200, given="queued", has={"id": "<id>"})
row("a minor version serves schemas", "member", "GET /v2.2/schemas/image", 200, has={"name": "image"})
row("an unversioned path with the versioned Accept", "member", "GET /images", 200,
    headers={"Accept": "application/vnd.openstack.images-v2.5"})

section("1.2 authentication layer")
for method, path in (("GET", "/v2/images"), ("POST", "/v2/images"), ("GET", "/v2/images/<unknown>"),
                     ("PATCH", "/v2/images/<unknown>"), ("DELETE", "/v2/images/<unknown>"),
                     ("GET", "/v2/images/<unknown>/file"), ("PUT", "/v2/images/<unknown>/file"),
                     ("GET", "/v2/images/<unknown>/members"), ("PUT", "/v2/images/<unknown>/tags/x"),
                     ("POST", "/v2/images/<unknown>/actions/deactivate"), ("GET", "/v2/schemas/image"),
                     ("GET", "/v2/info/import"), ("GET", "/v2/info/stores"), ("GET", "/v2/info/usage"),
                     ("GET", "/v2/nothing")):
    row(f"{method} {path} without a token is 401", "none", f"{method} {path}", 401,
        body={} if method in ("POST", "PATCH") else None)
for what, token in (("unknown", "gAAAAABnonsense"), ("empty", ""), ("only blanks", "  "), ("long", "x" * 8000),
                    ("not text", "\u00e9\u00ff{}"), ("the service's prefix alone", "tsr1."),
                    ("too long for a token", "x" * 9000)):
    row(f"a token that is {what} is 401", "none", "GET /v2/images", 401, headers={"X-Auth-Token": token})
row("a token with another last letter is 401", "none", "GET /v2/images", 401, headers={"X-Auth-Token": "<token:member>AA"})
row("a revoked token is 401", "victim", "GET /v2/images", 401, before=[
    ("none", "POST /identity/v3/auth/tokens", {"auth": {"identity": {"methods": ["password"], "password": {"user": {
        "id": "<user:victim>", "password": "<password:victim>"}}}, "scope": {"project": {"id": "<alpha>"}}}}, {},
     {"token:victim": "@X-Subject-Token"}),
    ("admin", "DELETE /identity/v3/auth/tokens", None, {"X-Subject-Token": "<token:victim>"})])
row("blanks around a token are stripped", "none", "GET /v2/images?limit=1", 200, headers={"X-Auth-Token": "  <token:member>  "})
row("the header's name is in any case", "none", "GET /v2/images?limit=1", 200, headers={"x-auth-TOKEN": "<token:member>"})
row("WWW-Authenticate names the identity service", "none", "GET /v2/images", 401,
    gives={"WWW-Authenticate": 'Keystone uri="https://<address>/identity/v3"'})
row("an X-Service-Token beside is no harm", "member", "GET /v2/images?limit=1", 200,
    headers={"X-Service-Token": "<token:service>"})
for who in ("unscoped", "domain"):
    row(f"a list with a token without project ({who}) is 403", who, "GET /v2/images", 403)
    row(f"a create with a token without project ({who}) is 403", who, "POST /v2/images", 403, body={})
    row(f"any id with a token without project ({who}) is 404", who, "GET /v2/images/<id>", 404, given="queued public")
    row(f"a patch with a token without project ({who}) is 404", who, "PATCH /v2/images/<id>", 404, given="queued public",
        body=[], headers=PATCH_1)
    row(f"schemas are served to a token without project ({who})", who, "GET /v2/schemas/image", 200)
    row(f"info is served to a token without project ({who})", who, "GET /v2/info/import", 200)
    row(f"stores are served to a token without project ({who})", who, "GET /v2/info/stores", 200)
row("system scope with role admin may list", "system", "GET /v2/images?limit=1", 200)
row("system scope with role admin may show", "system", "GET /v2/images/<id>", 200, given="queued private")
row("an administrator of a domain is none of the cluster: /v1", "domain", "GET /v1/hosts", 403)
row("an administrator of a domain is none of the identity service", "domain", "GET /identity/v3/services", 403)
row("an administrator of a domain sees no store detail", "domain", "GET /v2/info/stores/detail", 403)
row("an administrator of the system may ask /v1", "system", "GET /v1/hosts", 200)
row("a member may not ask /v1", "member", "GET /v1/hosts", 403)

section("1.3 headers")
row("the request's own id comes back", "member", "GET /v2/images?limit=1", 200,
    headers={"X-OpenStack-Request-ID": "req-my.own_ID-1"}, gives={"x-openstack-request-id": "req-my.own_ID-1"})
row("64 characters of it do", "member", "GET /v2/images?limit=1", 200, headers={"X-OpenStack-Request-ID": "a" * 64},
    gives={"x-openstack-request-id": "a" * 64})
row("65 are ignored", "member", "GET /v2/images?limit=1", 200, headers={"X-OpenStack-Request-ID": "a" * 65},
    gives={"x-openstack-request-id": like("^req-")})
row("one with other characters is ignored", "member", "GET /v2/images?limit=1", 200,
    headers={"X-OpenStack-Request-ID": "a b<c>"}, gives={"x-openstack-request-id": like("^req-")})
row("errors carry it too", "member", "GET /v2/images/<unknown>", 404, headers={"X-OpenStack-Request-ID": "x1"},
    gives={"x-openstack-request-id": "x1"})
row("401 carries one", "none", "GET /v2/images", 401, gives={"x-openstack-request-id": like("^req-")})
row("204 has neither a body nor a transfer encoding", "member", "PUT /v2/images/<id>/tags/t", 204, given="queued",
    gives={"Transfer-Encoding": NONE_GIVEN}, data=b"")
row("JSON says so", "member", "GET /v2/images/<id>", 200, given="queued", gives={"Content-Type": like("^application/json"),
                                                                          "Content-Length": like(r"^\d+$")})

section("1.4 errors")
for accept in ("text/html", "text/plain", "*/*", "", "image/png"):
    row(f"an error is nested JSON for Accept {accept!r}", "member", "GET /v2/images/<unknown>", 404,
        headers={"Accept": accept}, gives={"Content-Type": one_of("application/json", "application/json; charset=utf-8")},
        has={"error/code": 404, "error/title": "Not Found", "error/message": like("<unknown>|found")})
row("403 is Forbidden", "member", "GET /v2/info/stores/detail", 403, has={"error/title": "Forbidden"})
row("400 is Bad Request", "member", "GET /v2/images?limit=x", 400, has={"error/title": "Bad Request"})
row("409 is Conflict", "member", "PUT /v2/images/<id>/file", 409, given="active", body=b"x", headers=OCTETS,
    has={"error/title": "Conflict", "error/message": "Image status transition from active to saving is not allowed"})
row("a message never shows a path of the host", "member", "GET /v2/images/..%2f..%2fetc", 404,
    has={"error/message": without("/tmp")})

section("1.5 routing")
for path, methods, allow in (
        ("/v2/images", ("PUT", "PATCH", "DELETE"), "GET, POST"),
        ("/v2/images/<id>", ("POST", "PUT"), "GET, PATCH, DELETE"),
        ("/v2/images/<id>/file", ("POST", "PATCH", "DELETE"), "GET, PUT"),
        ("/v2/images/<id>/members", ("PUT", "PATCH", "DELETE"), "GET, POST"),
        ("/v2/images/<id>/members/<beta>", ("POST", "PATCH"), "GET, PUT, DELETE"),
        ("/v2/images/<id>/tags/t", ("GET", "POST", "PATCH"), "PUT, DELETE"),
        ("/v2/images/<id>/actions/deactivate", ("GET", "PUT", "PATCH", "DELETE"), "POST"),
        ("/v2/images/<id>/actions/reactivate", ("GET", "PUT", "PATCH", "DELETE"), "POST"),
        ("/v2/info/stores", ("POST", "PUT", "PATCH", "DELETE"), "GET"),
        ("/v2/info/stores/detail", ("POST", "PUT", "PATCH", "DELETE"), "GET"),
        ("/v2/info/import", ("POST", "PUT", "PATCH", "DELETE"), "GET"),
        ("/v2/info/usage", ("POST", "PUT", "DELETE"), "GET"),
        ("/v2/schemas/image", ("POST", "PUT", "DELETE"), "GET"),
        ("/v2/stores/tessera/<id>", ("GET", "POST", "PUT"), "DELETE")):
    for method in methods:
        row(f"{method} {path} is 405", "member", f"{method} {path}", 405, given="queued", gives={"Allow": allow})
row("DELETE of /import is 405", "member", "DELETE /v2/images/<id>/import", 405, given="queued", gives={"Allow": "POST"})
row("GET of /stage is 405", "member", "GET /v2/images/<id>/stage", 405, given="queued", gives={"Allow": "PUT"})
row("a method that nobody knows is 405 or 501 or 400", "member", "BREW /v2/images", (400, 405, 501))
for path in ("/v2/images/", "/v2/images/<id>/", "/v2/images/<id>/nothing", "/v2/images/<id>/members/", "/v2/nothing",
             "/v2/images//<id>", "/v2/info", "/v2/info/nothing", "/v2/schemas", "/v2/schemas/", "/v2/schemas/nothing",
             "/v2/images/<id>/tags/", "/v2/images/<id>/actions/", "/v2/images/<id>/actions"):
    row(f"{path} is 404", "member", f"GET {path}", 404, given="queued")
row("DELETE of /v2/images/ is 404", "member", "DELETE /v2/images/", 404)
row("an unknown action is 404", "member", "POST /v2/images/<id>/actions/explode", 404, given="queued")
row("a name in the place of an id is 404, not 400", "member", "GET /v2/images/my-name", 404)
row("a name with blanks in the place of an id is 404", "member", "GET /v2/images/my%20name", 404)
row("a name of another alphabet in the place of an id is 404", "member", "GET /v2/images/%E6%97%A5%E6%9C%AC", 404)
row("bytes that are no UTF-8 in the place of an id are 404 or 400", "member", "GET /v2/images/%ff%fe", (404, 400))
row("an id in another case than stored is 404", "member", "GET /v2/images/2ABCDEF0-2345-4789-8BCD-0123456789AB", 404,
    before=[("member", "POST /v2/images", {"id": "2abcdef0-2345-4789-8bcd-0123456789ab"})])
row("an id stored in capitals is found in capitals", "member", "GET /v2/images/0BCDEF01-2345-4789-8BCD-0123456789AB", 200,
    before=[("member", "POST /v2/images", {"id": "0BCDEF01-2345-4789-8BCD-0123456789AB"})],
    has={"id": "0BCDEF01-2345-4789-8BCD-0123456789AB"})
row("and not in small letters", "member", "GET /v2/images/1bcdef01-2345-4789-8bcd-0123456789ab", 404,
    before=[("member", "POST /v2/images", {"id": "1BCDEF01-2345-4789-8BCD-0123456789AB"})])
NO_BODY = "A body is not expected with this request."
for method, path in (("GET", "/v2/images/<id>"), ("DELETE", "/v2/images/<id>"), ("GET", "/v2/images/<id>/file"),
                     ("DELETE", "/v2/images/<id>/members/<beta>"), ("PUT", "/v2/images/<id>/tags/t"),
                     ("DELETE", "/v2/images/<id>/tags/t"), ("POST", "/v2/images/<id>/actions/deactivate"),
                     ("POST", "/v2/images/<id>/actions/reactivate"), ("GET", "/v2/info/import"), ("GET", "/v2/info/stores"),
                     ("GET", "/v2/info/usage"), ("GET", "/v2/schemas/image"), ("GET", "/v2/images/<id>/tasks")):
    row(f"{method} {path} with a body is 400", "member", f"{method} {path}", 400, given="active tag:t", body=b"{}",
        has={"error/message": NO_BODY})
row("a list with a body ignores it", "member", "GET /v2/images?limit=1", 200, body=b"whatever")
for method, path, status in (("GET", "/v2/images/<id>", 200), ("GET", "/v2/images?limit=1", 200),
                             ("DELETE", "/v2/images/<id>", 204), ("PUT", "/v2/images/<id>/tags/t", 204),
                             ("GET", "/v2/images/<id>/file", 200), ("POST", "/v2/images/<id>/actions/deactivate", 204)):
    row(f"a lone Content-Type with {method} {path} is no body", "member", f"{method} {path}", status, given="active",
        headers=OCTETS)
    row(f"Content-Length 0 with {method} {path} is no body", "member", f"{method} {path}", status, given="active",
        headers={"Content-Length": "0"})
for path in ("/v2/images", "/v2/images/<id>/members"):
    row(f"POST {path} without the body that it needs is 400", "member", f"POST {path}", 400, given="queued")
    for what, text in (("that is no JSON", "{not json"), ("that ends early", '{"name": "x"'), ("that is not UTF-8",
                       b'{"name": "\xff\xfe"}'), ("of endless nesting", '{"a":' * 5000), ("with more behind it", "{} {}")):
        row(f"POST {path} with a body {what} is 400", "member", f"POST {path}", 400, given="queued", body=text,
            has={"error/message": "Malformed JSON in request body."})
    for kind, text in (("list", "[]"), ("text", '"x"'), ("number", "1"), ("null", "null"), ("boolean", "true")):
        row(f"POST {path} with a {kind} is 400", "member", f"POST {path}", 400, given="queued", body=text)
for media in ("text/plain", "application/octet-stream", "application/json; charset=utf-8", ""):
    row(f"create with Content-Type {media!r} is fine", "member", "POST /v2/images", 201, body='{"name": "x"}',
        headers={"Content-Type": media})
row("create without Content-Type is fine", "member", "POST /v2/images", 201, body='{"name": "x"}')
row("a JSON body over 1 MiB is 413", "member", "POST /v2/images", 413, body='{"name": "' + "x" * (1 << 20) + '"}')
row("HEAD of an image answers like GET without a body, or 405", "member", "HEAD /v2/images/<id>", (200, 405), given="queued")
row("HEAD of data answers like GET without a body, or 405", "member", "HEAD /v2/images/<id>/file", (200, 405), given="active")
row("a query that is no UTF-8 is 400", "member", "GET /v2/images?name=%ff", 400)
row("a broken percent sign in a query is no failure of the server", "member", "GET /v2/images?name=%zz", (200, 400))

section("1.5 HTTP (9.2)")
HEAD = "Host: <address>\nX-Auth-Token: <token:member>\n"
row("HTTP/1.0 is served", "member", "GET /v2/images", 200, raw="GET /v2/images?limit=1 HTTP/1.0\n" + HEAD + "\n")
row("Content-Length and chunks together are 400", "member", "PUT /v2/images/<id>/file", 400, given="queued",
    raw="PUT /v2/images/<id>/file HTTP/1.1\n" + HEAD + "Content-Type: application/octet-stream\nContent-Length: 3\n"
        "Transfer-Encoding: chunked\n\n3\nabc\n0\n\n", then={"status": "queued"})
row("two different Content-Lengths are 400", "member", "POST /v2/images", 400,
    raw="POST /v2/images HTTP/1.1\n" + HEAD + "Content-Length: 2\nContent-Length: 3\n\n{} ")
row("chunk extensions and trailers are ignored", "member", "PUT /v2/images/<id>/file", 204, given="queued",
    raw="PUT /v2/images/<id>/file HTTP/1.1\n" + HEAD + "Content-Type: application/octet-stream\n"
        "Transfer-Encoding: chunked\n\n3;name=value\nabc\n0\nX-Trailer: 1\n\n", then={"status": "active", "size": 3})
EXPECT = "PUT /v2/images/<id>/file HTTP/1.1\n" + HEAD + "Content-Type: application/octet-stream\n"
row("Expect: 100-continue is answered before the body is sent", "member", "PUT /v2/images/<id>/file", 204, given="queued",
    raw=EXPECT + "Content-Length: 3\nExpect: 100-continue\n\n", rest=b"abc", then={"status": "active", "size": 3})
row("Expect: 100-continue before chunks", "member", "PUT /v2/images/<id>/file", 204, given="queued",
    raw=EXPECT + "Transfer-Encoding: chunked\nExpect: 100-Continue\n\n", rest=b"3\r\nabc\r\n0\r\n\r\n",
    then={"status": "active", "size": 3})
row("Expect: 100-continue before data that is staged", "member", "PUT /v2/images/<id>/stage", 204, given="queued",
    raw=EXPECT.replace("/file", "/stage") + "Content-Length: 3\nExpect: 100-continue\n\n", rest=b"abc",
    then={"status": "uploading", "size": 3})
row("Expect: 100-continue before JSON", "member", "POST /v2/images", 201,
    raw="POST /v2/images HTTP/1.1\n" + HEAD + "Content-Length: 2\nExpect: 100-continue\n\n", rest=b"{}", has={"status": "queued"})
row("Expect: 100-continue with a body that came along needs no 100", "member", "PUT /v2/images/<id>/file", 204, given="queued",
    raw=EXPECT + "Transfer-Encoding: chunked\nExpect: 100-continue\n\n3\nabc\n0\n\n", then={"status": "active", "size": 3})
row("Expect: 100-continue of HTTP/1.0 is ignored", "member", "PUT /v2/images/<id>/file", 204, given="queued",
    raw=EXPECT.replace("1.1", "1.0") + "Content-Length: 3\nExpect: 100-continue\n\nabc", then={"status": "active", "size": 3})
row("data of HTTP/1.0 without a length is 411", "member", "PUT /v2/images/<id>/file", 411, given="queued",
    raw=EXPECT.replace("1.1", "1.0") + "\nabc", then={"status": "queued", "size": None}, has={"error/title": "Length Required"})
row("data of HTTP/1.0 to be staged without a length is 411", "member", "PUT /v2/images/<id>/stage", 411, given="queued",
    raw=EXPECT.replace("1.1", "1.0").replace("/file", "/stage") + "\n", then={"status": "queued"})
row("an upload of HTTP/1.1 without length and chunks is one of nothing", "member", "PUT /v2/images/<id>/file", 204, given="queued",
    raw=EXPECT + "Connection: close\n\n", then={"status": "active", "size": 0})
for coding, status in (("gzip", 415), ("identity", 204), ("", 204)):
    row(f"data with Content-Encoding {coding!r} is {status}", "member", "PUT /v2/images/<id>/file", status, given="queued", body=b"abc",
        headers={**OCTETS, "Content-Encoding": coding}, then={"status": "active" if status == 204 else "queued"})
for where in ("file", "stage"):
    row(f"a part of the data, put to /{where}, is 400", "member", f"PUT /v2/images/<id>/{where}", 400, given="queued", body=b"6789",
        headers={**OCTETS, "Content-Range": "bytes 6-9/10"}, then={"status": "queued", "size": None})
row("chunks of nothing are data", "member", "PUT /v2/images/<id>/file", 204, given="queued",
    raw=EXPECT + "Transfer-Encoding: chunked\n\n0\n\n", then={"status": "active", "size": 0})
for what, token, status in (("with a bad token", "bad", 401), ("of an image that is not there", "<token:member>", 404),
                            ("by a reader", "<token:reader>", 403)):
    row(f"Expect: 100-continue {what} is the final {status}", "member", "PUT /v2/images/<id>/file", status, given="queued",
        raw=EXPECT.replace("<token:member>", token).replace("<id>", "<unknown>" if status == 404 else "<id>") +
        "Content-Length: 3\nExpect: 100-continue\n\n", then={"status": "queued"})
row("Expect: 100-continue with more than fits is the final 413", "member", "PUT /v2/images/<id>/file", 413, given="queued",
    raw=EXPECT + "Content-Length: 99999999999999\nExpect: 100-continue\n\n", then={"status": "queued"})
CLOSE = "GET /versions HTTP/1.1\nHost: x\nConnection: close\n\n"
row("requests behind each other are answered in order", "member", "GET /v2/images", 200, statuses=[200, 404, 200],
    raw="GET /v2/images?limit=0 HTTP/1.1\n" + HEAD + "\nGET /v2/nothing HTTP/1.1\n" + HEAD + "\n" + CLOSE)
row("a change and a read behind it are answered in order", "member", "POST /v2/images", 201, statuses=[201, 200, 200],
    raw="POST /v2/images HTTP/1.1\n" + HEAD + "Content-Length: 2\n\n{}GET /v2/images?limit=0 HTTP/1.1\n" + HEAD + "\n" + CLOSE)
row("the connection goes on after data in chunks with a trailer", "member", "PUT /v2/images/<id>/file", 204, given="queued",
    raw=EXPECT + "Transfer-Encoding: chunked\nTrailer: X-A\n\n3\nabc\n0\nX-A: b\nContent-Length: 99\n\n" + CLOSE, statuses=[204, 200],
    then={"status": "active", "size": 3})
row("the connection goes on after 204 for no data", "member", "GET /v2/images/<id>/file", 204, given="queued",
    raw="GET /v2/images/<id>/file HTTP/1.1\n" + HEAD + "\n" + CLOSE, statuses=[204, 200])
row("the connection goes on after HEAD of data", "member", "HEAD /v2/images/<id>/file", 200, given="active",
    raw="HEAD /v2/images/<id>/file HTTP/1.1\n" + HEAD + "\n" + CLOSE, statuses=[200, 200])
row("the connection goes on after a refused upload whose body has come", "member", "PUT /v2/images/<id>/file", 409, given="active",
    raw=EXPECT + "Content-Length: 10\n\n0123456789" + CLOSE, statuses=[409, 200])
row("the connection is closed after HTTP/1.0", "member", "GET /versions", 200, statuses=[200],
    raw="GET /versions HTTP/1.0\nHost: x\n\n" + CLOSE)
row("of several words in Connection, close counts", "member", "GET /versions", 200, statuses=[200],
    raw="GET /versions HTTP/1.1\nHost: x\nConnection: keep-alive, Close\n\n" + CLOSE)
row("empty lines before a request are skipped", "none", "GET /versions", 200, statuses=[200], raw="\n\n" + CLOSE)
row("an offer to change the protocol is not taken up", "none", "GET /versions", 200,
    raw="GET /versions HTTP/1.1\nHost: x\nConnection: Upgrade, close\nUpgrade: h2c\n\n")
row("Expect: 100-continue where the image is active is the final 409", "member", "PUT /v2/images/<id>/file", 409,
    given="active", raw="PUT /v2/images/<id>/file HTTP/1.1\n" + HEAD + "Content-Type: application/octet-stream\n"
                        "Content-Length: 3\nExpect: 100-continue\n\n")
row("Expect: 100-continue where the type is wrong is the final 415", "member", "PUT /v2/images/<id>/file", 415,
    given="queued", raw="PUT /v2/images/<id>/file HTTP/1.1\n" + HEAD + "Content-Type: text/plain\n"
                        "Content-Length: 3\nExpect: 100-continue\n\n")
row("other expectations are 417", "member", "PUT /v2/images/<id>/file", 417, given="queued",
    raw="PUT /v2/images/<id>/file HTTP/1.1\n" + HEAD + "Content-Type: application/octet-stream\nContent-Length: 3\n"
        "Expect: miracles\n\n")
row("a head over 64 KiB is 431", "member", "GET /v2/images", 431,
    raw="GET /v2/images HTTP/1.1\n" + HEAD + "X-Long: " + "y" * 70000 + "\n\n")
row("a refused upload is answered while its body is still to come", "member", "PUT /v2/images/<id>/file", 409, given="active",
    raw="PUT /v2/images/<id>/file HTTP/1.1\n" + HEAD + "Content-Type: application/octet-stream\n"
        "Content-Length: 10000000\n\nonly this much")
row("Connection: close is honoured", "member", "GET /v2/images", 200, gives={"Connection": like("(?i)close")},
    raw="GET /v2/images?limit=1 HTTP/1.1\n" + HEAD + "Connection: close\n\n")
row("a path with bad escapes is refused, not a failure", "member", "GET /x", (300, 400, 404),
    raw="GET /v2/images/%zz HTTP/1.1\n" + HEAD + "\n")

section("9.6 browsers")
PAGE = {"Origin": "https://cloud.example.org"}
ALLOWED = {"Access-Control-Allow-Origin": "https://cloud.example.org"}
row("a preflight of a known origin", "none", "OPTIONS /v2/images/<id>/file", 200, given="queued",
    headers={**PAGE, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-auth-token"},
    gives={**ALLOWED, "Access-Control-Allow-Methods": like("PUT.*PATCH"), "Access-Control-Allow-Headers": like("X-Auth-Token.*X-Image-Meta-Store"),
           "Access-Control-Max-Age": "3600", "Vary": like("Origin")})
row("a preflight of another origin allows nothing", "none", "OPTIONS /v2/images", 200,
    headers={"Origin": "https://evil.example.org", "Access-Control-Request-Method": "GET"},
    gives={"Access-Control-Allow-Origin": NONE_GIVEN, "Access-Control-Allow-Methods": NONE_GIVEN})
row("a request of a known origin", "member", "GET /v2/images?limit=1", 200, headers=PAGE,
    gives={**ALLOWED, "Access-Control-Expose-Headers": like("(?i)x-openstack-request-id.*Content-MD5.*Location")})
row("an error to a known origin", "none", "GET /v2/images", 401, headers=PAGE, gives=ALLOWED)
row("data to a known origin", "member", "GET /v2/images/<id>/file", 200, given="active", headers=PAGE, gives=ALLOWED, data=b"0123456789")
row("a request of another origin", "member", "GET /v2/images?limit=1", 200, headers={"Origin": "https://evil.example.org"},
    gives={"Access-Control-Allow-Origin": NONE_GIVEN, "Vary": like("Origin")})
row("a request without an origin", "member", "GET /v2/images?limit=1", 200, gives={"Access-Control-Allow-Origin": NONE_GIVEN})
row("an origin that only begins alike is another", "member", "GET /v2/images?limit=1", 200,
    headers={"Origin": "https://cloud.example.org.evil.org"}, gives={"Access-Control-Allow-Origin": NONE_GIVEN})

section("1.5 heads that two readers could read in two ways")
CHUNKS = "PUT /v2/images/<id>/file HTTP/1.1\n" + HEAD + "Content-Type: application/octet-stream\n"
for what, fields, status in (
        ("a coding that is no chunked", "Transfer-Encoding: xchunked\n", (400, 501)),
        ("two codings", "Transfer-Encoding: gzip, chunked\n", (400, 501)),
        ("the coding twice", "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n", 400),
        ("a coding and then identity", "Transfer-Encoding: chunked\nTransfer-Encoding: identity\n", 400),
        ("a length and a coding", "Content-Length: 5\nTransfer-Encoding: chunked\n", 400),
        ("a coding and a length", "Transfer-Encoding: chunked\nContent-Length: 5\n", 400),
        ("a negative length", "Content-Length: -5\n", 400),
        ("a length with a sign", "Content-Length: +5\n", 400),
        ("a length in hexadecimal", "Content-Length: 0x5\n", 400),
        ("a list of lengths", "Content-Length: 5, 5\n", 400),
        ("a length over 64 bits", "Content-Length: 99999999999999999999\n", 400),
        ("an empty length", "Content-Length: \n", 400),
        ("a blank before the colon", "Transfer-Encoding : chunked\n", 400),
        ("a blank before the name", " Transfer-Encoding: chunked\n", 400),
        ("a folded line", "X-A: b\n c\nTransfer-Encoding:\n chunked\n", 400),
        ("a value that begins with a NUL", "X-A: \x00b\nContent-Length: 5\n", 400),
        ("a value with a NUL in it", "X-A: b\x00c\nContent-Length: 5\n", 400),
        ("a name with a NUL", "X-\x00A: b\nContent-Length: 5\n", 400),
        ("a second Host", "Host: other\nContent-Length: 5\n", 400)):
    row(f"{what} is refused", "member", "PUT /v2/images/<id>/file", status, given="queued", raw=CHUNKS + fields + "\n0\n\nG",
        then={"status": "queued"}, gives={"Connection": like("(?i)close")})
for name, first, second in (("X-Auth-Token", "<token:member>", "<token:reader>"), ("Content-Type", "application/octet-stream", "text/plain"),
                            ("X-OpenStack-Image-Size", "3", "5"), ("X-OpenStack-Image-Size", "3", "3"), ("Idempotency-Key", "<new>", "x<new>"),
                            ("X-Image-Meta-Store", "tessera", "tessera"), ("Range", "bytes=0-1", "bytes=0-2")):
    twice = {"Content-Type": "application/octet-stream", "X-Auth-Token": "<token:member>"}
    twice.pop(name, None)
    row(f"{name} twice, {first[:8]} and {second[:8]}, is 400", "member", "PUT /v2/images/<id>/file", 400, given="queued",
        raw="PUT /v2/images/<id>/file HTTP/1.1\nHost: <address>\n" + "".join(f"{k}: {v}\n" for k, v in twice.items()) +
            f"{name}: {first}\n{name.lower()}: {second}\nContent-Length: 3\n\nabc",
        then={"status": "queued"}, has={"error/message": f"The header {name} was sent more than once."})
row("Accept twice is no harm", "member", "GET /v2/images", 200, raw="GET /v2/images?limit=1 HTTP/1.1\n" + HEAD + "Accept: a/b\nAccept: */*\n\n")
for what, size in (("that is no number", "zz"), ("over 64 bits", "F" * 20), ("that is negative", "-1"), ("with a sign", "+3")):
    row(f"a chunk's size {what} is 400", "member", "PUT /v2/images/<id>/file", 400, given="queued",
        raw=CHUNKS + "Transfer-Encoding: chunked\n\n" + size + "\nabc\n0\n\n", then={"status": "queued"})
row("a chunk longer than its size is 400", "member", "PUT /v2/images/<id>/file", 400, given="queued",
    raw=CHUNKS + "Transfer-Encoding: chunked\n\n3\nabcdef\n0\n\n", then={"status": "queued"})
row("no Host is 400", "member", "GET /v2/images", 400, raw="GET /v2/images HTTP/1.1\nX-Auth-Token: <token:member>\n\n")
row("HTTP/2 in clear is refused", "none", "GET /", (400, 505), raw="PRI * HTTP/2.0\n\nSM\n\n")
row("a method in small letters is refused", "none", "GET /", (400, 405, 501), raw="get /versions HTTP/1.1\nHost: <address>\n\n")
row("names of headers in small letters are the same", "member", "GET /v2/images", 200,
    raw="GET /v2/images?limit=1 HTTP/1.1\nhost: <address>\nx-auth-token: <token:member>\naccept: */*\n\n")
row("HTTP/1.0 with keep-alive", "member", "GET /v2/images", 200, gives={"Connection": like("(?i)keep-alive")},
    raw="GET /v2/images?limit=1 HTTP/1.0\n" + HEAD + "Connection: keep-alive\n\n")
row("a target in absolute form", "member", "GET /v2/images", 200,
    raw="GET http://<address>/v2/images?limit=1 HTTP/1.1\n" + HEAD + "\n")
row("129 header fields are 431", "member", "GET /v2/images", 431, raw="GET /v2/images HTTP/1.1\n" + HEAD + "X-A: b\n" * 130 + "\n")
row("a target over 64 KiB is refused", "member", "GET /v2/images", (414, 431),
    raw="GET /v2/images?" + "a" * 70000 + " HTTP/1.1\n" + HEAD + "\n")
