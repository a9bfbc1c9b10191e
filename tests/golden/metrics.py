"""Writes metrics.json: pycocotools' results on small hard cases, scikit-learn's and SciPy's on random ones.

    python metrics.py        # needs numpy, scipy, scikit-learn, pycocotools

A detection is [x1, y1, x2, y2, class, score], an annotated box [x1, y1, x2, y2, class, crowd, area or null]. Coordinates
are multiples of 1/4 and scores of 1/64, so that f32 and f64 hold the same numbers and ties are ties.
"""
import contextlib
import io
import json
import math
import sys
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.stats import spearmanr
from sklearn import metrics as sk

SEED = 20251


def coco(num_classes, images):
    """The twelve numbers and [AP, AP50] per class; None where undefined."""
    annotations, results = [], []
    for image_id, image in enumerate(images, 1):
        for x1, y1, x2, y2, c, crowd, area in image["truth"]:
            w, h = x2 - x1, y2 - y1
            area = w * h if area is None else area
            annotations.append(dict(id=len(annotations) + 1, image_id=image_id, category_id=c, bbox=[x1, y1, w, h],
                                    area=area, iscrowd=crowd))
        for x1, y1, x2, y2, c, score in image["detections"]:
            results.append(dict(image_id=image_id, category_id=c, bbox=[x1, y1, x2 - x1, y2 - y1], score=score))
    truth = COCO()
    truth.dataset = dict(images=[dict(id=i + 1, width=1000, height=1000) for i in range(len(images))],
                         annotations=annotations, categories=[dict(id=c, name=str(c)) for c in range(num_classes)])
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes(results) if results else COCO()
        if not results:
            found.dataset = dict(truth.dataset, annotations=[])
            found.createIndex()
        run = COCOeval(truth, found, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    known = lambda v: None if v < 0 else float(v)
    precision = run.eval["precision"]  # [T, R, K, A, M]
    per_class = []
    for c in range(num_classes):
        p = precision[:, :, c, 0, 2]
        per_class.append([known(p.mean()), known(p[0].mean())])
    return dict(stats=[known(v) for v in run.stats], per_class=per_class)


def random_images(rng, count, num_classes, objects, noise, crowd, extra, ties, sizes, size=400):
    """`extra` false detections per image; scores from `ties` different values; `sizes` the log2 range of sides."""
    images = []
    for _ in range(count):
        truth, found = [], []
        for _ in range(rng.integers(0, objects + 1)):
            w, h = np.round(2 ** rng.uniform(*sizes, 2) * 4) / 4
            x, y = np.round(rng.uniform(0, size - 20, 2) * 4) / 4
            c = int(rng.integers(num_classes))
            is_crowd = int(rng.random() < crowd)
            area = float(np.round(w * h * rng.uniform(.4, 1) * 4) / 4) if rng.random() < .3 else None
            truth.append([x, y, x + w, y + h, c, is_crowd, area])
            for _ in range(rng.integers(0, 4)):
                shift = np.round(rng.normal(0, noise, 4) * np.array([w, h, w, h]) * 4) / 4
                b = np.array([x, y, x + w, y + h]) + shift
                if b[2] > b[0] and b[3] > b[1]:
                    found.append([*b.tolist(), c if rng.random() < .9 else int(rng.integers(num_classes)),
                                  float(rng.integers(1, ties + 1)) / 64])
        for _ in range(rng.integers(0, extra + 1)):
            w, h = np.round(2 ** rng.uniform(*sizes, 2) * 4) / 4
            x, y = np.round(rng.uniform(0, size - 20, 2) * 4) / 4
            found.append([x, y, x + w, y + h, int(rng.integers(num_classes)), float(rng.integers(1, ties + 1)) / 64])
        rng.shuffle(found)
        images.append(dict(detections=[list(map(plain, f)) for f in found], truth=[list(map(plain, t)) for t in truth]))
    return images


def plain(v):
    if v is None:
        return None
    v = float(v)
    return int(v) if v == int(v) else v


def detection_cases(rng):
    mixed = (2.5, 7)
    yield "mixed sizes", 4, random_images(rng, 14, 4, 6, .1, 0, 3, 64, mixed)
    yield "crowds", 3, random_images(rng, 12, 3, 7, .1, .35, 4, 64, mixed)
    yield "tied scores", 3, random_images(rng, 14, 3, 6, .12, .1, 4, 3, mixed)
    yield "crowded small", 2, random_images(rng, 6, 2, 20, .1, .1, 4, 20, (2, 5), size=100)
    yield "more than 100 detections", 1, random_images(rng, 3, 1, 60, .05, .1, 130, 16, (3, 6), size=200)
    yield "classes without truth", 6, [
        dict(i, truth=[t for t in i["truth"] if t[4] not in (1, 4)]) for i in random_images(rng, 6, 6, 5, .1, 0, 3, 64, mixed)]
    images = random_images(rng, 8, 2, 4, .1, .1, 3, 64, mixed)
    yield "images labelled as empty", 2, [dict(i, truth=[]) if n % 2 else i for n, i in enumerate(images)]
    yield "no detections", 2, [dict(i, detections=[]) for i in random_images(rng, 4, 2, 4, .1, 0, 0, 64, mixed)]
    yield "nothing", 2, [dict(detections=[], truth=[])]
    yield "only crowds", 1, random_images(rng, 4, 1, 4, .1, 1, 3, 64, mixed)
    # Two boxes of equal IoU with one detection; area exactly on a border; the detection nested in a crowd and a box.
    yield "equal overlaps", 1, [
        dict(truth=[[0, 0, 10, 10, 0, 0, None], [10, 0, 20, 10, 0, 0, None]],
             detections=[[0, 0, 20, 10, 0, .5], [5, 0, 15, 10, 0, .5], [10, 0, 20, 10, 0, .5]]),
        dict(truth=[[0, 0, 32, 32, 0, 0, None], [0, 0, 96, 96, 0, 0, None], [0, 0, 200, 200, 0, 1, None]],
             detections=[[0, 0, 32, 32, 0, .75], [0, 0, 96, 96, 0, .75], [0, 0, 64, 64, 0, .25], [0, 0, 30, 32, 0, .5]]),
        dict(truth=[[0, 0, 20, 10, 0, 0, None]], detections=[[0, 0, 10, 10, 0, .5], [0, 0, 20, 10, 0, .25]])]


def classification(rng, name, count, k, unlabelled, classes):
    scores = np.round(rng.normal(0, 1, (count, k)), 4).astype(np.float32)
    truth = rng.choice(classes, count)
    scores[np.arange(count), truth] += 1
    scores = np.round(scores, 4)
    labelled = rng.random(count) >= unlabelled
    t, s = truth[labelled], scores[labelled]
    p = s.argmax(1) if len(t) else np.zeros(0, int)
    per_class = [[None, None, None, None, 0]] * k
    if len(t):
        prf = sk.precision_recall_fscore_support(t, p, labels=range(k), zero_division=np.nan)
        per_class = [[*(None if np.isnan(v) else float(v) for v in row[:3]),
                      float(sk.average_precision_score(t == c, s[:, c])) if (t == c).any() else None, int(row[3])]
                     for c, row in enumerate(zip(*prf))]
    expected = dict(count=int(labelled.sum()), per_class=per_class, top1=None, top5=None, precision=None, recall=None, f1=None,
                    balanced_accuracy=None, confusion=np.zeros((k, k), int).tolist())
    if len(t):
        macro = dict(average="macro", zero_division=0)
        expected = dict(
            expected, top1=sk.accuracy_score(t, p), precision=sk.precision_score(t, p, **macro),
            recall=sk.recall_score(t, p, **macro), f1=sk.f1_score(t, p, **macro),
            balanced_accuracy=sk.balanced_accuracy_score(t, p), confusion=sk.confusion_matrix(t, p, labels=range(k)).tolist())
        if k > 5:
            expected["top5"] = sk.top_k_accuracy_score(t, s, k=5, labels=range(k))
    return dict(name=name, num_classes=k, scores=[[round(float(v), 4) for v in row] for row in scores],
                truth=[int(c) if ok else None for c, ok in zip(truth, labelled)], expected=expected)


def multi_label(rng, name, count, k, unlabelled, decimals, classes=()):
    """`unlabelled`: share of unlabelled entries; `classes`: {class: the value all its labels have}."""
    truth = (rng.random((count, k)) < .35).astype(float)
    for c, value in dict(classes).items():
        truth[:, c] = value
    scores = 1 / (1 + np.exp(-rng.normal(0, 1, (count, k)) - 1.5 * np.nan_to_num(truth) + .7))
    scores = np.round(scores, decimals).astype(np.float32)
    truth[rng.random((count, k)) < unlabelled] = np.nan
    per_class = []
    for t, s in zip(truth.T, scores.T):
        t, s = t[~np.isnan(t)].astype(int), s[~np.isnan(t)]
        p = (s >= .5).astype(int)
        row = dict(labelled=len(t), count=int(t.sum()), ap=None, f1=None)
        if 0 < t.sum() < len(t):
            row.update(ap=float(sk.average_precision_score(t, s)))
        if len(t) and t.sum() + p.sum():
            row.update(f1=float(sk.f1_score(t, p, zero_division=0)))
        per_class.append(row)
    macro = lambda key: (lambda known: float(np.mean(known)) if known else None)([c[key] for c in per_class if c[key] is not None])
    return dict(name=name, scores=[[round(float(v), 4) for v in row] for row in scores],
                truth=[[None if np.isnan(v) else int(v) for v in row] for row in truth],
                expected=dict(map=macro("ap"), f1=macro("f1"), per_class=per_class))


def calibration(rng, name, count, k, sharpness, step):
    """Expected calibration error over 15 bins (i/15, (i+1)/15], by the definition; probabilities are multiples of 1/step."""
    probabilities = np.array([rng.multinomial(step, rng.dirichlet(np.full(k, 1 / sharpness))) for _ in range(count)]) / step
    truth = np.array([rng.choice(k, p=.6 * p + .4 / k) for p in probabilities])
    top, hit = probabilities.astype(np.float32).astype(float).max(1), probabilities.argmax(1) == truth
    edges = np.linspace(0, 1, 16)
    error = 0.
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (low < top) & (top <= high)
        if inside.any():
            error += inside.mean() * abs(hit[inside].mean() - top[inside].mean())
    return dict(name=name, num_classes=k, probabilities=probabilities.tolist(), truth=truth.tolist(), expected=float(error))


def regression(name, values, truth):
    """A row of NaN is entirely unlabelled; a single NaN is a blank cell."""
    expected = []
    for v, t in zip(values.T.astype(np.float32).astype(float), truth.T.astype(np.float32).astype(float)):
        v, t = v[~np.isnan(t)], t[~np.isnan(t)]
        row = dict(count=len(t), mae=None, rmse=None, r2=None, spearman=None, half_width=None)
        if len(t):
            row.update(mae=sk.mean_absolute_error(t, v), rmse=sk.root_mean_squared_error(t, v))
        if len(t) > 1:
            row.update(r2=sk.r2_score(t, v))
            if np.ptp(v) and np.ptp(t):
                row.update(spearman=float(spearmanr(v, t).statistic))
        if len(t) >= 10:
            # The ceil(.9 (n + 1))-th smallest residual of n: a 90 % interval by split-conformal prediction.
            level = Fraction(math.ceil(Fraction(9, 10) * (len(t) + 1)), len(t))
            row.update(half_width=float(np.quantile(np.abs(v - t), float(level), method="inverted_cdf")))
        expected.append(row)
    rows = [None if np.isnan(r).all() else [None if np.isnan(x) else float(x) for x in r] for r in truth]
    return dict(name=name, num_columns=values.shape[1], values=values.tolist(), truth=rows, expected=expected)


def regression_cases(rng):
    truth = np.round(rng.normal(50, 10, (40, 3)), 2)
    values = np.round(truth + rng.normal(0, [1, 8, 40], (40, 3)), 2)
    truth[rng.random(40) < .2] = np.nan
    truth[5, 1] = np.nan
    yield regression("three columns", values, truth)
    yield regression("tied integers", rng.integers(0, 5, (30, 1)).astype(float), rng.integers(0, 5, (30, 1)).astype(float))
    yield regression("constant truth", np.array([[1.], [2], [3]]), np.full((3, 1), 2.))
    yield regression("constant truth met", np.full((3, 1), 2.), np.full((3, 1), 2.))
    yield regression("one image", np.array([[1.]]), np.array([[4.]]))
    yield regression("all unlabelled", np.array([[1.], [2.]]), np.full((2, 1), np.nan))
    yield regression("large offset", 1e6 + np.arange(8.)[:, None] ** 1.5 // 1, 1e6 + np.arange(8.)[:, None] * 2)
    for count in (9, 10, 19, 20):
        truth = np.round(rng.normal(0, 5, (count, 1)), 2)
        yield regression(f"{count} images", np.round(truth + rng.normal(0, 1, (count, 1)), 2), truth)


def main():
    rng = np.random.default_rng(SEED)
    golden = dict(
        seed=SEED, python=sys.version.split()[0],
        versions={p: version(p) for p in ("numpy", "scipy", "scikit-learn", "pycocotools")},
        detection=[dict(name=name, num_classes=k, images=images, **coco(k, images)) for name, k, images in detection_cases(rng)],
        classification=[
            classification(rng, "ten classes", 60, 10, .2, range(10)),
            classification(rng, "three classes", 40, 3, .1, range(3)),
            classification(rng, "classes absent from the truth", 25, 8, 0, [0, 3, 4]),
            classification(rng, "one image", 1, 7, 0, range(7)),
            classification(rng, "all unlabelled", 3, 6, 1.1, range(6)),
        ],
        regression=list(regression_cases(rng)),
        calibration=[
            calibration(rng, "two classes", 40, 2, 1, 256),
            calibration(rng, "sharp", 60, 4, 8, 64),
            calibration(rng, "flat, on the borders of bins", 40, 3, .2, 15),
        ])
    # A separate random stream, so that the cases above do not change.
    rng = np.random.default_rng(SEED + 1)
    golden["multi_label"] = [
        multi_label(rng, "five classes", 40, 5, .2, 4),
        multi_label(rng, "ties", 30, 3, .1, 1),
        multi_label(rng, "classes of one value", 20, 4, 0, 4, {0: 0., 2: 1., 3: np.nan}),
        multi_label(rng, "all unlabelled", 3, 2, 1.1, 4),
    ]
    Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
