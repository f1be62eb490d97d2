"""Sections 2.5 to 2.13: import, stores, members, tags, actions, locations, schemas, tasks, cache."""
from contract import ANY, Matcher, NONE_GIVEN, OCTETS, PATCH_1, TIME, holds, length, like, row, section

section("2.5 import")
row("the methods, any token", "member", "GET /v2/info/import", 200,
    has={"import-methods/type": "array", "import-methods/description": "Import methods available.",
         "import-methods/value": ANY})
row("glance-direct and web-download are among them", "member", "GET /v2/info/import", 200,
    has={"import-methods/value": holds("web-download")})
row("tasks of an image: none", "member", "GET /v2/images/<id>/tasks", 200, given="queued", has={"tasks": []})
row("tasks of an invisible image are 404", "other", "GET /v2/images/<id>/tasks", 404, given="queued private")
row("POST of an image's tasks is no route", "member", "POST /v2/images/<id>/tasks", (404, 405), given="queued", body={})
DIRECT = {"method": {"name": "glance-direct"}}
WEB = {"method": {"name": "web-download", "uri": "http://example.org/x"}}
for what, given, body, status in (
        ("no body", "queued", None, 400), ("no method", "queued", {}, 400), ("a method that is a text", "queued", {"method": "x"}, 400),
        ("an unknown method", "queued", {"method": {"name": "magic"}}, 400),
        ("a flag that is no boolean", "queued", {**WEB, "all_stores": "yes"}, 400),
        ("all_stores and stores", "queued", {**WEB, "all_stores": True, "stores": ["tessera"]}, 400),
        ("web-download without uri", "queued", {"method": {"name": "web-download"}}, 400),
        ("an empty uri", "queued", {"method": {"name": "web-download", "uri": ""}}, 400),
        ("a file: uri", "queued", {"method": {"name": "web-download", "uri": "file:///etc/passwd"}}, 400),
        ("an ftp: uri", "queued", {"method": {"name": "web-download", "uri": "ftp://h/x"}}, 400),
        ("a uri without host", "queued", {"method": {"name": "web-download", "uri": "http:///x"}}, 400),
        ("a forbidden port", "queued", {"method": {"name": "web-download", "uri": "http://example.org:22/"}}, 400),
        ("a name without address", "queued", {"method": {"name": "web-download", "uri": "http://name.invalid/x"}}, 202),
        ("user and password in the uri", "queued", {"method": {"name": "web-download", "uri": "http://u:p@<silent>/x"}}, 400),
        ("an address in hexadecimal", "queued", {"method": {"name": "web-download", "uri": "http://0x7f.1/"}}, 400),
        ("an address as one number", "queued", {"method": {"name": "web-download", "uri": "http://2130706433/"}}, 400),
        ("an address of IPv4 in IPv6", "queued", {"method": {"name": "web-download", "uri": "http://[::ffff:10.0.0.1]/"}}, 400),
        ("a link-local address", "queued", {"method": {"name": "web-download", "uri": "http://169.254.169.254/x"}}, 400),
        ("another scheme", "queued", {"method": {"name": "web-download", "uri": "javascript:alert(1)"}}, 400),
        ("a uri that is a number", "queued", {"method": {"name": "web-download", "uri": 1}}, 400),
        ("a method without name", "queued", {"method": {}}, 400), ("a name that is no text", "queued", {"method": {"name": 1}}, 400),
        ("a body that is a list", "queued", [], 400), ("stores that are no list", "queued", {**WEB, "stores": "tessera"}, 400),
        ("stores that are no names", "queued", {**WEB, "stores": [1]}, 400),
        ("a flag that is null", "queued", {**WEB, "all_stores_must_succeed": None}, 400),
        ("an allowed address", "queued", {"method": {"name": "web-download", "uri": "http://<silent>/x"}}, 202),
        ("glance-direct of an active image", "active", DIRECT, 409), ("web-download of a deactivated image", "deactivated", WEB, 409),
        ("a loopback address", "queued", {"method": {"name": "web-download", "uri": "http://127.0.0.1/x"}}, 400),
        ("glance-download without image", "queued", {"method": {"name": "glance-download", "glance_region": "r"}}, 400),
        ("glance-download of no UUID", "queued",
         {"method": {"name": "glance-download", "glance_region": "r", "glance_image_id": "x"}}, 400),
        ("an unknown store", "queued", {**WEB, "stores": ["nowhere"]}, 409), ("no formats", "queued noformats", WEB, 409),
        ("glance-direct of a queued image", "queued", DIRECT, 409), ("web-download of an active image", "active", WEB, 409)):
    row(f"{what} is {status}", "member", "POST /v2/images/<id>/import", status, given=given, body=body)
row("copy-image of a queued image is 409", "member", "POST /v2/images/<id>/import", 409, given="queued",
    body={"method": {"name": "copy-image"}, "all_stores": True})
row("copy-image by a member is 403", "member", "POST /v2/images/<id>/import", 403, given="active",
    body={"method": {"name": "copy-image"}, "all_stores": True})
COPY = {"method": {"name": "copy-image"}}
row("copy-image to all stores by an administrator: nothing to do, 202", "admin", "POST /v2/images/<id>/import", 202, given="active",
    body={**COPY, "all_stores": True}, then={"status": "active", "stores": "tessera"})
row("it makes no task", "admin", "GET /v2/images/<id>/tasks", 200, given="active",
    before=[("admin", "POST /v2/images/<id>/import", {**COPY, "all_stores": True})], has={"tasks": []})
row("all stores, though not all must succeed, is 202", "admin", "POST /v2/images/<id>/import", 202, given="active",
    body={**COPY, "all_stores": True, "all_stores_must_succeed": False})
row("copy-image to a store that holds it already is 400", "admin", "POST /v2/images/<id>/import", 400, given="active",
    body={**COPY, "stores": ["tessera"]})
row("so it is with the store in the header", "admin", "POST /v2/images/<id>/import", 400, given="active", body=COPY,
    headers={"X-Image-Meta-Store": "tessera"})
row("copy-image to no store in particular is 400", "admin", "POST /v2/images/<id>/import", 400, given="active", body=COPY)
row("copy-image to an unknown store is 409", "admin", "POST /v2/images/<id>/import", 409, given="active",
    body={**COPY, "stores": ["nowhere"]})
row("copy-image of an invisible image is 404", "other", "POST /v2/images/<id>/import", 404, given="active private",
    body={**COPY, "all_stores": True})
row("copy-image of a deactivated image is 409", "admin", "POST /v2/images/<id>/import", 409, given="deactivated",
    body={**COPY, "all_stores": True})
row("copy-image is among the methods", "member", "GET /v2/info/import", 200, has={"import-methods/value": holds("copy-image")})
row("glance-download is not, without regions", "member", "POST /v2/images/<id>/import", 400, given="queued",
    body={"method": {"name": "glance-download", "glance_region": "r", "glance_image_id": "0" * 8 + "-0000-0000-0000-" + "0" * 12}})
row("by a reader is 403", "reader", "POST /v2/images/<id>/import", 403, given="queued", body=WEB)
row("of an invisible image is 404", "other", "POST /v2/images/<id>/import", 404, given="queued private", body=WEB)
row("glance-direct of a staged image is 202", "member", "POST /v2/images/<id>/import", 202, given="queued", body=DIRECT,
    before=[("member", "PUT /v2/images/<id>/stage", b"x", OCTETS)])

DOWN = {"method": {"name": "web-download", "uri": "http://<silent>/x"}}
for what, body, headers in (("all_stores", {**DOWN, "all_stores": True}, {}), ("stores", {**DOWN, "stores": ["tessera"]}, {}),
                            ("the store in the header", DOWN, {"X-Image-Meta-Store": "tessera"})):
    row(f"{what} is 202", "member", "POST /v2/images/<id>/import", 202, given="queued", body=body, headers=headers, data=b"")
for what, body in (("all_stores", {**DOWN, "all_stores": True}), ("stores", {**DOWN, "stores": ["tessera"]})):
    row(f"{what} together with the header is 400", "member", "POST /v2/images/<id>/import", 400, given="queued", body=body,
        headers={"X-Image-Meta-Store": "tessera"})
row("an unknown store in the header is 409", "member", "POST /v2/images/<id>/import", 409, given="queued", body=DOWN,
    headers={"X-Image-Meta-Store": "nowhere"})
row("by others on a public image is 403", "other", "POST /v2/images/<id>/import", 403, given="queued public", body=DOWN)
row("the body is judged before the image", "other", "POST /v2/images/<id>/import", 400, given="queued private", body={})
row("the status is judged before the right", "reader", "POST /v2/images/<id>/import", 409, given="active", body=DOWN)
row("the formats are judged before the right", "reader", "POST /v2/images/<id>/import", 409, given="queued noformats", body=DOWN)
row("the right is judged before the uri", "reader", "POST /v2/images/<id>/import", 403, given="queued",
    body={"method": {"name": "web-download", "uri": "file:///x"}})
STARTED = [("member", "POST /v2/images/<id>/import", DOWN, {"X-OpenStack-Request-ID": "req-<new>"})]
row("a second import while one runs is 409", "member", "POST /v2/images/<id>/import", 409, given="queued", before=STARTED, body=DOWN)
row("an upload while one runs is 409", "member", "PUT /v2/images/<id>/file", 409, given="queued", before=STARTED, body=b"x", headers=OCTETS)
row("the image's data while one runs is 204", "member", "GET /v2/images/<id>/file", 204, given="queued", before=STARTED)
row("the image shows the import", "member", "GET /v2/images/<id>", 200, given="queued", before=STARTED,
    has={"status": "importing", "os_glance_import_task": ANY, "os_glance_importing_to_stores": "tessera", "os_glance_failed_import": ""})
row("the task has the request's id, and what was asked", "member", "GET /v2/images/<id>/tasks", 200, given="queued", before=STARTED,
    has={"tasks": length(1), "tasks/0/request_id": "req-<new>", "tasks/0/type": "api_image_import", "tasks/0/owner": "<alpha>",
         "tasks/0/user_id": "<user:member>", "tasks/0/image_id": "<id>", "tasks/0/input/import_req": DOWN,
         "tasks/0/input/backend": ["tessera"], "tasks/0/input/image_id": "<id>", "tasks/0/result": None, "tasks/0/message": "",
         "tasks/0/status": Matcher("pending or processing", lambda v: v in ("pending", "processing")), "tasks/0/deleted": False,
         "tasks/0/deleted_at": None, "tasks/0/created_at": TIME, "tasks/0/updated_at": TIME})
row("metadata may change meanwhile", "member", "PATCH /v2/images/<id>", 200, given="queued", before=STARTED, headers=PATCH_1,
    body=[{"op": "replace", "path": "/name", "value": "n"}], has={"name": "n", "status": "importing"})
row("its own properties may not", "member", "PATCH /v2/images/<id>", 403, given="queued", before=STARTED, headers=PATCH_1,
    body=[{"op": "remove", "path": "/os_glance_import_task"}])
row("an image that is being imported can be deleted", "member", "DELETE /v2/images/<id>", 204, given="queued", before=STARTED, then=404)
STAGED = [("member", "PUT /v2/images/<id>/stage", b"hello", OCTETS)]
row("a staged image shows its size, and no hashes", "member", "GET /v2/images/<id>", 200, given="queued", before=STAGED,
    has={"status": "uploading", "size": 5, "checksum": None, "os_hash_value": None, "virtual_size": None}, lacks=("stores",))
row("a staged image has no data yet", "member", "GET /v2/images/<id>/file", 204, given="queued", before=STAGED)
row("a staged image takes no upload", "member", "PUT /v2/images/<id>/file", 409, given="queued", before=STAGED, body=b"x", headers=OCTETS,
    has={"error/message": "Image status transition from uploading to saving is not allowed"})
row("a staged image takes no second staging", "member", "PUT /v2/images/<id>/stage", 409, given="queued", before=STAGED, body=b"x", headers=OCTETS)
row("web-download of a staged image is 409", "member", "POST /v2/images/<id>/import", 409, given="queued", before=STAGED, body=DOWN)
row("a staged image without formats is not imported", "member", "POST /v2/images/<id>/import", 409, given="queued noformats", before=STAGED,
    body=DIRECT, has={"error/message": "'container_format' needs to be set before import"})
row("a staged image can be deleted", "member", "DELETE /v2/images/<id>", 204, given="queued", before=STAGED, then=404)
row("a staged image is not deactivated", "member", "POST /v2/images/<id>/actions/deactivate", 403, given="queued", before=STAGED)

section("2.6 stores and usage")
row("the stores, any token", "reader", "GET /v2/info/stores", 200, has={"stores": [{"id": "tessera", "default": "true"}]})
row("detail for administrators", "admin", "GET /v2/info/stores/detail", 200,
    has={"stores/0/id": "tessera", "stores/0/type": "file", "stores/0/weight": 0, "stores/0/properties": ANY})
row("detail for services", "service", "GET /v2/info/stores/detail", 200, has={"stores/0/id": "tessera"})
for who in ("member", "reader", "other"):
    row(f"no detail for {who}", who, "GET /v2/info/stores/detail", 403)
row("usage without quotas is empty", "member", "GET /v2/info/usage", 200, has={"usage": {}})
row("usage for a reader", "reader", "GET /v2/info/usage", 200, has={"usage": {}})
row("delete from a store by a member is 403", "member", "DELETE /v2/stores/tessera/<id>", 403, given="active")
row("delete of the only data is 403", "admin", "DELETE /v2/stores/tessera/<id>", 403, given="active", then={"status": "active"})
row("delete of an unknown image's data is 404", "admin", "DELETE /v2/stores/tessera/<unknown>", 404)
row("delete of an image that is not active is 409", "admin", "DELETE /v2/stores/tessera/<id>", 409, given="queued")
row("delete from an unknown store is 409", "admin", "DELETE /v2/stores/nowhere/<id>", 409, given="active")

section("2.7 members")
MEMBERS = "/v2/images/<id>/members"
NEW = {"member": "<beta>"}
row("the owner adds a project: 200, pending", "member", f"POST {MEMBERS}", 200, given="queued", body=NEW,
    has={"member_id": "<beta>", "image_id": "<id>", "status": "pending", "created_at": TIME, "updated_at": TIME,
         "schema": "/v2/schemas/member"}, gives={"Location": NONE_GIVEN})
row("an administrator adds a project", "admin", f"POST {MEMBERS}", 200, given="active", body=NEW)
row("a queued image can be shared", "member", f"POST {MEMBERS}", 200, given="queued", body=NEW)
row("the owner's own project can be added", "member", f"POST {MEMBERS}", 200, given="queued", body={"member": "<alpha>"})
row("a project that nobody knows can be added", "member", f"POST {MEMBERS}", 200, given="queued", body={"member": "who"},
    has={"member_id": "who"})
row("extra keys are ignored", "member", f"POST {MEMBERS}", 200, given="queued", body={"member": "<beta>", "x": 1})
for what, body in (("no member", {}), ("an empty member", {"member": ""}), ("a number", {"member": 1}),
                   ("null", {"member": None}), ("256 characters", {"member": "x" * 256}), ("a list", {"member": ["a"]})):
    row(f"adding with {what} is 400", "member", f"POST {MEMBERS}", 400, given="queued", body=body)
row("adding by a reader is 403", "reader", f"POST {MEMBERS}", 403, given="queued", body=NEW)
row("adding by a member project is 403", "other", f"POST {MEMBERS}", 403, given="queued member:beta=accepted",
    body={"member": "<shelf>"})
for visibility in ("private", "community", "public"):
    row(f"adding to a {visibility} image is 403", "member" if visibility != "public" else "admin", f"POST {MEMBERS}", 403,
        given=f"queued {visibility}", body=NEW)
row("the refusal says why", "member", f"POST {MEMBERS}", 403, given="queued private", body=NEW,
    has={"error/message": "Only shared images have members."})
row("adding to an invisible image is 404", "other", f"POST {MEMBERS}", 404, given="queued", body=NEW)
row("adding to an unknown image is 404", "member", "POST /v2/images/<unknown>/members", 404, body=NEW)
row("adding twice is 409", "member", f"POST {MEMBERS}", 409, given="queued member:beta", body=NEW)
row("129 members are 413", "member", f"POST {MEMBERS}", 413,
    given="queued", before=[("member", f"POST {MEMBERS}", {"member": f"p{n}"}) for n in range(128)], body=NEW)
row("the owner sees all entries", "member", f"GET {MEMBERS}", 200, given="queued member:beta member:shelf=accepted",
    has={"members": length(2), "schema": "/v2/schemas/members"})
row("a reader of the owner sees all entries", "reader", f"GET {MEMBERS}", 200, given="queued member:beta member:shelf",
    has={"members": length(2)})
row("an administrator sees all entries", "admin", f"GET {MEMBERS}", 200, given="queued member:beta member:shelf",
    has={"members": length(2)})
row("a member project sees only its own", "other", f"GET {MEMBERS}", 200, given="queued member:beta member:shelf",
    has={"members": length(1), "members/0/member_id": "<beta>"})
row("an image without members has an empty list", "member", f"GET {MEMBERS}", 200, given="queued", has={"members": []})
row("others get 404", "librarian", f"GET {MEMBERS}", 404, given="queued member:beta")
for visibility in ("private", "community"):
    row(f"the list of a {visibility} image is 403", "member", f"GET {MEMBERS}", 403, given=f"queued {visibility}")
row("the list of a public image is 403", "other", f"GET {MEMBERS}", 403, given="queued public")
row("the owner reads an entry", "member", f"GET {MEMBERS}/<beta>", 200, given="queued member:beta",
    has={"member_id": "<beta>", "status": "pending"})
row("a member reads its own", "other", f"GET {MEMBERS}/<beta>", 200, given="queued member:beta", has={"member_id": "<beta>"})
row("a member reads no other's", "other", f"GET {MEMBERS}/<shelf>", 404, given="queued member:beta member:shelf")
row("an unknown entry is 404", "member", f"GET {MEMBERS}/<beta>", 404, given="queued")
row("an entry of an image that is not shared is 404", "member", f"GET {MEMBERS}/<beta>", 404, given="queued private")
for status in ("accepted", "rejected", "pending"):
    row(f"the member answers {status}", "other", f"PUT {MEMBERS}/<beta>", 200, given="queued member:beta",
        body={"status": status}, has={"status": status, "member_id": "<beta>", "schema": "/v2/schemas/member"})
row("the stock client's extra key is ignored", "other", f"PUT {MEMBERS}/<beta>", 200, given="queued member:beta",
    body={"member": "<beta>", "status": "accepted"}, has={"status": "accepted"})
row("an answer can be changed", "other", f"PUT {MEMBERS}/<beta>", 200, given="queued member:beta=rejected",
    body={"status": "accepted"}, has={"status": "accepted"})
row("an administrator answers", "admin", f"PUT {MEMBERS}/<beta>", 200, given="queued member:beta", body={"status": "accepted"})
row("the owner may not answer: 403", "member", f"PUT {MEMBERS}/<beta>", 403, given="queued member:beta",
    body={"status": "accepted"})
row("a reader of the member project may not answer", "otherreader", f"PUT {MEMBERS}/<beta>", 403, given="queued member:beta",
    body={"status": "accepted"})
row("a member may not answer for another", "other", f"PUT {MEMBERS}/<shelf>", 404, given="queued member:beta member:shelf",
    body={"status": "accepted"})
row("who is no member gets 404", "librarian", f"PUT {MEMBERS}/<shelf>", 404, given="queued", body={"status": "accepted"})
for what, body in (("no status", {}), ("an unknown status", {"status": "maybe"}), ("an empty status", {"status": ""}),
                   ("a number", {"status": 1}), ("null", {"status": None}), ("a list", [])):
    row(f"an answer with {what} is 400", "other", f"PUT {MEMBERS}/<beta>", 400, given="queued member:beta", body=body)
row("the owner removes an entry", "member", f"DELETE {MEMBERS}/<beta>", 204, given="queued member:beta")
row("an administrator removes an entry", "admin", f"DELETE {MEMBERS}/<beta>", 204, given="queued member:beta")
row("the member itself may not", "other", f"DELETE {MEMBERS}/<beta>", 403, given="queued member:beta=accepted")
row("a reader may not", "reader", f"DELETE {MEMBERS}/<beta>", 403, given="queued member:beta")
row("an entry that is not there is 404", "member", f"DELETE {MEMBERS}/<beta>", 404, given="queued")
row("removing from an invisible image is 404", "librarian", f"DELETE {MEMBERS}/<beta>", 404, given="queued member:beta")
row("after the removal the image is invisible", "other", "GET /v2/images/<id>", 404, given="active member:beta=accepted",
    before=[("member", f"DELETE {MEMBERS}/<beta>")])
row("entries survive a time as private", "member", f"GET {MEMBERS}/<beta>", 200, given="queued member:beta=accepted",
    before=[("member", "PATCH /v2/images/<id>", [{"op": "replace", "path": "/visibility", "value": v}], PATCH_1)
            for v in ("private", "shared")], has={"status": "accepted"})

section("2.8 tags")
TAG = "/v2/images/<id>/tags"
row("added", "member", f"PUT {TAG}/one", 204, given="queued", then={"tags": ["one"]})
row("added again", "member", f"PUT {TAG}/one", 204, given="queued tag:one", then={"tags": ["one"]})
row("beside others, sorted", "member", f"PUT {TAG}/b", 204, given="queued tag:c tag:a", then={"tags": ["a", "b", "c"]})
row("letter case counts", "member", f"PUT {TAG}/ONE", 204, given="queued tag:one", then={"tags": ["ONE", "one"]})
row("a blank in it", "member", f"PUT {TAG}/a%20b", 204, given="queued", then={"tags": ["a b"]})
row("of another alphabet", "member", f"PUT {TAG}/%E6%97%A5", 204, given="queued", then={"tags": ["日"]})
row("outside the BMP", "member", f"PUT {TAG}/%F0%9F%98%80", 204, given="queued", then={"tags": ["\U0001f600"]})
row("255 characters", "member", f"PUT {TAG}/{'x' * 255}", 204, given="queued", then={"tags": ["x" * 255]})
row("255 characters of two bytes", "member", f"PUT {TAG}/{'%C3%BC' * 255}", 204, given="queued", then={"tags": ["ü" * 255]})
row("256 characters are 400", "member", f"PUT {TAG}/{'x' * 256}", 400, given="queued", then={"tags": []})
row("an empty one is 404", "member", f"PUT {TAG}/", 404, given="queued")
row("a slash in it is 404", "member", f"PUT {TAG}/a%2Fb", 404, given="queued", then={"tags": []})
row("by a reader is 403", "reader", f"PUT {TAG}/one", 403, given="queued", then={"tags": []})
row("by a member project is 403", "other", f"PUT {TAG}/one", 403, given="queued member:beta=accepted")
row("by others on a public image is 403", "other", f"PUT {TAG}/one", 403, given="queued public")
row("on an invisible image is 404", "other", f"PUT {TAG}/one", 404, given="queued private")
row("on an unknown image is 404", "member", "PUT /v2/images/<unknown>/tags/one", 404)
row("by an administrator", "admin", f"PUT {TAG}/one", 204, given="queued private", then={"tags": ["one"]})
FULL = ("member", "PATCH /v2/images/<id>", [{"op": "replace", "path": "/tags", "value": [f"t{n}" for n in range(128)]}], PATCH_1)
row("the 129th is 413", "member", f"PUT {TAG}/one", 413, given="queued", before=[FULL], then={"tags": length(128)})
row("one of 128 again is 204", "member", f"PUT {TAG}/t5", 204, given="queued", before=[FULL], then={"tags": length(128)})
row("on an active image", "member", f"PUT {TAG}/one", 204, given="active", then={"tags": ["one"]})
row("on a deactivated image", "member", f"PUT {TAG}/one", 204, given="deactivated", then={"tags": ["one"]})
row("removed", "member", f"DELETE {TAG}/one", 204, given="queued tag:one tag:two", then={"tags": ["two"]})
row("removing one that is not there is 404", "member", f"DELETE {TAG}/one", 404, given="queued tag:two")
row("removing in another letter case is 404", "member", f"DELETE {TAG}/ONE", 404, given="queued tag:one")
row("removing by a reader is 403", "reader", f"DELETE {TAG}/one", 403, given="queued tag:one", then={"tags": ["one"]})
row("removing by a member project is 403", "other", f"DELETE {TAG}/one", 403, given="queued tag:one member:beta")
row("removing from an invisible image is 404", "other", f"DELETE {TAG}/one", 404, given="queued private tag:one")
row("removing by an administrator", "admin", f"DELETE {TAG}/one", 204, given="queued tag:one", then={"tags": []})

section("2.9 actions")
ACTION = "POST /v2/images/<id>/actions"
row("deactivate", "member", f"{ACTION}/deactivate", 204, given="active", then={"status": "deactivated"})
row("deactivate again", "member", f"{ACTION}/deactivate", 204, given="deactivated", then={"status": "deactivated"})
row("reactivate", "member", f"{ACTION}/reactivate", 204, given="deactivated", then={"status": "active", "size": 10})
row("reactivate what is active", "member", f"{ACTION}/reactivate", 204, given="active", then={"status": "active"})
for action in ("deactivate", "reactivate"):
    state = "active" if action == "deactivate" else "deactivated"
    row(f"{action} a queued image is 403", "member", f"{ACTION}/{action}", 403, given="queued", then={"status": "queued"},
        has={"error/message": like("queued")})
    row(f"{action} by a reader is 403", "reader", f"{ACTION}/{action}", 403, given=state, then={"status": state})
    row(f"{action} by a member project is 403", "other", f"{ACTION}/{action}", 403, given=f"{state} member:beta=accepted")
    row(f"{action} by others on a public image is 403", "other", f"{ACTION}/{action}", 403, given=f"{state} public")
    row(f"{action} of an invisible image is 404", "other", f"{ACTION}/{action}", 404, given=f"{state} private")
    row(f"{action} of an unknown image is 404", "member", f"POST /v2/images/<unknown>/actions/{action}", 404)
    row(f"{action} by an administrator", "admin", f"{ACTION}/{action}", 204, given=f"{state} private")
row("a reactivated image can be downloaded", "member", "GET /v2/images/<id>/file", 200, given="deactivated",
    before=[("member", f"{ACTION}/reactivate")], data=b"0123456789")
row("a deactivated image keeps its hashes", "member", "GET /v2/images/<id>", 200, given="deactivated",
    has={"status": "deactivated", "size": 10, "checksum": "781e5e245d69b566979b86e28d23f2c7", "stores": "tessera"})

section("2.10 locations")
row("locations are an empty list for services", "service", "GET /v2/images/<id>/locations", 200, given="active private")
row("and for administrators", "admin", "GET /v2/images/<id>/locations", 200, given="active")
row("403 for the owner", "member", "GET /v2/images/<id>/locations", 403, given="active")
row("403 for others who see it", "other", "GET /v2/images/<id>/locations", 403, given="active public")
row("404 for who does not see it", "other", "GET /v2/images/<id>/locations", 404, given="active private")
row("404 for an unknown image", "service", "GET /v2/images/<unknown>/locations", 404)
for what, who, body, status in (
        ("by a member is 403", "member", {"url": "http://h/x"}, 403), ("without url is 400", "admin", {}, 400),
        ("of another scheme is 400", "admin", {"url": "file:///x"}, 400),
        ("with a hash that is no hex is 400", "admin",
         {"url": "http://h/x", "validation_data": {"os_hash_algo": "sha512", "os_hash_value": "zz"}}, 400),
        ("with a hash that is too short is 400", "admin",
         {"url": "http://h/x", "validation_data": {"os_hash_algo": "sha256", "os_hash_value": "ab" * 20}}, 400),
        ("with an unknown algorithm is 400", "admin",
         {"url": "http://h/x", "validation_data": {"os_hash_algo": "crc", "os_hash_value": "ab"}}, 400),
        ("with half of the validation data is 400", "admin", {"url": "http://h/x", "validation_data": {"os_hash_algo": "md5"}}, 400),
        ("that is no object is 400", "admin", [], 400), ("with a url that is no text is 400", "admin", {"url": 7}, 400),
        ("at a forbidden address is 400", "service", {"url": "http://127.0.0.1/x"}, 400),
        ("of another host's file system is 400", "service", {"url": "rbd://fsid/pool/image/snap"}, 400),
        ("by a reader is 403", "reader", {"url": "http://h/x"}, 403),
        ("at a name without address is 202", "service", {"url": "http://name.invalid/x"}, 202),
        ("by a service is 202", "service", {"url": "http://<silent>/x"}, 202)):
    row(f"posting one {what}", who, "POST /v2/images/<id>/locations", status, given="queued", body=body)
row("posting one to an active image is 409", "admin", "POST /v2/images/<id>/locations", 409, given="active",
    body={"url": "http://h/x"})
row("posting one to an image without formats is 409", "admin", "POST /v2/images/<id>/locations", 409, given="queued noformats",
    body={"url": "http://h/x"})
row("posting one to an invisible image is 404", "other", "POST /v2/images/<id>/locations", 404, given="queued private",
    body={"url": "http://h/x"})
row("posting one to an unknown image is 404", "service", "POST /v2/images/<unknown>/locations", 404, body={"url": "http://h/x"})
row("another method is 405", "admin", "DELETE /v2/images/<id>/locations", 405, given="active", gives={"Allow": "GET, POST"})

section("2.11 schemas")
IMAGE_FIELDS = ("id name status visibility protected os_hidden owner disk_format container_format min_disk min_ram tags size "
                "virtual_size checksum os_hash_algo os_hash_value created_at updated_at self file schema stores direct_url "
                "locations").split()
row("image", "member", "GET /v2/schemas/image", 200,
    has={"name": "image", "additionalProperties/type": "string", "links/0/href": "{self}", "links/1/rel": "enclosure",
         "links/2/href": "{schema}"})
for field in IMAGE_FIELDS:
    row(f"image has {field}", "member", "GET /v2/schemas/image", 200, has={f"properties/{field}": ANY,
                                                                         f"properties/{field}/description": ANY})
for field in ("status size virtual_size checksum os_hash_algo os_hash_value created_at updated_at self file schema stores "
              "direct_url").split():
    row(f"image: {field} is read-only", "member", "GET /v2/schemas/image", 200, has={f"properties/{field}/readOnly": True})
for field in ("kernel_id ramdisk_id instance_uuid architecture os_distro os_version description cinder_encryption_key_id "
              "cinder_encryption_key_deletion_policy").split():
    row(f"image: {field} is a known property, not a base one", "member", "GET /v2/schemas/image", 200,
        has={f"properties/{field}/is_base": False})
for field in ("disk_format", "container_format"):
    row(f"image: {field} is null or a text, null first", "member", "GET /v2/schemas/image", 200,
        has={f"properties/{field}/type": ["null", "string"], f"properties/{field}/enum/0": None,
             f"properties/{field}/enum": holds("ari")})
row("image: the formats of Nova's snapshots are in the enum", "member", "GET /v2/schemas/image", 200,
    has={"properties/disk_format/enum": holds("qcow2"), "properties/container_format/enum": holds("bare")})
row("image: visibility has four words", "member", "GET /v2/schemas/image", 200,
    has={"properties/visibility/enum": length(4), "properties/visibility/type": "string"})
row("image: names have at most 255 characters", "member", "GET /v2/schemas/image", 200,
    has={"properties/name/maxLength": 255})
row("images", "member", "GET /v2/schemas/images", 200,
    has={"name": "images", "properties/images/type": "array", "properties/images/items/name": "image",
         "properties/first/type": "string", "properties/next/type": "string", "properties/schema/type": "string",
         "links": length(3), "links/0/href": "{first}"})
row("member", "member", "GET /v2/schemas/member", 200,
    has={"name": "member", "properties/status/enum": ["pending", "accepted", "rejected"], "properties/member_id": ANY,
         "properties/image_id/pattern": ANY, "properties/schema/readOnly": True})
row("members", "member", "GET /v2/schemas/members", 200,
    has={"name": "members", "properties/members/type": "array", "links/0/rel": "describedby"})
row("task", "member", "GET /v2/schemas/task", 200,
    has={"name": "task", "properties/type/enum": holds("import"), "properties/status/enum": length(4),
         **{f"properties/{f}": ANY for f in ("id input result owner message image_id request_id user_id expires_at created_at "
                                             "updated_at self schema").split()}})
row("tasks", "member", "GET /v2/schemas/tasks", 200, has={"name": "tasks", "properties/tasks/type": "array"})
for name in "namespace namespaces resource_type resource_types property properties object objects tag tags".split():
    row(f"metadefs/{name}", "member", f"GET /v2/schemas/metadefs/{name}", 200,
        has={"name": like("^" + name[:8]), "properties": ANY})
row("another name is 404", "member", "GET /v2/schemas/other", 404)
row("readers may see schemas", "reader", "GET /v2/schemas/image", 200)

section("2.12 tasks")
for what, who, request, status, body in (
        ("a member", "member", "GET /v2/tasks", 403, None), ("an administrator", "admin", "GET /v2/tasks", 200, None),
        ("a bad marker", "admin", "GET /v2/tasks?marker=x", 400, None), ("a bad type", "admin", "GET /v2/tasks?type=x", 400, None),
        ("a bad status", "admin", "GET /v2/tasks?status=x", 400, None),
        ("an unknown task", "admin", "GET /v2/tasks/<unknown>", 404, None),
        ("a task's deletion", "admin", "DELETE /v2/tasks/<unknown>", 405, None),
        ("a task without input", "admin", "POST /v2/tasks", 400, {"type": "import"}),
        ("a task from a file", "admin", "POST /v2/tasks", 400, {"type": "import", "input": {
            "import_from": "file:///x", "import_from_format": "raw", "image_properties": {}}}),
        ("a member's task", "member", "POST /v2/tasks", 403, {"type": "import", "input": {}})):
    row(f"{what}: {status}", who, request, status, body=body)

section("2.13 cache")
row("the list", "admin", "GET /v2/cache", 200, given="active", has={"cached_images": ANY, "queued_images": ANY})
for who, request, status in (("admin", "PUT /v2/cache/<id>", 202), ("admin", "DELETE /v2/cache/<id>", 204),
                             ("admin", "DELETE /v2/cache", 204), ("admin", "PUT /v2/cache/<unknown>", 404),
                             ("admin", "DELETE /v2/cache/<unknown>", 404), ("admin", "PUT /v2/cache/non-existing-image-id", 404),
                             ("admin", "POST /v2/cache/clean", 200), ("admin", "GET /v2/cache/nodes/<id>", 409)):
    row(f"{who}: {request} is {status}", who, request, status, given="active")
row("prune tells what went", "admin", "POST /v2/cache/prune", 200, has={"total_files_pruned": 0, "total_bytes_pruned": 0})
for given in ("queued", "deactivated"):
    row(f"an image that is {given} is not cached", "admin", "PUT /v2/cache/<id>", 400, given=given)
for target, status in (("cache", 204), ("queue", 204), ("", 204), ("all", 400), ("Cache", 400)):
    row(f"the target {target or 'nothing'} is {status}", "admin", "DELETE /v2/cache", status,
        headers={"x-image-cache-clear-target": target})
for request in ("GET /v2/cache", "DELETE /v2/cache", "PUT /v2/cache/<id>", "DELETE /v2/cache/<id>", "POST /v2/cache/clean",
                "POST /v2/cache/prune", "GET /v2/cache/nodes/<id>"):
    for who in ("member", "reader", "other"):
        row(f"{who}: {request} is 403", who, request, 403, given="active")
row("a request of nobody is 401", "none", "GET /v2/cache", 401)
row("POST of the cache is 405", "admin", "POST /v2/cache", 405, gives={"Allow": "GET, DELETE"})
row("GET of an image in the cache is 405", "admin", "GET /v2/cache/<id>", 405, given="active", gives={"Allow": "DELETE, PUT"})
