"""Writes COCO annotation and results files, and pycocotools' results for them as coco.json.

    python coco.py        # needs numpy, pycocotools

Coordinates and scores need f64: f32 would merge scores and move overlaps across the thresholds.
"""
import contextlib
import io
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SEED = 20252
HERE = Path(__file__).parent
CATEGORIES = {90: "toothbrush", 1: "person", 17: "cat", 4: "never there"}


def annotations(rng):
    """Images and categories in no order, sparse numbers; crowds, `ignore` (which bbox evaluation overwrites), flat boxes."""
    images = [int(i) for i in rng.permutation([3, 8, 12, 139, 285, 632, 724, 5000000000])]
    truth = []
    for image in images[:-2]:
        for _ in range(rng.integers(3, 8)):
            w, h = np.round(2 ** rng.uniform(2.5, 8, 2), 2)
            x, y = np.round(rng.uniform(0, 300, 2), 2)
            crowd = int(rng.random() < .2)
            truth.append(dict(image_id=image, category_id=int(rng.choice([1, 17, 90])), bbox=[x, y, w, h],
                              area=round(w * h * rng.uniform(.4, 1), 4), iscrowd=crowd))
            if rng.random() < .2:
                truth[-1]["ignore"] = 1
    x, y, w, h = truth[0]["bbox"]
    truth.append(dict(truth[0], bbox=[x, y, 0.0, h], area=0.0))
    truth.append(dict(truth[0], bbox=[x, y, w, h], area=1024, iscrowd=0))
    # Two boxes, each found by only one of very many detections.
    truth += [dict(truth[0], bbox=[left, 500, 40, 50], area=2000, iscrowd=0) for left in (400, 500)]
    # Ignored: an image and a category that the file does not list.
    truth.append(dict(truth[0], image_id=4))
    truth.append(dict(truth[0], category_id=5))
    order = rng.permutation(len(truth))
    truth = [dict(id=int(n), **truth[i]) for n, i in enumerate(order, 1)]
    return dict(info={}, images=[dict(id=i, file_name=f"{i}.jpg", width=640, height=480) for i in images],
                annotations=truth, categories=[dict(id=i, name=n, supercategory="") for i, n in CATEGORIES.items()])


def results(rng, truth):
    found = []
    add = lambda image, category, bbox, score: found.append(
        dict(image_id=image, category_id=category, bbox=[float(v) for v in bbox], score=float(score)))
    ids = [i["id"] for i in truth["images"]]
    for t in truth["annotations"]:
        if t["image_id"] not in ids or t["category_id"] not in CATEGORIES or t["bbox"][1] == 500:
            continue
        for _ in range(rng.integers(0, 4)):
            size = np.array([t["bbox"][2], t["bbox"][3]] * 2)
            bbox = np.round(np.array(t["bbox"]) + rng.normal(0, .08, 4) * size, 3)
            score = rng.choice([.5, .5 + 1e-10, .9, 1, round(rng.random(), 3)])
            add(t["image_id"], t["category_id"] if rng.random() < .9 else 1, bbox, score)
    # Overlaps equal to a threshold, up to rounding.
    t = next(t for t in truth["annotations"] if t["bbox"][1] == 500)
    t = next(u for u in truth["annotations"] if u["image_id"] == t["image_id"]
             and u["category_id"] in CATEGORIES and u["area"] not in (0, 2000))
    x, y, w, h = t["bbox"]
    for part in (.5, .55, .6, .75, .95):
        add(t["image_id"], t["category_id"], [x, y, w, h * part], .7)
    # A box on an image without annotations, one of an unused category, a flat one, one with swapped corners.
    empty = ids[-1]
    add(empty, 17, [10, 10, 30, 30], .95)
    add(empty, 4, [10, 10, 30, 30], .95)
    add(t["image_id"], t["category_id"], [x, y, w, 0], .99)
    add(t["image_id"], t["category_id"], [x + w, y + h, -w, -h], .97)
    # More than a hundred of one category in one image: one box is found within the hundred, one beyond.
    u = next(u for u in truth["annotations"] if u["bbox"][1] == 500)
    for n in range(115):
        bbox = {40: [400, 501, 40, 50], 114: [500, 501, 40, 50]}.get(n, np.round(rng.uniform(5, 90, 4), 1))
        add(u["image_id"], u["category_id"], bbox, round(.4 - n / 1000, 4))
    return [found[i] for i in rng.permutation(len(found))]


def evaluate(annotation_file, result_file):
    printed = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(HERE / annotation_file))
        text = json.loads((HERE / result_file).read_text())
        if text:
            found = truth.loadRes(str(HERE / result_file))
        else:  # loadRes reads the first result
            found = COCO()
            found.dataset = dict(truth.dataset, annotations=[])
            found.createIndex()
        run = COCOeval(truth, found, "bbox")
        run.evaluate()
        run.accumulate()
        with contextlib.redirect_stdout(printed):
            run.summarize()
    return dict(annotations=annotation_file, results=result_file, stats=run.stats.tolist(),
                printed=printed.getvalue().rstrip("\n"))


def main():
    rng = np.random.default_rng(SEED)
    write = lambda name, value: (HERE / name).write_text(json.dumps(value, separators=(",", ":")) + "\n")
    truth = annotations(rng)
    write("coco_annotations.json", truth)
    write("coco_results.json", results(rng, truth))
    write("coco_results_none.json", [])
    # Numbered from 0, as by some exporters: pycocotools treats a match with annotation 0 as no match.
    write("coco_annotations_from_0.json", dict(truth, annotations=[dict(a, id=a["id"] - 1) for a in truth["annotations"]]))
    cases = [evaluate(a, r) for a, r in [("coco_annotations.json", "coco_results.json"),
                                         ("coco_annotations.json", "coco_results_none.json"),
                                         ("coco_annotations_from_0.json", "coco_results.json")]]
    write("coco.json", dict(seed=SEED, python=sys.version.split()[0],
                            versions={p: version(p) for p in ("numpy", "pycocotools")}, cases=cases))


if __name__ == "__main__":
    main()
