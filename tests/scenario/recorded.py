"""What clients that are not here send, request by request, and what they depend on in the replies.

A flow is a list of steps; a step is one request as the client writes it. Words in <> are replaced by what an earlier
step kept, or by <alpha>, <beta> (project ids), <origin> (a web server), <user>, <password>, <project>, <md5>.

    step(who, "POST /v2/images", 201, send={...}, keep={"id": "id"}, has={"status": "queued"})

who     "alice" (project alpha), "bob" (beta) or None: no token
status  the only codes that the client takes as success
send    dict or list: JSON; bytes: sent as they are, in chunks where `chunked`
keep    word -> path in the reply's JSON, or "@Header"
has     path -> value, type or compiled expression that must match
poll    path -> (pending values, wanted value): asked again while pending; any other value is an error, as for the client
"""
import dataclasses
import re
from typing import Any

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
MICROS_Z = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
HREF_V2 = re.compile(r"https?://[^/]+/v2/$")

GO = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "gophercloud/v1.14.1"}
GO_JSON = {**GO, "Content-Type": "application/json"}
GO_PATCH = {**GO, "Content-Type": "application/openstack-images-v2.1-json-patch"}
GO_DATA = {**GO, "Content-Type": "application/octet-stream"}


@dataclasses.dataclass
class Step:
    who: str
    request: str
    status: tuple
    headers: dict
    send: Any = None
    chunked: bool = False
    keep: dict = dataclasses.field(default_factory=dict)
    has: dict = dataclasses.field(default_factory=dict)
    poll: dict = None
    data: bytes = None
    image: bool = False


def step(who, request, status, headers=None, **more):
    status = status if isinstance(status, tuple) else (status,)
    verb = request.split()[0]
    if headers is None:
        headers = GO_PATCH if verb == "PATCH" else GO_DATA if request.endswith(("/file", "/stage")) and verb == "PUT" else \
            GO_JSON if more.get("send") is not None else GO
    return Step(who, request, status, headers, **more)


# What the structs of gophercloud's decoder take: path -> types. Another type, and the client fails to read the reply.
IMAGE_TYPES = {"id": str, "name": (str, None), "status": str, "tags": list, "container_format": (str, None), "disk_format": (str, None),
               "min_disk": int, "min_ram": int, "owner": (str, None), "protected": bool, "visibility": str, "os_hidden": bool,
               "checksum": (str, None), "size": (int, None), "virtual_size": (int, None), "created_at": RFC3339,
               "updated_at": RFC3339, "file": str, "schema": str}


def login():
    """gophercloud asks for the versions of the identity first, then for a token; the catalog says where images are."""
    return [
        step(None, "GET /identity/", 300, has={"versions/values/0/id": "v3.14", "versions/values/0/status": "stable",
                                               "versions/values/0/links/0/href": re.compile(r"https?://.*/identity/v3/$")}),
        step(None, "POST /identity/v3/auth/tokens", 201, send={"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "domain": {"name": "Default"}, "name": "<user>", "password": "<password>"}}},
            "scope": {"project": {"domain": {"name": "Default"}, "name": "<project>"}}}},
            keep={"token": "@X-Subject-Token"}, has={"token/expires_at": MICROS_Z, "token/catalog": list, "token/project/id": str,
                                                     "token/user/id": str, "token/roles/0/name": str}),
    ]


NEW = {"name": "recorded", "container_format": "bare", "disk_format": "raw", "min_disk": 0, "min_ram": 0, "protected": False,
       "visibility": "private", "tags": ["one", "two"], "hw_disk_bus": "scsi"}
WEB = {"method": {"name": "web-download", "uri": "<origin>/data/70000"}}
PENDING = ("queued", "saving", "importing")
DATA = b"what a plan uploads" * 5000

FLOWS = {
    "gophercloud: images, data, tags, schemas": login() + [
        step("alice", "GET /", 300, has={"versions/0/status": "CURRENT", "versions/0/links/0/href": HREF_V2}),
        step("alice", "POST /v2/images", 201, send=NEW, image=True, keep={"id": "id", "methods": "@OpenStack-image-import-methods"},
             has={"status": "queued", "hw_disk_bus": "scsi", "tags": ["one", "two"]}),
        step("alice", "GET /v2/images/<id>", 200, image=True),
        step("alice", "PUT /v2/images/<id>/file", 204, send=DATA, chunked=True),
        step("alice", "GET /v2/images/<id>", 200, image=True, has={"status": "active", "size": len(DATA), "checksum": "<md5>",
                                                                   "os_hash_algo": "sha512", "os_hash_value": str}),
        step("alice", "GET /v2/images/<id>/file", 200, data=DATA),
        step("alice", "PATCH /v2/images/<id>", 200, send=[
            {"op": "replace", "path": "/name", "value": "changed"}, {"op": "replace", "path": "/tags", "value": ["three"]},
            {"op": "replace", "path": "/min_disk", "value": 4}, {"op": "replace", "path": "/os_hidden", "value": False},
            {"op": "add", "path": "/key", "value": "v"}, {"op": "replace", "path": "/hw_disk_bus", "value": "virtio"}],
             image=True, has={"name": "changed", "tags": ["three"], "min_disk": 4, "key": "v", "hw_disk_bus": "virtio"}),
        step("alice", "PATCH /v2/images/<id>", 200, send=[{"op": "remove", "path": "/key"}], image=True),
        step("alice", "GET /v2/images?limit=1&sort=name%3Aasc&status=active&tag=three&name=changed", 200,
             has={"images/0/id": "<id>", "first": str, "schema": "/v2/schemas/images"}),
        step("alice", "GET /v2/images?created_at=gt%3A2020-01-01T00%3A00%3A00Z&updated_at=gt%3A2020-01-01T00%3A00%3A00Z&limit=5", 200,
             has={"images/0/created_at": RFC3339}),
        step("alice", "DELETE /v2/images/<id>", (202, 204)),
        step("alice", "GET /v2/images/<id>", 404),
    ],
    "gophercloud: staged import, information, tasks": login() + [
        step("alice", "GET /v2/info/import", 200, has={"import-methods/type": "array", "import-methods/value": list,
                                                       "import-methods/description": str}),
        step("alice", "GET /v2/info/stores", 200, has={"stores/0/id": str, "stores/0/default": "true"}),
        step("alice", "POST /v2/images", 201, send=NEW, image=True, keep={"id": "id"}),
        step("alice", "PUT /v2/images/<id>/stage", 204, send=DATA, chunked=True),
        step("alice", "POST /v2/images/<id>/import", 202, send={"method": {"name": "glance-direct"}}),
        step("alice", "GET /v2/images/<id>", 200, poll={"status": (("uploading", "importing"), "active")}, image=True),
        step("alice", "GET /v2/images/<id>/tasks", 200, has={"tasks/0/status": "success", "tasks/0/type": "api_image_import"}),
        step("alice", "DELETE /v2/images/<id>", (202, 204)),
    ],
    "Terraform: an image from a file, changed, shared, destroyed": login() + [
        step("alice", "POST /v2/images", 201, send=NEW, image=True, keep={"id": "id"}),
        step("alice", "PUT /v2/images/<id>/file", 204, send=DATA, chunked=True),
        step("alice", "GET /v2/images/<id>", 200, poll={"status": (PENDING, "active")}, image=True,
             has={"checksum": "<md5>", "size": len(DATA)}),
        step("alice", "GET /v2/images/<id>", 200, image=True, has={"file": "/v2/images/<id>/file", "schema": "/v2/schemas/image"}),
        step("alice", "PATCH /v2/images/<id>", 200, send=[
            {"op": "replace", "path": "/visibility", "value": "shared"}, {"op": "replace", "path": "/name", "value": "plan"},
            {"op": "replace", "path": "/protected", "value": False}, {"op": "replace", "path": "/min_ram", "value": 5}], image=True,
             has={"visibility": "shared", "name": "plan"}),
        step("alice", "POST /v2/images/<id>/members", 200, send={"member": "<beta>"},
             has={"member_id": "<beta>", "image_id": "<id>", "status": "pending", "created_at": RFC3339, "updated_at": RFC3339, "schema": str}),
        step("alice", "GET /v2/images/<id>/members/<beta>", 200, has={"status": "pending"}),
        step("bob", "PUT /v2/images/<id>/members/<beta>", 200, send={"status": "accepted"}, has={"status": "accepted"}),
        step("alice", "GET /v2/images/<id>/members", 200, has={"members/0/member_id": "<beta>"}),
        step("alice", "DELETE /v2/images/<id>/members/<beta>", 204),
        step("alice", "GET /v2/images/<id>/members/<beta>", 404),
        step("alice", "DELETE /v2/images/<id>", (202, 204)),
        step("alice", "GET /v2/images/<id>", 404),
    ],
    "Terraform: web_download never meets uploading": login() + [
        step("alice", "POST /v2/images", 201, send=NEW, image=True, keep={"id": "id"}),
        step("alice", "POST /v2/images/<id>/import", 202, send=WEB),
        step("alice", "GET /v2/images/<id>", 200, poll={"status": (PENDING, "active")}, image=True, has={"size": 70000}),
        step("alice", "DELETE /v2/images/<id>", (202, 204)),
    ],
    "Terraform: the data source": login() + [
        step("alice", "POST /v2/images", 201, send={**NEW, "name": "source"}, image=True, keep={"id": "id"}),
        step("alice", "PUT /v2/images/<id>/file", 204, send=DATA, chunked=True),
        step("alice", "GET /v2/images?name=source&sort=name%3Aasc&status=active&visibility=private&owner=<alpha>&size_min=1"
                      "&size_max=1000000&tag=one&tag=two&hw_disk_bus=scsi", 200, has={"images/0/id": "<id>", "images": list}),
        step("alice", "GET /v2/images?limit=1&sort=name%3Aasc", 200, has={"first": re.compile(r"/v2/images\?")}),
        step("alice", "DELETE /v2/images/<id>", (202, 204)),
    ],
    "Packer: an external source image, then the result's sharing": login() + [
        step("alice", "POST /v2/images", 201, send={"name": "packer_tmp", "container_format": "bare", "disk_format": "raw"},
             image=True, keep={"id": "id"}),
        step("alice", "POST /v2/images/<id>/import", 202, send=WEB),
        step("alice", "GET /v2/images/<id>", 200, poll={"status": (PENDING, "active")}, image=True),
        step("alice", "GET /v2/images?name=packer_tmp&sort=created_at%3Adesc&visibility=shared", 200, has={"images/0/id": "<id>"}),
        step("alice", "PATCH /v2/images/<id>", 200, send=[{"op": "replace", "path": "/min_disk", "value": 8}], image=True, has={"min_disk": 8}),
        step("alice", "PATCH /v2/images/<id>", 200, send=[{"op": "replace", "path": "/visibility", "value": "shared"}], image=True),
        step("alice", "PATCH /v2/images/<id>", 200, send=[{"op": "replace", "path": "/tags", "value": ["built", "packer"]}], image=True,
             has={"tags": ["built", "packer"]}),
        step("alice", "POST /v2/images/<id>/members", 200, send={"member": "<beta>"}),
        step("bob", "PUT /v2/images/<id>/members/<beta>", 200, send={"status": "accepted"}, has={"status": "accepted"}),
        step("alice", "DELETE /v2/images/<id>", (202, 204)),
    ],
    "CAPO and ORC: an image by name and tags, imported with its hash checked": login() + [
        step("alice", "POST /v2/images", 201, send={**NEW, "name": "node-image", "visibility": "shared", "os_hidden": False,
                                                    "tags": ["k8s", "v1.30"]}, image=True, keep={"id": "id"}),
        step("alice", "POST /v2/images/<id>/import", 202, send=WEB),
        step("alice", "GET /v2/images/<id>", 200, poll={"status": (PENDING, "active")}, image=True,
             has={"os_hash_algo": "sha512", "os_hash_value": re.compile(r"[0-9a-f]{128}$"), "checksum": re.compile(r"[0-9a-f]{32}$")}),
        step("alice", "GET /v2/images?name=node-image", 200, has={"images/0/id": "<id>"}),
        step("alice", "GET /v2/images?name=node-image&tag=k8s&tag=v1.30", 200, has={"images/0/id": "<id>"}),
        step("alice", "GET /v2/images?name=node-image&tag=k8s&tag=v1.31", 200, has={"images": []}),
        step("alice", "GET /v2/images?name=node&status=active", 200, has={"images": []}),
        step("alice", "DELETE /v2/images/<id>", (202, 204)),
        step("alice", "DELETE /v2/images/<id>", 404),
    ],
    "Ansible openstack.cloud: create with import, update, absent": [
        step("alice", "GET /v2/images/play", 404, headers={"Accept": "application/json", "User-Agent": "openstacksdk/1.0.0"}),
        step("alice", "GET /v2/images?name=play", 200, has={"images": []}),
        step("alice", "GET /v2/images?os_hidden=True", 200, has={"images": list}),
        step("alice", "POST /v2/images", 201, send={"name": "play", "container_format": "bare", "disk_format": "raw",
             "owner_specified.openstack.md5": "", "owner_specified.openstack.sha256": "", "owner_specified.openstack.object": "images/play"},
             keep={"id": "id", "methods": "@OpenStack-image-import-methods"}, has={"owner_specified.openstack.md5": ""}),
        step("alice", "PUT /v2/images/<id>/stage", 204, headers={"Content-Type": "application/octet-stream", "Accept": ""}, send=DATA),
        step("alice", "POST /v2/images/<id>/import", 202, send={"method": {"name": "glance-direct"}}),
        step("alice", "GET /v2/images/<id>", 200, poll={"status": (("uploading", "importing"), "active")}),
        step("alice", "PATCH /v2/images/<id>", 200, send=[{"op": "add", "path": "/os_distro", "value": "debian"},
                                                          {"op": "replace", "path": "/min_ram", "value": 1}], has={"os_distro": "debian"}),
        step("alice", "POST /v2/images/<id>/actions/deactivate", 204, headers={"Content-Length": "0"}),
        step("alice", "GET /v2/images/<id>", 200, has={"status": "deactivated"}),
        step("alice", "POST /v2/images/<id>/actions/reactivate", 204, headers={"Content-Length": "0"}),
        step("alice", "DELETE /v2/images/<id>", 204),
        step("alice", "GET /v2/images/<id>", 404),
    ],
}
