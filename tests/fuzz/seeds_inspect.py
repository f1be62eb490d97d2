#!/usr/bin/env python3
"""Writes real images made by qemu-img, trimmed, into the corpora of fuzz_inspect_*: named, one file an image and declared format.

usage: tests/fuzz/seeds_inspect.py     (the files it writes are part of the tree; run it when a format is added)
"""
import os
import struct
import subprocess
import tempfile

MARK, SECTOR, MAX = b"\xa5\x5a\xa5\x5a", 512, 4096
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
LUKS = ["--object", "secret,id=s,data=12345678"]
IMAGES = [  # family, name, qemu's format, words; what is declared: index into the family's list
    ("qcow2", "v3", "qcow2", []), ("qcow2", "v2", "qcow2", ["-o", "compat=0.10"]), ("qcow2", "l2", "qcow2", ["-o", "extended_l2=on"]),
    ("qcow2", "small", "qcow2", ["-o", "cluster_size=512"]), ("qcow2", "zstd", "qcow2", ["-o", "compression_type=zstd"]),
    ("qcow2", "backing", "qcow2", ["-u", "-b", "/etc/passwd", "-F", "raw"]), ("qcow2", "outside", "qcow2", ["-o", "data_file=outside.raw"]),
    ("qcow2", "v1", "qcow", []), ("qcow2", "qed", "qed", []),
    ("vmdk", "sparse", "vmdk", []), ("vmdk", "stream", "vmdk", ["-o", "subformat=streamOptimized"]),
    ("vmdk", "flat", "vmdk", ["-o", "subformat=monolithicFlat"]), ("vmdk", "parts", "vmdk", ["-o", "subformat=twoGbMaxExtentSparse"]),
    ("vmdk", "parts-flat", "vmdk", ["-o", "subformat=twoGbMaxExtentFlat"]),
    ("vhdx", "dynamic", "vhdx", []), ("vhdx", "fixed", "vhdx", ["-o", "subformat=fixed"]),
    ("disk", "vhd", "vpc", []), ("disk", "vdi", "vdi", []), ("disk", "vdi-static", "vdi", ["-o", "static=on"]),
    ("disk", "luks", "luks", LUKS + ["-o", "key-secret=s,iter-time=10"]), ("disk", "ploop", "parallels", []),
]


def trimmed(data):
    """The image with runs of zeros as marks, cut at MAX bytes."""
    out, at = bytearray(), 0
    while at < len(data) and len(out) < MAX - 8:
        sector = data[at:at + SECTOR]
        if any(sector):
            text = sector.rstrip(b"\0")
            out += text
            if len(text) < len(sector) or at + SECTOR >= len(data):
                out += MARK + struct.pack(">H", min(at // SECTOR + 1, 1023))
        else:
            while at + SECTOR < len(data) and not any(data[at + SECTOR:at + 2 * SECTOR]):
                at += SECTOR
            out += MARK + struct.pack(">H", min(at // SECTOR + 1, 1023))
        at += SECTOR
    return bytes(out[:MAX - 1])


def hybrid():
    iso = bytearray(40 * 2048)
    iso[32768:32774] = b"\1CD001"
    iso[32848:32852], iso[32896:32898] = struct.pack("<I", 40), struct.pack("<H", 2048)
    gpt = bytearray(MAX)
    gpt[446:462] = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, 7)
    gpt[510:512] = b"\x55\xaa"
    gpt[512:520] = b"EFI PART"
    both = bytearray(iso)
    both[:520] = gpt[:520]
    udf = bytearray(80 * 1024)
    udf[32769:32774] = b"NSR03"
    return {"iso": iso, "gpt": gpt, "iso-gpt": both, "udf": udf}


def write(family, name, data):
    folder = os.path.join(HERE, f"inspect_{family}")
    os.makedirs(folder, exist_ok=True)
    for declared in range(2):
        with open(os.path.join(folder, f"{name}-{declared}"), "wb") as f:
            f.write(bytes([declared]) + trimmed(bytes(data)))


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for family, name, tool, words in IMAGES:
            objects = words[:2] if words[:1] == ["--object"] else []
            words = words[len(objects):]
            size = ["1M"]
            subprocess.run(["qemu-img", "create", "-q", *objects, "-f", tool, *words, name, *size], check=True)
            with open(name, "rb") as f:
                write(family, name, f.read())
    for name, data in hybrid().items():
        write("iso", name, data)


if __name__ == "__main__":
    main()
