"""Writes boxes.json: IoU, GIoU and batched NMS by torchvision; ATSS and the decoding of detections by plain NumPy loops
written from the papers (Zhang 2020, algorithm 1; Li 2020, eq. 5).

    python boxes.py          # needs numpy, torch, torchvision

Coordinates are multiples of 1/4, so that f32 and f64 hold the same numbers and ties are ties.
"""
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import batched_nms, box_iou, generalized_box_iou

SEED = 20252


def quarter(v):
    return np.round(np.asarray(v) * 4) / 4


def random_boxes(rng, count, sizes, area=96):
    """`sizes` is the log2 range of the sides."""
    wh = np.maximum(quarter(2 ** rng.uniform(*sizes, (count, 2))), .25)
    xy = quarter(rng.uniform(0, np.maximum(area - wh, 1)))
    return np.concatenate([xy, xy + wh], 1)


def pairs(rng):
    a = np.concatenate([random_boxes(rng, 8, (1, 6)), [[10, 10, 30, 30], [0, 0, 10, 10]]])
    b = np.concatenate([random_boxes(rng, 8, (1, 6)), [[15, 15, 20, 20], [10, 0, 20, 10], [10, 10, 30, 30], [5, 5, 5, 5]]])
    ta, tb = torch.tensor(a), torch.tensor(b)
    return dict(a=a.tolist(), b=b.tolist(), iou=box_iou(ta, tb).tolist(), giou=generalized_box_iou(ta, tb).tolist())


def nms_case(rng, name, count, num_classes, ties, threshold, area=96):
    seeds = random_boxes(rng, max(count // 5, 1), (3, 6), area)
    boxes = seeds[rng.integers(len(seeds), size=count)]
    boxes = quarter(boxes + rng.normal(0, .06, (count, 4)) * np.tile(boxes[:, 2:] - boxes[:, :2], 2))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    scores = rng.integers(1, ties + 1, count) / 1024
    classes = rng.integers(0, num_classes, count)
    kept = batched_nms(torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores, dtype=torch.float32),
                       torch.tensor(classes), threshold)
    return dict(name=name, boxes=boxes.tolist(), scores=scores.tolist(), classes=classes.tolist(), iou_threshold=threshold,
                kept=kept.tolist())


def centres(levels):
    """[A, 2] and stride [A]."""
    points, strides = [], []
    for stride, h, w in levels:
        for y in range(h):
            for x in range(w):
                points.append([(x + .5) * stride, (y + .5) * stride])
                strides.append(stride)
    return np.array(points).reshape(-1, 2), np.array(strides, float)


def atss(levels, objects):
    """[(cell, class or -2, object or -1)] of every cell that is not background; the first of equal candidates."""
    points, strides = centres(levels)
    squares = np.concatenate([points - 4 * strides[:, None], points + 4 * strides[:, None]], 1)
    owner = np.full(len(points), -1)
    strength = [(False, -1.)] * len(points)
    for g, (box, _, ignore) in enumerate(objects):
        box = np.array(box)
        if ignore or (box[2:] <= box[:2]).any():
            continue
        low, high = np.maximum(squares[:, :2], box[:2]), np.minimum(squares[:, 2:], box[2:])
        inter = np.maximum(high - low, 0).prod(1)
        iou = inter / ((8 * strides) ** 2 + (box[2:] - box[:2]).prod() - inter)
        distance = ((points - (box[:2] + box[2:]) / 2) ** 2).sum(1)
        candidates, first = [], 0
        for _, h, w in levels:
            nearest = np.argsort(distance[first:first + h * w], kind="stable")[:9]
            candidates += (first + nearest).tolist()
            first += h * w
        threshold = iou[candidates].mean() + (iou[candidates].std(ddof=1) if len(candidates) > 1 else 0)
        inside = (points > box[:2]).all(1) & (points < box[2:]).all(1)
        positive = [c for c in candidates if inside[c] and iou[c] >= threshold - 1e-9]
        only = not positive
        if only:
            positive = [candidates[int(np.argmin(distance[candidates]))]]
        for c in positive:
            if (only, iou[c]) > strength[c]:
                strength[c], owner[c] = (only, iou[c]), g
    cells = []
    for c, point in enumerate(points):
        if owner[c] >= 0:
            cells.append([c, objects[owner[c]][1], int(owner[c])])
        elif any(i and (point > b[:2]).all() and (point < b[2:]).all() for b, _, i in objects):
            cells.append([c, -2, -1])
    return cells


def atss_case(rng, name, levels, boxes, ignore=0.):
    objects = [[list(map(float, b)), int(rng.integers(5)), int(rng.random() < ignore)] for b in boxes]
    return dict(name=name, levels=levels, objects=objects, cells=atss(levels, objects))


def atss_cases(rng):
    three = [[8, 12, 12], [16, 6, 6], [32, 3, 3]]
    five = [[8, 20, 12], [16, 10, 6], [32, 5, 3], [64, 3, 2], [128, 2, 1]]
    yield atss_case(rng, "empty", three, [])
    for n in range(12):
        yield atss_case(rng, f"few {n}", three, random_boxes(rng, int(rng.integers(1, 5)), (2, 6.5)))
    for n in range(4):
        yield atss_case(rng, f"crowded {n}", three, random_boxes(rng, 25, (2, 5.5)), .1)
    for n in range(4):
        yield atss_case(rng, f"ignored {n}", three, random_boxes(rng, 6, (4, 6)), .5)
    for n in range(4):
        yield atss_case(rng, f"five levels {n}", five, random_boxes(rng, 8, (1, 7), area=np.array([96, 160])))
    yield atss_case(rng, "tiny", three, random_boxes(rng, 12, (-2, 2)))
    yield atss_case(rng, "thin", three, [[3, 40, 90, 41.5], [50.25, 0, 51, 96], [0, 0, 96, .5]])
    # On centres, between centres, in corners, equal boxes, boxes larger than the image and outside it.
    yield atss_case(rng, "tied", three, [[0, 0, 32, 32], [32, 32, 64, 64], [32, 32, 64, 64], [4, 4, 20, 20], [40, 40, 56, 56],
                                         [80, 80, 96, 96], [0, 80, 16, 96]])
    yield atss_case(rng, "beyond the image", three, [[-40, -40, 140, 140], [-30, 10, 20, 40], [120, 120, 150, 150]])
    yield atss_case(rng, "one level, equal overlaps", [[8, 6, 6]], [[20, 20, 28, 28], [0, 0, 48, 48], [1, 1, 3, 3]])
    yield atss_case(rng, "levels of few cells", [[8, 1, 1], [16, 1, 1]], [[0, 0, 8, 8], [2, 2, 6, 7]])
    yield atss_case(rng, "one cell", [[32, 1, 1]], [[4, 4, 20, 20]])
    yield atss_case(rng, "a long level", [[8, 1, 30], [16, 1, 15]], [[100, 0, 140, 8], [0, 0, 10, 8], [230, 1, 240, 5]])


def decode_case(rng, name, levels, num_classes, area, mean, max_per_level, max_detections):
    points, strides = centres(levels)
    logits = np.round(rng.normal(mean, 1.5, (len(points), num_classes)), 3)
    distribution = np.round(rng.normal(0, 1, (len(points), 4, 17)) - .5 * np.arange(17), 2)
    e = np.exp(distribution - distribution.max(2, keepdims=True))
    distance = (e / e.sum(2, keepdims=True) * np.arange(17)).sum(2) * strides[:, None]
    boxes = np.concatenate([points - distance[:, :2], points + distance[:, 2:]], 1)
    boxes = np.clip(boxes, 0, np.array([*area, *area]))
    scores = 1 / (1 + np.exp(-logits))
    candidates, first = [], 0
    for _, h, w in levels:
        of_level = [(-scores[a, c], a, c) for a in range(first, first + h * w) for c in range(num_classes) if scores[a, c] > .05]
        candidates += sorted(of_level)[:max_per_level]
        first += h * w
    cells, classes = [c[1] for c in candidates], [c[2] for c in candidates]
    kept = batched_nms(torch.tensor(boxes[cells]), -torch.tensor([c[0] for c in candidates]), torch.tensor(classes), .6)
    detections = [[classes[i], -candidates[i][0], boxes[cells[i]].tolist()] for i in kept[:max_detections].tolist()]
    assert 0 < len(detections) < len(candidates)
    return dict(name=name, levels=levels, area=area, max_per_level=max_per_level, max_detections=max_detections,
                class_logits=logits.ravel().tolist(), box_logits=distribution.ravel().tolist(), detections=rounded(detections))


def rounded(v):
    return [rounded(x) for x in v] if isinstance(v, list) else round(v, 7) if isinstance(v, float) else v


def main():
    rng = np.random.default_rng(SEED)
    levels = [[8, 6, 8], [16, 3, 4], [32, 2, 2]]
    golden = dict(
        seed=SEED, python=sys.version.split()[0], versions={p: version(p) for p in ("numpy", "torch", "torchvision")},
        pairs=pairs(rng),
        nms=[nms_case(rng, "crowded", 120, 1, 1024, .6), nms_case(rng, "four classes", 150, 4, 1024, .5),
             nms_case(rng, "tied scores", 100, 2, 4, .5), nms_case(rng, "all scores equal", 60, 2, 1, .3),
             nms_case(rng, "sparse", 40, 3, 1024, .6, 400), nms_case(rng, "empty", 0, 1, 1, .6)],
        atss=list(atss_cases(rng)),
        decode=[decode_case(rng, "three levels", levels, 3, [60, 44], -3, 1000, 100),
                decode_case(rng, "limits", levels, 3, [64, 48], 0, 40, 15)])
    Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
