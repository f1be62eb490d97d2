"""Sections 3.5 to 3.7: status, formats, virtual size, safety: what is uploaded decides."""
from contract import Chunked, File, OCTETS, like, row, section, upload

REFUSED = {"status": "queued", "size": None, "virtual_size": None, "checksum": None, "os_hash_value": None}
MIB8 = 8 << 20

section("3.5 status")
for status, request, who, then in (
        ("queued", "PUT /v2/images/<id>/file", "member", "active"),
        ("active", "POST /v2/images/<id>/actions/deactivate", "member", "deactivated"),
        ("deactivated", "POST /v2/images/<id>/actions/reactivate", "member", "active")):
    row(f"{status} to {then}", who, request, 204, given=status, body=b"x" if "file" in request else None,
        headers=OCTETS if "file" in request else {}, then={"status": then})
for status in ("active", "deactivated"):
    upload(f"{status} to saving is refused", b"x", 409, given=status, then={"status": status},
           has={"error/message": f"Image status transition from {status} to saving is not allowed"})
for status in ("queued", "active", "deactivated"):
    row(f"{status} to deleted", "member", "DELETE /v2/images/<id>", 204, given=status, then=404)

section("3.6 formats and virtual size")
for declared, name, virtual in (
        ("raw", "raw", 1 << 20), ("raw", "qcow2", 196616), ("raw", "iso", 81920), ("raw", "vdi", 1024),
        ("qcow2", "qcow2", MIB8), ("qcow2", "qcow2 v2", MIB8), ("vmdk", "vmdk", MIB8), ("vmdk", "vmdk stream", 1 << 20),
        ("vhd", "vhd", None), ("vhdx", "vhdx", MIB8), ("vdi", "vdi", MIB8), ("iso", "iso", 81920),
        ("iso", "iso with mbr", 81920), ("raw", "mbr", 1 << 20), ("raw", "vhd fixed", 8389120),
        ("ami", "raw", None), ("ari", "raw", None), ("aki", "raw", None), ("ploop", "raw", None),
        ("raw", "qcow2 magic only", 8)):
    upload(f"{declared}: {name}", File(name), 204, given=f"queued format:{declared}",
           then={"status": "active", **({"virtual_size": virtual} if name != "vhd" else {"virtual_size": 8 << 20})})
for name, declared in (("qcow2", "qcow2"), ("vmdk", "vmdk"), ("vhdx", "vhdx"), ("vdi", "vdi"), ("iso", "iso"), ("vhd", "vhd")):
    upload(f"{declared}: {name}, in chunks", File(name, chunked=True), 204, given=f"queued format:{declared}",
           then={"status": "active"})
upload("iso: another kind of descriptor is accepted", File("udf"), 204, given="queued format:iso", then={"status": "active"})
for declared, name in (("qcow2", "raw"), ("qcow2", "iso"), ("qcow2", "vmdk"), ("vmdk", "raw"), ("vmdk", "qcow2"), ("vdi", "raw"),
                       ("vdi", "qcow2"), ("vhdx", "raw"), ("vhdx", "vhd"), ("vhd", "raw"), ("vhd", "vhd fixed"),
                       ("vhd", "vhdx"), ("iso", "raw"), ("iso", "qcow2"), ("ami", "qcow2"), ("ari", "iso"), ("aki", "vdi"),
                       ("ploop", "qcow2"), ("qcow2", "qcow2 magic only")):
    upload(f"{name} declared {declared} is 415", File(name), 415, given=f"queued format:{declared}", then=REFUSED,
           has={"error/message": like(f"disk_format {declared} does not match|safety")})
upload("a short body declared qcow2 is 415", b"0123456789", 415, given="queued format:qcow2", then=REFUSED)
upload("a refusal in chunks leaves nothing either", File("raw", chunked=True), 415, given="queued format:qcow2", then=REFUSED)
for declared in ("qcow2", "vmdk", "iso", "vhdx"):
    upload(f"nothing, declared {declared}, is active", b"", 204, given=f"queued format:{declared}",
           headers={"Content-Length": "0"}, then={"status": "active", "size": 0, "virtual_size": None})
for container in ("ovf", "ova", "docker", "compressed", "ami", "ari", "aki"):
    upload(f"in container {container} nothing is inspected", File("raw"), 204, given=f"queued format:qcow2 container:{container}",
           then={"status": "active", "virtual_size": None, "size": 1 << 20})
upload("a second upload after a refusal", File("qcow2"), 204, given="queued format:qcow2",
       before=[("member", "GET /v2/images/<id>")], then={"status": "active"})

section("3.7 safety")
for name in ("qcow2 with backing file", "qcow2 with data file", "qcow2 with unknown feature", "qcow2 version 9", "qed",
             "vmdk that names a path", "vmdk of another createType", "vmdk without extent", "vmdk whose descriptor is elsewhere",
             "vmdk of a flat disk"):
    for declared in ("raw", name.split()[0].replace("qed", "qcow2")):
        upload(f"{name}, declared {declared}, is 415", File(name), 415, given=f"queued format:{declared}", then=REFUSED,
               has={"error/message": like("safety|does not match")})
    upload(f"{name}, declared raw, in chunks, is 415", File(name, chunked=True), 415, given="queued", then=REFUSED)
upload("qcow2 and iso at once, declared iso, is 415", File("qcow2 and iso"), 415, given="queued format:iso", then=REFUSED)
upload("qcow2 and iso at once, declared qcow2, is 415", File("qcow2 and iso"), 415, given="queued format:qcow2", then=REFUSED)
upload("luks, declared raw, is taken or refused for safety", File("luks"), (204, 415), given="queued")
