"""What the rows are run against: accounts in one cluster, the shelf of images for listings, and the image of a row."""
import http.client
import json
import os
import sys
import urllib.parse
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenario"))
import lib  # noqa: E402  pylint: disable=wrong-import-position

import contract  # noqa: E402  pylint: disable=wrong-import-position

PASSWORD = "contract-Passw0rd"
DATA = b"0123456789"


class Broken(Exception):
    """Something before the row's own request did not work."""


class World:
    """The cluster, its accounts and their tokens."""

    # who: (user, scope); users are made in `make`
    PROJECTS = ("alpha", "beta", "shelf")
    USERS = {  # name: [(role, project)]
        "member": [("member", "alpha")], "reader": [("reader", "alpha")], "other": [("member", "beta")],
        "otherreader": [("reader", "beta")], "librarian": [("member", "shelf")], "service": [("service", "service")],
        "chief": [("admin", "alpha")], "victim": [("member", "alpha")],
    }

    def __init__(self, cluster):
        self.cluster = cluster
        self.hosts = [urllib.parse.urlparse(h["api_url"]) for h in cluster.hosts()]
        self.context = cluster.tls()
        self.words = {"unknown": str(uuid.uuid4())}
        self.tokens = {"none": None, "bad": "tsr1.nobody-issued-this"}
        self.images = {}

    def caller(self):
        return Caller(self)

    def fill(self, text):
        """<words> replaced, in texts at any depth."""
        if isinstance(text, contract.File):
            return text
        if isinstance(text, dict):
            return {self.fill(k): self.fill(v) for k, v in text.items()}
        if isinstance(text, (list, tuple, set)):
            return type(text)(self.fill(v) for v in text)
        if isinstance(text, str) and "<" in text:
            for word, value in self.words.items():
                text = text.replace(f"<{word}>", value)
        return text

    # ---- accounts ----

    def login(self, caller, user, scope=None, password=PASSWORD):
        identity = {"methods": ["password"],
                    "password": {"user": {"name": user, "password": password, "domain": {"id": "default"}}}}
        auth = {"identity": identity, **({"scope": scope} if scope else {})}
        reply = caller.ask("none", "POST", "/identity/v3/auth/tokens", {"auth": auth})
        if reply.status != 201:
            raise Broken(f"login of {user}: {reply}")
        return reply.headers["X-Subject-Token"]

    def make(self):
        with self.caller() as caller:
            password = self.cluster.rc("admin")["OS_PASSWORD"]
            self.words["password:admin"] = password
            self.tokens["admin"] = self.login(caller, "admin", project("admin"), password)
            for name in self.PROJECTS:
                made = caller.must("admin", "POST", "/identity/v3/projects", {"project": {"name": name}})
                self.words[name] = made["project"]["id"]
            for name in ("service", "admin"):
                found = caller.must("admin", "GET", f"/identity/v3/projects?name={name}")
                self.words[f"project:{name}"] = found["projects"][0]["id"]
            roles = {r["name"]: r["id"] for r in caller.must("admin", "GET", "/identity/v3/roles")["roles"]}
            self.words.update({f"role:{name}": i for name, i in roles.items()})
            for user, grants in self.USERS.items():
                self.make_user(caller, user, grants, roles)
            found = caller.must("admin", "GET", "/identity/v3/users?name=admin")
            self.words["user:admin"] = found["users"][0]["id"]
            self.make_scoped(caller, roles)
        for who, token in self.tokens.items():
            self.words[f"token:{who}"] = token or ""

    def make_user(self, caller, user, grants, roles):
        made = caller.must("admin", "POST", "/identity/v3/users", {"user": {"name": user, "password": PASSWORD}})
        self.words[f"user:{user}"] = made["user"]["id"]
        self.words[f"password:{user}"] = PASSWORD
        for role, where in grants:
            target = self.words.get(where) or self.words[f"project:{where}"]
            caller.must("admin", "PUT", f"/identity/v3/projects/{target}/users/{made['user']['id']}/roles/{roles[role]}")
        self.tokens[user] = self.login(caller, user, project(grants[0][1]))

    def make_scoped(self, caller, roles):
        """Callers whose token is for no project: nothing, the system, a domain."""
        made = caller.must("admin", "POST", "/identity/v3/users", {"user": {"name": "wide", "password": PASSWORD}})
        user = made["user"]["id"]
        self.words["user:wide"] = user
        caller.must("admin", "PUT", f"/identity/v3/system/users/{user}/roles/{roles['admin']}")
        caller.must("admin", "PUT", f"/identity/v3/domains/default/users/{user}/roles/{roles['admin']}")
        self.tokens["system"] = self.login(caller, "wide", {"system": {"all": True}})
        self.tokens["domain"] = self.login(caller, "wide", {"domain": {"id": "default"}})
        self.tokens["unscoped"] = self.login(caller, "member")

    # ---- the shelf ----

    SHELF = (  # (who makes it, fields, data, members)
        ("librarian", {"name": "apple", "visibility": "private", "min_disk": 1, "min_ram": 100, "tags": ["shelf", "red"],
                       "color": "red", "disk_format": "raw", "container_format": "bare"}, DATA, ()),
        ("librarian", {"name": "banana", "visibility": "community", "min_disk": 5, "tags": ["shelf"], "color": "yellow",
                       "disk_format": "qcow2", "container_format": "bare"}, None, ()),
        ("librarian", {"name": "cherry", "visibility": "shared", "protected": True, "tags": ["shelf", "red"],
                       "disk_format": "raw", "container_format": "ovf"}, DATA * 2, ()),
        ("librarian", {"name": "date", "min_ram": 500, "tags": ["shelf", "red", "sweet"], "color": "brown",
                       "disk_format": "iso", "container_format": "bare"}, None, ()),
        ("librarian", {"name": "elder", "os_hidden": True, "tags": ["shelf"]}, None, ()),
        ("librarian", {"name": "fig, dried", "tags": ["shelf"], "color": "gr\u00fcn"}, None, ()),
        ("librarian", {"name": "grape:1", "tags": ["shelf"], "kind": ""}, None, ()),
        ("admin", {"name": "poster", "visibility": "public", "tags": ["shelf"], "disk_format": "raw",
                   "container_format": "bare"}, DATA, ()),
        ("other", {"name": "common", "visibility": "community", "tags": ["shelf"]}, None, ()),
        ("other", {"name": "lent", "tags": ["shelf"]}, None, ("accepted",)),
        ("other", {"name": "offered", "tags": ["shelf"]}, None, ("pending",)),
        ("other", {"name": "refused", "tags": ["shelf"]}, None, ("rejected",)),
        ("other", {"name": "secret", "visibility": "private", "tags": ["shelf"]}, None, ()),
    )

    def make_shelf(self):
        with self.caller() as caller:
            for who, fields, data, members in self.SHELF:
                image = caller.must(who, "POST", "/v2/images", fields)
                self.words[f"image:{fields['name']}"] = image["id"]
                path = f"/v2/images/{image['id']}"
                if data is not None:
                    caller.must(who, "PUT", path + "/file", data, contract.OCTETS)
                for status in members:
                    caller.must(who, "POST", path + "/members", {"member": self.words["shelf"]})
                    if status != "pending":
                        caller.must("librarian", "PUT", f"{path}/members/{self.words['shelf']}", {"status": status})
            gone = caller.must("librarian", "POST", "/v2/images", {"name": "gone", "tags": ["shelf"]})
            caller.must("librarian", "DELETE", f"/v2/images/{gone['id']}")
            self.words["image:gone"] = gone["id"]


def project(name):
    return {"project": {"name": name, "domain": {"id": "default"}}}


class Reply:
    def __init__(self, status, headers, data):
        self.status, self.headers, self.data = status, headers, data

    def json(self):
        try:
            return json.loads(self.data)
        except ValueError:
            return None

    def __str__(self):
        return f"{self.status} {self.data[:300]!r}"


class Caller:
    """Connections to every host, used in turn; for one thread."""

    def __init__(self, world):
        self.world = world
        self.connections = {}
        self.turn = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in self.connections.values():
            connection.close()

    def address(self):
        host = self.world.hosts[self.turn % len(self.world.hosts)]
        return host

    def next_host(self):
        self.turn += 1

    def ask(self, who, method, path, body=None, headers=None, token=None):
        """One request to the host whose turn it is, as `who`; then it is the next one's turn."""
        fields = dict(headers or {})
        token = token or self.world.tokens[who]
        if token is not None and not any(k.lower() == "x-auth-token" for k in fields):
            fields["X-Auth-Token"] = token
        chunked = isinstance(body, contract.Chunked)
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        elif isinstance(body, str):
            body = body.encode("utf-8", "surrogateescape")
        if chunked:
            fields["Transfer-Encoding"] = "chunked"
            body = iter([body[at:at + 65536] for at in range(0, len(body), 65536)])
        at = self.turn % len(self.world.hosts)
        self.turn += 1
        return self.send(at, method, path, body, fields, chunked)

    def send(self, at, method, path, body, fields, chunked):
        again = at in self.connections and body is None and method == "GET"
        while True:
            connection = self.connections.get(at)
            if connection is None:
                host = self.world.hosts[at]
                connection = http.client.HTTPSConnection(host.hostname, host.port, timeout=30, context=self.world.context)
                self.connections[at] = connection
            try:
                connection.request(method, path, body, fields, encode_chunked=chunked)
                response = connection.getresponse()
                data = response.read()
            except lib.NETWORK_ERRORS:
                connection.close()
                del self.connections[at]
                if again:
                    again = False
                    continue
                raise
            if response.will_close:
                connection.close()
                del self.connections[at]
            return Reply(response.status, response.headers, data)

    def must(self, who, method, path, body=None, headers=None):
        """A request that has to succeed; its JSON, if any."""
        reply = self.ask(who, method, path, body, headers)
        if reply.status >= 400:
            raise Broken(f"{who} {method} {path}: {reply}")
        return reply.json()

    # ---- the image of a row ----

    def given(self, words):
        """Makes the image that the words describe; its id."""
        world = self.world
        fields = {"name": "a row's image", "disk_format": "raw", "container_format": "bare"}
        status, who, members, late = "queued", "member", [], {}
        for word in words.split():
            key, _, value = word.partition(":")
            if word in ("queued", "active", "empty", "deactivated", "deleted", "saving"):
                status = word
            elif word in ("private", "shared", "community", "public"):
                fields["visibility"] = word
                who = "admin" if word == "public" else who
            elif word == "hidden":
                fields["os_hidden"] = True
            elif word == "protected":
                fields["protected"] = True
            elif word == "noformats":
                del fields["disk_format"], fields["container_format"]
            elif word == "ownerless":
                who, late["owner"] = "admin", None
            elif key in ("format", "container"):
                fields["disk_format" if key == "format" else "container_format"] = value
            elif key == "tag":
                fields.setdefault("tags", []).append(value)
            elif key == "prop":
                name, _, text = value.partition("=")
                fields[name] = text
            elif key == "member":
                members.append(value)
            else:
                raise Broken(f"given: {word}?")
        if who == "admin":
            fields["owner"] = world.words["alpha"]
        image = self.must(who, "POST", "/v2/images", fields)
        path = f"/v2/images/{image['id']}"
        if status in ("active", "empty", "deactivated"):
            self.must(who, "PUT", path + "/file", b"" if status == "empty" else DATA, contract.OCTETS)
        if status == "deactivated":
            self.must(who, "POST", path + "/actions/deactivate")
        if status == "deleted":
            self.must(who, "DELETE", path)
        for member in members:
            name, _, answer = member.partition("=")
            target = world.words[name]
            self.must(who, "POST", path + "/members", {"member": target})
            if answer:
                self.must("admin", "PUT", f"{path}/members/{target}", {"status": answer})
        if late:
            self.must("admin", "PATCH", path, [{"op": "replace", "path": "/" + k, "value": v} for k, v in late.items()],
                      contract.PATCH_1)
        return image["id"]
