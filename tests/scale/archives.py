"""Makes a data set of many small pictures as files, as a tar archive, as WebDataset shards and as parquet files.

    python3 tests/scale/archives.py FOLDER 1000000 files.tar shards parquet
    for set in files.tar shards parquet; do
        /usr/bin/time -v target/release/polyhead data describe FOLDER/$set > /dev/null
    done

FOLDER/files has 1,000 class folders; FOLDER/files.tar is the same as one archive, FOLDER/files.zip as another. FOLDER/shards has
10,000 samples of picture and class in each shard. FOLDER/parquet has one file with uncompressed pictures, as Hugging Face's
`datasets` writes them, and FOLDER/snappy the same as pyarrow compresses it. Pillow and pyarrow are needed.
"""
import io
import os
import random
import sys
import tarfile
import zipfile

from PIL import Image

CLASSES = 1000
GROUP = 1000


def pictures():
    """A thousand JPEGs of about 600 bytes."""
    random.seed(1)
    for _ in range(1000):
        file = io.BytesIO()
        image = Image.frombytes("RGB", (4, 4), random.randbytes(48)).resize((32, 32), Image.Resampling.BICUBIC)
        image.save(file, "JPEG", quality=40)
        yield file.getvalue()


def name(i):
    return f"class{i % CLASSES:04}/image_{i:08}.jpg"


def add(file, path, data):
    info = tarfile.TarInfo(path)
    info.size = len(data)
    file.addfile(info, io.BytesIO(data))


def main(root, count, kinds):
    os.makedirs(root, exist_ok=True)
    made = list(pictures())
    data = lambda i: made[i * 7919 % 1000]
    if "files" in kinds:
        for i in range(count):
            path = os.path.join(root, "files", name(i))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data(i))
    if "files.tar" in kinds:
        with tarfile.open(os.path.join(root, "files.tar"), "w", format=tarfile.USTAR_FORMAT) as file:
            for i in range(count):
                add(file, name(i), data(i))
                file.members.clear()
    if "files.zip" in kinds:
        with zipfile.ZipFile(os.path.join(root, "files.zip"), "w") as file:
            for i in range(count):
                file.writestr(name(i), data(i))
    if "shards" in kinds:
        os.makedirs(os.path.join(root, "shards"))
        for shard in range(-(-count // 10000)):
            with tarfile.open(os.path.join(root, "shards", f"train-{shard:06}.tar"), "w", format=tarfile.USTAR_FORMAT) as file:
                for i in range(shard * 10000, min(count, shard * 10000 + 10000)):
                    add(file, f"{i:08}.jpg", data(i))
                    add(file, f"{i:08}.cls", str(i % CLASSES).encode())
                    file.members.clear()
    for kind, compression in [("parquet", {"image.bytes": "none", "image.path": "none", "label": "snappy"}), ("snappy", "snappy")]:
        if kind in kinds:
            table(os.path.join(root, kind), count, data, compression, kind == "snappy")


def table(folder, count, data, compression, dictionary):
    import pyarrow
    import pyarrow.parquet

    os.makedirs(folder)
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", image), ("label", pyarrow.int64())])
    path = os.path.join(folder, "train-00000-of-00001.parquet")
    with pyarrow.parquet.ParquetWriter(path, schema, compression=compression, use_dictionary=dictionary or ["label"]) as writer:
        for start in range(0, count, GROUP):
            rows = range(start, min(count, start + GROUP))
            images = [{"bytes": data(i), "path": None} for i in rows]
            columns = [pyarrow.array(images, image), [i % CLASSES for i in rows]]
            writer.write_table(pyarrow.table(columns, schema=schema), row_group_size=GROUP)


main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
