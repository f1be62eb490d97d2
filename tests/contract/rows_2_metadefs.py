"""Section 2.14: metadata definitions."""
from contract import ANY, Matcher, TIME, length, like, row, section

NS = "/v2/metadefs/namespaces"
ONE = f"{NS}/<new>"
MAKE = [("admin", f"POST {NS}", {"namespace": "<new>", "visibility": "public"})]
PRIVATE = [("admin", f"POST {NS}", {"namespace": "<new>"})]
FIXED = [("admin", f"POST {NS}", {"namespace": "<new>", "visibility": "public", "protected": True})]
PROPERTY = {"name": "p", "title": "P", "type": "string"}
OBJECT = {"name": "o", "properties": {"p": {"title": "P", "type": "string"}}}
WITH_PROPERTY = MAKE + [("admin", f"POST {ONE}/properties", PROPERTY)]
WITH_OBJECT = MAKE + [("admin", f"POST {ONE}/objects", OBJECT)]
WITH_TAG = MAKE + [("admin", f"POST {ONE}/tags/t")]
WITH_TYPE = WITH_PROPERTY + [("admin", f"POST {ONE}/resource_types", {"name": "OS::Nova::Flavor", "prefix": "hw:"})]

section("2.14 namespaces")
row("the list", "member", f"GET {NS}", 200, has={"namespaces": ANY, "first": like("^/v2/metadefs/namespaces"),
                                                "schema": "/v2/schemas/metadefs/namespaces"})
row("limit 0", "member", f"GET {NS}?limit=0", 200, has={"namespaces": []})
for query, status in (("limit=x", 400), ("limit=-1", 400), ("visibility=x", 400), ("marker=nothing", 404), ("visibility=public", 200),
                      ("visibility=private", 200), ("resource_types=OS::Nova::Flavor", 200), ("sort_key=created_at&sort_dir=desc", 200)):
    row(f"{query} is {status}", "member", f"GET {NS}?{query}", status)
row("made: 201 with Location", "admin", f"POST {NS}", 201, body={"namespace": "<new>"}, gives={"Location": like(f"^https://.*{NS}/")},
    has={"namespace": "<new>", "visibility": "private", "protected": False, "owner": ANY, "created_at": TIME, "updated_at": TIME,
         "self": ONE, "schema": "/v2/schemas/metadefs/namespace"}, lacks=("display_name", "description"))
row("made with all fields", "admin", f"POST {NS}", 201,
    body={"namespace": "<new>", "display_name": "d", "description": "e", "visibility": "public", "protected": True, "owner": "<alpha>"},
    has={"display_name": "d", "description": "e", "visibility": "public", "protected": True, "owner": "<alpha>"})
row("made with everything nested", "admin", f"POST {NS}", 201,
    body={"namespace": "<new>", "properties": {"p": {"title": "P", "type": "string"}}, "objects": [OBJECT], "tags": [{"name": "t"}],
          "resource_type_associations": [{"name": "OS::Nova::Flavor"}]},
    has={"properties/p/title": "P", "objects/0/name": "o", "tags/0/name": "t", "resource_type_associations/0/name": "OS::Nova::Flavor"})
for what, body in (("no name", {}), ("an empty name", {"namespace": ""}), ("a name of 81 characters", {"namespace": "x" * 81}),
                   ("a display name of 81", {"namespace": "<new>", "display_name": "x" * 81}),
                   ("a description of 501", {"namespace": "<new>", "description": "x" * 501}),
                   ("an unknown key", {"namespace": "<new>", "colour": "x"}), ("another visibility", {"namespace": "<new>", "visibility": "shared"}),
                   ("protected as a text", {"namespace": "<new>", "protected": "true"}), ("a list", [])):
    row(f"{what} is 400", "admin", f"POST {NS}", 400, body=body)
for field in ("self", "schema", "created_at", "updated_at"):
    row(f"{field} given is 403", "admin", f"POST {NS}", 403, body={"namespace": "<new>", field: "2020-01-01T00:00:00Z"})
row("a member may not", "member", f"POST {NS}", 403, body={"namespace": "<new>"})
row("the same name is 409", "admin", f"POST {NS}", 409, before=MAKE, body={"namespace": "<new>"})
row("shown", "member", f"GET {ONE}", 200, before=MAKE, has={"namespace": "<new>", "visibility": "public"})
row("a reader sees it", "reader", f"GET {ONE}", 200, before=MAKE)
row("a foreign private one is 404", "member", f"GET {ONE}", 404, before=PRIVATE)
row("unknown is 404", "member", f"GET {NS}/nothing", 404)
row("a resource type prefixes the properties' names", "member", f"GET {ONE}?resource_type=OS::Nova::Flavor", 200, before=WITH_TYPE,
    has={"properties/hw:p": ANY})
row("changed", "admin", f"PUT {ONE}", 200, before=MAKE, body={"namespace": "<new>", "description": "z"}, has={"description": "z"})
row("renamed", "admin", f"PUT {ONE}", 200, before=MAKE, body={"namespace": "<new2>"}, has={"namespace": "<new2>"})
row("changed by a member is 403", "member", f"PUT {ONE}", 403, before=MAKE, body={"namespace": "<new>"})
row("changing an unknown one is 404", "admin", f"PUT {NS}/nothing", 404, body={"namespace": "nothing"})
row("deleted", "admin", f"DELETE {ONE}", 204, before=WITH_TYPE)
row("deleted by a member is 403", "member", f"DELETE {ONE}", 403, before=MAKE)
row("deleting a protected one is 403", "admin", f"DELETE {ONE}", 403, before=FIXED)
row("deleting an unknown one is 404", "admin", f"DELETE {NS}/nothing", 404)
for kind, before in (("properties", WITH_PROPERTY), ("objects", WITH_OBJECT), ("tags", WITH_TAG)):
    row(f"all {kind} removed", "admin", f"DELETE {ONE}/{kind}", 204, before=before)
    row(f"all {kind} of a protected one: 403", "admin", f"DELETE {ONE}/{kind}", 403, before=FIXED)
    row(f"{kind} of an unknown one: 404", "member", f"GET {NS}/nothing/{kind}", 404)

section("2.14 properties, objects, tags, resource types")
row("properties", "member", f"GET {ONE}/properties", 200, before=WITH_PROPERTY, has={"properties/p/title": "P"})
row("a property made", "admin", f"POST {ONE}/properties", 201, before=MAKE, body=PROPERTY, has={"name": "p", "title": "P", "type": "string"})
for what, body in (("no title", {"name": "p", "type": "string"}), ("no type", {"name": "p", "title": "P"}), ("no name", {"title": "P", "type": "string"}),
                   ("another type", {"name": "p", "title": "P", "type": "float"}), ("a name of 81 characters", {**PROPERTY, "name": "x" * 81})):
    row(f"a property with {what} is 400", "admin", f"POST {ONE}/properties", 400, before=MAKE, body=body)
row("a property made by a member is 403", "member", f"POST {ONE}/properties", 403, before=MAKE, body=PROPERTY)
row("the same property is 409", "admin", f"POST {ONE}/properties", 409, before=WITH_PROPERTY, body=PROPERTY)
row("one property", "member", f"GET {ONE}/properties/p", 200, before=WITH_PROPERTY, has={"name": "p"})
row("one property by its prefixed name", "member", f"GET {ONE}/properties/hw:p?resource_type=OS::Nova::Flavor", 200, before=WITH_TYPE)
row("one property without the prefix that it has there is 404", "member", f"GET {ONE}/properties/p?resource_type=OS::Nova::Flavor", 404,
    before=WITH_TYPE)
row("an unknown property is 404", "member", f"GET {ONE}/properties/q", 404, before=MAKE)
row("a property changed", "admin", f"PUT {ONE}/properties/p", 200, before=WITH_PROPERTY, body={**PROPERTY, "title": "Q"}, has={"title": "Q"})
row("a property deleted", "admin", f"DELETE {ONE}/properties/p", 204, before=WITH_PROPERTY)
row("objects", "member", f"GET {ONE}/objects", 200, before=WITH_OBJECT, has={"objects": length(1), "schema": ANY})
row("objects with limit 0 are 400", "member", f"GET {ONE}/objects?limit=0", 400, before=WITH_OBJECT)
row("an object made", "admin", f"POST {ONE}/objects", 201, before=MAKE, body=OBJECT, has={"name": "o", "properties/p/title": "P"})
row("an object without name is 400", "admin", f"POST {ONE}/objects", 400, before=MAKE, body={})
row("the same object is 409", "admin", f"POST {ONE}/objects", 409, before=WITH_OBJECT, body=OBJECT)
row("one object", "member", f"GET {ONE}/objects/o", 200, before=WITH_OBJECT, has={"created_at": TIME, "self": ANY, "schema": ANY})
row("an unknown object is 404", "member", f"GET {ONE}/objects/q", 404, before=MAKE)
row("an object changed", "admin", f"PUT {ONE}/objects/o", 200, before=WITH_OBJECT, body={"name": "o", "description": "d"}, has={"description": "d"})
row("an object deleted", "admin", f"DELETE {ONE}/objects/o", 204, before=WITH_OBJECT)
row("a tag made", "admin", f"POST {ONE}/tags/t", 201, before=MAKE, has={"name": "t", "created_at": TIME})
row("objects that are none are 400, in words", "admin", f"POST {ONE}/objects", 400, before=MAKE, body=[],
    has={"error/message": "The object must be a JSON object."})
row("tags without a list are 400, in words", "admin", f"POST {ONE}/tags", 400, before=MAKE, body={},
    has={"error/message": "'tags' of the set of tags is required."})
row("a tag made with a body is 400", "admin", f"POST {ONE}/tags/t", 400, before=MAKE, body={})
row("the same tag in another letter case is 409", "admin", f"POST {ONE}/tags/T", 409, before=WITH_TAG)
row("several tags replace all", "admin", f"POST {ONE}/tags", 201, before=WITH_TAG, body={"tags": [{"name": "a"}]}, has={"tags": length(1)})
row("several tags appended", "admin", f"POST {ONE}/tags", 201, before=WITH_TAG, body={"tags": [{"name": "a"}]},
    headers={"X-Openstack-Append": "True"})
row("a tag twice in a list is 409", "admin", f"POST {ONE}/tags", 409, before=MAKE, body={"tags": [{"name": "a"}, {"name": "a"}]})
row("tags", "member", f"GET {ONE}/tags", 200, before=WITH_TAG, has={"tags": length(1), "tags/0/name": "t"})
row("one tag", "member", f"GET {ONE}/tags/t", 200, before=WITH_TAG, has={"name": "t"})
row("a tag renamed", "admin", f"PUT {ONE}/tags/t", 200, before=WITH_TAG, body={"name": "u"}, has={"name": "u"})
row("a tag deleted", "admin", f"DELETE {ONE}/tags/t", 204, before=WITH_TAG)
row("an unknown tag is 404", "member", f"GET {ONE}/tags/q", 404, before=MAKE)
for name in ("OS::Glance::Image", "OS::Cinder::Volume", "OS::Nova::Server", "OS::Nova::Aggregate", "OS::Nova::Flavor", "OS::Trove::Instance"):
    row(f"resource type {name} is there", "member", "GET /v2/metadefs/resource_types", 200,
        has={"resource_types": Matcher(f"with {name}", lambda types, name=name: name in [t["name"] for t in types])})
row("a resource type associated", "admin", f"POST {ONE}/resource_types", 201, before=MAKE, body={"name": "OS::Nova::Flavor", "prefix": "hw:"},
    has={"name": "OS::Nova::Flavor", "prefix": "hw:"})
row("an unknown resource type is made", "admin", f"POST {ONE}/resource_types", 201, before=MAKE, body={"name": "My::Type"})
row("associated twice is 409", "admin", f"POST {ONE}/resource_types", 409, before=WITH_TYPE, body={"name": "OS::Nova::Flavor"})
row("the associations", "member", f"GET {ONE}/resource_types", 200, before=WITH_TYPE,
    has={"resource_type_associations/0/name": "OS::Nova::Flavor", "resource_type_associations/0/prefix": "hw:"})
row("an association deleted", "admin", f"DELETE {ONE}/resource_types/OS::Nova::Flavor", 204, before=WITH_TYPE)
row("an association that is not there is 404", "admin", f"DELETE {ONE}/resource_types/None", 404, before=MAKE)
