"""Sections 2.1 to 2.4: images and their data; 3: create, fields, visibility."""
from contract import (AN_ID, ANY, Chunked, NONE_GIVEN, OCTETS, PATCH_1, TIME, holds, like, one_of, row, section, upload)

MD5_EMPTY = "d41d8cd98f00b204e9800998ecf8427e"
SHA512_EMPTY = ("cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
                "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e")
MD5 = "781e5e245d69b566979b86e28d23f2c7"
SHA512 = ("bb96c2fc40d2d54617d6f276febe571f623a8dadf0b734855299b0e107fda32c"
          "f6b69f2da32b36445d73690b93cbd0f7bfc20e0f7f28553d2a4428f23b716e90")
NO_DATA = {"size": None, "virtual_size": None, "checksum": None, "os_hash_value": None}

section("2.1 create")
row("an empty object makes an image with every default", "member", "POST /v2/images", 201, body={},
    gives={"Location": like("^https://<address>/v2/images/"[:9]), "OpenStack-image-store-ids": "tessera"},
    has={"id": AN_ID, "status": "queued", "visibility": "shared", "owner": "<alpha>", "name": None, "protected": False,
         "os_hidden": False, "min_disk": 0, "min_ram": 0, "tags": [], "disk_format": None, "container_format": None,
         "os_hash_algo": None, "created_at": TIME, "updated_at": TIME, "schema": "/v2/schemas/image", **NO_DATA},
    lacks=("locations", "direct_url", "stores", "deleted"))
row("Location is absolute and names the image", "member", "POST /v2/images", 201,
    body={"id": "<new>"}, gives={"Location": "https://<address>/v2/images/<new>"}, has={"id": "<new>"})
row("the reply names the import methods", "member", "POST /v2/images", 201, body={},
    gives={"OpenStack-image-import-methods": holds("glance-direct")})
row("every field that may be given", "member", "POST /v2/images", 201,
    body={"id": "<new>", "name": "all", "visibility": "private", "protected": False, "os_hidden": True, "owner": "<alpha>",
          "disk_format": "qcow2", "container_format": "bare", "min_disk": 3, "min_ram": 4, "tags": ["b", "a"], "k": "v"},
    has={"name": "all", "visibility": "private", "os_hidden": True, "disk_format": "qcow2", "container_format": "bare",
         "min_disk": 3, "min_ram": 4, "tags": ["a", "b"], "k": "v", "self": "/v2/images/<new>",
         "file": "/v2/images/<new>/file"})
row("what the stock client sends", "member", "POST /v2/images", 201,
    body={"name": "c", "disk_format": "raw", "container_format": "bare", "owner_specified.openstack.md5": "",
          "owner_specified.openstack.sha256": "", "owner_specified.openstack.object": "images/c"},
    has={"owner_specified.openstack.md5": "", "owner_specified.openstack.object": "images/c"})
row("escapes and UTF-8 are the same text", "member", "POST /v2/images", 201,
    body='{"name": "gr\\u00fcn \\ud83d\\ude00", "k": "日本"}', has={"name": "gr\u00fcn \U0001f600", "k": "日本"})
row("an id that is in use is 409", "member", "POST /v2/images", 409, given="queued", body={"id": "<id>"})
row("an id that another project uses is 409", "other", "POST /v2/images", 409, given="queued private", body={"id": "<id>"})
row("an id of a deleted image is 409", "member", "POST /v2/images", 409, given="deleted", body={"id": "<id>"})
row("a reader may not create", "reader", "POST /v2/images", 403, body={})
row("a foreign owner is 403", "member", "POST /v2/images", 403, body={"owner": "<beta>"})
row("owner null is 403 for a member", "member", "POST /v2/images", 403, body={"owner": None})
row("the own project as owner is fine", "member", "POST /v2/images", 201, body={"owner": "<alpha>"}, has={"owner": "<alpha>"})
row("an administrator names any owner", "admin", "POST /v2/images", 201, body={"owner": "<beta>"}, has={"owner": "<beta>"})
row("an administrator may leave the owner out: null", "admin", "POST /v2/images", 201, body={"owner": None},
    has={"owner": None})
row("public by a member is 403 and names the action", "member", "POST /v2/images", 403, body={"visibility": "public"},
    has={"error/message": "You are not authorized to complete publicize_image action."})
row("public by an administrator", "admin", "POST /v2/images", 201, body={"visibility": "public"},
    has={"visibility": "public"})
for visibility in ("private", "shared", "community"):
    row(f"{visibility} by a member", "member", "POST /v2/images", 201, body={"visibility": visibility},
        has={"visibility": visibility})

section("2.1 show")
row("the owner's member", "member", "GET /v2/images/<id>", 200, given="queued private", has={"id": "<id>"})
row("an active image has size, hashes and stores", "member", "GET /v2/images/<id>", 200, given="active",
    has={"status": "active", "size": 10, "virtual_size": 10, "checksum": MD5, "os_hash_algo": "sha512",
         "os_hash_value": SHA512, "stores": "tessera"})
row("an unknown id is 404", "member", "GET /v2/images/<unknown>", 404)
row("a deleted image is 404", "member", "GET /v2/images/<id>", 404, given="deleted")
row("a deleted image is 404 for administrators too", "admin", "GET /v2/images/<id>", 404, given="deleted")
row("an invisible image is 404", "other", "GET /v2/images/<id>", 404, given="queued private")
row("a query on it is ignored", "member", "GET /v2/images/<id>?fields=x", 200, given="queued", has={"id": "<id>"})

section("2.1 delete")
row("the owner deletes a queued image", "member", "DELETE /v2/images/<id>", 204, given="queued", then=404)
row("and an active one", "member", "DELETE /v2/images/<id>", 204, given="active", then=404)
row("and a deactivated one", "member", "DELETE /v2/images/<id>", 204, given="deactivated", then=404)
row("and one with members and tags", "member", "DELETE /v2/images/<id>", 204, given="active member:beta tag:t", then=404)
row("an administrator deletes others' images", "admin", "DELETE /v2/images/<id>", 204, given="active private", then=404)
row("unknown is 404", "member", "DELETE /v2/images/<unknown>", 404)
row("again is 404", "member", "DELETE /v2/images/<id>", 404, given="deleted")
row("invisible is 404", "other", "DELETE /v2/images/<id>", 404, given="queued private", then={"status": "queued"})
row("protected is 403", "member", "DELETE /v2/images/<id>", 403, given="queued protected", then={"status": "queued"})
row("protected is 403 for administrators too", "admin", "DELETE /v2/images/<id>", 403, given="queued protected",
    then={"status": "queued"})
row("a member project may not", "other", "DELETE /v2/images/<id>", 403, given="queued member:beta=accepted",
    then={"status": "queued"})
row("others may not delete a community image", "other", "DELETE /v2/images/<id>", 403, given="queued community",
    then={"status": "queued"})
row("others may not delete a public image", "other", "DELETE /v2/images/<id>", 403, given="queued public",
    then={"status": "queued"})
row("a reader may not", "reader", "DELETE /v2/images/<id>", 403, given="queued", then={"status": "queued"})
row("nobody's project deletes an image without owner", "member", "DELETE /v2/images/<id>", 403, given="queued ownerless",
    then={"status": "queued"})

section("2.2/2.3 upload")
upload("with Content-Length", b"0123456789", 204, data=b"",
       then={"status": "active", "size": 10, "checksum": MD5, "os_hash_algo": "sha512", "os_hash_value": SHA512,
             "virtual_size": 10, "stores": "tessera"})
upload("in chunks", Chunked(b"0123456789"), 204,
       then={"status": "active", "size": 10, "checksum": MD5, "os_hash_value": SHA512})
upload("nothing, with Content-Length 0", b"", 204, headers={"Content-Length": "0"},
       then={"status": "active", "size": 0, "checksum": MD5_EMPTY, "os_hash_value": SHA512_EMPTY, "virtual_size": None})
upload("nothing, in chunks", Chunked(b""), 204, then={"status": "active", "size": 0, "checksum": MD5_EMPTY})
upload("nothing, as a volume-backed snapshot is made", Chunked(b""), 204, given="queued prop:boot_roles=member",
       then={"status": "active", "size": 0})
upload("parameters of the media type are fine", b"x", 204, headers={"Content-Type": "application/octet-stream; charset=x"},
       then={"status": "active"})
upload("the media type's letter case does not matter", b"x", 204, headers={"Content-Type": "Application/Octet-Stream"},
       then={"status": "active"})
for media in ("application/json", "text/plain", "application/octet-streams", ""):
    upload(f"Content-Type {media!r} is 415", b"x", 415, headers={"Content-Type": media}, then={"status": "queued"})
row("no Content-Type is 415", "member", "PUT /v2/images/<id>/file", 415, given="queued", body=b"x", then={"status": "queued"})
upload("the size header that fits", b"0123456789", 204, headers={"x-openstack-image-size": "10"},
       then={"status": "active", "size": 10})
upload("the size header that fits, in chunks", Chunked(b"0123456789"), 204, headers={"x-openstack-image-size": "10"},
       then={"status": "active", "size": 10})
for size in ("9", "11"):
    upload(f"a size header of {size} for 10 bytes is 400", b"0123456789", 400, headers={"x-openstack-image-size": size},
           then={"status": "queued", **NO_DATA})
    upload(f"a size header of {size} for 10 bytes in chunks is 400", Chunked(b"0123456789"), 400,
           headers={"x-openstack-image-size": size}, then={"status": "queued", **NO_DATA})
for size in ("", "abc", "1.5", "-1", "0x10", "99999999999999999999"):
    upload(f"a size header of {size!r} is 400", b"0123456789", 400, headers={"x-openstack-image-size": size},
           then={"status": "queued"})
upload("an unknown store is 400", b"x", 400, headers={"X-Image-Meta-Store": "nowhere"}, then={"status": "queued"})
upload("an empty store name is 400 or the default", b"x", (204, 400), headers={"X-Image-Meta-Store": ""})
upload("the store's own name", b"x", 204, headers={"X-Image-Meta-Store": "tessera"}, then={"stores": "tessera"})
row("to an unknown image is 404", "member", "PUT /v2/images/<unknown>/file", 404, body=b"x", headers=OCTETS)
row("to a deleted image is 404", "member", "PUT /v2/images/<id>/file", 404, given="deleted", body=b"x", headers=OCTETS)
upload("to an invisible image is 404", b"x", 404, who="other", given="queued private")
upload("by a member project is 403", b"x", 403, who="other", given="queued member:beta=accepted", then={"status": "queued"})
upload("by others to a community image is 403", b"x", 403, who="other", given="queued community", then={"status": "queued"})
upload("by others to a public image is 403", b"x", 403, who="other", given="queued public", then={"status": "queued"})
upload("by a reader is 403", b"x", 403, who="reader", then={"status": "queued"})
upload("by an administrator", b"x", 204, who="admin", given="queued private", then={"status": "active"})
upload("without formats is 400 and names both", b"x", 400, given="queued noformats", then={"status": "queued"},
       has={"error/message": "Properties disk_format, container_format must be set prior to saving data."})
row("without disk_format is 400 and names it", "member", "PUT /v2/images/<made>/file", 400,
    before=[("member", "POST /v2/images", {"container_format": "bare"}, {}, {"made": "id"})], body=b"x", headers=OCTETS,
    has={"error/message": "Property disk_format must be set prior to saving data."})
row("without container_format is 400 and names it", "member", "PUT /v2/images/<made>/file", 400,
    before=[("member", "POST /v2/images", {"disk_format": "raw"}, {}, {"made": "id"})], body=b"x", headers=OCTETS,
    has={"error/message": "Property container_format must be set prior to saving data."})
upload("again is 409", b"x", 409, given="active", then={"status": "active", "checksum": MD5},
       has={"error/message": "Image status transition from active to saving is not allowed"})
upload("to a deactivated image is 409", b"x", 409, given="deactivated", then={"status": "deactivated"},
       has={"error/message": "Image status transition from deactivated to saving is not allowed"})
upload("more than the size cap is 413 before the body is read", b"", 413, headers={"Content-Length": str(2 << 40)},
       raw="PUT /v2/images/<id>/file HTTP/1.1\nHost: x\nX-Auth-Token: <token:member>\n"
           "Content-Type: application/octet-stream\nContent-Length: 2199023255552\n\n", then={"status": "queued"})
upload("a size header over the cap is 413", b"x", 413, headers={"x-openstack-image-size": str(2 << 40)},
       then={"status": "queued"})
upload("the media type is judged before the image", b"x", 415, who="other", given="queued private",
       headers={"Content-Type": "text/plain"})
upload("the size header is judged before the image", b"x", 400, who="other", given="queued private",
       headers={"x-openstack-image-size": "x"})
upload("an expired upload leaves nothing: after a refusal a second upload succeeds", b"0123456789", 204,
       before=[("member", "GET /v2/images/<id>")], then={"status": "active"})
row("the image can be uploaded to after a refusal of its data", "member", "PUT /v2/images/<id>/file", 204, given="queued",
    raw="PUT /v2/images/<id>/file HTTP/1.1\nHost: x\nX-Auth-Token: <token:member>\nContent-Type: application/octet-stream\n"
        "Content-Length: 4\n\nabcd", then={"status": "active", "size": 4})
row("a bad chunk is 400 or no reply, and the image is queued", "member", "PUT /v2/images/<id>/file", (400, 0), given="queued",
    raw="PUT /v2/images/<id>/file HTTP/1.1\nHost: x\nX-Auth-Token: <token:member>\nContent-Type: application/octet-stream\n"
        "Transfer-Encoding: chunked\n\n5\nhello\nnonsense\n", then={"status": one_of("queued", "saving")})
upload("properties of a signature are stored, not verified", b"x", 204,
       given="queued prop:img_signature=x prop:img_signature_hash_method=SHA-256 prop:img_signature_key_type=RSA-PSS "
             "prop:img_signature_certificate_uuid=c", then={"status": "active"})

section("2.2 stage")
row("staging an image", "member", "PUT /v2/images/<id>/stage", 204, given="queued", body=b"x", headers=OCTETS,
    then={"status": "uploading", "size": 1, "checksum": None})
row("staging needs no formats", "member", "PUT /v2/images/<id>/stage", 204, given="queued noformats", body=b"x",
    headers=OCTETS)
row("staging an active image is 409", "member", "PUT /v2/images/<id>/stage", 409, given="active", body=b"x",
    headers=OCTETS)
row("staging of another media type is 415", "member", "PUT /v2/images/<id>/stage", 415, given="queued", body=b"x",
    headers={"Content-Type": "text/plain"})
row("staging ignores the store header", "member", "PUT /v2/images/<id>/stage", 204, given="queued", body=b"x",
    headers={**OCTETS, "X-Image-Meta-Store": "nowhere"})
row("staging by a reader is 403", "reader", "PUT /v2/images/<id>/stage", 403, given="queued", body=b"x", headers=OCTETS)
row("staging an unknown image is 404", "member", "PUT /v2/images/<unknown>/stage", 404, body=b"x", headers=OCTETS)

section("2.4 download")
FILE = "GET /v2/images/<id>/file"
row("whole", "member", FILE, 200, given="active", data=b"0123456789",
    gives={"Content-Type": "application/octet-stream", "Content-Length": "10", "Content-MD5": MD5,
           "Content-Encoding": NONE_GIVEN})
row("an image of zero bytes", "member", FILE, 200, given="empty", data=b"", gives={"Content-Length": "0"})
row("no data yet is 204", "member", FILE, 204, given="queued", data=b"")
row("no data yet is 204 also for a range", "member", FILE, 204, given="queued", headers={"Range": "bytes=0-1"})
row("deactivated is 403", "member", FILE, 403, given="deactivated")
row("deactivated is served to administrators", "admin", FILE, 200, given="deactivated", data=b"0123456789")
for text, data, shown in (("bytes=0-0", b"0", "0-0"), ("bytes=2-5", b"2345", "2-5"), ("bytes=7-", b"789", "7-9"),
                          ("bytes=0-", b"0123456789", "0-9"), ("bytes=-3", b"789", "7-9"), ("bytes=5-100", b"56789", "5-9"),
                          ("bytes=-10", b"0123456789", "0-9"), ("bytes=-100", b"0123456789", "0-9"),
                          ("bytes=9-9", b"9", "9-9")):
    row(f"Range {text}", "member", FILE, 206, given="active", headers={"Range": text}, data=data,
        gives={"Content-Range": f"bytes {shown}/10", "Content-Length": str(len(data)), "Content-MD5": MD5})
for text in ("bytes=10-", "bytes=10-12", "bytes=100-", "bytes=5-2", "bytes=a-b", "bytes=", "bytes=-", "items=0-1", "0-1",
             "bytes=-0", "bytes 0-1", "bytes=1-x", "bytes=--1", "bytes=99999999999999999999-"):
    row(f"Range {text!r} is 416", "member", FILE, 416, given="active", headers={"Range": text},
        gives={"Content-Range": "bytes */10"})
for text in ("bytes=0-1,3-4", "bytes=0-1,-1", "bytes=0-,5-"):
    row(f"more than one range, {text}, is 400", "member", FILE, 400, given="active", headers={"Range": text})
for text in ("bytes=0-0", "bytes=0-", "bytes=-1"):
    row(f"any range, {text}, of zero bytes is 416", "member", FILE, 416, given="empty", headers={"Range": text})
row("an empty Range is ignored", "member", FILE, 200, given="active", headers={"Range": ""}, data=b"0123456789")
row("the old request header Content-Range", "member", FILE, 206, given="active", headers={"Content-Range": "bytes 2-4/*"},
    data=b"234", gives={"Content-Range": "bytes 2-4/10"})
row("the old request header with a size", "member", FILE, 206, given="active", headers={"Content-Range": "bytes 2-4/10"},
    data=b"234")
row("the old request header, malformed, is 416", "member", FILE, 416, given="active", headers={"Content-Range": "bytes x/*"})
row("an unknown store to prefer is 400", "member", FILE + "?prefer=nowhere", 400, given="active")
row("one of several stores to prefer unknown is 400", "member", FILE + "?prefer=tessera,nowhere", 400, given="active")
row("the store to prefer", "member", FILE + "?prefer=tessera", 200, given="active", data=b"0123456789")
row("a reader may not", "reader", FILE, 403, given="active")
row("a reader of another project may not have a public image's data", "otherreader", FILE, 403, given="active public")
row("invisible is 404", "other", FILE, 404, given="active private")
row("unknown is 404", "member", "GET /v2/images/<unknown>/file", 404)
row("deleted is 404", "member", FILE, 404, given="deleted")
for status in ("pending", "accepted", "rejected"):
    row(f"a project that it is shared with, {status}", "other", FILE, 200, given=f"active member:beta={status}",
        data=b"0123456789")
row("anybody's member has a public image's data", "other", FILE, 200, given="active public", data=b"0123456789")
row("anybody's member has a community image's data", "other", FILE, 200, given="active community", data=b"0123456789")
row("Accept-Encoding gzip changes nothing", "member", FILE, 200, given="active", headers={"Accept-Encoding": "gzip"},
    data=b"0123456789", gives={"Content-Encoding": NONE_GIVEN})
row("If-None-Match is ignored", "member", FILE, 200, given="active", headers={"If-None-Match": "*"}, data=b"0123456789")
row("If-Modified-Since is ignored", "member", FILE, 200, given="active", data=b"0123456789",
    headers={"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"})
row("Accept text/html gets the data all the same", "member", FILE, 200, given="active", headers={"Accept": "text/html"},
    data=b"0123456789")

section("3.1 fields on create")
CREATE = "POST /v2/images"
GOOD = (
    ("name", "", ""), ("name", "x" * 255, "x" * 255), ("name", None, None), ("name", "\u00fc" * 255, "\u00fc" * 255),
    ("name", "same name", "same name"), ("protected", True, True), ("os_hidden", True, True),
    ("min_disk", 0, 0), ("min_disk", 2147483647, 2147483647), ("min_disk", 1.0, 1), ("min_ram", 2147483647, 2147483647),
    ("tags", [], []), ("tags", ["a", "a"], ["a"]), ("tags", ["b", "a"], ["a", "b"]), ("tags", ["x" * 255], ["x" * 255]),
    ("tags", [f"t{n:03}" for n in range(128)], [f"t{n:03}" for n in range(128)]),
    ("disk_format", None, None), ("container_format", None, None),
)
for field, value, shown in GOOD:
    row(f"{field} = {str(value)[:30]!r} is taken", "member", CREATE, 201, body={field: value}, has={field: shown})
for disk in ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"):
    row(f"disk_format {disk}", "member", CREATE, 201, body={"disk_format": disk}, has={"disk_format": disk})
for container in ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"):
    row(f"container_format {container}", "member", CREATE, 201, body={"container_format": container},
        has={"container_format": container})
BAD = {
    "id": ("x", "", 1, None, "0bcdef0123454789 8bcd0123456789ab", "abcdef01-2345-4789-8bcd-0123456789a"),
    "name": ("x" * 256, 1, True, ["x"], {"a": "b"}),
    "visibility": (None, "", "Public", "hidden", 1, []),
    "protected": ("true", "True", 1, 0, None), "os_hidden": ("true", 1, None),
    "min_disk": (-1, "1", 1.5, None, True, 2147483648, []), "min_ram": (-1, "1", 1.5, None, True, 2147483648),
    "tags": (None, "a", 1, {"a": "b"}, [1], [None], ["x" * 256], [["a"]]),
    "owner": ("x" * 256, 1, ["x"]),
    "disk_format": ("QCOW2", "", "bogus", 1, "gpt2"), "container_format": ("Bare", "", "zip", 1),
    "kernel_id": ("x", 1, ""), "ramdisk_id": ("x", 1), "cinder_encryption_key_deletion_policy": ("x", 1),
    "some_property": (1, True, None, ["a"], {"a": "b"}, 1.5), "deleted": (True,), "os_hash_value": (1,),
}
for field, values in BAD.items():
    for value in values:
        row(f"{field} = {str(value)[:30]!r} ({type(value).__name__}) is 400", "member", CREATE, 400, body={field: value})
row("129 tags are 413", "member", CREATE, 413, body={"tags": [f"t{n}" for n in range(129)]})
row("129 tags are 413, counted before doubles are dropped", "member", CREATE, 413, body={"tags": ["t"] * 129})
row("kernel_id may be a UUID", "member", CREATE, 201, body={"kernel_id": "<unknown>"}, has={"kernel_id": "<unknown>"})
row("kernel_id may be null", "member", CREATE, 201, body={"kernel_id": None})
row("ramdisk_id may be null", "member", CREATE, 201, body={"ramdisk_id": None})
for policy in ("on_image_deletion", "do_not_delete"):
    row(f"cinder_encryption_key_deletion_policy {policy}", "member", CREATE, 201,
        body={"cinder_encryption_key_deletion_policy": policy})

section("3.2 which error on create")
READ_ONLY = {"status": "active", "size": 1, "virtual_size": 1, "checksum": "a" * 32, "created_at": "2020-01-01T00:00:00Z",
             "updated_at": "2020-01-01T00:00:00Z", "self": "x", "file": "x", "schema": "x", "direct_url": "x", "stores": "x"}
for field, value in READ_ONLY.items():
    row(f"{field} is read-only: 403", "member", CREATE, 403, body={field: value},
        has={"error/message": f"Attribute '{field}' is read-only."})
    row(f"{field} is read-only for administrators too", "admin", CREATE, 403, body={field: value})
for field in ("location", "deleted", "deleted_at", "os_glance", "os_glance_import_task", "os_glance_x"):
    row(f"{field} is reserved: 403", "member", CREATE, 403, body={field: "x"},
        has={"error/message": f"Attribute '{field}' is reserved."})
row("locations are reserved: 403", "member", CREATE, 403, body={"locations": []})
row("shapes come first: a bad one beside a reserved name is 400", "member", CREATE, 400, body={"deleted": "x", "min_disk": -1})
row("os_hash_algo is dropped", "member", CREATE, 201, body={"os_hash_algo": "md5"}, has={"os_hash_algo": None})
row("os_hash_value is dropped", "member", CREATE, 201, body={"os_hash_value": "ab"}, has={"os_hash_value": None})
for disk, container in (("ami", "bare"), ("iso", "ovf"), ("raw", "aki"), ("qcow2", "docker")):
    row(f"any combination of formats: {disk} in {container}", "member", CREATE, 201,
        body={"disk_format": disk, "container_format": container})
for field in ("image_id", "is_public", "properties", "metadata", "base", "member", "delete", "extra_properties", "links"):
    row(f"{field} with a text is a plain property", "member", CREATE, 201, body={field: "x"}, has={field: "x"})

section("3.3 custom properties")
row("an empty value", "member", CREATE, 201, body={"k": ""}, has={"k": ""})
row("a value of 65,535 bytes", "member", CREATE, 201, body={"k": "v" * 65535})
row("a value of 65,536 bytes is 400", "member", CREATE, 400, body={"k": "v" * 65536})
row("a key of 255 characters", "member", CREATE, 201, body={"k" * 255: "v"}, has={"k" * 255: "v"})
row("a key of 256 characters is 400", "member", CREATE, 400, body={"k" * 256: "v"})
row("an empty key is 400", "member", CREATE, 400, body={"": "v"})
row("a key of another alphabet", "member", CREATE, 201, body={"ключ": "v"}, has={"ключ": "v"})
row("keys are told apart by letter case", "member", CREATE, 201, body={"a": "1", "A": "2"}, has={"a": "1", "A": "2"})
row("a base field's name in capitals is a property", "member", CREATE, 201, body={"NAME": "x"}, has={"NAME": "x", "name": None})
row("128 of them", "member", CREATE, 201, body={f"k{n}": "v" for n in range(128)})
row("129 are 413", "member", CREATE, 413, body={f"k{n}": "v" for n in range(129)})
row("Nova's JSON text is opaque", "member", CREATE, 201, body={"block_device_mapping": '[{"a": 1}]' * 2000},
    has={"block_device_mapping": '[{"a": 1}]' * 2000})
for field in ("instance_uuid", "architecture", "os_distro", "os_version", "description", "cinder_encryption_key_id", "hw_disk_bus",
              "base_image_ref", "signature_verified", "img_signature"):
    row(f"{field} is free text", "member", CREATE, 201, body={field: "any text"}, has={field: "any text"})

section("3.4 visibility")
CASES = (  # given, who, GET by id
    ("private", "member", 200), ("private", "reader", 200), ("private", "other", 404), ("private", "admin", 200),
    ("shared", "member", 200), ("shared", "other", 404), ("shared", "admin", 200), ("shared member:beta", "other", 200),
    ("shared member:beta=accepted", "other", 200), ("shared member:beta=rejected", "other", 200),
    ("shared member:beta=accepted", "otherreader", 200), ("shared member:beta", "librarian", 404),
    ("community", "other", 200), ("community", "otherreader", 200), ("public", "other", 200), ("public", "otherreader", 200),
    ("ownerless", "other", 200), ("ownerless", "member", 200), ("hidden private", "member", 200), ("hidden public", "other", 200),
    ("public", "service", 404), ("private", "service", 404),
)
for given, who, status in CASES:
    row(f"{who} shows an image that is {given}", who, "GET /v2/images/<id>", status, given=f"queued {given}")
row("membership has no effect while the image is private", "other", "GET /v2/images/<id>", 404, given="queued member:beta=accepted",
    before=[("member", "PATCH /v2/images/<id>", [{"op": "replace", "path": "/visibility", "value": "private"}], PATCH_1)])
row("and has again when it is shared again", "other", "GET /v2/images/<id>", 200, given="queued member:beta=accepted",
    before=[("member", "PATCH /v2/images/<id>", [{"op": "replace", "path": "/visibility", "value": v}], PATCH_1)
            for v in ("private", "shared")])
