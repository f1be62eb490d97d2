#!/usr/bin/env python3
"""Metadata definitions: every route over HTTP on the hosts in turn, who may do what, paging, many writers at once on
different hosts, a restart, and the stock command line clients."""
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
import urllib.parse

import lib

BASE = "/v2/metadefs/namespaces"
DEFAULT_TYPES = {"OS::Glance::Image", "OS::Cinder::Volume", "OS::Nova::Server", "OS::Nova::Aggregate",
                 "OS::Nova::Flavor", "OS::Trove::Instance"}


def path(*names):
    return "/".join([BASE] + [urllib.parse.quote(n, safe="") for n in names])


class Caller:
    """The hosts in turn, so that each answer is the cluster's and not one host's."""

    def __init__(self, cluster, results, account="admin"):
        self.results = results
        self.clients = [lib.Client(cluster, name, account) for name in cluster.names()]
        self.turns = itertools.cycle(self.clients)

    def call(self, method, where, body=None, headers=None):
        return next(self.turns).call(method, where, body, headers)

    def expect(self, status, method, where, body=None, headers=None, what=None):
        reply = self.call(method, where, body, headers)
        good = reply.status == status
        if good and status >= 400:
            error = reply.json()["error"]
            good = error["code"] == status and bool(error["message"])
        if good and status == 204:
            good = reply.data == b""
        self.results.check(what or f"{method} {where} is {status}", good, "" if good else repr(reply))
        return reply.json() if reply.data else None

    def names(self, query=""):
        return [n["namespace"] for n in self.expect(200, "GET", BASE + query)["namespaces"]]

    def close(self):
        for client in self.clients:
            client.close()


def prop(title="T", kind="string", **more):
    return {"title": title, "type": kind, **more}


def namespaces(admin, results):
    full = {"namespace": "OS::Test::Full", "display_name": "Full", "description": "all in it", "visibility": "public",
            "protected": False, "owner": "somebody",
            "properties": {"p1": prop("P1", "integer", minimum=1, maximum=9, default=3),
                           "p2": prop("P2", "array", items={"type": "string", "enum": ["a", "b"]}, minItems=0,
                                      uniqueItems=True, operators=["<in>"])},
            "objects": [{"name": "o1", "description": "first", "required": ["q"], "properties": {"q": prop("Q")}}],
            "tags": [{"name": "t1"}, {"name": "t2"}],
            "resource_type_associations": [{"name": "OS::Nova::Server", "prefix": "x:", "properties_target": "image"},
                                           {"name": "My::Own::Type"}]}
    made = admin.expect(201, "POST", BASE, full)
    for key in ("namespace", "display_name", "description", "visibility", "protected", "owner"):
        results.equal(f"create answers {key}", made.get(key), full[key])
    results.equal("and where it is", (made["self"], made["schema"]),
                  (path("OS::Test::Full"), "/v2/schemas/metadefs/namespace"))
    shown = admin.expect(200, "GET", path("OS::Test::Full"))
    results.equal("show is what create answered", shown, made)
    results.equal("properties", shown["properties"], full["properties"])
    results.equal("tags", shown["tags"], full["tags"])
    results.equal("object", {k: shown["objects"][0][k] for k in ("name", "description", "required", "properties")},
                  full["objects"][0])
    results.equal("object's links", (shown["objects"][0]["self"], shown["objects"][0]["schema"]),
                  (path("OS::Test::Full", "objects", "o1"), "/v2/schemas/metadefs/object"))
    results.equal("associations", [(a["name"], a.get("prefix"), a.get("properties_target"))
                                   for a in shown["resource_type_associations"]],
                  [("OS::Nova::Server", "x:", "image"), ("My::Own::Type", None, None)])
    results.check("times are whole seconds", len(shown["created_at"]) == 20 and shown["created_at"].endswith("Z"),
                  shown["created_at"])

    prefixed = admin.expect(200, "GET", path("OS::Test::Full") + "?resource_type=OS::Nova::Server")
    results.equal("with a resource type names have its prefix", sorted(prefixed["properties"]), ["x:p1", "x:p2"])
    results.equal("in objects too", (prefixed["objects"][0]["required"], list(prefixed["objects"][0]["properties"])),
                  (["x:q"], ["x:q"]))
    same = admin.expect(200, "GET", path("OS::Test::Full") + "?resource_type=My::Own::Type")
    results.equal("without a prefix they stay", sorted(same["properties"]), ["p1", "p2"])

    reply = admin.call("POST", BASE, {"namespace": "small"})
    small = reply.json()
    results.equal("a small one is private, not protected, of the caller's project",
                  (small["visibility"], small["protected"], bool(small.get("owner"))), ("private", False, True))
    results.check("what is absent is left out", not {"display_name", "description", "properties", "objects", "tags",
                                                     "resource_type_associations"} & set(small), str(sorted(small)))
    location = reply.headers.get("Location", "")
    results.check("Location is absolute", location.startswith("https://") and location.endswith(path("small")), location)
    admin.expect(409, "POST", BASE, {"namespace": "small"})

    for what, body in (("no namespace", {}), ("a name too long", {"namespace": "x" * 81}), ("no name", {"namespace": ""}),
                       ("an unknown key", {"namespace": "n", "more": 1}), ("a list", []),
                       ("a bad visibility", {"namespace": "n", "visibility": "shared"}),
                       ("null for a text", {"namespace": "n", "description": None}),
                       ("a description too long", {"namespace": "n", "description": "x" * 501}),
                       ("a display name too long", {"namespace": "n", "display_name": "x" * 81}),
                       ("protected as text", {"namespace": "n", "protected": "yes"}),
                       ("a property without type", {"namespace": "n", "properties": {"p": {"title": "T"}}}),
                       ("a property of no type", {"namespace": "n", "properties": {"p": prop(kind="text")}}),
                       ("a property with more", {"namespace": "n", "properties": {"p": prop(more=1)}}),
                       ("properties as list", {"namespace": "n", "properties": []}),
                       ("objects as object", {"namespace": "n", "objects": {}}),
                       ("a tag without name", {"namespace": "n", "tags": [{}]})):
        admin.expect(400, "POST", BASE, body, what=f"create with {what} is 400")
    admin.expect(400, "POST", BASE, b"{nonsense", what="create with what is not JSON is 400")
    admin.expect(400, "POST", BASE, what="create without a body is 400")
    for key in ("self", "schema", "created_at", "updated_at"):
        admin.expect(403, "POST", BASE, {"namespace": "n", key: "x"}, what=f"create with {key} is 403")
    admin.expect(409, "POST", BASE, {"namespace": "n", "tags": [{"name": "a"}, {"name": "A"}]})
    admin.expect(404, "GET", path("n"))

    put = admin.expect(200, "PUT", path("small"), {"namespace": "renamed", "visibility": "public", "protected": True})
    results.equal("update answers", (put["namespace"], put["visibility"], put["protected"]), ("renamed", "public", True))
    admin.expect(404, "GET", path("small"))
    admin.expect(409, "PUT", path("renamed"), {"namespace": "OS::Test::Full"})
    admin.expect(400, "PUT", path("renamed"), {"visibility": "public"})
    admin.expect(403, "PUT", path("renamed"), {"namespace": "renamed", "self": "x"})
    admin.expect(404, "PUT", path("nowhere"), {"namespace": "nowhere"})
    for part in ("", "/properties", "/objects", "/tags"):
        admin.expect(403, "DELETE", path("renamed") + part, what=f"DELETE of a protected namespace{part} is 403")
    reset = admin.expect(200, "PUT", path("OS::Test::Full"), {"namespace": "OS::Test::Full"})
    results.check("fields left out are reset", "description" not in reset and reset["visibility"] == "private", str(reset))
    kept = admin.expect(200, "GET", path("OS::Test::Full"))
    results.equal("what is in the namespace stays", (len(kept["properties"]), len(kept["objects"]), len(kept["tags"])),
                  (2, 1, 2))
    admin.expect(200, "PUT", path("renamed"), {"namespace": "renamed"})
    admin.expect(204, "DELETE", path("renamed"))
    admin.expect(404, "DELETE", path("renamed"))
    admin.expect(405, "PATCH", path("OS::Test::Full"), {})
    admin.expect(204, "DELETE", path("OS::Test::Full", "properties"))
    admin.expect(204, "DELETE", path("OS::Test::Full", "objects"))
    admin.expect(204, "DELETE", path("OS::Test::Full", "tags"))
    empty = admin.expect(200, "GET", path("OS::Test::Full"))
    results.check("all of a kind is gone", not {"properties", "objects", "tags"} & set(empty), str(sorted(empty)))
    admin.expect(404, "DELETE", path("nowhere", "tags"))
    admin.expect(204, "DELETE", path("OS::Test::Full"))

    odd = "a/b c%ü"
    admin.expect(201, "POST", BASE, {"namespace": odd, "tags": [{"name": odd}]})
    results.equal("an odd name is found by its encoded path", admin.expect(200, "GET", path(odd))["self"], path(odd))
    results.equal("so is what is in it", admin.expect(200, "GET", path(odd, "tags", odd))["name"], odd)
    admin.expect(204, "DELETE", path(odd))


def parts(admin, results):
    admin.expect(201, "POST", BASE, {"namespace": "parts", "visibility": "public"})
    where = path("parts", "properties")
    results.equal("no properties", admin.expect(200, "GET", where), {"properties": {}})
    body = {"name": "cpu", **prop("CPU", "integer", minimum=0)}
    results.equal("a property is answered", admin.expect(201, "POST", where, body), body)
    admin.expect(409, "POST", where, body)
    for what, bad in (("no name", prop()), ("no title", {"name": "x", "type": "string"}), ("a list", []),
                      ("a long name", {"name": "x" * 81, **prop()}), ("an unknown key", {"name": "x", **prop(), "y": 1}),
                      ("a bad count", {"name": "x", **prop(), "maxLength": -1}),
                      ("a bad items", {"name": "x", **prop(), "items": {"type": "text"}}),
                      ("doubles", {"name": "x", **prop(), "required": ["a", "a"]})):
        admin.expect(400, "POST", where, bad, what=f"a property with {what} is 400")
    admin.expect(404, "POST", path("nowhere", "properties"), body)
    results.equal("it is shown", admin.expect(200, "GET", path("parts", "properties", "cpu")), body)
    admin.expect(404, "GET", path("parts", "properties", "gpu"))
    admin.expect(201, "POST", where, {"name": "ram", **prop()})
    admin.expect(409, "PUT", path("parts", "properties", "cpu"), {"name": "ram", **prop()})
    admin.expect(404, "PUT", path("parts", "properties", "gpu"), body)
    admin.expect(200, "PUT", path("parts", "properties", "cpu"), {"name": "cpus", **prop("CPUs")})
    results.equal("a rename takes the old name away", admin.expect(200, "GET", where),
                  {"properties": {"cpus": prop("CPUs"), "ram": prop()}})
    admin.expect(201, "POST", path("parts", "resource_types"), {"name": "OS::Nova::Flavor", "prefix": "hw:"})
    results.equal("with a resource type the prefix is asked for",
                  admin.expect(200, "GET", path("parts", "properties", "hw:cpus") +
                               "?resource_type=OS::Nova::Flavor")["name"], "cpus")
    admin.expect(404, "GET", path("parts", "properties", "cpus") + "?resource_type=OS::Nova::Flavor")
    admin.expect(404, "GET", path("parts", "properties", "hw:cpus") + "?resource_type=OS::Nova::Server")
    admin.expect(204, "DELETE", path("parts", "properties", "ram"))
    admin.expect(404, "DELETE", path("parts", "properties", "ram"))

    where = path("parts", "objects")
    results.equal("no objects", admin.expect(200, "GET", where), {"objects": [], "schema": "v2/schemas/metadefs/objects"})
    made = admin.expect(201, "POST", where, {"name": "o", "description": "d", "properties": {"p": prop()}})
    results.equal("an object is answered", (made["name"], made["required"], made["properties"]), ("o", [], {"p": prop()}))
    admin.expect(409, "POST", where, {"name": "o"})
    for what, bad in (("no name", {}), ("a long name", {"name": "x" * 81}), ("an unknown key", {"name": "x", "y": 1}),
                      ("a bad property", {"name": "x", "properties": {"p": {}}})):
        admin.expect(400, "POST", where, bad, what=f"an object with {what} is 400")
    admin.expect(403, "POST", where, {"name": "x", "created_at": "2020-01-01T00:00:00Z"})
    results.equal("it is shown", admin.expect(200, "GET", path("parts", "objects", "o")), made)
    admin.expect(201, "POST", where, {"name": "second"})
    admin.expect(409, "PUT", path("parts", "objects", "o"), {"name": "second"})
    put = admin.expect(200, "PUT", path("parts", "objects", "o"), {"name": "o2"})
    results.equal("an update resets and renames", (put["name"], put["properties"], "description" in put), ("o2", {}, False))
    admin.expect(404, "PUT", path("parts", "objects", "o"), {"name": "o"})
    admin.expect(400, "GET", where + "?limit=0")
    admin.expect(400, "GET", where + "?limit=x")
    results.equal("all are listed", [o["name"] for o in admin.expect(200, "GET", where)["objects"]], ["o2", "second"])
    admin.expect(204, "DELETE", path("parts", "objects", "o2"))
    admin.expect(404, "GET", path("parts", "objects", "o2"))
    admin.expect(404, "DELETE", path("parts", "objects", "o2"))

    types(admin, results)
    tags(admin, results)
    admin.expect(204, "DELETE", path("parts"))


def types(admin, results):
    where = path("parts", "resource_types")
    known = admin.expect(200, "GET", "/v2/metadefs/resource_types")["resource_types"]
    results.check("the usual resource types are there", DEFAULT_TYPES <= {t["name"] for t in known}, str(known))
    results.check("with times", all(t["created_at"] for t in known))
    made = admin.expect(201, "POST", where, {"name": "Brand::New", "prefix": "b:", "properties_target": "t"})
    results.equal("an association is answered", (made["name"], made["prefix"], made["properties_target"]),
                  ("Brand::New", "b:", "t"))
    admin.expect(409, "POST", where, {"name": "Brand::New"})
    admin.expect(400, "POST", where, {"prefix": "x"})
    admin.expect(400, "POST", where, {"name": "x" * 81})
    admin.expect(400, "POST", where, {"name": "x", "prefix": "x" * 81})
    known = admin.expect(200, "GET", "/v2/metadefs/resource_types")["resource_types"]
    results.check("its type is known from now on", "Brand::New" in {t["name"] for t in known}, str(known))
    results.equal("it is listed", [a["name"] for a in admin.expect(200, "GET", where)["resource_type_associations"]],
                  ["OS::Nova::Flavor", "Brand::New"])
    listed = admin.expect(200, "GET", BASE + "?resource_types=Other,Brand::New")["namespaces"]
    results.equal("namespaces are found by type", [n["namespace"] for n in listed], ["parts"])
    results.equal("and show their associations", len(listed[0]["resource_type_associations"]), 2)
    results.equal("and none of another", admin.names("?resource_types=Other"), [])
    admin.expect(204, "DELETE", path("parts", "resource_types", "Brand::New"))
    admin.expect(404, "DELETE", path("parts", "resource_types", "Brand::New"))
    admin.expect(404, "GET", path("nowhere", "resource_types"))


def tags(admin, results):
    where = path("parts", "tags")
    made = admin.expect(201, "POST", path("parts", "tags", "One"))
    results.equal("a tag is answered", sorted(made), ["created_at", "name", "updated_at"])
    admin.expect(409, "POST", path("parts", "tags", "one"), what="a tag that differs by case is 409")
    admin.expect(400, "POST", path("parts", "tags", "x"), {"name": "x"}, what="a tag with a body is 400")
    admin.expect(400, "POST", path("parts", "tags", "x" * 81), what="a long tag is 400")
    results.equal("it is shown", admin.expect(200, "GET", path("parts", "tags", "One")), made)
    results.equal("many replace all", admin.expect(201, "POST", where, {"tags": [{"name": n} for n in "cab"]}),
                  {"tags": [{"name": n} for n in "cab"]})
    admin.expect(404, "GET", path("parts", "tags", "One"))
    admin.expect(201, "POST", where, {"tags": [{"name": "d"}, {"name": "e"}]}, {"X-Openstack-Append": "True"})
    admin.expect(409, "POST", where, {"tags": [{"name": "f"}, {"name": "F"}]})
    admin.expect(409, "POST", where, {"tags": [{"name": "f"}, {"name": "A"}]}, {"X-Openstack-Append": "True"})
    admin.expect(400, "POST", where, {"tags": [{"name": ""}]})
    admin.expect(400, "POST", where, {"names": []})
    names = [t["name"] for t in admin.expect(200, "GET", where + "?sort_key=name&sort_dir=asc")["tags"]]
    results.equal("a refused list changes nothing", names, list("abcde"))
    page = admin.expect(200, "GET", where + "?sort_key=name&sort_dir=asc&limit=2")
    results.equal("a page", ([t["name"] for t in page["tags"]], page["first"], page["schema"]),
                  (["a", "b"], where + "?sort_key=name&sort_dir=asc&limit=2", "/v2/schemas/metadefs/tags"))
    page = admin.expect(200, "GET", page["next"])
    results.equal("the next one", [t["name"] for t in page["tags"]], ["c", "d"])
    page = admin.expect(200, "GET", page["next"])
    results.equal("the last one", ([t["name"] for t in page["tags"]], "next" in page), (["e"], False))
    results.equal("limit=0", admin.expect(200, "GET", where + "?limit=0")["tags"], [])
    admin.expect(404, "GET", where + "?marker=zz")
    admin.expect(400, "GET", where + "?limit=x")
    admin.expect(400, "GET", where + "?sort_dir=up")
    results.equal("a rename", admin.expect(200, "PUT", path("parts", "tags", "a"), {"name": "A1"})["name"], "A1")
    results.equal("of case alone", admin.expect(200, "PUT", path("parts", "tags", "A1"), {"name": "a1"})["name"], "a1")
    admin.expect(409, "PUT", path("parts", "tags", "b"), {"name": "A1"})
    admin.expect(404, "PUT", path("parts", "tags", "zz"), {"name": "z"})
    admin.expect(403, "PUT", path("parts", "tags", "b"), {"name": "b", "created_at": "x"})
    admin.expect(204, "DELETE", path("parts", "tags", "b"))
    admin.expect(404, "DELETE", path("parts", "tags", "b"))
    admin.expect(404, "GET", path("nowhere", "tags"))


def rights(admin, demo, results):
    admin.expect(201, "POST", BASE, {"namespace": "open", "visibility": "public", "tags": [{"name": "t"}]})
    admin.expect(201, "POST", BASE, {"namespace": "closed"})
    project = demo.clients[0].cluster.authenticate(demo.clients[0].name, "demo")[1]["project"]["id"]
    admin.expect(201, "POST", BASE, {"namespace": "theirs", "owner": project})
    results.equal("a user sees public namespaces and those of the project", sorted(demo.names()), ["open", "theirs"])
    results.equal("an administrator all", sorted(admin.names()), ["closed", "open", "theirs"])
    results.equal("visibility=private", demo.names("?visibility=private"), ["theirs"])
    results.equal("visibility=public", demo.names("?visibility=public"), ["open"])
    demo.expect(400, "GET", BASE + "?visibility=shared")
    demo.expect(200, "GET", path("open"))
    demo.expect(200, "GET", path("open", "tags", "t"))
    demo.expect(200, "GET", path("theirs"))
    demo.expect(200, "GET", "/v2/metadefs/resource_types")
    demo.expect(404, "GET", path("closed"))
    demo.expect(404, "GET", path("closed", "objects"))
    demo.expect(404, "GET", BASE + "?marker=closed")
    demo.expect(403, "POST", BASE, {"namespace": "mine"})
    for what in ("open", "theirs"):
        demo.expect(403, "PUT", path(what), {"namespace": what})
        demo.expect(403, "DELETE", path(what))
        demo.expect(403, "POST", path(what, "tags", "n"))
        demo.expect(403, "POST", path(what, "properties"), {"name": "p", **prop()})
        demo.expect(403, "POST", path(what, "objects"), {"name": "o"})
        demo.expect(403, "POST", path(what, "resource_types"), {"name": "r"})
        demo.expect(403, "DELETE", path(what, "tags"))
    demo.expect(404, "DELETE", path("closed"))
    demo.expect(404, "POST", path("closed", "tags", "n"))
    reply = lib.Client(demo.clients[0].cluster, demo.clients[0].name).call("GET", BASE, token=False)
    results.equal("without a token it is 401", reply.status, 401)
    for name in ("open", "closed", "theirs"):
        admin.expect(204, "DELETE", path(name))


def paging(admin, results):
    names = [f"page{k:02}" for k in range(30)]
    for name in names:
        admin.call("POST", BASE, {"namespace": name, "display_name": f"d{name[-1]}{name}"})
    results.equal("25 without a limit", len(admin.names()), 25)
    results.equal("limit=0", admin.expect(200, "GET", BASE + "?limit=0")["namespaces"], [])
    seen, where = [], BASE + "?limit=7&sort_key=namespace&sort_dir=asc"
    first = where
    while where:
        page = admin.expect(200, "GET", where)
        results.equal("first", (page["first"], page["schema"]), (first, "/v2/schemas/metadefs/namespaces"))
        seen += [n["namespace"] for n in page["namespaces"]]
        where = page.get("next")
    results.equal("all pages in order", seen, names)
    results.equal("newest first", admin.names("?limit=3")[0] in names[-3:], True)
    results.equal("behind a marker", admin.names("?sort_key=namespace&sort_dir=desc&marker=page03"), names[2::-1])
    results.equal("by display name", admin.names("?sort_key=display_name&sort_dir=asc&limit=3"),
                  ["page00", "page10", "page20"])
    for query in ("limit=x", "limit=-1", "sort_key=nonsense", "sort_dir=up"):
        admin.expect(400, "GET", f"{BASE}?{query}")
    admin.expect(404, "GET", BASE + "?marker=nowhere")
    for name in names:
        admin.call("DELETE", path(name))


def limits(admin, results):
    admin.expect(201, "POST", BASE, {"namespace": "big"})
    text = "x" * 300_000
    statuses = [admin.call("POST", path("big", "objects"), {"name": f"o{k}", "description": text}).status for k in range(4)]
    results.equal("a namespace has at most 1 MiB", statuses, [201, 201, 201, 413])
    admin.expect(413, "POST", path("big", "objects"), {"name": "huge", "description": text * 5})
    many = {"tags": [{"name": f"t{k}"} for k in range(20000)]}
    admin.expect(413, "POST", path("big", "tags"), many)
    admin.expect(204, "DELETE", path("big", "objects"))
    results.equal("there is room again", admin.call("POST", path("big", "objects"),
                                                    {"name": "o", "description": text}).status, 201)
    admin.expect(204, "DELETE", path("big"))


def writers(cluster, admin, results):
    """Many writers of one namespace on all hosts: nothing that was acknowledged is lost."""
    admin.expect(201, "POST", BASE, {"namespace": "busy"})
    acknowledged, other = [], []

    def write(worker, name):
        with lib.Client(cluster, name) as client:
            for k in range(12):
                tag = f"w{worker}-{k}"
                status = client.call("POST", path("busy", "tags", tag)).status
                (acknowledged if status == 201 else other).append((tag, status))
    threads = [threading.Thread(target=write, args=(k, name)) for k, name in enumerate(cluster.names())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    there = {t["name"] for t in admin.expect(200, "GET", path("busy", "tags"))["tags"]}
    results.equal("every acknowledged tag is there", sorted(t for t, _ in acknowledged if t not in there), [])
    results.check("others were told to try again", all(s in (409, 503) for _, s in other),
                  f"{len(acknowledged)} done, {len(other)} refused")
    results.check("and those are not there", not {t for t, s in other if s == 409} & there)

    outcome = []

    def create(name):
        with lib.Client(cluster, name) as client:
            outcome.append(client.call("POST", BASE, {"namespace": "race", "resource_type_associations": [
                {"name": "Race::Type"}]}).status)
    threads = [threading.Thread(target=create, args=(name,)) for name in cluster.names()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.equal("one of several creations of a name succeeds", sorted(outcome), [201] + [409] * (len(outcome) - 1))


def restart(cluster, admin, results):
    name = cluster.names()[-1]
    before = admin.expect(200, "GET", path("busy"))
    admin.close()
    cluster.kill(name)
    cluster.start(name)
    cluster.await_ready()
    with lib.Client(cluster, name) as client:
        results.equal("a host that was killed shows the same", client.call("GET", path("busy")).json(), before)


def schemas(admin, results):
    for one, many in (("namespace", "namespaces"), ("object", "objects"), ("property", "properties"), ("tag", "tags"),
                      ("resource_type", "resource_types")):
        schema = admin.expect(200, "GET", f"/v2/schemas/metadefs/{one}")
        lists = admin.expect(200, "GET", f"/v2/schemas/metadefs/{many}")
        results.check(f"schema of {one}", schema["properties"] and schema["additionalProperties"] is False)
        results.check(f"schema of {many}", lists["name"] in lists["properties"] and len(lists["links"]) == 3)
    admin.expect(404, "GET", "/v2/schemas/metadefs/nonsense")


def glance(cluster, *words, stdin=None):
    env = cluster.environment(cluster.names()[0])
    done = subprocess.run(["glance", *words], env=env, stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def stock_glance(cluster, admin, results):
    if not shutil.which("glance"):
        results.note("no glance command: its part is left out")
        return

    def good(*words, stdin=None, shows=None):
        code, out = glance(cluster, *words, stdin=stdin)
        results.check("glance " + " ".join(words[:4]), code == 0 and (shows is None or shows in out),
                      "" if code == 0 else out[-400:])
    ns = "OS::Stock::Glance"
    good("md-namespace-create", ns, "--display-name", "Stock", "--visibility", "public", shows="Stock")
    good("md-namespace-update", ns, "--description", "told", shows="told")
    good("md-namespace-list", shows=ns)
    schema = json.dumps({"type": "string", "description": "d", "enum": ["a"]})
    good("md-property-create", ns, "--name", "prop", "--title", "Prop", "--schema", schema, shows="Prop")
    good("md-property-update", ns, "prop", "--name", "prop2", "--title", "Two", "--schema", schema)
    good("md-property-show", ns, "prop2", shows="Two")
    good("md-property-list", ns, shows="prop2")
    good("md-object-create", ns, "--name", "obj", "--schema", json.dumps(
        {"description": "o", "properties": {"x": prop("X")}}), shows="obj")
    good("md-object-update", ns, "obj", "--name", "obj2")
    good("md-object-show", ns, "obj2", shows="obj2")
    good("md-object-property-show", ns, "obj2", "x", shows="X")
    good("md-object-list", ns, shows="obj2")
    good("md-tag-create", ns, "--name", "tag1", shows="tag1")
    good("md-tag-create-multiple", ns, "--names", "tag2:tag3", "--delim", ":", shows="tag3")
    good("md-tag-update", ns, "tag2", "--name", "tag9", shows="tag9")
    good("md-tag-show", ns, "tag9", shows="tag9")
    good("md-tag-list", ns, shows="tag9")
    good("md-tag-delete", ns, "tag9")
    good("md-resource-type-list", shows="OS::Nova::Server")
    good("md-resource-type-associate", ns, "--name", "OS::Nova::Server", "--prefix", "p:", shows="p:")
    good("md-namespace-resource-type-list", ns, shows="OS::Nova::Server")
    good("md-namespace-show", ns, "--resource-type", "OS::Nova::Server", shows="p:prop2")
    good("md-namespace-list", "--resource-types", "OS::Nova::Server", shows=ns)
    good("md-resource-type-deassociate", ns, "OS::Nova::Server")
    good("md-object-delete", ns, "obj2")
    good("md-property-delete", ns, "prop2")
    good("md-namespace-tags-delete", ns)
    good("md-namespace-objects-delete", ns)
    good("md-namespace-properties-delete", ns)
    good("md-namespace-delete", ns)
    with tempfile.NamedTemporaryFile("w+", suffix=".json") as file:
        json.dump({"namespace": "OS::Imported", "display_name": "I", "description": "imported", "visibility": "public",
                   "protected": True, "resource_type_associations": [{"name": "OS::Nova::Flavor", "prefix": "hw:"}],
                   "properties": {"cores": prop("Cores", "integer", minimum=1)},
                   "objects": [{"name": "o", "description": "d", "properties": {"p": prop()}}],
                   "tags": [{"name": "t"}]}, file)
        file.flush()
        good("md-namespace-import", "--file", file.name, shows="OS::Imported")
    code, out = glance(cluster, "md-namespace-delete", "OS::Imported")
    results.check("glance is told that a namespace is protected", code != 0 and "protected" in out, out[-300:])
    good("md-namespace-update", "OS::Imported", "--protected", "False")
    good("md-namespace-show", "OS::Imported", shows="cores")
    good("md-namespace-delete", "OS::Imported")
    admin.expect(404, "GET", path("OS::Imported"))


def stock_openstack(cluster, results):
    code, out, _ = lib.openstack(cluster, cluster.names()[0], "help", "image", "metadef", "namespace", "create")
    if code != 0 or "metadef" not in out:
        results.note("this openstack command knows no metadata definitions")
        return

    def good(*words, shows=None):
        status, text, error = lib.openstack(cluster, cluster.names()[0], "image", "metadef", *words)
        results.check("openstack image metadef " + " ".join(words[:3]), status == 0 and (shows is None or shows in text),
                      "" if status == 0 else error[-400:])
    good("namespace", "create", "stock-openstack", "--display-name", "S", "--public", shows="stock-openstack")
    good("namespace", "list", shows="stock-openstack")
    good("namespace", "set", "stock-openstack", "--description", "told")
    good("namespace", "show", "stock-openstack", shows="told")
    good("resource", "type", "list", shows="OS::Nova::Server")
    good("namespace", "delete", "stock-openstack")


def test(cluster, results):
    admin, demo = Caller(cluster, results), Caller(cluster, results, "demo")
    namespaces(admin, results)
    parts(admin, results)
    rights(admin, demo, results)
    paging(admin, results)
    limits(admin, results)
    schemas(admin, results)
    writers(cluster, admin, results)
    restart(cluster, admin, results)
    stock_glance(cluster, admin, results)
    stock_openstack(cluster, results)
    admin.close()
    demo.close()


if __name__ == "__main__":
    raise SystemExit(lib.run_test("metadefs", test, hosts=int(os.environ.get("HOSTS", "3"))))
