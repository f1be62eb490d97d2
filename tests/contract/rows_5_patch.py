"""Section 5: PATCH, in both envelopes."""
from contract import PATCH_0, PATCH_1, OCTETS, TIME, add, holds, length, like, one_of, patch, remove, row, section, set_

section("5.1 envelope")
ACCEPT = ("application/openstack-images-v2.0-json-patch, application/openstack-images-v2.1-json-patch")
for media in ("application/json", "application/json-patch+json", "text/plain", "",
              "application/openstack-images-v2.2-json-patch", "application/octet-stream"):
    patch(f"Content-Type {media!r} is 415", set_("/name", "x"), 415, headers={"Content-Type": media}, gives={"Accept-Patch": ACCEPT})
row("no Content-Type is 415", "member", "PATCH /v2/images/<id>", 415, given="queued", body=[], gives={"Accept-Patch": ACCEPT})
patch("a charset is fine", set_("/name", "x"), 200, has={"name": "x"},
      headers={"Content-Type": "application/openstack-images-v2.1-json-patch; charset=utf-8"})
patch("other letter case is fine", set_("/name", "x"), 200, has={"name": "x"},
      headers={"Content-Type": "Application/OpenStack-Images-v2.1-JSON-patch"})
patch("the media type is judged before the image", [], 415, given="deleted", headers={"Content-Type": "application/json"})
patch("an empty list changes nothing", [], 200, has={"name": "a row's image"})
patch("an empty list changes nothing in v2.0", [], 200, headers=PATCH_0, has={"name": "a row's image"})
patch("all or nothing: one bad operation and nothing changes", set_("/name", "x") + set_("/min_disk", -1), 400,
      then={"name": "a row's image", "min_disk": 0})
patch("all or nothing: one forbidden operation and nothing changes", set_("/name", "x") + set_("/status", "active"), 403,
      then={"name": "a row's image"})
patch("all or nothing: one conflict and nothing changes", set_("/name", "x") + remove("/nothing"), 409,
      then={"name": "a row's image"})
patch("later operations see earlier ones", add("/a", "1") + set_("/a", "2") + add("/b", "3") + remove("/b"), 200,
      has={"a": "2"}, lacks=("b",))
patch("a property added and removed in one patch is gone", add("/a", "1") + remove("/a"), 200, lacks=("a",))
BODIES = (("no body", None), ("no JSON", "[{"), ("an object", {}), ("a text", '"x"'), ("null", "null"), ("a number", "1"))
for what, body in BODIES:
    patch(f"{what} is 400", body, 400)
    patch(f"{what} is 400 in v2.0", body, 400, headers=PATCH_0)
V1_BAD = (
    ("an element that is no object", ["x"]), ("an element that is a list", [[]]), ("an element that is null", [None]),
    ("no op", [{"path": "/name", "value": "x"}]), ("op test", [{"op": "test", "path": "/name", "value": "x"}]),
    ("op move", [{"op": "move", "from": "/a", "path": "/b"}]), ("op copy", [{"op": "copy", "from": "/a", "path": "/b"}]),
    ("an unknown op", [{"op": "set", "path": "/name", "value": "x"}]), ("an op in capitals", [{"op": "ADD", "path": "/a", "value": "x"}]),
    ("an op that is no text", [{"op": 1, "path": "/a", "value": "x"}]),
    ("no path", [{"op": "add", "value": "x"}]), ("a path that is no text", [{"op": "add", "path": 1, "value": "x"}]),
    ("a path without slash", add("name", "x")), ("an empty path", add("", "x")), ("a path with two slashes", add("//name", "x")),
    ("a path that ends in a slash", add("/name/", "x")), ("a path of two levels", add("/a/b", "x")),
    ("a path of three levels", add("/a/b/c", "x")), ("a tilde alone", add("/a~", "x")), ("a tilde before another letter", add("/a~2b", "x")),
    ("no value for add", [{"op": "add", "path": "/a"}]), ("no value for replace", [{"op": "replace", "path": "/name"}]),
    ("an element without anything", [{}]),
)
for what, body in V1_BAD:
    patch(f"{what} is 400 in v2.1", body, 400, then={"name": "a row's image"})
V0_BAD = (
    ("an element that is no object", ["x"]), ("no operation", [{"value": "x"}]), ("two operations", [{"add": "/a", "replace": "/b", "value": "x"}]),
    ("a path without slash", [{"add": "a", "value": "x"}]), ("an empty path", [{"add": "", "value": "x"}]),
    ("two levels", [{"add": "/a/b", "value": "x"}]), ("a path that ends in a slash", [{"replace": "/name/", "value": "x"}]),
    ("a bad tilde", [{"add": "/a~3", "value": "x"}]), ("no value", [{"add": "/a"}]), ("a path that is no text", [{"add": 1, "value": "x"}]),
    ("op test", [{"test": "/name", "value": "x"}]), ("the v2.1 form", add("/a", "x")),
)
for what, body in V0_BAD:
    patch(f"{what} is 400 in v2.0", body, 400, headers=PATCH_0, then={"name": "a row's image"})
patch("~1 is a slash", add("/a~1b", "x"), 200, has={"name": "a row's image"}, then={"status": "queued"})
patch("~0 is a tilde", add("/a~0b", "x"), 200, has={"a~b": "x"})
patch("blanks around a path part are stripped", add("/ a ", "x"), 200, has={"a": "x"})
patch("an unknown image is 404", set_("/name", "x"), 404, given="deleted")
patch("an invisible image is 404", set_("/name", "x"), 404, who="other", given="queued private")
patch("a member project is 403", set_("/name", "x"), 403, who="other", given="queued member:beta=accepted")
patch("others on a community image are 403", set_("/name", "x"), 403, who="other", given="queued community")
patch("others on a public image are 403", set_("/name", "x"), 403, who="other", given="queued public")
patch("a reader is 403", set_("/name", "x"), 403, who="reader", then={"name": "a row's image"})
patch("an administrator may", set_("/name", "x"), 200, who="admin", given="queued private", has={"name": "x"})
patch("an image without owner is for administrators", set_("/name", "x"), 403, given="queued ownerless")
patch("an image without owner by an administrator", set_("/name", "x"), 200, who="admin", given="queued ownerless")
patch("a body over 1 MiB is 413", set_("/a", "x" * (1 << 20)), 413)
row("an empty patch keeps updated_at", "member", "PATCH /v2/images/<id>", 200, given="active", body=[], headers=PATCH_1,
    before=[("member", "GET /v2/images/<id>", None, {}, {"was": "updated_at"})], has={"updated_at": "<was>"})
row("a change that changes nothing is 200", "member", "PATCH /v2/images/<id>", 200, given="queued",
    body=set_("/name", "a row's image"), headers=PATCH_1, has={"name": "a row's image"})

section("5.2 fields")
FIELDS = (("name", "new"), ("name", None), ("name", ""), ("min_disk", 7), ("min_ram", 7), ("visibility", "private"),
          ("visibility", "community"), ("protected", True), ("os_hidden", True), ("tags", ["z", "y"]), ("tags", []))
for field, value in FIELDS:
    shown = sorted(value) if isinstance(value, list) else value
    for status in ("queued", "active", "deactivated"):
        patch(f"replace /{field} {value!r} of a {status} image", set_(f"/{field}", value), 200, given=status, has={field: shown})
    patch(f"add /{field} {value!r} is replace", add(f"/{field}", value), 200, has={field: shown})
    patch(f"replace /{field} {value!r} in v2.0", [{"replace": f"/{field}", "value": value}], 200, headers=PATCH_0, has={field: shown})
    patch(f"add /{field} {value!r} in v2.0 is replace", [{"add": f"/{field}", "value": value}], 200, headers=PATCH_0, has={field: shown})
for field in ("name", "min_disk", "min_ram", "visibility", "protected", "os_hidden", "tags", "disk_format", "container_format", "owner"):
    patch(f"remove /{field} is 403", remove(f"/{field}"), 403, has={"error/message": like("may not be removed|authorized")})
    patch(f"remove /{field} is 403 in v2.0", [{"remove": f"/{field}"}], 403, headers=PATCH_0)
    patch(f"remove /{field} is 403 for administrators", remove(f"/{field}"), 403, who="admin")
BAD = {"name": (1, "x" * 256, [], True), "min_disk": (-1, "1", 1.5, None, True, 2147483648), "min_ram": (-1, "1", None, True),
       "visibility": (None, "Public", "", 1), "protected": ("true", 1, None), "os_hidden": ("true", 1, None),
       "tags": ("a", None, 1, [1], ["x" * 256], {}), "disk_format": ("bogus", "", 1, "RAW"), "container_format": ("bogus", 1),
       "kernel_id": ("x", 1)}
for field, values in BAD.items():
    for value in values:
        patch(f"replace /{field} {str(value)[:20]!r} ({type(value).__name__}) is 400",
              set_(f"/{field}", value) if field != "kernel_id" else add("/kernel_id", value), 400)
for headers, form in ((PATCH_1, lambda *op: dict(zip(("op", "path", "value"), op))),
                      (PATCH_0, lambda *op: dict(zip((op[0], "value"), op[1:])))):
    old = " in v2.0" if headers is PATCH_0 else ""
    for what, ops, status, tags in (
            ("a tag behind the last", [("add", "/tags/-", "x")], 200, ["a", "b", "c", "x"]),
            ("a tag before the first", [("add", "/tags/0", "x")], 200, ["a", "b", "c", "x"]),
            ("another tag in the place of one", [("replace", "/tags/1", "x")], 200, ["a", "c", "x"]),
            ("one tag less", [("remove", "/tags/0")], 200, ["b", "c"]),
            ("openstacksdk's way from a b c to a z", [("replace", "/tags/1", "z"), ("remove", "/tags/2")], 200, ["a", "z"]),
            ("a tag that is there already", [("add", "/tags/-", "a")], 200, ["a", "b", "c"]),
            ("a place behind the end", [("remove", "/tags/3")], 409, ["a", "b", "c"]),
            ("one of two at a place behind the end", [("remove", "/tags/0"), ("remove", "/tags/2")], 409, ["a", "b", "c"]),
            ("a tag that is no text", [("replace", "/tags/0", 1)], 400, ["a", "b", "c"]),
            ("a tag of 256 characters", [("replace", "/tags/0", "x" * 256)], 400, ["a", "b", "c"]),
            ("a place that is no number", [("remove", "/tags/a")], 400, ["a", "b", "c"]),
            ("a place below a tag", [("remove", "/tags/0/0")], 400, ["a", "b", "c"])):
        patch(f"tags by place: {what}{old}", [form(*op) for op in ops], status, headers=headers, given="queued tag:c tag:a tag:b",
              then={"tags": tags})
for what, source, target, status, tags in (("openstacksdk's way from a b c to b c", "/tags/1", "/tags/0", 200, ["b", "c"]),
                                           ("from a place behind the end", "/tags/3", "/tags/0", 409, ["a", "b", "c"]),
                                           ("from a field", "/name", "/tags/0", 400, ["a", "b", "c"]),
                                           ("to a property", "/tags/0", "/p", 400, ["a", "b", "c"])):
    patch(f"tags by place: a move, {what}", [{"op": "move", "from": source, "path": target}, *remove("/tags/1")], status,
          given="queued tag:c tag:a tag:b", then={"tags": tags})
patch("tags by place: the 129th", add("/tags/-", "x"), 413, then={"tags": length(128)},
      before=[("member", "PATCH /v2/images/<id>", set_("/tags", [f"t{n}" for n in range(128)]), PATCH_1)])
patch("tags with doubles", set_("/tags", ["a", "a"]), 200, has={"tags": ["a"]})
patch("128 tags", set_("/tags", [f"t{n}" for n in range(128)]), 200, has={"tags": length(128)})
patch("129 tags are 413", set_("/tags", [f"t{n}" for n in range(129)]), 413, then={"tags": []})
for field, value in (("disk_format", "iso"), ("container_format", "ovf"), ("disk_format", None), ("container_format", None)):
    patch(f"/{field} {value} of a queued image", set_(f"/{field}", value), 200, has={field: value})
    patch(f"/{field} {value} of a queued image, by add", add(f"/{field}", value), 200, has={field: value})
for field, value in (("disk_format", "iso"), ("disk_format", "raw"), ("container_format", "ovf"), ("container_format", "bare")):
    for who in ("member", "admin"):
        for status in ("active", "deactivated"):
            patch(f"/{field} {value} of an image that is {status}, by {who}, is 403", set_(f"/{field}", value), 403, who=who, given=status,
                  has={"error/message": f"Attribute {field} can be only replaced for a queued image."})
for value in ("<beta>", "<alpha>", None):
    patch(f"/owner {value} by a member is 403", set_("/owner", value), 403)
    patch(f"/owner {value} by a member is 403, by add", add("/owner", value), 403)
    patch(f"/owner {value} by an administrator", set_("/owner", value), 200, who="admin", has={"owner": value})
patch("/owner by add, by an administrator", add("/owner", "<beta>"), 200, who="admin", has={"owner": "<beta>"})
READ_ONLY = {"id": "<unknown>", "status": "active", "size": 1, "virtual_size": 1, "checksum": "a" * 32, "os_hash_algo": "sha512",
             "os_hash_value": "a" * 128, "created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z", "self": "x",
             "file": "x", "schema": "x", "direct_url": "x", "stores": "x"}
RESERVED = {"location": "x", "deleted": "x", "deleted_at": "x", "os_glance_import_task": "x", "os_glance": "x"}
for field, value in {**READ_ONLY, **RESERVED}.items():
    for verb, ops in (("replace", set_(f"/{field}", value)), ("add", add(f"/{field}", value)), ("remove", remove(f"/{field}"))):
        patch(f"{verb} /{field} is 403", ops, 403, then={"status": "queued"})
    patch(f"replace /{field} is 403 for administrators", set_(f"/{field}", value), 403, who="admin")
    patch(f"replace /{field} is 403 in v2.0", [{"replace": f"/{field}", "value": value}], 403, headers=PATCH_0)
patch("v2.1: adding a property", add("/k", "v"), 200, has={"k": "v"})
patch("v2.1: adding one that exists replaces it", add("/k", "w"), 200, given="queued prop:k=v", has={"k": "w"})
patch("v2.1: replacing one", set_("/k", "w"), 200, given="queued prop:k=v", has={"k": "w"})
patch("v2.1: replacing one that is not there is 409", set_("/k", "w"), 409, has={"error/message": "Property k does not exist."})
patch("v2.1: removing one", remove("/k"), 200, given="queued prop:k=v", lacks=("k",))
patch("v2.1: removing one that is not there is 409", remove("/k"), 409, has={"error/message": "Property k does not exist."})
patch("v2.0: adding a property", [{"add": "/k", "value": "v"}], 200, headers=PATCH_0, has={"k": "v"})
patch("v2.0: adding one that exists is 409", [{"add": "/k", "value": "w"}], 409, given="queued prop:k=v", headers=PATCH_0,
      has={"error/message": "Property k already present."}, then={"k": "v"})
patch("v2.0: replacing one", [{"replace": "/k", "value": "w"}], 200, given="queued prop:k=v", headers=PATCH_0, has={"k": "w"})
patch("v2.0: replacing one that is not there is 409", [{"replace": "/k", "value": "w"}], 409, headers=PATCH_0)
patch("v2.0: removing one", [{"remove": "/k"}], 200, given="queued prop:k=v", headers=PATCH_0, lacks=("k",))
patch("v2.0: removing one that is not there is 409", [{"remove": "/k"}], 409, headers=PATCH_0)
for value in (1, True, None, [], {}, 1.5):
    patch(f"a property's value {value!r} is 400", add("/k", value), 400)
    patch(f"a property's value {value!r} is 400 for replace", set_("/k", value), 400, given="queued prop:k=v", then={"k": "v"})
patch("an empty value", add("/k", ""), 200, has={"k": ""})
patch("a value of 65,535 bytes", add("/k", "v" * 65535), 200)
patch("a value of 65,536 bytes is 400", add("/k", "v" * 65536), 400)
patch("a key of 255 characters", add("/" + "k" * 255, "v"), 200, has={"k" * 255: "v"})
patch("a key of 256 characters is 400", add("/" + "k" * 256, "v"), 400)
for key in ("base", "member", "delete", "extra_properties", "properties", "image_id", "is_public", "metadata", "links"):
    patch(f"/{key} is a plain property", add(f"/{key}", "x"), 200, has={key: "x"})
patch("/kernel_id null", add("/kernel_id", None), 200, has={"kernel_id": None})
patch("/kernel_id with a UUID", add("/kernel_id", "<unknown>"), 200, has={"kernel_id": "<unknown>"})
patch("public by a member is 403", set_("/visibility", "public"), 403, then={"visibility": "shared"},
      has={"error/message": "You are not authorized to complete publicize_image action."})
patch("public by an administrator", set_("/visibility", "public"), 200, who="admin", has={"visibility": "public"})
FULL = ("member", "PATCH /v2/images/<id>", [op for n in range(128) for op in add(f"/k{n}", "v")], PATCH_1)
patch("128 properties", FULL[2], 200)
patch("the 129th is 413", add("/one", "v"), 413, before=[FULL])
patch("at the limit one may be replaced", set_("/k0", "w"), 200, before=[FULL], has={"k0": "w"})
patch("at the limit one may be added and one removed", add("/one", "v") + remove("/k0"), 200, before=[FULL], has={"one": "v"}, lacks=("k0",))
patch("129 at once are 413", [op for n in range(129) for op in add(f"/k{n}", "v")], 413)
row("updated_at follows a change, created_at does not", "member", "PATCH /v2/images/<id>", 200, given="queued", body=add("/k", "v"),
    headers=PATCH_1, before=[("member", "GET /v2/images/<id>", None, {}, {"made": "created_at"})],
    has={"created_at": "<made>", "updated_at": TIME})

section("5.3 what clients send")
patch("openstack image set", [{"op": "add", "path": "/name", "value": "n"}, {"op": "add", "path": "/protected", "value": False},
                              {"op": "add", "path": "/os_hidden", "value": True}, {"op": "add", "path": "/tags", "value": ["t"]},
                              {"op": "add", "path": "/visibility", "value": "private"}, {"op": "add", "path": "/p", "value": "v"}],
      200, has={"name": "n", "protected": False, "os_hidden": True, "tags": ["t"], "visibility": "private", "p": "v"})
patch("openstack image unset", remove("/p") + remove("/q"), 200, given="queued prop:p=1 prop:q=2", lacks=("p", "q"))
patch("glanceclient: replace /name and always /tags", set_("/name", "n") + set_("/tags", []), 200, has={"name": "n", "tags": []})
patch("Packer", set_("/min_disk", 10) + set_("/tags", ["a"]) + set_("/visibility", "private"), 200, has={"min_disk": 10})
patch("gophercloud: replace /checksum is 403", set_("/checksum", "x"), 403)
patch("Tempest: v2.0", [{"replace": "/name", "value": "n"}, {"add": "/x", "value": "1"}, {"replace": "/x", "value": "2"}], 200,
      headers=PATCH_0, has={"name": "n", "x": "2"})

section("5.4 locations")
ENTRY = {"url": "http://h/x", "metadata": {}}
INVISIBLE = {"error/message": like("locations if locations are invisible")}
patch("add /locations/- is 403", add("/locations/-", ENTRY), 403, has=INVISIBLE)
patch("add /locations/0 is 403", add("/locations/0", ENTRY), 403)
patch("replace /locations is 403", set_("/locations", []), 403, has=INVISIBLE)
patch("replace /locations with an entry is 403", set_("/locations", [ENTRY]), 403)
patch("add /locations is 400", add("/locations", [ENTRY]), 400)
patch("remove /locations is 400", remove("/locations"), 400)
patch("an entry without url is 400", add("/locations/-", {"metadata": {}}), 400)
patch("an entry without metadata is 400", add("/locations/-", {"url": "x"}), 400)
patch("remove /locations/0 by a member is 403", remove("/locations/0"), 403)
