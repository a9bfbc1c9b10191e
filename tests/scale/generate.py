"""Makes large data sets of hard links to a few tiny PNGs, to measure how long opening them takes and what memory it needs.

    python3 tests/scale/generate.py FOLDER 100000
    for set in folders csv jsonl; do
        /usr/bin/time -v target/release/polyhead data describe FOLDER/$set > /dev/null
    done

FOLDER/folders has 1,000 classes in class folders, train and val; FOLDER/csv the same images under a data.yaml with one CSV of two
tasks; FOLDER/jsonl the same with a metadata.jsonl beside them, boxes included.
"""
import json
import os
import struct
import sys
import zlib

CLASSES = 1000
# ext4 allows 65,000 links to a file.
LINKS = 60000


def png(grey):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress((b"\0" + bytes([grey]) * 24) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def main(root, count):
    folders = os.path.join(root, "folders")
    os.makedirs(root)
    names = []
    for i in range(count):
        name = f"{'val' if i // CLASSES % 20 == 0 else 'train'}/class{i % CLASSES:04}/image_{i:08}.png"
        if i < 20 * CLASSES:
            os.makedirs(os.path.join(folders, os.path.dirname(name)), exist_ok=True)
        base = os.path.join(root, f"base{i // LINKS}.png")
        if i % LINKS == 0:
            with open(base, "wb") as file:
                file.write(png(i // LINKS))
        os.link(base, os.path.join(folders, name))
        names.append(name)
    for kind in ("csv", "jsonl"):
        os.makedirs(os.path.join(root, kind))
        os.symlink("../folders", os.path.join(root, kind, "images"))
    with open(os.path.join(root, "csv", "labels.csv"), "w") as file:
        file.write("file,kind,weight\n")
        file.writelines(f"{name},class{i % 7},{'' if i % 5 == 0 else i % 97}\n" for i, name in enumerate(names))
    with open(os.path.join(root, "csv", "data.yaml"), "w") as file:
        file.write(
            "train: images/train\nval: images/val\ntasks:\n"
            "  kind: {type: classify, from: {csv: labels.csv, column: kind}}\n"
            "  weight: {type: regress, from: {csv: labels.csv, column: weight}}\n"
        )
    with open(os.path.join(root, "jsonl", "metadata.jsonl"), "w") as file:
        for i, name in enumerate(names):
            row = {"file_name": "images/" + name, "kind": f"class{i % 7}", "weight": i % 97}
            row["objects"] = {"bbox": [[1, 1, 3, 4]] * (i % 3), "categories": ["a"] * (i % 3)}
            file.write(json.dumps(row) + "\n")
    with open(os.path.join(root, "jsonl", "data.yaml"), "w") as file:
        file.write(
            "train: images/train\nval: images/val\ntasks:\n"
            "  kind: {type: classify, from: kind}\n  weight: {type: regress, from: weight}\n  objects: {type: detect, from: objects}\n"
        )


main(sys.argv[1], int(sys.argv[2]))
