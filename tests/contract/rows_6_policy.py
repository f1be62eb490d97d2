"""Section 6: who may do what; one row a cell of the matrix. Section 7: the limits that are there by default."""
from contract import OCTETS, PATCH_1, Chunked, length, like, row, section, set_

section("6 policy matrix")
# action: request, given, body, headers, status for
WHO = ("reader", "member", "other (shared)", "other (public)", "other (community)", "admin", "service")
IMAGE = "/v2/images/<id>"
MATRIX = (
    ("show", f"GET {IMAGE}", "active", None, {}, (200, 200, 200, 200, 200, 200, 404)),
    ("download", f"GET {IMAGE}/file", "active", None, {}, (403, 200, 200, 200, 200, 200, 404)),
    ("download when deactivated", f"GET {IMAGE}/file", "deactivated", None, {}, (403, 403, 403, 403, 403, 200, 404)),
    ("upload", f"PUT {IMAGE}/file", "queued", b"x", OCTETS, (403, 204, 403, 403, 403, 204, 404)),
    ("patch", f"PATCH {IMAGE}", "queued", set_("/name", "x"), PATCH_1, (403, 200, 403, 403, 403, 200, 404)),
    ("delete", f"DELETE {IMAGE}", "queued", None, {}, (403, 204, 403, 403, 403, 204, 404)),
    ("tag", f"PUT {IMAGE}/tags/t", "queued", None, {}, (403, 204, 403, 403, 403, 204, 404)),
    ("untag", f"DELETE {IMAGE}/tags/t", "queued tag:t", None, {}, (403, 204, 403, 403, 403, 204, 404)),
    ("publicize", f"PATCH {IMAGE}", "queued", set_("/visibility", "public"), PATCH_1, (403, 403, 403, 403, 403, 200, 404)),
    ("communitize", f"PATCH {IMAGE}", "queued", set_("/visibility", "community"), PATCH_1, (403, 200, 403, 403, 403, 200, 404)),
    ("change the owner", f"PATCH {IMAGE}", "queued", set_("/owner", "<beta>"), PATCH_1, (403, 403, 403, 403, 403, 200, 404)),
    ("deactivate", f"POST {IMAGE}/actions/deactivate", "active", None, {}, (403, 204, 403, 403, 403, 204, 404)),
    ("reactivate", f"POST {IMAGE}/actions/reactivate", "deactivated", None, {}, (403, 204, 403, 403, 403, 204, 404)),
    ("add a member", f"POST {IMAGE}/members", "queued", {"member": "x"}, {}, (403, 200, 403, 403, 403, 200, 404)),
    ("locations", f"GET {IMAGE}/locations", "active", None, {}, (403, 403, 403, 403, 403, 200, 200)),
    ("tasks of the image", f"GET {IMAGE}/tasks", "active", None, {}, (200, 200, 200, 200, 200, 200, 404)),
)
for action, request, given, body, headers, statuses in MATRIX:
    for who, status in zip(WHO, statuses):
        caller, _, how = who.partition(" ")
        state = {"": given, "(shared)": given + " member:beta=accepted", "(public)": given + " public",
                 "(community)": given + " community"}[how]
        if action == "add a member" and caller == "admin":
            status = 200
        row(f"{action}: {who} gets {status}", caller, request, status, given=state, body=body, headers=headers)
for who, status in (("reader", 403), ("member", 201), ("other", 201), ("otherreader", 403), ("admin", 201), ("service", 403),
                    ("chief", 201), ("unscoped", 403)):
    row(f"create: {who} gets {status}", who, "POST /v2/images", status, body={})
for who, status in (("reader", 200), ("member", 200), ("admin", 200), ("service", 403), ("unscoped", 403), ("domain", 403)):
    row(f"list: {who} gets {status}", who, "GET /v2/images?limit=1", status)
for who, status in (("reader", 200), ("member", 200), ("admin", 200), ("service", 200), ("unscoped", 200)):
    for path in ("/v2/schemas/image", "/v2/info/import", "/v2/info/stores", "/v2/info/usage"):
        row(f"{path}: {who} gets {status}", who, f"GET {path}", status)
for who, status in (("reader", 403), ("member", 403), ("service", 200), ("admin", 200), ("chief", 200), ("domain", 403)):
    row(f"stores detail: {who} gets {status}", who, "GET /v2/info/stores/detail", status)
row("role admin on any project is administrator", "chief", "GET /v2/images/<made>", 200,
    before=[("other", "POST /v2/images", {"visibility": "private"}, {}, {"made": "id"})])
row("system scope sees private images", "system", "GET /v2/images/<id>", 200, given="queued private")
row("system scope may delete", "system", "DELETE /v2/images/<id>", 204, given="queued private", then=404)

section("6 a role or user made a moment ago")
LOGIN = {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "<made>", "password": "pw-<new>"}}},
                  "scope": {"project": {"id": "<alpha>"}}}}
MAKE = [("admin", "POST /identity/v3/users", {"user": {"name": "<new>", "password": "pw-<new>"}}, {}, {"made": "user/id"}),
        ("admin", "PUT /identity/v3/projects/<alpha>/users/<made>/roles/<role:reader>"),
        ("none", "POST /identity/v3/auth/tokens", LOGIN, {}, {"token:fresh": "@X-Subject-Token"})]
row("a new user's token is good at every host at once", "fresh", "GET /v2/images?limit=1", 200, before=MAKE)
row("a new role counts at every host at once: create", "fresh", "POST /v2/images", 201, body={},
    before=MAKE + [("admin", "PUT /identity/v3/projects/<alpha>/users/<made>/roles/<role:member>")])
row("a new role counts at every host at once: patch", "fresh", "PATCH /v2/images/<id>", 200, given="queued", body=[], headers=PATCH_1,
    before=MAKE + [("admin", "PUT /identity/v3/projects/<alpha>/users/<made>/roles/<role:member>")])
row("a new role counts at every host at once: administration", "fresh", "GET /v2/info/stores/detail", 200,
    before=MAKE + [("admin", "PUT /identity/v3/projects/<alpha>/users/<made>/roles/<role:admin>")])
row("a role taken away counts at every host at once", "fresh", "PATCH /v2/images/<id>", 403, given="queued", body=[], headers=PATCH_1,
    before=MAKE + [("admin", "PUT /identity/v3/projects/<alpha>/users/<made>/roles/<role:member>"),
                   ("admin", "DELETE /identity/v3/projects/<alpha>/users/<made>/roles/<role:member>")])
row("the last role taken away ends the token", "fresh", "GET /v2/images", 401,
    before=MAKE + [("admin", "DELETE /identity/v3/projects/<alpha>/users/<made>/roles/<role:reader>")])
row("a user disabled is out at every host at once", "fresh", "GET /v2/images", 401,
    before=MAKE + [("admin", "PATCH /identity/v3/users/<made>", {"user": {"enabled": False}})])
row("a user deleted is out at every host at once", "fresh", "GET /v2/images/<unknown>", 401,
    before=MAKE + [("admin", "DELETE /identity/v3/users/<made>")])
row("a password changed by an administrator ends the tokens", "fresh", "GET /v2/images", 401,
    before=MAKE + [("admin", "PATCH /identity/v3/users/<made>", {"user": {"password": "another-<new>"}})])

section("7 Idempotency-Key")
KEY = {"Idempotency-Key": "key-<new>"}
row("the same request again gives the same image", "member", "POST /v2/images", 201, body={"name": "once"}, headers=KEY,
    before=[("member", "POST /v2/images", {"name": "once"}, KEY, {"made": "id"})], has={"id": "<made>"})
row("another request with the key is 422", "member", "POST /v2/images", 422, body={"name": "twice"}, headers=KEY,
    before=[("member", "POST /v2/images", {"name": "once"}, KEY)])
row("another project's key is its own", "other", "POST /v2/images", 201, body={"name": "twice"}, headers=KEY,
    before=[("member", "POST /v2/images", {"name": "once"}, KEY)], has={"name": "twice"})

def again(name, who, request, status, given="queued", body=None, headers=None, first=None, **more):
    """The same request under the same key a second time, through another host: the same answer."""
    fields = {**KEY, **(headers or {})}
    row(f"again: {name}", who, request, status, given=given, body=body, headers=fields,
        before=(first or []) + [(who, request, body, fields)], **more)


IMG = "/v2/images/<id>"
again("a patch", "member", f"PATCH {IMG}", 200, given="queued prop:k=v", body=[{"op": "remove", "path": "/k"}], headers=PATCH_1, lacks=("k",))
again("a delete", "member", f"DELETE {IMG}", 204, then=404)
again("a tag", "member", f"PUT {IMG}/tags/t", 204)
again("a tag's end", "member", f"DELETE {IMG}/tags/t", 204, given="queued tag:t")
again("a member", "member", f"POST {IMG}/members", 200, body={"member": "<beta>"}, has={"member_id": "<beta>", "status": "pending"})
again("a member's end", "member", f"DELETE {IMG}/members/<beta>", 204, given="queued member:beta")
again("a member's answer", "other", f"PUT {IMG}/members/<beta>", 200, given="queued member:beta", body={"status": "accepted"},
      has={"status": "accepted"})
again("a deactivation", "member", f"POST {IMG}/actions/deactivate", 204, given="active", then={"status": "deactivated"})
again("an import", "member", f"POST {IMG}/import", 202, body={"method": {"name": "glance-direct"}},
      first=[("member", f"PUT {IMG}/stage", b"x", OCTETS)])
again("a project", "admin", "POST /identity/v3/projects", 201, given="", body={"project": {"name": "again-<new>"}},
      has={"project/name": "again-<new>"})
again("a user", "admin", "POST /identity/v3/users", 201, given="", body={"user": {"name": "again-<new>"}}, has={"user/name": "again-<new>"})
again("limits", "admin", "PUT /v1/quotas/default", 200, given="", body={"limits": {"image_count_total": -1}})
NS = "/v2/metadefs/namespaces"
NAMED = [("admin", f"POST {NS}", {"namespace": "<new>"})]
TAKEN = {"namespace": "<new>", "description": "d"}
again("a namespace", "admin", f"POST {NS}", 201, given="", body=TAKEN, has={"namespace": "<new>", "description": "d"},
      gives={"Location": like(f"^https://.*{NS}/")})
again("a namespace that makes a resource type", "admin", f"POST {NS}", 201, given="", has={"namespace": "<new>"},
      body={"namespace": "<new>", "resource_type_associations": [{"name": "T-<new>"}]})
again("a namespace of 100 KiB", "admin", f"POST {NS}", 201, given="", has={"namespace": "<new>"},
      body={"namespace": "<new>", "objects": [{"name": f"o{n}", "description": "x" * 400} for n in range(250)]})
again("a namespace's change", "admin", f"PUT {NS}/<new>", 200, given="", body=TAKEN, first=NAMED, has={"description": "d"})
again("a namespace's end", "admin", f"DELETE {NS}/<new>", 204, given="", first=NAMED)
again("a property", "admin", f"POST {NS}/<new>/properties", 201, given="", first=NAMED, has={"name": "p"},
      body={"name": "p", "title": "P", "type": "string"})
again("an object", "admin", f"POST {NS}/<new>/objects", 201, given="", first=NAMED, body={"name": "o"}, has={"name": "o"})
again("an object's end", "admin", f"DELETE {NS}/<new>/objects/o", 204, given="",
      first=NAMED + [("admin", f"POST {NS}/<new>/objects", {"name": "o"})])
again("a metadata tag", "admin", f"POST {NS}/<new>/tags/t", 201, given="", first=NAMED, has={"name": "t"})
again("several metadata tags", "admin", f"POST {NS}/<new>/tags", 201, given="", first=NAMED, body={"tags": [{"name": "a"}]},
      headers={"X-Openstack-Append": "True"}, has={"tags": [{"name": "a"}]})
row("another namespace under the key is 422", "admin", f"POST {NS}", 422, body={"namespace": "<new>", "description": "e"}, headers=KEY,
    before=[("admin", f"POST {NS}", TAKEN, KEY)])
TASK = {"type": "import", "input": {"import_from": "http://<silent>/x", "import_from_format": "raw", "image_properties": {"name": "<new>"}}}
row("again: a task: the same one", "admin", "POST /v2/tasks", 201, body=TASK, headers=KEY, has={"id": "<made>", "image_id": "<image>"},
    before=[("admin", "POST /v2/tasks", TASK, KEY, {"made": "id", "image": "image_id"})], gives={"Location": like("/v2/tasks/<made>"[:10])})
row("again: a task: one image", "admin", "GET /v2/images?name=<new>", 200, has={"images": length(1)},
    before=[("admin", "POST /v2/tasks", TASK, KEY), ("admin", "POST /v2/tasks", TASK, KEY)])
row("another task under the key is 422", "admin", "POST /v2/tasks", 422, headers=KEY, before=[("admin", "POST /v2/tasks", TASK, KEY)],
    body={"type": "import", "input": {**TASK["input"], "import_from_format": "qcow2"}})
again("an upload", "member", f"PUT {IMG}/file", 204, body=b"0123456789", headers=OCTETS, then={"status": "active", "size": 10})
again("an upload in chunks", "member", f"PUT {IMG}/file", 204, body=Chunked(b"0123456789"), headers=OCTETS, then={"status": "active", "size": 10})
again("an upload of nothing", "member", f"PUT {IMG}/file", 204, body=b"", headers=OCTETS, then={"status": "active", "size": 0})
again("staged data", "member", f"PUT {IMG}/stage", 204, body=b"0123456789", headers=OCTETS, then={"status": "uploading", "size": 10})
UPLOADED = [("member", f"PUT {IMG}/file", b"0123456789", {**KEY, **OCTETS})]
row("other data under the key of an upload is 422", "member", f"PUT {IMG}/file", 422, given="queued", body=b"012345678x",
    headers={**KEY, **OCTETS}, before=UPLOADED, then={"status": "active", "checksum": "781e5e245d69b566979b86e28d23f2c7"})
row("an upload without the key is 409 still", "member", f"PUT {IMG}/file", 409, given="queued", body=b"0123456789", headers=OCTETS,
    before=UPLOADED)
row("an upload under another key is 409", "member", f"PUT {IMG}/file", 409, given="queued", body=b"0123456789",
    headers={**OCTETS, "Idempotency-Key": "other-<new>"}, before=UPLOADED)
row("an upload again by another project is 404", "other", f"PUT {IMG}/file", 404, given="queued private", body=b"0123456789",
    headers={**KEY, **OCTETS}, before=UPLOADED)
row("after a refusal of its data the key of an upload takes other data", "member", f"PUT {IMG}/file", 204, given="queued", body=b"ab",
    headers={**KEY, **OCTETS, "x-openstack-image-size": "2"}, then={"status": "active", "size": 2},
    before=[("member", f"PUT {IMG}/file", b"abc", {**KEY, **OCTETS, "x-openstack-image-size": "2"}, {}, 400)])
row("a patch under the key of another is 422", "member", f"PATCH {IMG}", 422, given="queued", body=set_("/name", "b"),
    headers={**KEY, **PATCH_1}, before=[("member", f"PATCH {IMG}", set_("/name", "a"), {**KEY, **PATCH_1})], then={"name": "a"})
row("a change undone in between stays undone", "member", f"PUT {IMG}/tags/t", 204, given="queued", headers=KEY,
    before=[("member", f"PUT {IMG}/tags/t", None, KEY), ("member", f"DELETE {IMG}/tags/t")], then={"tags": []})
row("a key is for one method and path", "member", f"PUT {IMG}/tags/u", 204, given="queued", headers=KEY,
    before=[("member", f"PUT {IMG}/tags/t", None, KEY)], then={"tags": ["t", "u"]})
row("blanks and the order of keys make no other request", "member", "POST /v2/images", 201, body='{ "min_disk": 1,\n "name": "x" }',
    headers=KEY, before=[("member", "POST /v2/images", {"name": "x", "min_disk": 1}, KEY, {"made": "id"})], has={"id": "<made>"})
row("a refusal may be right the next time", "member", f"POST {IMG}/members", 200, given="queued private", body={"member": "<beta>"},
    headers=KEY, before=[("member", f"PATCH {IMG}", set_("/visibility", "shared"), PATCH_1)])
row("an empty key is 400", "member", "POST /v2/images", 400, body={}, headers={"Idempotency-Key": ""})
row("a key of 129 characters is 400", "member", "POST /v2/images", 400, body={}, headers={"Idempotency-Key": "k" * 129})
row("a key of 128 characters", "member", "POST /v2/images", 201, body={}, headers={"Idempotency-Key": "<new>" + "k" * 92})
row("a key with a GET is no harm", "member", "GET /v2/images?limit=1", 200, headers=KEY)

section("7 at the same time")
row("one key, one task, three hosts: one task", "admin", "POST /v2/tasks", [201, 201, 201], body=TASK, headers=KEY,
    together=[TASK, TASK], same="id")
row("one key, one namespace, three hosts: one namespace", "admin", f"POST {NS}", [201, 201, 201], body=TAKEN, headers=KEY,
    together=[TAKEN, TAKEN], same="created_at")
ID = {"id": "<new>"}
row("one key, one request, three hosts: one image", "member", "POST /v2/images", [201, 201, 201], body={"name": "a"}, headers=KEY,
    together=[{"name": "a"}, {"name": "a"}], same="id")
row("one key, two requests, two hosts: one of them is 422", "member", "POST /v2/images", [201, 422], body={"name": "a"},
    headers=KEY, together=[{"name": "b"}])
row("one id, three hosts: one image", "member", "POST /v2/images", [201, 409, 409], body=ID, together=[ID, ID])
row("one member, three hosts: one entry", "member", "POST /v2/images/<id>/members", [200, 409, 409], given="queued",
    body={"member": "<beta>"}, together=[{"member": "<beta>"}, {"member": "<beta>"}])
row("one image, three uploads: one of them", "member", "PUT /v2/images/<id>/file", [204, 409, 409], given="queued", body=b"a",
    headers=OCTETS, together=[b"b", b"c"], then={"status": "active", "size": 1})
row("one image, three deletes: one of them", "member", "DELETE /v2/images/<id>", [204, 404, 404], given="active",
    together=[None, None], then=404)
row("three patches of different fields: all of them", "member", "PATCH /v2/images/<id>", [200, 200, 200], given="queued",
    body=set_("/name", "n"), headers=PATCH_1, together=[set_("/min_disk", 3), set_("/min_ram", 4)],
    then={"name": "n", "min_disk": 3, "min_ram": 4})
row("three patches of different properties: all of them", "member", "PATCH /v2/images/<id>", [200, 200, 200], given="queued",
    body=[{"op": "add", "path": "/a", "value": "1"}], headers=PATCH_1,
    together=[[{"op": "add", "path": "/b", "value": "2"}], [{"op": "add", "path": "/c", "value": "3"}]],
    then={"a": "1", "b": "2", "c": "3"})
row("a property of which there is one, removed three times: once", "member", "PATCH /v2/images/<id>", [200, 409, 409],
    given="queued prop:k=v", body=[{"op": "remove", "path": "/k"}], headers=PATCH_1,
    together=[[{"op": "remove", "path": "/k"}], [{"op": "remove", "path": "/k"}]])

section("7 limits")
row("a path of 255-character parts is no failure", "member", "GET /v2/images/" + "x" * 2000, 404)
row("a query of 40 KiB is served", "member", "GET /v2/images?limit=1&name=" + "x" * 40000, 200, names=[])
row("512 filters are served", "member", "GET /v2/images?limit=1&" + "&".join(f"p{n}=v" for n in range(512)), 200, names=[])
row("513 filters are 400", "member", "GET /v2/images?limit=1&" + "&".join(f"p{n}=v" for n in range(513)), 400,
    has={"error/message": like("up to 512")})
row("no project quota by default", "member", "GET /v2/info/usage", 200, has={"usage": {}})

section("7 quotas")
MIB = 1024 * 1024


def quota(limits, *more):
    """A project of the row's own with these limits, and `fresh` with the role member there."""
    return [("admin", "POST /identity/v3/projects", {"project": {"name": "q-<new>"}}, {}, {"own": "project/id"}),
            ("admin", "POST /identity/v3/users", {"user": {"name": "<new>", "password": "pw-<new>"}}, {}, {"made": "user/id"}),
            ("admin", "PUT /identity/v3/projects/<own>/users/<made>/roles/<role:member>"),
            ("admin", "PUT /v1/quotas/<own>", {"limits": limits}),
            ("none", "POST /identity/v3/auth/tokens",
             {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "<made>", "password": "pw-<new>"}}},
                       "scope": {"project": {"id": "<own>"}}}}, {}, {"token:fresh": "@X-Subject-Token"}), *more]


def made(name="one"):
    return ("fresh", "POST /v2/images", {"name": name, "disk_format": "raw", "container_format": "bare"}, {}, {name: "id"})


def filled(data, name="one"):
    return ("fresh", f"PUT /v2/images/<{name}>/file", data, OCTETS)


FILE = "PUT /v2/images/<one>/file"
row("as many images as image_count_total says", "fresh", "POST /v2/images", 201, body={},
    before=quota({"image_count_total": 2}, made("one")))
row("one more image is 413", "fresh", "POST /v2/images", 413, body={}, before=quota({"image_count_total": 1}, made("one")),
    has={"error/message": like("image_count_total")})
row("a deleted image makes room", "fresh", "POST /v2/images", 201, body={},
    before=quota({"image_count_total": 1}, made("one"), ("fresh", "DELETE /v2/images/<one>")))
row("no image may be made with a limit of 0", "fresh", "POST /v2/images", 413, body={}, before=quota({"image_count_total": 0}))
row("an administrator who gives an image away is held to the receiver's limit", "admin", "PATCH /v2/images/<id>", 413, given="queued",
    body=set_("/owner", "<own>"), headers=PATCH_1, before=quota({"image_count_total": 0}))
row("data up to image_size_total", "fresh", FILE, 204, body=b"x" * MIB, headers=OCTETS,
    before=quota({"image_size_total": 1}, made()))
row("one byte over image_size_total is 413", "fresh", FILE, 413, body=b"x" * (MIB + 1), headers=OCTETS,
    before=quota({"image_size_total": 1}, made()))
row("chunked data over image_size_total is 413", "fresh", FILE, 413, body=Chunked(b"x" * (MIB + 1)), headers=OCTETS,
    before=quota({"image_size_total": 1}, made()))
row("chunked data up to image_size_total", "fresh", FILE, 204, body=Chunked(b"x" * MIB), headers=OCTETS,
    before=quota({"image_size_total": 1}, made()))
row("a size header over image_size_total is 413", "fresh", FILE, 413, body=Chunked(b"x"),
    headers={**OCTETS, "x-openstack-image-size": str(2 * MIB)}, before=quota({"image_size_total": 1}, made()))
row("stored data counts", "fresh", "PUT /v2/images/<two>/file", 413, body=b"xx", headers=OCTETS,
    before=quota({"user_storage_quota": 10}, made("one"), filled(b"123456789"), made("two")))
row("data up to user_storage_quota", "fresh", "PUT /v2/images/<two>/file", 204, body=b"x", headers=OCTETS,
    before=quota({"user_storage_quota": 10}, made("one"), filled(b"123456789"), made("two")))
row("data of a deleted image does not count", "fresh", "PUT /v2/images/<two>/file", 204, body=b"xx", headers=OCTETS,
    before=quota({"user_storage_quota": 10}, made("one"), filled(b"123456789"), made("two"), ("fresh", "DELETE /v2/images/<one>")))
row("a refused upload leaves the image queued and charges nothing", "fresh", "GET /v2/info/usage", 200,
    before=quota({"image_size_total": 0, "image_count_uploading": 5}, made(),
                 ("fresh", FILE, b"x", OCTETS, {}, 413)),
    has={"usage/image_size_total": {"limit": 0, "usage": 0}, "usage/image_count_uploading": {"limit": 5, "usage": 0}})
row("staged data over image_stage_total is 413", "fresh", "PUT /v2/images/<one>/stage", 413, body=b"x" * (MIB + 1), headers=OCTETS,
    before=quota({"image_stage_total": 1}, made()))
row("staged data counts apart from stored", "fresh", "PUT /v2/images/<one>/stage", 204, body=b"x", headers=OCTETS,
    before=quota({"image_size_total": 0}, made()))
row("an import of staged data over image_size_total is 413", "fresh", "POST /v2/images/<one>/import", 413,
    body={"method": {"name": "glance-direct"}},
    before=quota({"image_size_total": 0}, made(), ("fresh", "PUT /v2/images/<one>/stage", b"x", OCTETS)))
row("no upload may run with image_count_uploading 0", "fresh", FILE, 413, body=b"x", headers=OCTETS,
    before=quota({"image_count_uploading": 0}, made()))
row("staged images count as uploading", "fresh", "PUT /v2/images/<two>/stage", 413, body=b"x", headers=OCTETS,
    before=quota({"image_count_uploading": 1}, made("one"), ("fresh", "PUT /v2/images/<one>/stage", b"x", OCTETS), made("two")))
row("usage: limits and what is used", "fresh", "GET /v2/info/usage", 200,
    before=quota({"image_size_total": 5, "image_count_total": 7}, made(), filled(b"x" * (MIB + 1))),
    has={"usage/image_size_total": {"limit": 5, "usage": 2}, "usage/image_count_total": {"limit": 7, "usage": 1},
         "usage/image_stage_total": {"limit": -1, "usage": 0}, "usage/image_count_uploading": {"limit": -1, "usage": 0}})
row("a limit of -1 is none", "fresh", "POST /v2/images", 201, body={}, before=quota({"image_count_total": -1}))
row("limits are the administrator's to see", "member", "GET /v1/quotas", 403)
row("limits are the administrator's to set", "member", "PUT /v1/quotas/<alpha>", 403, body={"limits": {"image_count_total": 1}})
row("the limits of a project", "admin", "GET /v1/quotas/<own>", 200,
    before=quota({"image_count_total": 7}, made(), filled(b"12345")),
    has={"quota/own": {"image_count_total": 7}, "quota/limits/image_count_total": 7, "quota/limits/image_size_total": -1,
         "quota/usage": {"images": 1, "size_bytes": 5, "stage_bytes": 0, "uploading": 0}})
row("a project may be named", "admin", "GET /v1/quotas/q-<new>", 200, before=quota({"image_count_total": 7}),
    has={"quota/project_id": "<own>"})
row("a limit of null is the default's again", "admin", "PUT /v1/quotas/<own>", 200, body={"limits": {"image_count_total": None}},
    before=quota({"image_count_total": 7, "image_size_total": 1}), has={"quota/own": {"image_size_total": 1}})
row("limits are taken away", "admin", "DELETE /v1/quotas/<own>", 204, before=quota({"image_count_total": 7}))
row("limits that are not there can not be taken away", "admin", "DELETE /v1/quotas/<alpha>", 404)
row("the defaults are shown", "admin", "GET /v1/quotas/default", 200, has={"quota/limits/image_count_total": -1})
row("an unknown limit is 400", "admin", "PUT /v1/quotas/<alpha>", 400, body={"limits": {"images": 1}})
row("a limit that is no number is 400", "admin", "PUT /v1/quotas/<alpha>", 400, body={"limits": {"image_count_total": "1"}})
row("a limit below -1 is 400", "admin", "PUT /v1/quotas/<alpha>", 400, body={"limits": {"image_count_total": -2}})
row("limits of an unknown project are 404", "admin", "GET /v1/quotas/nobody-<new>", 404)
row("five creates at the same time with room for two: two", "fresh", "POST /v2/images", [201, 201, 413, 413, 413], body={},
    together=[{}, {}, {}, {}], before=quota({"image_count_total": 2}))
