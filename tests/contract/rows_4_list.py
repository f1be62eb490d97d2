"""Section 4: listing. The rows look at the shelf (world.py), through the tag `shelf` that every image of it has; the librarian
owns apple, banana (community), cherry (protected), date, elder (hidden), "fig, dried" and "grape:1"; poster is public; beta
lends lent (accepted), offered (pending) and refused (rejected), and has common (community) and secret (private)."""
from contract import ANY, length, row, section

ALL = ["apple", "banana", "cherry", "date", "fig, dried", "grape:1", "lent", "poster"]
SHELF = "GET /v2/images?tag=shelf"
BY_NAME = SHELF + "&sort=name:asc"

section("4.1 reply and paging")
row("the reply's parts", "librarian", SHELF, 200,
    has={"images": length(8), "first": "/v2/images?tag=shelf", "schema": "/v2/schemas/images"}, lacks=("next",))
row("an empty list", "librarian", "GET /v2/images?tag=nothing", 200, names=[], lacks=("next",),
    has={"first": "/v2/images?tag=nothing"})
row("without a query", "librarian", "GET /v2/images", 200, has={"first": "/v2/images", "images/0/schema": "/v2/schemas/image"})
row("limit", "librarian", BY_NAME + "&limit=3", 200, names=ALL[:3],
    has={"next": "/v2/images?tag=shelf&sort=name%3Aasc&limit=3&marker=<image:cherry>",
         "first": "/v2/images?tag=shelf&sort=name%3Aasc&limit=3"})
row("limit 1", "librarian", BY_NAME + "&limit=1", 200, names=ALL[:1], has={"next": ANY})
row("limit 0", "librarian", BY_NAME + "&limit=0", 200, names=[])
row("limit over the maximum is cut silently", "librarian", BY_NAME + "&limit=100000", 200, names=ALL)
row("limit of a number that no machine holds is cut, or 400", "librarian", BY_NAME + "&limit=9" + "9" * 30, (200, 400))
for value in ("-1", "abc", "", "1.5", "0x10", "+1x"):
    row(f"limit {value!r} is 400", "librarian", BY_NAME + f"&limit={value}", 400)
row("marker", "librarian", BY_NAME + "&marker=<image:cherry>", 200, names=ALL[3:], lacks=("next",))
row("marker and limit", "librarian", BY_NAME + "&marker=<image:apple>&limit=2", 200, names=ALL[1:3], has={"next": ANY})
row("the last page", "librarian", BY_NAME + "&marker=<image:lent>&limit=5", 200, names=["poster"])
row("after the last", "librarian", BY_NAME + "&marker=<image:poster>", 200, names=[])
row("first leaves the marker out", "librarian", BY_NAME + "&marker=<image:cherry>&limit=2", 200,
    has={"first": "/v2/images?tag=shelf&sort=name%3Aasc&limit=2"})
row("a marker that the filters leave out still counts", "librarian",
    "GET /v2/images?tag=sweet&sort=name:asc&marker=<image:cherry>", 200, names=["date"])
row("an unknown marker is 400", "librarian", BY_NAME + "&marker=<unknown>", 400)
row("a deleted marker is 400", "librarian", BY_NAME + "&marker=<image:gone>", 400)
row("an empty marker is 400", "librarian", BY_NAME + "&marker=", 400)
row("a marker that is no id is 400", "librarian", BY_NAME + "&marker=apple", 400)
row("an invisible marker is 400", "librarian", BY_NAME + "&marker=<image:secret>", 400)
row("limit 0 still looks at the marker", "librarian", BY_NAME + "&limit=0&marker=<unknown>", 400)
row("every repeated parameter is in next", "librarian", "GET /v2/images?tag=shelf&tag=red&sort=name:asc&limit=1", 200,
    names=["apple"], has={"next": "/v2/images?tag=shelf&tag=red&sort=name%3Aasc&limit=1&marker=<image:apple>"})
row("blanks and other alphabets are encoded in links", "librarian", "GET /v2/images?name=a%20b&tag=%E6%97%A5", 200, names=[],
    has={"first": "/v2/images?name=a+b&tag=%E6%97%A5"})
row("next keeps sort_key and sort_dir", "librarian", SHELF + "&sort_key=name&sort_dir=asc&limit=2", 200, names=ALL[:2],
    has={"next": "/v2/images?tag=shelf&sort_key=name&sort_dir=asc&limit=2&marker=<image:banana>"})
row("the empty value of a filter is in first", "librarian", "GET /v2/images?kind=", 200, names=["grape:1"],
    has={"first": "/v2/images?kind="})

section("4.1 sorting")
NAMES_DOWN = ALL[::-1]
row("name ascending", "librarian", SHELF + "&sort=name:asc", 200, names=ALL)
row("name descending", "librarian", SHELF + "&sort=name:desc", 200, names=NAMES_DOWN)
row("the direction's default is descending", "librarian", SHELF + "&sort=name", 200, names=NAMES_DOWN)
row("the old style", "librarian", SHELF + "&sort_key=name&sort_dir=asc", 200, names=ALL)
row("the old style's default is descending", "librarian", SHELF + "&sort_key=name", 200, names=NAMES_DOWN)
row("the old style, descending", "librarian", SHELF + "&sort_key=name&sort_dir=desc", 200, names=NAMES_DOWN)
row("a direction alone", "librarian", SHELF + "&sort_dir=asc", 200, has={"images": length(8)})
row("blanks around keys", "librarian", SHELF + "&sort=%20name%20:%20asc%20", 200, names=ALL)
row("two keys", "librarian", SHELF + "&sort=status:asc,name:asc", 200,
    names=["apple", "cherry", "poster", "banana", "date", "fig, dried", "grape:1", "lent"])
row("two keys, two directions", "librarian", SHELF + "&sort=status:desc,name:asc", 200,
    names=["banana", "date", "fig, dried", "grape:1", "lent", "apple", "cherry", "poster"])
row("two keys in the old style, two directions", "librarian",
    SHELF + "&sort_key=status&sort_dir=desc&sort_key=name&sort_dir=asc", 200,
    names=["banana", "date", "fig, dried", "grape:1", "lent", "apple", "cherry", "poster"])
row("two keys in the old style, one direction", "librarian", SHELF + "&sort_key=status&sort_key=name&sort_dir=asc", 200,
    names=["apple", "cherry", "poster", "banana", "date", "fig, dried", "grape:1", "lent"])
row("nulls come first, ascending", "librarian", SHELF + "&sort=disk_format:asc,name:asc", 200,
    names=["fig, dried", "grape:1", "lent", "date", "banana", "apple", "cherry", "poster"])
row("and last, descending", "librarian", SHELF + "&sort=disk_format:desc,name:asc", 200,
    names=["apple", "cherry", "poster", "banana", "date", "fig, dried", "grape:1", "lent"])
row("size", "librarian", SHELF + "&status=active&sort=size:desc,name:asc", 200, names=["cherry", "apple", "poster"])
row("size ascending, with nulls", "librarian", SHELF + "&sort=size:asc,name:asc", 200,
    names=["banana", "date", "fig, dried", "grape:1", "lent", "apple", "poster", "cherry"])
row("paging with nulls", "librarian", SHELF + "&sort=size:asc,name:asc&marker=<image:grape:1>&limit=3", 200,
    names=["lent", "apple", "poster"])
for key in ("name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at"):
    for direction in ("asc", "desc"):
        row(f"every key sorts: {key} {direction}", "librarian", SHELF + f"&sort={key}:{direction}", 200,
            has={"images": length(8)})
for query in ("sort=owner", "sort=tags:asc", "sort=name:up", "sort=", "sort=name:", "sort=:asc", "sort=name,,size", "sort=name:asc:x",
              "sort=name:ASC", "sort_key=owner", "sort_key=", "sort_key=name&sort_dir=up", "sort_key=name&sort_dir=",
              "sort_key=name&sort_key=size&sort_key=id&sort_dir=asc&sort_dir=desc", "sort_key=name&sort_dir=asc&sort_dir=asc",
              "sort=name&sort_key=name", "sort=name&sort_dir=asc", "sort_key=virtual_size", "sort=checksum"):
    row(f"{query} is 400", "librarian", f"{SHELF}&{query}", 400)

section("4.2 which images")
OWN = {"apple", "banana", "cherry", "date", "fig, dried", "grape:1"}
row("the default: own, public, accepted", "librarian", SHELF, 200, names=OWN | {"poster", "lent"})
row("public", "librarian", SHELF + "&visibility=public", 200, names={"poster"})
row("private: own", "librarian", SHELF + "&visibility=private", 200, names={"apple"})
row("shared: own and accepted", "librarian", SHELF + "&visibility=shared", 200,
    names={"cherry", "date", "fig, dried", "grape:1", "lent"})
row("community: all of them", "librarian", SHELF + "&visibility=community", 200, names={"banana", "common"})
row("all: with all community images", "librarian", SHELF + "&visibility=all", 200, names=OWN | {"poster", "lent", "common"})
row("an empty visibility gives nothing", "librarian", SHELF + "&visibility=", 200, names=[])
for value in ("Public", "hidden", "any", "public,private"):
    row(f"visibility {value} is 400", "librarian", f"{SHELF}&visibility={value}", 400)
row("a stranger sees public images only", "member", SHELF, 200, names={"poster"})
row("a stranger asks for community images", "member", SHELF + "&visibility=community", 200, names={"banana", "common"})
row("a stranger asks for all", "member", SHELF + "&visibility=all", 200, names={"banana", "common", "poster"})
row("a stranger's private ones", "member", SHELF + "&visibility=private", 200, names=[])
row("the owner of what is lent sees its own", "other", SHELF, 200,
    names={"common", "lent", "offered", "refused", "secret", "poster"})
row("a reader sees what its project sees", "otherreader", SHELF, 200,
    names={"common", "lent", "offered", "refused", "secret", "poster"})
row("administrators: all but others' community images", "admin", SHELF, 200,
    names={"apple", "cherry", "date", "fig, dried", "grape:1", "poster", "lent", "offered", "refused", "secret"})
row("administrators: community", "admin", SHELF + "&visibility=community", 200, names={"banana", "common"})
row("administrators: all", "admin", SHELF + "&visibility=all", 200,
    names=OWN | {"poster", "lent", "offered", "refused", "secret", "common"})
row("administrators: private", "admin", SHELF + "&visibility=private", 200, names={"apple", "secret"})
row("a token without project lists nothing: 403", "unscoped", SHELF, 403)
row("hidden only", "librarian", SHELF + "&os_hidden=true", 200, names=["elder"])
row("hidden, as the stock client writes it", "librarian", SHELF + "&os_hidden=True", 200, names=["elder"])
row("not hidden", "librarian", SHELF + "&os_hidden=false", 200, names=OWN | {"poster", "lent"})
row("not hidden, in capitals", "librarian", SHELF + "&os_hidden=FALSE", 200, names=OWN | {"poster", "lent"})
for value in ("maybe", "", "1", "yes"):
    row(f"os_hidden {value!r} is 400", "librarian", f"{SHELF}&os_hidden={value}", 400)
row("deleted images are never listed", "librarian", SHELF + "&id=<image:gone>", 200, names=[])
row("deleted=true is ignored", "librarian", SHELF + "&deleted=true", 200, names=OWN | {"poster", "lent"})

section("4.3 filters")
FILTERS = (  # query, names
    ("name=apple", {"apple"}), ("name=Apple", set()), ("name=app", set()), ("name=eq:apple", {"apple"}),
    ("name=in:apple,date", {"apple", "date"}), ("name=in:apple", {"apple"}), ("name=in:nothing,apple", {"apple"}),
    ('name=in:%22fig,%20dried%22', {"fig, dried"}), ('name=in:%22grape:1%22,apple', {"grape:1", "apple"}),
    ("name=fig,%20dried", {"fig, dried"}), ("name=eq:grape:1", {"grape:1"}),
    ("status=active", {"apple", "cherry", "poster"}), ("status=queued", {"banana", "date", "fig, dried", "grape:1", "lent"}),
    ("status=in:active,saving", {"apple", "cherry", "poster"}), ("status=killed", set()), ("status=nonsense", set()),
    ("id=<image:date>", {"date"}), ("id=in:<image:date>,<image:apple>", {"date", "apple"}), ("id=<unknown>", set()),
    ("disk_format=raw", {"apple", "cherry", "poster"}), ("disk_format=in:raw,iso", {"apple", "cherry", "poster", "date"}),
    ("disk_format=RAW", set()), ("container_format=bare", {"apple", "banana", "date", "poster"}),
    ("container_format=in:bare,ovf", {"apple", "banana", "cherry", "date", "poster"}),
    ("owner=<shelf>", OWN), ("owner=<beta>", {"lent"}), ("owner=<alpha>", set()),
    ("protected=true", {"cherry"}), ("protected=false", OWN - {"cherry"} | {"poster", "lent"}),
    ("tag=red", {"apple", "cherry", "date"}), ("tag=red&tag=sweet", {"date"}), ("tag=Red", set()), ("tag=", set()),
    ("size=10", {"apple", "poster"}), ("size=20", {"cherry"}), ("size=gt:10", set()), ("size=x", set()),
    ("size_min=10", {"apple", "cherry", "poster"}), ("size_min=11", {"cherry"}), ("size_max=10", {"apple", "poster"}),
    ("size_min=10&size_max=10", {"apple", "poster"}), ("size_max=5", set()),
    ("min_ram_min=100", {"apple", "date"}), ("min_ram_max=0", OWN - {"apple", "date"} | {"poster", "lent"}),
    ("min_ram=500", {"date"}), ("min_disk=5", {"banana"}), ("min_disk_min=1", {"apple", "banana"}),
    ("min_disk_max=1&min_disk_min=1", {"apple"}), ("min_disk=x", set()),
    ("checksum=781e5e245d69b566979b86e28d23f2c7", {"apple", "poster"}), ("checksum=0", set()),
    ("os_hash_value=bb96c2fc40d2d54617d6f276febe571f623a8dadf0b734855299b0e107fda32cf6b69f2da32b36445d73690b93cbd0f7bfc20e0f7f28"
     "553d2a4428f23b716e90", {"apple", "poster"}),
    ("os_hash_algo=sha512", {"apple", "cherry", "poster"}), ("os_hash_algo=md5", set()),
    ("color=red", {"apple"}), ("color=Red", set()), ("color=gr%C3%BCn", {"fig, dried"}), ("kind=", {"grape:1"}),
    ("color=red&name=apple", {"apple"}), ("color=red&name=banana", set()), ("no_such_property=x", set()),
    ("self=/v2/images/x", set()), ("file=x", set()), ("schema=/v2/schemas/image", set()), ("is_public=true", set()),
    ("property-color=red", set()), ("name=%F0%9F%98%80", set()), ("color=%F0%9F%98%80", set()),
    ("created_at=gt:2020-01-01", OWN | {"poster", "lent"}), ("created_at=lt:2020-01-01", set()),
    ("created_at=gte:2020-01-01T00:00:00Z", OWN | {"poster", "lent"}), ("created_at=lte:2020-01-01T00:00:00Z", set()),
    ("created_at=2020-01-01T00:00:00Z", set()), ("created_at=eq:2020-01-01T00:00:00Z", set()),
    ("created_at=neq:2020-01-01T00:00:00Z", OWN | {"poster", "lent"}),
    ("updated_at=gt:2020-01-01T00:00:00%2B02:00", OWN | {"poster", "lent"}), ("updated_at=lt:2099-01", OWN | {"poster", "lent"}),
    ("created_at=gt:2020", OWN | {"poster", "lent"}), ("created_at=gt:20200101T000000Z", OWN | {"poster", "lent"}),
    ("created_at=gt:2020-01-01T00:00:00.123456Z", OWN | {"poster", "lent"}),
    ("created_at=gt:2020-01-01T00:00:00", OWN | {"poster", "lent"}),
    ("created_at=gt:2020-01-01&created_at=lt:2020-02-01", set()),
)
for query, names in FILTERS:
    row(f"{query[:70]}", "librarian", f"{SHELF}&{query}", 200, names=names)
for query in ("name=foo:bar", "name=like:x", "status=gt:active", "id=foo:bar", "disk_format=x:y", "container_format=x:y",
              "name=in:%22fig", "name=in:a%22b,c", "name=in:%22a%22b", "protected=True", "protected=1", "protected=",
              "member_status=maybe", "member_status=", "created_at=x", "created_at=like:2020-01-01", "created_at=gt:",
              "created_at=2020-13-01", "created_at=2020-02-30", "updated_at=gt:yesterday", "size_min=x", "size_max=", "size_min=1.5",
              "min_ram_min=x", "min_ram_max=x", "min_disk_min=x", "min_disk_max=x", "changes-since=2020-01-01",
              "visibility=nonsense"):
    row(f"{query} is 400", "librarian", f"{SHELF}&{query}", 400)
for query in ("foo_min=1", "properties=x", "locations=x", "tags=x", "location=x"):
    row(f"{query} is no failure of the server", "librarian", f"{SHELF}&{query}", (200, 400))
row("member_status accepted", "librarian", SHELF + "&visibility=shared&member_status=accepted&owner=<beta>", 200, names={"lent"})
row("member_status pending", "librarian", SHELF + "&visibility=shared&member_status=pending&owner=<beta>", 200, names={"offered"})
row("member_status rejected", "librarian", SHELF + "&visibility=shared&member_status=rejected&owner=<beta>", 200,
    names={"refused"})
row("member_status all", "librarian", SHELF + "&visibility=shared&member_status=all&owner=<beta>", 200,
    names={"lent", "offered", "refused"})
row("member_status pending without visibility", "librarian", SHELF + "&member_status=pending&owner=<beta>", 200,
    names={"offered"})
row("the owner filter never widens", "member", SHELF + "&owner=<beta>", 200, names=[])
row("the owner filter of administrators", "admin", SHELF + "&owner=<beta>", 200, names={"lent", "offered", "refused", "secret"})
row("find by name as the stock client does", "librarian", "GET /v2/images?name=apple&os_hidden=True", 200, names=[])
row("glanceclient's page", "librarian", "GET /v2/images?limit=200&sort_key=name&sort_dir=asc&tag=shelf", 200, names=ALL)
