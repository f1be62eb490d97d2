"""Every verb of the stock openstack client that asks the image or the identity service, with its output checked."""
import hashlib
import json
import os

import lib


def ids(rows):
    return sorted(row["ID"] for row in rows)


def sha256_of(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


class Openstack:
    def __init__(self, shell, cloud):
        self.shell, self.cloud = shell, cloud
        self.alice, self.alpha, self.beta = (cloud.prefix + name for name in ("alice", "alpha", "beta"))
        self.data = bytes(lib.Body("verbs", 2 * lib.MIB + 77))
        self.path = cloud.file("verbs.raw", self.data)

    def ok(self, *words, **options):
        return self.shell.ok("openstack", *words, **options)

    def fails(self, *words, **options):
        return self.shell.fails("openstack", *words, **options)

    def json(self, *words, **options):
        return self.shell.json("openstack", *words, **options)

    def show(self, image, **options):
        return self.json("image", "show", image, **options)

    def equal(self, what, got, expected):
        self.shell.equal(what, got, expected)

    # ---- images ----

    def create(self):
        made = self.json("image", "create", "--file", self.path, "--disk-format", "raw", "--container-format", "bare",
                         "--min-disk", "2", "--min-ram", "64", "--property", "os_distro=debian", "--tag", "one", "--tag",
                         "two", "--shared", "data")
        shown = self.show("data")
        properties = shown["properties"]
        self.equal("image show of it", (shown["id"], shown["status"], shown["size"], shown["checksum"], shown["min_disk"],
                   shown["min_ram"], shown["visibility"], sorted(shown["tags"]), shown["owner"], properties["os_distro"],
                   properties["os_hash_algo"], properties["os_hash_value"], properties["stores"]),
                   (made["id"], "active", len(self.data), hashlib.md5(self.data).hexdigest(), 2, 64, "shared",
                    ["one", "two"], self.cloud.projects["alpha"], "debian", "sha512",
                    hashlib.sha512(self.data).hexdigest(), "tessera"))
        self.json("image", "create", "--disk-format", "raw", "--private", "from-stdin", stdin=self.path)
        self.equal("image create from standard input: size", self.show("from-stdin")["size"], len(self.data))
        chosen = lib.new_id()
        self.json("image", "create", "--id", chosen, "--community", "--container-format", "bare", "empty",
                  stdin=os.devnull)
        shown = self.show(chosen)
        self.equal("image create of nothing", (shown["status"], shown["size"], shown["visibility"]), ("active", 0, "community"))
        self.fails("image", "create", "--id", chosen, "again", saying="409")
        self.fails("image", "create", "--public", "not-mine-to-publish", saying="403")
        imported = self.json("image", "create", "--import", "--file", self.path, "--disk-format", "raw", "imported")
        done = lib.wait_until(lambda: self.shell.call("openstack", "image", "show", imported["id"], "-f", "value", "-c",
                                                      "status")["out"].strip() == "active", 30, 0.3)
        self.shell.check("image create --import becomes active", done)
        self.json("image", "create", "--project", self.beta, "--file", self.path, "for-beta", account="admin")
        self.equal("image create --project", self.show("for-beta", account="bob")["owner"], self.cloud.projects["beta"])
        self.ok("image", "delete", "for-beta", account="bob")
        return made["id"], chosen, imported["id"]

    def lists(self, data, community, imported):
        rows = self.json("image", "list")
        self.equal("image list", sorted((r["Name"], r["Status"]) for r in rows),
                   [("data", "active"), ("empty", "active"), ("from-stdin", "active"), ("imported", "active")])
        self.equal("image list --long", [(r["Disk Format"], r["Size"], r["Visibility"], r["Protected"], r["Project"])
                                         for r in self.json("image", "list", "--long", "--name", "data")],
                   [("raw", len(self.data), "shared", False, self.cloud.projects["alpha"])])
        names = lambda *words: sorted(r["Name"] for r in self.json("image", "list", *words))
        self.equal("image list --private", names("--private"), ["from-stdin"])
        self.equal("image list --shared", names("--shared"), ["data", "imported"])
        self.equal("image list --community", names("--community"), ["empty"])
        self.equal("image list --public", names("--public"), [])
        self.equal("image list --all", names("--all"), ["data", "empty", "from-stdin", "imported"])
        self.equal("image list --name", names("--name", "imported"), ["imported"])
        self.equal("image list --status", names("--status", "queued"), [])
        self.equal("image list --tag", names("--tag", "two"), ["data"])
        self.equal("image list --property", names("--property", "os_distro=debian"), ["data"])
        self.equal("image list --hidden", names("--hidden"), [])
        self.equal("image list --project", names("--project", self.cloud.projects["alpha"]),
                   ["data", "empty", "from-stdin", "imported"])
        self.equal("image list --member-status", names("--member-status", "pending"),
                   ["data", "empty", "from-stdin", "imported"])
        first = self.json("image", "list", "--limit", "1")
        self.equal("image list --limit", len(first), 1)
        rest = self.json("image", "list", "--marker", first[0]["ID"])
        self.equal("image list --marker: the others", ids(first + rest), ids(rows))
        self.equal("image list --sort", [r["Name"] for r in self.json("image", "list", "--sort", "name:desc")],
                   ["imported", "from-stdin", "empty", "data"])
        self.equal("image list as another project", ids(self.json("image", "list", account="bob")), [])
        self.equal("image list --community as another project",
                   ids(self.json("image", "list", "--community", account="bob")), [community])
        self.fails("image", "show", data, account="bob", saying="No Image found")
        self.fails("image", "show", "no-such-image", saying="No Image found")

    def change(self, data):
        self.ok("image", "set", "--name", "renamed", "--min-disk", "3", "--min-ram", "128", "--protected", "--community",
                "--property", "tier=gold", "--property", "hw_disk_bus=scsi", "--tag", "three", "--architecture", "x86_64",
                "--os-distro", "fedora", "--os-version", "39", "--instance-id", lib.new_id(), "--kernel-id", lib.new_id(),
                "--ramdisk-id", lib.new_id(), "data")
        shown = self.show(data)
        properties = shown["properties"]
        self.equal("image set", (shown["name"], shown["min_disk"], shown["min_ram"], shown["protected"],
                   shown["visibility"], sorted(shown["tags"]), properties["tier"], properties["hw_disk_bus"],
                   properties["architecture"], properties["os_distro"], properties["os_version"]),
                   ("renamed", 3, 128, True, "community", ["one", "three", "two"], "gold", "scsi", "x86_64", "fedora", "39"))
        self.fails("image", "delete", data, saying="403")
        self.ok("image", "set", "--unprotected", "--shared", "--name", "data", data)
        self.ok("image", "unset", "--tag", "three", "--tag", "one", "--property", "tier", "--property", "hw_disk_bus", data)
        shown = self.show("data")
        self.equal("image unset", (shown["tags"], "tier" in shown["properties"], "hw_disk_bus" in shown["properties"]),
                   (["two"], False, False))
        self.fails("image", "unset", "--property", "no-such-property", data, saying="no-such-property")
        self.ok("image", "set", "--hidden", data)
        self.equal("a hidden image is not listed", data in ids(self.json("image", "list")), False)
        self.equal("image list --hidden", ids(self.json("image", "list", "--hidden")), [data])
        self.equal("a hidden image is found by name", self.show("data")["id"], data)
        self.ok("image", "set", "--unhidden", data)
        self.fails("image", "set", "--public", data, saying="403")
        self.ok("image", "set", "--public", data, account="admin")
        self.equal("image set --public", data in ids(self.json("image", "list", account="bob")), True)
        self.ok("image", "set", "--deactivate", data)
        back = self.cloud.file("back.raw")
        self.fails("image", "save", "--file", back, data, account="bob")
        self.ok("image", "set", "--activate", data)
        self.ok("image", "save", "--file", back, data, account="bob")
        self.equal("image save", sha256_of(back), sha256_of(self.path))
        self.ok("image", "set", "--shared", data, account="admin")
        self.fails("image", "set", "--disk-format", "qcow2", data, saying="403")

    def shares(self, data):
        alpha, beta = self.cloud.projects["alpha"], self.cloud.projects["beta"]
        member = self.json("image", "add", "project", data, beta)
        self.equal("image add project", (member["image_id"], member["member_id"], member["status"]), (data, beta, "pending"))
        self.fails("image", "add", "project", data, beta, saying="409")
        self.equal("image member list", [(m["Member ID"], m["Status"]) for m in self.json("image", "member", "list", data)],
                   [(beta, "pending")])
        for word, status, listed in (("--accept", "accepted", True), ("--reject", "rejected", False),
                                     ("--pending", "pending", False)):
            self.ok("image", "set", word, data, account="bob")
            self.equal(f"image set {word}", (self.json("image", "member", "list", data)[0]["Status"],
                                             data in ids(self.json("image", "list", account="bob"))), (status, listed))
        self.equal("image list --member-status pending",
                   ids(self.json("image", "list", "--member-status", "pending", "--shared", account="bob")), [data])
        self.fails("image", "set", "--accept", data)
        # A member may not look projects up (403 each): the client then takes the text as the id.
        self.ok("image", "remove", "project", data, beta)
        self.equal("image remove project", self.json("image", "member", "list", data), [])
        self.ok("image", "add", "project", data, self.beta, account="admin")
        self.equal("image add project, by name", self.json("image", "member", "list", data)[0]["Member ID"], beta)
        self.ok("image", "set", "--accept", "--project", self.beta, data, account="admin")  # the client sends both
        self.equal("image set --accept --project: the member",
                   self.json("image", "member", "list", data, account="admin")[0]["Status"], "accepted")
        self.ok("image", "remove", "project", data, self.beta, account="admin")
        self.equal("image set --project", self.show(data, account="admin")["owner"], beta)
        self.fails("image", "set", "--project", alpha, data, account="bob", saying="403")
        self.ok("image", "set", "--project", self.alpha, data, account="admin")

    def deletes(self, *images):
        self.json("image", "create", "twin")
        self.json("image", "create", "twin")
        self.fails("image", "show", "twin", saying="More than one")
        self.fails("image", "delete", lib.new_id(), saying="Failed to delete 1 of 1")
        self.ok("image", "delete", *images, "from-stdin", *ids(self.json("image", "list", "--name", "twin")))
        self.equal("image list after all is deleted", self.json("image", "list"), [])
        self.fails("image", "show", images[0])

    # ---- identity ----

    def tokens(self):
        token = self.json("token", "issue")
        self.equal("token issue", (token["project_id"], sorted(token)),
                   (self.cloud.projects["alpha"], ["expires", "id", "project_id", "user_id"]))
        with_token = {"OS_AUTH_TYPE": "token", "OS_TOKEN": token["id"], "OS_USERNAME": None, "OS_PASSWORD": None,
                      "OS_USER_DOMAIN_NAME": None, "OS_USER_DOMAIN_ID": None}
        self.equal("image list with a token", self.json("image", "list", **with_token), [])
        catalog = {row["Type"]: row for row in self.json("catalog", "list")}
        self.equal("catalog list", sorted(catalog), ["identity", "image"])
        interfaces = {e["interface"]: e["url"] for e in self.json("catalog", "show", "image")["endpoints"]}
        self.equal("catalog show: its interfaces", sorted(interfaces), ["admin", "internal", "public"])
        self.ok("token", "revoke", token["id"])
        self.fails("image", "list", **with_token)
        self.fails("image", "list", OS_PASSWORD="wrong", saying="HTTP 401")
        self.fails("image", "list", OS_PROJECT_NAME=self.beta, saying="HTTP 401")
        self.fails("image", "list", OS_PROJECT_NAME="nowhere", saying="HTTP 401")
        self.ok("token", "issue", OS_AUTH_URL=self.cloud.accounts["alice"]["OS_AUTH_URL"].removesuffix("/v3"))
        return token["user_id"]

    def looks(self, user_id):
        alpha = self.cloud.projects["alpha"]
        self.equal("project list as a member: its own", [r["Name"] for r in self.json("project", "list")], [self.alpha])
        listed = {r["Name"]: r["ID"] for r in self.json("project", "list", account="admin")}
        self.equal("project list", (listed.get(self.alpha), listed.get(self.beta)), (alpha, self.cloud.projects["beta"]))
        shown = self.json("project", "show", self.alpha, account="admin")
        self.equal("project show", (shown["id"], shown["name"], shown["enabled"], shown["is_domain"]), (alpha, self.alpha, True, False))
        self.equal("project show as a member, by id", self.json("project", "show", alpha)["name"], self.alpha)
        self.fails("project", "show", "no-such-project", account="admin", saying="no-such-project")
        self.equal("user list", {r["Name"]: r["ID"] for r in self.json("user", "list", account="admin")}.get(self.alice), user_id)
        self.equal("user list --project", [r["Name"] for r in self.json("user", "list", "--project", self.alpha, account="admin")], [self.alice])
        self.equal("user show", self.json("user", "show", self.alice, account="admin")["id"], user_id)
        self.fails("user", "list", saying="HTTP 403")
        roles = {r["Name"]: r["ID"] for r in self.json("role", "list", account="admin")}
        self.equal("role list", {"admin", "member", "reader", "service"} <= set(roles), True)
        self.equal("role show", self.json("role", "show", "member", account="admin")["id"], roles["member"])
        self.equal("domain list", "Default" in [r["Name"] for r in self.json("domain", "list", account="admin")], True)
        self.equal("domain show", self.json("domain", "show", "Default", account="admin")["id"], "default")
        self.equal("service list", {r["Type"] for r in self.json("service", "list", account="admin")} >= {"identity", "image"}, True)
        self.equal("service show", self.json("service", "show", "image", account="admin")["type"], "image")
        self.equal("endpoint list --service image", sorted(r["Interface"] for r in self.json(
            "endpoint", "list", "--service", "image", account="admin")), ["admin", "internal", "public"])
        self.equal("region list", [r["Region"] for r in self.json("region", "list", account="admin")], ["RegionOne"])
        rows = self.json("role", "assignment", "list", "--project", self.alpha, account="admin")
        self.equal("role assignment list", [(r["Role"], r["User"], r["Project"]) for r in rows], [(roles["member"], user_id, alpha)])
        rows = self.json("role", "assignment", "list", "--names", "--user", self.alice, account="admin")
        self.equal("role assignment list --names", [(r["Role"], r["User"], r["Project"]) for r in rows],
                   [("member", f"{self.alice}@Default", f"{self.alpha}@Default")])

    def manages(self):
        project = self.json("project", "create", "--domain", "Default", "--description", "a project", "gamma", account="admin")
        self.equal("project create", (project["name"], project["description"], project["enabled"]), ("gamma", "a project", True))
        self.fails("project", "create", "gamma", account="admin", saying="409")
        self.fails("project", "create", "delta", saying="HTTP 403")
        user = self.json("user", "create", "--domain", "Default", "--password", "first-Pass-1", "--email", "c@example.org",
                         "carol", account="admin")
        self.equal("user create", (user["name"], user["domain_id"], user["enabled"]), ("carol", "default", True))
        carol = {"OS_USERNAME": "carol", "OS_PASSWORD": "first-Pass-1", "OS_PROJECT_NAME": "gamma"}
        self.fails("token", "issue", **carol, saying="HTTP 401")
        self.ok("role", "add", "--user", "carol", "--project", "gamma", "reader", account="admin")
        self.ok("token", "issue", **carol)
        self.fails("image", "create", "by-a-reader", **carol, saying="403")
        self.ok("role", "add", "--user", "carol", "--project", "gamma", "member", account="admin")
        self.ok("image", "create", "by-a-member", **carol)
        self.ok("image", "delete", "by-a-member", **carol)
        self.ok("role", "remove", "--user", "carol", "--project", "gamma", "reader", account="admin")
        self.ok("user", "password", "set", "--original-password", "first-Pass-1", "--password", "second-Pass-2", **carol)
        self.fails("token", "issue", **carol, saying="HTTP 401")
        carol["OS_PASSWORD"] = "second-Pass-2"
        self.ok("token", "issue", **carol)
        self.application_credentials(carol)
        self.ok("user", "set", "--disable", "carol", account="admin")
        self.fails("token", "issue", **carol, saying="HTTP 401")
        self.ok("user", "set", "--enable", "--password", "third-Pass-3", "carol", account="admin")
        self.ok("token", "issue", **{**carol, "OS_PASSWORD": "third-Pass-3"})
        self.ok("project", "set", "--description", "changed", "--disable", "gamma", account="admin")
        self.equal("project set", (lambda p: (p["description"], p["enabled"]))(self.json("project", "show", "gamma", account="admin")),
                   ("changed", False))
        self.fails("token", "issue", **{**carol, "OS_PASSWORD": "third-Pass-3"}, saying="HTTP 401")
        self.ok("user", "delete", "carol", account="admin")
        self.ok("project", "delete", "gamma", account="admin")
        self.fails("user", "show", "carol", account="admin", saying="carol")
        self.fails("project", "delete", "gamma", account="admin", saying="gamma")

    def application_credentials(self, carol):
        made = self.json("application", "credential", "create", "--role", "member", "--description", "for a robot", "robot", **carol)
        robot = {"OS_AUTH_TYPE": "v3applicationcredential", "OS_APPLICATION_CREDENTIAL_ID": made["id"],
                 "OS_APPLICATION_CREDENTIAL_SECRET": made["secret"], "OS_USERNAME": None, "OS_PASSWORD": None,
                 "OS_PROJECT_NAME": None, "OS_USER_DOMAIN_NAME": None, "OS_PROJECT_DOMAIN_NAME": None}
        self.ok("image", "create", "by-a-robot", **robot)
        self.ok("image", "delete", "by-a-robot", **robot)
        self.fails("application", "credential", "create", "second", **robot)
        self.equal("application credential list", [r["Name"] for r in self.json("application", "credential", "list", **carol)], ["robot"])
        self.equal("application credential show", self.json("application", "credential", "show", "robot", **carol)["id"], made["id"])
        self.ok("application", "credential", "delete", "robot", **carol)
        self.fails("image", "list", **robot, saying="HTTP 401")
        self.access_rules(carol, robot)

    def access_rules(self, carol, robot):
        rules = [{"service": "image", "method": "GET", "path": "/v2/images"}]
        made = self.json("application", "credential", "create", "--access-rules", json.dumps(rules), "bound", **carol)
        bound = {**robot, "OS_APPLICATION_CREDENTIAL_ID": made["id"], "OS_APPLICATION_CREDENTIAL_SECRET": made["secret"]}
        self.ok("image", "list", **bound)
        self.fails("image", "create", "by-a-bound-robot", **bound, saying="401")
        listed = self.json("access", "rule", "list", **carol)
        self.equal("access rule list", [(r["Service"], r["Method"], r["Path"]) for r in listed], [("image", "GET", "/v2/images")])
        rule = listed[0]["ID"]
        self.equal("access rule show", self.json("access", "rule", "show", rule, **carol)["path"], "/v2/images")
        self.fails("access", "rule", "delete", rule, **carol)
        self.ok("application", "credential", "delete", "bound", **carol)
        self.ok("access", "rule", "delete", rule, **carol)
        self.equal("access rule delete", self.json("access", "rule", "list", **carol), [])


def run(shell, cloud):
    client = Openstack(shell, cloud)
    images = client.create()
    client.lists(*images)
    client.change(images[0])
    client.shares(images[0])
    client.deletes(*images)
    client.looks(client.tokens())
    client.manages()
    if os.path.exists(client.cloud.file("back.raw")):
        os.remove(client.cloud.file("back.raw"))
