"""Every verb of the stock glance client, with its output checked."""
import hashlib
import json
import os

import lib


def rows(table):
    """The lines of a table that the client printed, as dictionaries by column; what it wrapped is put together."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    whole = []
    for line in lines:
        if len(whole) > 1 and not line[0]:
            whole[-1] = [start + more for start, more in zip(whole[-1], line)]
        else:
            whole.append(line)
    return [dict(zip(whole[0], line)) for line in whole[1:]]


def record(table):
    """A table of properties and values."""
    return {row["Property"]: row["Value"] for row in rows(table)}


class Glance:
    def __init__(self, shell, cloud, origin):
        self.shell, self.cloud, self.origin = shell, cloud, origin
        self.data = bytes(lib.Body("glance", lib.MIB + 5))
        self.path = cloud.file("glance.raw", self.data)

    def ok(self, *words, **options):
        return self.shell.ok("glance", *words, **options)

    def fails(self, *words, **options):
        return self.shell.fails("glance", *words, **options)

    def rows(self, *words, **options):
        return rows(self.ok(*words, **options))

    def record(self, *words, **options):
        return record(self.ok(*words, **options))

    def equal(self, what, got, expected):
        self.shell.equal(what, got, expected)

    def await_field(self, image, field, wanted):
        show = lambda: record(self.shell.call("glance", "image-show", image)["out"]).get(field) == wanted
        self.shell.check(f"{image}: {field} becomes {wanted}", lib.wait_until(show, 30, 0.3))

    # ---- images ----

    def create(self):
        made = self.record("image-create", "--name", "g-data", "--disk-format", "raw", "--container-format", "bare", "--file",
                           self.path, "--visibility", "shared", "--min-disk", "1", "--min-ram", "32", "--protected", "True",
                           "--property", "colour=blue", "--os-distro", "debian", "--tags", "a", "b", "--store", "tessera")
        self.equal("image-create", (made["status"], made["size"], made["checksum"], made["os_hash_value"], made["min_disk"],
                                    made["protected"], made["colour"], made["os_distro"], made["stores"]),
                   ("active", str(len(self.data)), hashlib.md5(self.data).hexdigest(), hashlib.sha512(self.data).hexdigest(),
                    "1", "True", "blue", "debian", "tessera"))
        image = made["id"]
        shown = self.record("image-show", image)
        self.equal("image-show", {k: shown[k] for k in ("id", "status", "name", "owner")},
                   {"id": image, "status": "active", "name": "g-data", "owner": self.cloud.projects["alpha"]})
        self.fails("image-delete", image, saying="not permitted")
        self.fails("image-create", "--name", "g-public", "--visibility", "public", saying="publicize_image")
        self.fails("image-create", "--name", "g-store", "--disk-format", "raw", "--container-format", "bare", "--file",
                   self.path, "--store", "nowhere", saying="nowhere")
        updated = self.record("image-update", "--name", "g-renamed", "--protected", "False", "--property", "colour=red",
                              "--property", "size_note=x", "--min-ram", "64", image)
        self.equal("image-update", (updated["name"], updated["protected"], updated["colour"], updated["min_ram"]),
                   ("g-renamed", "False", "red", "64"))
        updated = self.record("image-update", "--remove-property", "size_note", "--name", "g-data", image)
        self.equal("image-update --remove-property", "size_note" in updated, False)
        self.ok("image-tag-update", image, "c")
        self.ok("image-tag-delete", image, "a")
        self.fails("image-tag-delete", image, "a", saying="does not have tag")
        self.equal("tags", self.record("image-show", image)["tags"], '["b", "c"]')
        return image

    def data_flows(self, image):
        back = self.cloud.file("glance.back")
        self.ok("image-download", "--file", back, image)
        with open(back, "rb") as f:
            self.shell.check("image-download: the bytes", f.read() == self.data)
        self.ok("image-deactivate", image)
        self.equal("image-deactivate", self.record("image-show", image)["status"], "deactivated")
        self.fails("image-download", "--file", back, image, saying="deactivated")
        self.ok("image-reactivate", image)
        empty = self.record("image-create", "--name", "g-upload", "--disk-format", "raw", "--container-format", "bare")
        self.equal("image-create without data", (empty["status"], empty["size"]), ("queued", "None"))
        self.fails("image-download", "--file", back, empty["id"], saying="no data")
        self.ok("image-upload", "--file", self.path, empty["id"])
        self.fails("image-upload", "--file", self.path, empty["id"], saying="transition from active")
        staged = self.record("image-create", "--name", "g-stage", "--disk-format", "raw", "--container-format", "bare")["id"]
        self.ok("image-stage", "--file", self.path, staged)
        self.equal("image-stage", self.record("image-show", staged)["status"], "uploading")
        self.ok("image-import", "--import-method", "glance-direct", staged)
        self.await_field(staged, "status", "active")
        made = self.record("image-create-via-import", "--name", "g-via", "--disk-format", "raw", "--container-format", "bare",
                           "--file", self.path, "--import-method", "glance-direct")
        self.await_field(made["id"], "status", "active")
        made = self.record("image-create-via-import", "--name", "g-web", "--disk-format", "raw", "--container-format", "bare",
                           "--import-method", "web-download", "--uri", f"{self.origin}/data/4096", "--stores", "tessera")
        self.await_field(made["id"], "status", "active")
        self.await_field(made["id"], "os_glance_failed_import", "")
        tasks = self.rows("image-tasks", made["id"])
        self.equal("image-tasks", [t["Status"] for t in tasks], ["success"])
        self.fails("image-create-via-import", "--name", "g-bad", "--disk-format", "raw", "--container-format", "bare",
                   "--import-method", "web-download", "--uri", "http://169.254.169.254/latest", saying="filtering")
        self.shell.check("import-info", "web-download" in self.ok("import-info"))
        return empty["id"], staged

    def lists(self, image):
        listed = {row["ID"]: row["Name"] for row in self.rows("image-list")}
        self.equal("image-list", (listed.get(image), len(listed) >= 4), ("g-data", True))
        names = lambda *words, **options: sorted(r["Name"] for r in self.rows("image-list", *words, **options))
        everything = names()
        self.equal("image-list --page-size 2 finds the same", names("--page-size", "2"), everything)
        self.equal("image-list --limit", len(names("--limit", "3")), 3)
        self.equal("image-list --sort", [r["Name"] for r in self.rows("image-list", "--sort", "name:desc,size:asc")],
                   sorted(everything, reverse=True))
        self.equal("image-list --sort-key --sort-dir", [r["Name"] for r in self.rows(
            "image-list", "--sort-key", "name", "--sort-dir", "desc", "--sort-key", "size", "--sort-dir", "asc")],
                   sorted(everything, reverse=True))
        self.equal("image-list --property-filter", names("--property-filter", "colour=red"), ["g-data"])
        self.equal("image-list --property-filter name", names("--property-filter", "name=g-via"), ["g-via"])
        self.equal("image-list --tag", names("--tag", "b", "--tag", "c"), ["g-data"])
        same = ["g-data", "g-stage", "g-upload", "g-via"]
        self.equal("image-list --checksum", names("--checksum", hashlib.md5(self.data).hexdigest()), same)
        self.equal("image-list --hash", names("--hash", hashlib.sha512(self.data).hexdigest()), same)
        self.equal("image-list --owner", names("--owner", self.cloud.projects["alpha"]), everything)
        self.equal("image-list --visibility", names("--visibility", "private"), [])
        self.ok("image-update", "--hidden", "True", image)
        self.equal("image-list --hidden", names("--hidden", "True"), ["g-data"])
        self.equal("image-list without it", "g-data" in names(), False)
        self.ok("image-update", "--hidden", "False", image)
        self.shell.check("image-list --include-stores", {r["Stores"] for r in self.rows("image-list", "--include-stores",
                         "--property-filter", "colour=red")} == {"tessera"})

    def members(self, image):
        beta = self.cloud.projects["beta"]
        row = {"Image ID": image, "Member ID": beta}
        self.equal("member-create", self.rows("member-create", image, beta), [{**row, "Status": "pending"}])
        self.fails("member-create", image, beta, saying="HTTP")
        self.equal("member-list", self.rows("member-list", "--image-id", image), [{**row, "Status": "pending"}])
        self.equal("member-get", self.record("member-get", image, beta, account="bob")["status"], "pending")
        self.fails("member-update", image, beta, "accepted", saying="HTTP")
        self.ok("member-update", image, beta, "accepted", account="bob")
        # The other client's images, of the same owner, may be public for a moment.
        self.equal("image-list of the member", image in [r["ID"] for r in self.rows("image-list", account="bob")], True)
        self.equal("image-list --member-status", [r["ID"] for r in self.rows(
            "image-list", "--member-status", "accepted", "--visibility", "shared", account="bob")], [image])
        self.ok("member-update", image, beta, "rejected", account="bob")
        self.ok("member-delete", image, beta)
        self.fails("member-get", image, beta, saying="HTTP")
        self.fails("image-show", image, account="bob", saying="HTTP")

    # ---- stores, tasks, schemas ----

    def stores(self, image):
        self.shell.check("stores-info", "tessera" in self.ok("stores-info"))
        self.shell.check("stores-info --detail", "file" in self.ok("stores-info", "--detail", account="admin"))
        self.fails("stores-info", "--detail", saying="stores_info_detail")
        self.ok("usage")
        self.fails("stores-delete", "--store", "tessera", image, account="admin", saying="HTTP")
        self.fails("stores-delete", "--store", "tessera", image, saying="HTTP")
        for words in (("location-add",), ("location-update",), ("location-delete",)):
            self.fails(*words, "--url", "http://example.org/x", image)

    def tasks(self):
        self.fails("task-list", saying="tasks_api_access")
        body = {"import_from": f"{self.origin}/data/2048", "import_from_format": "raw",
                "image_properties": {"name": "g-task", "container_format": "bare", "disk_format": "raw"}}
        made = self.record("task-create", "--type", "import", "--input", json.dumps(body), account="admin")
        task = made["id"]
        done = lib.wait_until(lambda: record(self.shell.call("glance", "task-show", task, account="admin")["out"])["status"]
                              == "success", 30, 0.3)
        self.shell.check("task-create: task-show says success", done)
        self.shell.check("task-list", task in self.ok("task-list", "--sort-key", "id", "--sort-dir", "asc", "--page-size", "1",
                                                      account="admin"))

    def explain(self):
        for name in ("image", "images", "member", "members", "task", "tasks", "metadefs/namespace"):
            self.shell.check(f"explain {name}: fields", "|" in self.ok("explain", name))

    # ---- metadata definitions ----

    def definitions(self):
        admin = {"account": "admin"}
        self.fails("md-namespace-create", "Mine", saying="HTTP")
        made = self.record("md-namespace-create", "--display-name", "Verbs", "--description", "of the client", "--visibility",
                           "public", "Verbs", **admin)
        self.equal("md-namespace-create", (made["namespace"], made["display_name"], made["visibility"]), ("Verbs", "Verbs", "public"))
        self.equal("md-namespace-update", self.record("md-namespace-update", "--description", "changed", "--visibility",
                   "public", "--display-name", "Verbs", "Verbs", **admin)["description"], "changed")
        self.ok("md-property-create", "--name", "cpus", "--title", "CPUs", "--schema",
                '{"type": "integer", "minimum": 1, "description": "how many"}', "Verbs", **admin)
        self.equal("md-property-show", self.record("md-property-show", "Verbs", "cpus")["title"], "CPUs")
        self.ok("md-property-update", "--name", "cpus", "--title", "Cores", "--schema", '{"type": "integer"}', "Verbs", "cpus", **admin)
        self.shell.check("md-property-list", "Cores" in self.ok("md-property-list", "Verbs"))
        self.ok("md-object-create", "--name", "box", "--schema",
                '{"description": "a box", "properties": {"height": {"type": "integer", "title": "Height"}}}', "Verbs", **admin)
        self.equal("md-object-show", self.record("md-object-show", "Verbs", "box")["properties"], '["height"]')
        self.shell.check("md-object-property-show", "Height" in self.ok("md-object-property-show", "Verbs", "box", "height"))
        self.ok("md-object-update", "--name", "box", "--schema", '{"description": "another box"}', "Verbs", "box", **admin)
        self.shell.check("md-object-list", "another box" in self.ok("md-object-list", "Verbs"))
        self.ok("md-tag-create-multiple", "--names", "second,third", "Verbs", **admin)
        self.ok("md-tag-create", "--name", "first", "Verbs", **admin)
        self.ok("md-tag-update", "--name", "fourth", "Verbs", "third", **admin)
        self.equal("md-tag-list", sorted(r["name"] for r in self.rows("md-tag-list", "Verbs")), ["first", "fourth", "second"])
        self.equal("md-tag-show", self.record("md-tag-show", "Verbs", "first")["name"], "first")
        self.shell.check("md-resource-type-list", "OS::Glance::Image" in self.ok("md-resource-type-list"))
        self.ok("md-resource-type-associate", "--name", "OS::Glance::Image", "--prefix", "v_", "Verbs", **admin)
        self.shell.check("md-namespace-resource-type-list", "OS::Glance::Image" in self.ok("md-namespace-resource-type-list", "Verbs"))
        self.shell.check("md-namespace-show --resource-type: the prefix", "v_cpus" in self.ok(
            "md-namespace-show", "--resource-type", "OS::Glance::Image", "Verbs"))
        self.shell.check("md-namespace-list", "Verbs" in self.ok("md-namespace-list", "--resource-types", "OS::Glance::Image"))
        self.ok("md-resource-type-deassociate", "Verbs", "OS::Glance::Image", **admin)
        self.ok("md-tag-delete", "Verbs", "first", **admin)
        self.ok("md-namespace-tags-delete", "Verbs", **admin)
        self.ok("md-property-delete", "Verbs", "cpus", **admin)
        self.ok("md-namespace-properties-delete", "Verbs", **admin)
        self.ok("md-object-delete", "Verbs", "box", **admin)
        self.ok("md-namespace-objects-delete", "Verbs", **admin)
        path = self.cloud.file("namespace.json", json.dumps({
            "namespace": "Imported", "visibility": "public", "properties": {"p": {"type": "string", "title": "P"}}}).encode())
        self.ok("md-namespace-import", "--file", path, **admin)
        self.shell.check("md-namespace-import: md-namespace-show", "Imported" in self.ok("md-namespace-show", "Imported"))
        self.ok("md-namespace-delete", "Imported", **admin)
        self.ok("md-namespace-delete", "Verbs", **admin)
        self.fails("md-namespace-show", "Verbs", saying="HTTP")

    def deletes(self, image):
        self.ok("image-delete", image, *(r["ID"] for r in self.rows("image-list") if r["ID"] != image))
        self.equal("image-list after all is deleted", self.rows("image-list"), [])
        self.fails("image-show", image, saying="HTTP")
        self.fails("image-delete", image, saying="No image with an ID")


def run(shell, cloud, origin):
    """`origin` is the address of a web server with /data/SIZE."""
    client = Glance(shell, cloud, origin)
    image = client.create()
    client.data_flows(image)
    client.lists(image)
    client.members(image)
    client.stores(image)
    client.tasks()
    client.explain()
    client.definitions()
    client.deletes(image)
    os.remove(client.path)
