"""The flows of openstacksdk that test_clients_sdk.py runs in the system's Python.

usage: /usr/bin/python3 sdk_flows.py ORIGIN IMAGES FOLDER BOB

The environment (OS_*) says where and who; ORIGIN is a web server with /data/SIZE, IMAGES how many images the first
project lists, BOB (JSON) another project's OS_* variables. Each line printed is a check: {"what", "good", "detail"}."""
import hashlib
import io
import json
import os
import random
import sys

import openstack

ORIGIN, COUNT, FOLDER = sys.argv[1], int(sys.argv[2]), sys.argv[3]
MIB = 1 << 20


def check(what, good, detail=""):
    print(json.dumps({"what": what, "good": bool(good), "detail": "" if good else str(detail)[:1000]}), flush=True)


def equal(what, got, expected):
    check(what, got == expected, f"got {got!r}, expected {expected!r}")


def refused(what, call, kind, text=""):
    try:
        reply = call()
    except kind as error:
        check(what, text in str(error), error)
    except Exception as error:  # pylint: disable=broad-except
        check(what, False, repr(error))
    else:
        check(what, False, f"succeeded: {reply!r}")


def data_of(name, size):
    return random.Random(name).randbytes(size)


def create(conn):
    """With a file, with bytes, from an iterator, without data; what the replies hold."""
    data = data_of("file", 3 * MIB + 17)
    path = os.path.join(FOLDER, "sdk.raw")
    with open(path, "wb") as f:
        f.write(data)
    image = conn.create_image("sdk-file", filename=path, disk_format="raw", wait=True, timeout=60, validate_checksum=True,
                              min_disk=2, tags=["sdk", "file"], custom="value")
    equal("create_image from a file, waiting", (image.status, image.size, image.checksum, image.hash_algo, image.hash_value,
          image.min_disk, sorted(image.tags), image.properties["custom"], image.is_protected, image.is_hidden, image.visibility),
          ("active", len(data), hashlib.md5(data).hexdigest(), "sha512", hashlib.sha512(data).hexdigest(), 2, ["file", "sdk"],
           "value", False, False, "shared"))
    equal("its digests are kept for the next time", image.properties["owner_specified.openstack.sha256"], hashlib.sha256(data).hexdigest())
    again = conn.create_image("sdk-file", filename=path, disk_format="raw", wait=True, allow_duplicates=False, validate_checksum=True)
    equal("allow_duplicates=False finds the same", (again.id, len(list(conn.image.images(name="sdk-file")))), (image.id, 1))
    other = conn.create_image("sdk-file-2", data=data[:MIB], disk_format="raw", container_format="bare", wait=True)
    equal("create_image from bytes", (other.status, other.size), ("active", MIB))

    chunks = [data[at:at + 65536] for at in range(0, len(data), 65536)]
    queued = conn.image.create_image("sdk-iterator", disk_format="raw", container_format="bare", allow_duplicates=True)
    equal("create_image without data", (queued.status, queued.size), ("queued", None))
    queued.data = (chunk for chunk in chunks)
    reply = queued.upload(conn.image)
    filled = conn.image.wait_for_status(conn.image.get_image(queued.id), "active", interval=0.2, wait=30) \
        if hasattr(conn.image, "wait_for_status") else conn.image.get_image(queued.id)
    equal("upload from an iterator (chunked)", (reply.status_code, filled.status, filled.size, filled.hash_value),
          (204, "active", len(data), hashlib.sha512(data).hexdigest()))
    queued.data = b"again"
    equal("a second upload is refused", queued.upload(conn.image).status_code, 409)
    refused("a public image is refused", lambda: conn.image.create_image("sdk-public", data=b"x", disk_format="raw",
            container_format="bare", visibility="public"), openstack.exceptions.HttpException, "403")
    return image, filled, data


def download(conn, image, data):
    conn.image.download_image(image, output=os.path.join(FOLDER, "sdk.back"))
    with open(os.path.join(FOLDER, "sdk.back"), "rb") as f:
        check("download_image to a path, verified", f.read() == data)
    sink = io.BytesIO()
    conn.image.download_image(image, output=sink, chunk_size=MIB)
    check("download_image to a file object", sink.getvalue() == data)
    check("download_image whole", conn.image.download_image(image).content == data)
    reply = conn.image.download_image(image, stream=True)
    digest = hashlib.md5()
    for chunk in reply.iter_content(chunk_size=100000):
        digest.update(chunk)
    equal("download_image as a stream, and its Content-MD5", reply.headers["Content-MD5"], digest.hexdigest())
    conn.download_image("sdk-file", output_path=os.path.join(FOLDER, "sdk.back"), chunk_size=65536)
    with open(os.path.join(FOLDER, "sdk.back"), "rb") as f:
        check("cloud.download_image by name", f.read() == data)


def imports(conn, data):
    image = conn.image.create_image("sdk-import", disk_format="raw", container_format="bare", allow_duplicates=True)
    conn.image.stage_image(image, data=io.BytesIO(data))
    equal("stage_image", conn.image.get_image(image.id).status, "uploading")
    conn.image.import_image(image, method="glance-direct")
    done = openstack.resource.wait_for_status(conn.image, conn.image.get_image(image.id), "active", ["killed"], 0.2, 60)
    equal("import_image glance-direct, wait_for_status", (done.size, done.checksum), (len(data), hashlib.md5(data).hexdigest()))
    image = conn.image.create_image("sdk-web", disk_format="raw", container_format="bare", allow_duplicates=True)
    conn.image.import_image(image, method="web-download", uri=f"{ORIGIN}/data/300000", stores=["tessera"])
    done = openstack.resource.wait_for_status(conn.image, conn.image.get_image(image.id), "active", ["killed"], 0.2, 60)
    equal("import_image web-download", (done.size, done.store or done.properties.get("stores")), (300000, "tessera"))
    image = conn.create_image("sdk-use-import", data=data, disk_format="raw", use_import=True, wait=True, timeout=60)
    image = openstack.resource.wait_for_status(conn.image, conn.image.get_image(image.id), "active", ["killed"], 0.2, 60)  # it does not wait
    equal("create_image(use_import=True)", (image.status, image.size), ("active", len(data)))
    equal("stores", [(s.id, s.is_default) for s in conn.image.stores()], [("tessera", True)])


def change(conn, image):
    image = conn.image.update_image(image.id, name="sdk-renamed", min_ram=256, is_protected=True, visibility="private",
                                    tags=["x", "y"], hw_disk_bus="scsi", custom="other")
    equal("update_image", (image.name, image.min_ram, image.is_protected, image.visibility, sorted(image.tags),
          image.properties.get("hw_disk_bus") or image.hw_disk_bus, image.properties["custom"]),
          ("sdk-renamed", 256, True, "private", ["x", "y"], "scsi", "other"))
    refused("a protected image is not deleted", lambda: conn.image.delete_image(image.id), openstack.exceptions.HttpException, "403")
    image = conn.image.update_image(image.id, is_protected=False, visibility="shared", name="sdk-file")
    conn.update_image_properties(name_or_id=image.id, meta={"colour": "red"})
    equal("cloud.update_image_properties", conn.image.get_image(image.id).properties.get("colour"), "red")
    conn.image.add_tag(image.id, "z")
    conn.image.remove_tag(image.id, "x")
    equal("add_tag, remove_tag", sorted(conn.image.get_image(image.id).tags), ["y", "z"])
    for tags in (["a", "y", "z"], ["z", "b"], [], ["y", "z"]):  # it sends the difference to the list that it has read, place by place
        done = conn.image.update_image(conn.image.get_image(image.id), tags=tags)
        equal(f"update_image of an image that was read: tags {tags}", sorted(done.tags), sorted(tags))
    conn.image.deactivate_image(image.id)
    equal("deactivate_image", conn.image.get_image(image.id).status, "deactivated")
    refused("a deactivated image is not downloaded", lambda: conn.image.download_image(image.id).raise_for_status(), Exception)
    conn.image.reactivate_image(image.id)
    equal("reactivate_image", conn.image.get_image(image.id).status, "active")
    patched = conn.image.patch(f"/images/{image.id}", json=[{"op": "remove", "path": "/colour"}],
                               headers={"Content-Type": "application/openstack-images-v2.1-json-patch"})
    equal("a property is unset", (patched.status_code, "colour" in conn.image.get_image(image.id).properties), (200, False))


def members(conn, bob, image):
    project = bob.current_project_id
    member = conn.image.add_member(image.id, member_id=project)
    equal("add_member", (member.member_id, member.status), (project, "pending"))
    refused("add_member again", lambda: conn.image.add_member(image.id, member_id=project), openstack.exceptions.ConflictException)
    equal("members", [m.member_id for m in conn.image.members(image.id)], [project])
    equal("find_member", conn.image.find_member(project, image.id).member_id, project)
    equal("get_member", conn.image.get_member(project, image.id).status, "pending")
    equal("update_member by the member", bob.image.update_member(project, image.id, status="accepted").status, "accepted")
    equal("images of the member", [i.id for i in bob.image.images()], [image.id])
    equal("images of the member, by member_status", [i.id for i in bob.image.images(member_status="accepted", visibility="shared")],
          [image.id])
    equal("find_image by the member", bob.image.find_image(image.id).id, image.id)
    conn.image.remove_member(project, image.id)
    equal("find_image after remove_member", bob.image.find_image(image.id, ignore_missing=True), None)


def paging(conn):
    """Over COUNT images named page-NNNN, with every second one tagged even, and sizes of min_ram N."""
    found = list(conn.image.images(limit=300, sort="name:asc", tag="page"))
    equal("all pages, by 300, sorted by name", [i.name for i in found], [f"page-{n:04}" for n in range(COUNT)])
    equal("without a limit", len({i.id for i in conn.image.images(tag="page")}), COUNT)
    found = list(conn.image.images(limit=7, paginated=False, tag="page", sort="name:desc"))
    equal("one page of 7, from the end", [i.name for i in found], [f"page-{COUNT - 1 - n:04}" for n in range(7)])
    even = list(conn.image.images(limit=200, tag="even", sort="created_at:desc"))
    check("filtered by tag, newest first", len(even) == COUNT // 2 and
          [i.created_at for i in even] == sorted((i.created_at for i in even), reverse=True), len(even))
    equal("filtered by owner and visibility", len([i for i in conn.image.images(
        owner=conn.current_project_id, visibility="shared") if i.name.startswith("page-")]), COUNT)
    equal("filtered by name", [i.name for i in conn.image.images(name="page-0100")], ["page-0100"])
    equal("filtered by a list of names", sorted(i.name for i in conn.image.images(name="in:page-0001,page-0002")),
          ["page-0001", "page-0002"])
    equal("filtered by status", list(conn.image.images(status="active", tag="page")), [])
    equal("find_image by name", conn.image.find_image("page-1000").name if COUNT > 1000 else "page-1000", "page-1000")
    equal("find_image of none", conn.image.find_image("page-none"), None)
    equal("cloud.list_images", len([i for i in conn.list_images() if i.name.startswith("page-")]), COUNT)


def schemas_and_tasks(conn, admin):
    for name in ("image", "images", "member", "members", "task", "tasks"):
        schema = getattr(conn.image, f"get_{name}_schema")()
        check(f"get_{name}_schema", schema.properties and schema.name == name, schema)
    task = admin.image.create_task(type="import", input={"import_from": f"{ORIGIN}/data/5000", "import_from_format": "raw",
                                                          "image_properties": {"name": "sdk-task", "disk_format": "raw",
                                                                               "container_format": "bare"}})
    done = admin.image.wait_for_task(task, interval=0.2, wait=60)
    equal("create_task, wait_for_task", done.status, "success")
    check("tasks", task.id in [t.id for t in admin.image.tasks()])
    refused("tasks for a member", lambda: list(conn.image.tasks()), openstack.exceptions.HttpException, "403")


def identity(conn, admin):
    equal("projects of the token", [p.name for p in conn.identity.user_projects(conn.current_user_id)], [os.environ["OS_PROJECT_NAME"]])
    check("identity.projects", os.environ["OS_PROJECT_NAME"] in [p.name for p in admin.identity.projects()])
    equal("identity.find_user", admin.identity.find_user(os.environ["OS_USERNAME"]).id, conn.current_user_id)
    made = admin.create_project("sdk-project", "default", description="made by the SDK")
    user = admin.create_user("sdk-user", password="sdk-Pass-1", domain_id="default", default_project=made.id)
    check("grant_role", admin.grant_role("member", user=user.id, project=made.id))
    equal("list_role_assignments", len(admin.list_role_assignments({"project": made.id})), 1)
    check("revoke_role", admin.revoke_role("member", user=user.id, project=made.id))
    check("delete_user, delete_project", admin.delete_user(user.id) and admin.delete_project(made.id))


def connect(values):
    env = {**os.environ, **values}
    return openstack.connect(auth_url=env["OS_AUTH_URL"], username=env["OS_USERNAME"], password=env["OS_PASSWORD"],
                             project_name=env["OS_PROJECT_NAME"], user_domain_name="Default", project_domain_name="Default",
                             region_name="RegionOne", cacert=env["OS_CACERT"], load_envvars=False, load_yaml_config=False)


def main():
    others = json.loads(sys.argv[4])
    conn, bob, admin = connect({}), connect(others["bob"]), connect(others["admin"])
    image, filled, data = create(conn)
    download(conn, filled, data)
    imports(conn, data[:MIB])
    change(conn, image)
    members(conn, bob, image)
    paging(conn)
    schemas_and_tasks(conn, admin)
    identity(conn, admin)
    conn.delete_image(image.id, wait=True, timeout=30)
    equal("cloud.delete_image, waiting", conn.image.find_image(image.id), None)
    conn.image.delete_image(filled)
    refused("get_image of a deleted image", lambda: conn.image.get_image(filled.id), openstack.exceptions.ResourceNotFound)
    conn.image.delete_image(filled.id, ignore_missing=True)


if __name__ == "__main__":
    main()
