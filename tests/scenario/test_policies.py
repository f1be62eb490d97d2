#!/usr/bin/env python3
"""Rules of the operator's own: a policy file and protected properties, taken over by SIGHUP whole or not at all."""
import os
import signal
import tempfile

import lib

V21 = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
POLICY = """# who may do what
"delete_image": "role:admin"
"communitize_image": "!"
"copy_image": "role:member and project_id:%(owner)s"
"add_image_location": "role:member and project_id:%(owner)s"
"fetch_image_location": "!"
"cache_list": "role:member"
"cache_image": "!"
get_image: "project_id:%(owner)s or 'public':%(visibility)s or role:admin"
"""
PROPERTIES = """[^x_secret.*]
create = admin
read = admin
update = admin
delete = admin
[^x_price$]
create = admin,member
read = @
update = admin
delete = !
[.*]
create = @
read = @
update = @
delete = @
"""


def test_policies(cluster, results, folder):
    name = cluster.names()[0]
    admin, demo = lib.Client(cluster, name, "admin"), lib.Client(cluster, name, "demo")

    def write(file, text):
        with open(os.path.join(folder, file), "w", encoding="utf-8") as f:
            f.write(text)

    def reload():
        os.kill(cluster.host(name)["pid"], signal.SIGHUP)

    def patch(client, image, op, path, value=None):
        operation = {"op": op, "path": path, **({} if value is None else {"value": value})}
        return client.call("PATCH", f"/v2/images/{image}", [operation], V21).status

    def names(client, query):
        return sorted(i["name"] for i in client.call("GET", f"/v2/images?{query}").json()["images"])

    image = demo.create("mine").json()["id"]
    results.equal("the file takes a right away", demo.delete(image).status, 403)
    results.equal("also that to share with everybody", patch(demo, image, "replace", "/visibility", "community"), 403)
    results.equal("what is not in the file stays as it is", patch(demo, image, "replace", "/name", "still mine"), 200)
    results.equal("administrators are not above a rule", patch(admin, image, "replace", "/visibility", "community"), 403)
    copied = demo.create("copied").json()["id"]
    results.equal("its upload", demo.upload(copied, lib.Body(1, 1000)).status, 204)
    copy = {"method": {"name": "copy-image"}, "all_stores": True}
    results.equal("copy_image may be given to owners", demo.call("POST", f"/v2/images/{copied}/import", copy).status, 202)
    where = {"url": "http://127.0.0.1/x"}
    reply = demo.call("POST", f"/v2/images/{image}/locations", where)
    results.check("add_image_location may be given to owners: the URL is what is refused", reply.status == 400 and "filtering" in str(reply.json()),
                  repr(reply))
    results.equal("fetch_image_location may be taken from all", admin.call("GET", f"/v2/images/{copied}/locations").status, 403)
    results.equal("cache_list may be given to members", demo.call("GET", "/v2/cache").status, 200)
    results.equal("cache_image may be taken from all", admin.call("PUT", f"/v2/cache/{copied}").status, 403)
    other = admin.create("admin's", visibility="public").json()["id"]
    results.equal("get_image lets in whom it names", demo.show(other).status, 200)

    results.equal("a protected property is not the member's to make", demo.create("x", x_secret="1").status, 403)
    results.equal("nor to add", patch(demo, image, "add", "/x_secret_a", "1"), 403)
    results.equal("it is the administrator's", patch(admin, image, "add", "/x_secret_a", "1"), 200)
    results.check("who may not read it does not see it", "x_secret_a" not in demo.show(image).json())
    results.check("in lists neither", all("x_secret_a" not in i for i in demo.call("GET", "/v2/images").json()["images"]))
    results.equal("and no filter finds it", names(demo, "x_secret_a=1"), [])
    results.equal("the administrator finds it", names(admin, "x_secret_a=1"), ["still mine"])
    results.equal("taking it away is as if it was not there", patch(demo, image, "remove", "/x_secret_a"), 409)
    results.equal("what may be made", patch(demo, image, "add", "/x_price", "1"), 200)
    results.equal("may not be changed", patch(demo, image, "replace", "/x_price", "2"), 403)
    results.equal("and by nobody be taken away", patch(admin, image, "remove", "/x_price"), 403)
    results.equal("others are everybody's", patch(demo, image, "add", "/os_distro", "debian"), 200)

    write("policy", POLICY.replace('"delete_image": "role:admin"', '"delete_image": "rule:nobody"'))
    reload()
    refused = lib.wait_until(lambda: "reload refused" in open(cluster.host(name)["log_file"], encoding="utf-8").read(), 10)
    results.check("a file with a mistake is refused, and the log says so", refused)
    results.equal("the rules from before hold", demo.delete(image).status, 403)
    write("policy", '{"delete_image": "role:member"}')
    reload()
    results.check("a good one is taken over", lib.wait_until(lambda: demo.delete(image).status == 204, 10, 0.2))
    results.equal("without the rules that are gone", demo.create("y", visibility="community").status, 201)


def test_scope(cluster, results):
    """Public images with public_scope = domain."""
    name = cluster.names()[0]
    with lib.Client(cluster, name, "admin") as admin:
        def made(path, body, kind):
            reply = admin.call("POST", f"/identity/v3/{path}", body)
            assert reply.status == 201, reply
            return reply.json()[kind]["id"]

        domain = made("domains", {"domain": {"name": "other"}}, "domain")
        project = made("projects", {"project": {"name": "theirs", "domain_id": domain}}, "project")
        user = made("users", {"user": {"name": "u", "domain_id": domain, "password": "pw"}}, "user")
        role = admin.call("GET", "/identity/v3/roles?name=member").json()["roles"][0]["id"]
        admin.call("PUT", f"/identity/v3/projects/{project}/users/{user}/roles/{role}")
        login = {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": user, "password": "pw"}}},
                          "scope": {"project": {"id": project}}}}
        theirs = admin.call("POST", "/identity/v3/auth/tokens", login, token=False).headers["X-Subject-Token"]
        here = admin.create("here", visibility="public").json()["id"]
        there = admin.create("there", visibility="public", owner=project).json()["id"]
        with lib.Client(cluster, name, "demo") as demo:
            seen = lambda token: sorted(i["name"] for i in demo.call("GET", "/v2/images", token=token).json()["images"])
            results.equal("a public image of one's own domain is listed, no other", seen(None), ["here"])
            results.equal("so it is in the other domain", seen(theirs), ["there"])
            results.equal("by its id it is seen", demo.show(here).status, 200)
            results.equal("one of another domain is not there", demo.show(there).status, 404)
            results.equal("neither is its data", demo.call("GET", f"/v2/images/{there}/file").status, 404)
            results.equal("nor a place in a list", demo.call("GET", f"/v2/images?marker={there}").status, 400)
            results.equal("its owner sees it", demo.call("GET", f"/v2/images/{there}", token=theirs).status, 200)
        listed = sorted(i["name"] for i in admin.call("GET", "/v2/images").json()["images"])
        results.equal("administrators see all", listed, ["here", "there"])


def main():
    with tempfile.TemporaryDirectory(prefix="tessera-policies-") as folder:
        for file, text in (("policy", POLICY), ("properties", PROPERTIES)):
            with open(os.path.join(folder, file), "w", encoding="utf-8") as f:
                f.write(text)
        failed = lib.run_test("policies", lambda c, r: test_policies(c, r, folder), hosts=1, settings={
            "policy_file": os.path.join(folder, "policy"), "property_protection_file": os.path.join(folder, "properties")})
    return lib.run_test("public scope", test_scope, hosts=1, settings={"public_scope": "domain"}) or failed


if __name__ == "__main__":
    raise SystemExit(main())
