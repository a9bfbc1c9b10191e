"""Writes student_t.json: the 0.975 quantiles of Student's t, and 95 % confidence intervals of paired differences, by SciPy.

    python student_t.py          # needs numpy, scipy
"""
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import stats

SEED = 20253

quantiles = {str(df): float(stats.t.ppf(0.975, df)) for df in [*range(1, 31), 31, 40, 60, 120, 1000]}
rng = np.random.default_rng(SEED)
paired = []
for seeds, shift in [(2, 0.0), (2, 5.0), (3, 0.02), (3, -0.4), (5, 0.05), (10, 0.01), (40, 0.02)]:
    a = np.round(rng.normal(0.7, 0.05, seeds) + shift, 4)
    b = np.round(rng.normal(0.7, 0.05, seeds), 4)
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    paired.append({"a": a.tolist(), "b": b.tolist(), "interval": [interval.low, interval.high], "p": float(test.pvalue)})

versions = {name: version(name) for name in ["numpy", "scipy"]}
golden = {"seed": SEED, "versions": versions, "quantiles": quantiles, "paired": paired}
Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
