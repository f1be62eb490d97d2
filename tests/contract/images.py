"""Small real images, made by qemu-img where it makes them, and hostile ones cut from them."""
import os
import struct
import subprocess
import tempfile

MIB = 1 << 20
SECTOR = 512


def _qemu(folder, name, *words, size="8M"):
    path = os.path.join(folder, name)
    command = ["qemu-img", "create", "-q", *words, path, *([size] if size else [])]
    for _ in range(50):
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        # qemu-img times its key derivation for LUKS, and gives up when the machine is too busy for that.
        if done.returncode == 0 or "accurate CPU usage" not in done.stderr:
            break
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    with open(path, "rb") as f:
        return bytearray(f.read())


def _put(data, at, piece):
    out = bytearray(data)
    out[at:at + len(piece)] = piece
    return bytes(out)


def _iso(blocks=40):
    out = bytearray(blocks * 2048)
    out[32768] = 1
    out[32769:32775] = b"CD001\x01"
    out[32768 + 80:32768 + 84] = struct.pack("<I", blocks)
    out[32768 + 128:32768 + 130] = struct.pack("<H", 2048)
    return bytes(out)


def _mbr(boot=0x80, kind=0x83):
    out = bytearray(MIB)
    out[446:462] = struct.pack("<B3sB3sII", boot, b"\0\2\0", kind, b"\xff\xff\xff", 1 if kind == 0xEE else 63, 1000)
    out[510:512] = b"\x55\xaa"
    return bytes(out)


def _vmdk_descriptor(vmdk, old, new):
    """The descriptor's text with one piece replaced; the room that it has stays the same."""
    start, room = 512, struct.unpack("<Q", vmdk[36:44])[0] * 512
    text = bytes(vmdk[start:start + room]).rstrip(b"\0")
    assert old in text, text
    return _put(vmdk, start, text.replace(old, new).ljust(room, b"\0"))


def make():
    """{name: bytes}; the virtual size of all of qemu-img's is 8 MiB."""
    with tempfile.TemporaryDirectory() as folder:
        qcow2 = _qemu(folder, "a.qcow2", "-f", "qcow2")
        v2 = _qemu(folder, "b.qcow2", "-f", "qcow2", "-o", "compat=0.10")
        vmdk = _qemu(folder, "a.vmdk", "-f", "vmdk", "-o", "subformat=monolithicSparse")
        vdi = _qemu(folder, "a.vdi", "-f", "vdi")
        vhdx = _qemu(folder, "a.vhdx", "-f", "vhdx")
        vhd = _qemu(folder, "a.vhd", "-f", "vpc", "-o", "subformat=dynamic,force_size=on")
        fixed = _qemu(folder, "b.vhd", "-f", "vpc", "-o", "subformat=fixed,force_size=on")
        backed = _qemu(folder, "c.qcow2", "-f", "qcow2", "-b", os.path.join(folder, "a.qcow2"), "-F", "qcow2", size=None)
        outside = _qemu(folder, "d.qcow2", "-f", "qcow2", "-o", f"data_file={folder}/outside.raw")
        luks = _qemu(folder, "a.luks", "--object", "secret,id=s,data=12345678", "-f", "luks", "-o",
                     "key-secret=s,iter-time=10", size="1M")
        raw = bytearray(b"\0" * MIB)
        with open(os.path.join(folder, "s.raw"), "wb") as f:
            f.write(raw)
        stream = os.path.join(folder, "s.vmdk")
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized",
                        os.path.join(folder, "s.raw"), stream], check=True)
        with open(stream, "rb") as f:
            stream = f.read()
    iso = _iso()
    return {
        "qcow2": bytes(qcow2), "qcow2 v2": bytes(v2), "vmdk": bytes(vmdk), "vmdk stream": stream, "vdi": bytes(vdi),
        "vhdx": bytes(vhdx), "vhd": bytes(vhd), "vhd fixed": bytes(fixed), "iso": iso, "raw": bytes(raw),
        "iso with mbr": _put(iso, 0, _mbr()[:512]), "mbr": _mbr(), "luks": bytes(luks),
        "udf": _put(bytes(80 * 1024), 32769, b"NSR03"),
        # hostile or broken
        "qcow2 with backing file": bytes(backed),
        "qcow2 with data file": bytes(outside),
        "qcow2 with unknown feature": _put(qcow2, 72, struct.pack(">Q", 1 << 7)),
        "qcow2 version 9": _put(qcow2, 4, struct.pack(">I", 9)),
        "qcow2 magic only": b"QFI\xfb\0\0\0\3",
        "qed": b"QED\0" + b"\0" * 70000,
        "vmdk of a flat disk": b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
                               b'RW 1 FLAT "/etc/passwd" 0\n'.ljust(2048, b"\n"),
        "vmdk that names a path": _vmdk_descriptor(vmdk, b'"a.vmdk"', b'"/etc/passwd"'),
        "vmdk of another createType": _vmdk_descriptor(vmdk, b"monolithicSparse", b"monolithicFlat"),
        "vmdk without extent": _vmdk_descriptor(vmdk, b"RW ", b"# "),
        "vmdk whose descriptor is elsewhere": _put(vmdk, 28, struct.pack("<Q", 4)),
        "qcow2 and iso": _put(_put(bytes(80 * 1024), 0, qcow2[:512]), 32768, iso[32768:32900]),
    }
