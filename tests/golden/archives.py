"""Writes small archives with Python's zipfile and tarfile, webdataset 1.0.2 and datasets 5.2.0: archives/.

Every data set has the same pictures, of 12 x 8 pixels: red ones are of class `red`, blue ones of class `blue`.
"""
import io, json, os, shutil, tarfile, zipfile
import webdataset
from PIL import Image

here = os.path.dirname(os.path.abspath(__file__))
out = os.path.join(here, "archives")
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)

def picture(name, number, form="PNG"):
    shade = 200 + number
    file = io.BytesIO()
    Image.new("RGB", (12, 8), (shade, 0, 0) if name == "red" else (0, 0, shade)).save(file, form)
    return file.getvalue()

folder = {f"set/{split}/{name}/{number}.png": picture(name, number + 10 * (split == "val"))
          for split, count in [("train", 3), ("val", 1)] for name in ["red", "blue"] for number in range(count)}
with zipfile.ZipFile(os.path.join(out, "folders.zip"), "w", zipfile.ZIP_DEFLATED) as file:
    for name, data in folder.items():
        file.writestr(name, data)
long = "a-long-name-" * 10
for form, ending in [(tarfile.GNU_FORMAT, "gnu"), (tarfile.PAX_FORMAT, "pax"), (tarfile.USTAR_FORMAT, "ustar")]:
    with tarfile.open(os.path.join(out, f"folders-{ending}.tar"), "w", format=form) as file:
        for name, data in folder.items():
            # The name is too long for the fields of a plain header.
            name = "./" + (name if ending == "ustar" else name.replace("2.png", long + ".png"))
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))

yolo = {"images/1.png": picture("red", 1), "images/2.png": picture("blue", 2),
        "labels/1.txt": b"0 0.5 0.5 0.5 0.5\n", "labels/2.txt": b"1 0.5 0.5 0.25 0.25\n", "classes.txt": b"red\nblue\n"}
with zipfile.ZipFile(os.path.join(out, "yolo.zip"), "w", zipfile.ZIP_STORED) as file:
    for name, data in yolo.items():
        file.writestr(name, data)

shards = os.path.join(out, "shards")
os.makedirs(shards)
number = 0
for shard, count in [("train-000000", 3), ("train-000001", 3), ("val-000000", 2)]:
    with webdataset.TarWriter(os.path.join(shards, shard + ".tar")) as writer:
        for _ in range(count):
            name = ["red", "blue"][number % 2]
            objects = {"bbox": [[1, 2, 3, 4]] * (number % 3), "categories": [name] * (number % 3)}
            writer.write({"__key__": f"{number:06}", "png": picture(name, number), "cls": number % 2,
                          "json": {"price": number / 4, "objects": objects}})
            number += 1

import pyarrow, pyarrow.parquet as parquet
from datasets import ClassLabel, Dataset, Features, Image as Picture, List, Value

features = Features({
    "image": Picture(), "label": ClassLabel(names=["red", "blue"]), "price": Value("float32"),
    "objects": {"bbox": List(List(Value("float32"), length=4)), "category": List(ClassLabel(names=["wheel", "door"]))},
    "tags": List(Value("string")), "caption": Value("string"), "image_id": Value("int64")})
rows = [{"image": {"bytes": picture(["red", "blue"][i % 2], i), "path": f"{i}.png"}, "label": -1 if i == 7 else i % 2,
         "price": None if i == 2 else i / 10, "objects": {"bbox": [[1, 2, 3, 4]] * (i % 3), "category": [i % 2] * (i % 3)},
         "tags": ["small", "round"][:i % 3], "caption": "a picture", "image_id": i} for i in range(8)]
data = os.path.join(out, "hugging-face", "data")
os.makedirs(data)
for name, part in [("train-00000-of-00002", rows[:3]), ("train-00001-of-00002", rows[3:5]),
                   ("validation-00000-of-00001", rows[5:7]), ("test-00000-of-00001", rows[7:])]:
    Dataset.from_list(part, features=features).to_parquet(os.path.join(data, name + ".parquet"))

# As pyarrow writes them: every third picture is the same, and one is missing.
images = [{"bytes": picture("red", i % 3) if i != 4 else None, "path": None} for i in range(9)]
kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
table = pyarrow.table({"image": pyarrow.array(images, kind), "label": [i % 2 for i in range(9)], "price": [i / 2 for i in range(9)]})
write = lambda name, table, **how: parquet.write_table(table, os.path.join(out, name + ".parquet"), **how)
write("snappy", table, use_dictionary=False)
write("dictionary", table, row_group_size=5)
write("pages", table, data_page_version="2.0", data_page_size=1, write_batch_size=2, use_dictionary=False)
write("plain", table, compression="none", data_page_size=1, write_batch_size=2)
write("no-pictures", table.select(["label", "price"]))
write("no-labels", table.select(["image"]))
