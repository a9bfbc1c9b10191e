"""Writes optdigits.bin.gz: scikit-learn's `load_digits`, 1,797 records of 64 grey values (0 to 16, row by row) and a label.

Run with scikit-learn 1.9.1 and numpy 2.4.6; the records keep the order of the source.
"""

import gzip
import pathlib

import numpy
from sklearn.datasets import load_digits

digits = load_digits()
records = numpy.concatenate([digits.data, digits.target[:, None]], axis=1).astype(numpy.uint8)
assert records.shape == (1797, 65) and records[:, :64].max() == 16 and set(records[:, 64]) == set(range(10))

path = pathlib.Path(__file__).with_name("optdigits.bin.gz")
# No time stamp and no file name, so that the file is the same every time.
with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
    file.write(records.tobytes())
