"""Makes large data sets of hard links to a few tiny PNGs, to measure the time and memory of opening them.

    python3 tests/scale/generate.py FOLDER 100000
    for set in folders csv jsonl coco boxes bdd; do
        /usr/bin/time -v target/release/polyhead data describe FOLDER/$set > /dev/null
    done

FOLDER/folders has 1,000 classes in class folders, train and val; FOLDER/csv the same images under a data.yaml with one CSV of two
tasks; FOLDER/jsonl the same with a metadata.jsonl beside them, boxes included; FOLDER/coco, FOLDER/boxes and FOLDER/bdd the same
boxes (0, 1 or 2 per image) as COCO, as a CSV with a row per box, and as BDD100K with two attributes per image.
"""
import json
import os
import struct
import sys
import zlib

CLASSES = 1000
# ext4 allows 65,000 links per file.
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
    for kind in ("csv", "jsonl", "coco", "boxes", "bdd"):
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

    boxes(root, names)


def boxes(root, names):
    numbered = list(enumerate(names))
    rows = [f"{name},8,8,{'a,1,1,4,5' if i % 3 else ',,,,'}\n" * max(i % 3, 1) for i, name in numbered]
    with open(os.path.join(root, "boxes", "boxes.csv"), "w") as file:
        file.write("filename,width,height,class,xmin,ymin,xmax,ymax\n")
        file.writelines(rows)
    files = {"boxes": "{csv: boxes.csv}"}
    for kind in ("coco", "bdd"):
        files[kind] = f"{{{kind}: {{train: train.json, val: val.json}}}}"
    for split in ("train", "val"):
        own = [(i, name[len(split) + 1 :]) for i, name in numbered if name.startswith(split)]
        with open(os.path.join(root, "coco", split + ".json"), "w") as file:
            images = (f'{{"id": {i}, "file_name": "{name}", "width": 8, "height": 8, "license": 1, "coco_url": ""}}' for i, name in own)
            box = '"category_id": 1, "bbox": [1, 1, 3, 4], "area": 12, "iscrowd": 0'
            annotations = (f'{{"id": {3 * i + k}, "image_id": {i}, {box}}}' for i, _ in own for k in range(i % 3))
            file.write('{"categories": [{"id": 1, "name": "a"}], "images": [' + ",\n".join(images))
            file.write('], "annotations": [' + ",\n".join(annotations) + "]}\n")
        with open(os.path.join(root, "bdd", split + ".json"), "w") as file:
            box = '{"category": "a", "attributes": {"occluded": false}, "box2d": {"x1": 1, "y1": 1, "x2": 4, "y2": 5}}'
            frame = '{{"name": "{}", "attributes": {{"weather": "w{}", "scene": "s{}"}}, "labels": [{}]}}'
            frames = (frame.format(name, i % 7, i % 5, ", ".join([box] * (i % 3))) for i, name in own)
            file.write("[" + ",\n".join(frames) + "]\n")
    for kind, source in files.items():
        weather = f"  weather: {{type: classify, from: {source[:-1]}, attribute: weather}}}}\n" if kind == "bdd" else ""
        with open(os.path.join(root, kind, "data.yaml"), "w") as file:
            file.write(f"train: images/train\nval: images/val\ntasks:\n  objects: {{type: detect, from: {source}}}\n{weather}")


main(sys.argv[1], int(sys.argv[2]))
