"""Writes small images of every supported kind, and Pillow 13.0.0's decoding of them: images/ and images.json.

Writes the files and, for each, its size and the mean of every channel over a grid of 4 x 3 cells after EXIF orientation, without alpha.
"""
import io, json, os
import numpy as np
from PIL import Image, ImageOps

here = os.path.dirname(os.path.abspath(__file__))
out = os.path.join(here, "images")
os.makedirs(out, exist_ok=True)
w, h = 61, 43
y, x = np.mgrid[0:h, 0:w]
rgb = np.stack([x * 4, y * 5, (x * x // 9 + y * 3) % 256], -1).clip(0, 255).astype(np.uint8)
rgb[10:25, 20:45] = [200, 30, 60]
rgb += np.random.default_rng(5).integers(0, 6, rgb.shape, dtype=np.uint8)
picture = Image.fromarray(rgb)
grey = picture.convert("L")
alpha = picture.copy()
alpha.putalpha(Image.fromarray((x * 4).astype(np.uint8)))
deep = Image.fromarray((np.asarray(grey).astype(np.uint16) * 257))
turned = Image.Exif()
turned[0x0112] = 6

def save(name, image, **how):
    image.save(os.path.join(out, name), **how)

for name, subsampling in [("444", 0), ("422", 1), ("420", 2)]:
    save(f"baseline-{name}.jpg", picture, quality=90, subsampling=subsampling)
    save(f"restart-{name}.jpg", picture, quality=75, subsampling=subsampling, restart_marker_blocks=3)
save("optimised.jpg", picture, quality=100, subsampling=2, optimize=True)
save("progressive.jpg", picture, quality=85, progressive=True)
save("grey.jpg", grey, quality=85)
save("cmyk.jpg", picture.convert("CMYK"), quality=95)
save("turned.jpg", picture, quality=85, exif=turned)
save("plain.png", picture)
save("alpha.png", alpha)
save("palette.png", picture.quantize(64))
save("grey.png", grey)
save("deep.png", deep)
save("bits.png", grey.convert("1"))
save("lossless.webp", picture, lossless=True)
save("lossy.webp", picture, quality=90)
save("alpha.webp", alpha, lossless=True, exact=True)
save("plain.bmp", picture)
save("palette.bmp", picture.quantize(64))
save("plain.tif", picture)
save("packed.tiff", picture, compression="tiff_lzw")
save("deep.tif", deep)
frames = [picture.quantize(128), picture.quantize(128).transpose(Image.Transpose.FLIP_TOP_BOTTOM)]
save("frames.gif", frames[0], save_all=True, append_images=frames[1:])

save("palette.tif", picture.quantize(64))
save("big.tif", picture, big_tiff=True)
save("big-palette.tif", picture.quantize(64), big_tiff=True, compression="tiff_lzw")
save("deep-decimal.tif", Image.fromarray(np.asarray(grey).astype(np.float32) / 255))
save("plain.ppm", picture)
save("grey.pgm", grey)
save("bits.pbm", grey.convert("1"))
save("named.jfif", picture, format="JPEG", quality=90)

def write(name, head, body):
    with open(os.path.join(out, name), "wb") as file:
        file.write(head + body)

twelve = np.asarray(grey).astype(np.uint16) * 16 + 5
write("deep-12.pgm", b"P5\n# twelve of sixteen bits\n61 43 4095\n", twelve.astype(">u2").tobytes())
few = rgb[:13, 20:37] // 8
write("words.ppm", b"P3\n17 13\n# white\n31\n", " ".join(str(v) for v in few.ravel()).encode())

kinds = {}
for name in sorted(os.listdir(out)):
    image = Image.open(os.path.join(out, name))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        pixels = np.repeat((np.asarray(image).astype(float) / 257)[..., None], 3, -1)
    elif image.mode == "F":
        pixels = np.repeat((np.asarray(image).astype(float) * 255)[..., None], 3, -1)
    elif image.mode in ("RGBA", "P", "1", "L"):
        pixels = np.asarray(image.convert("RGBA"))[..., :3].astype(float)
    else:
        pixels = np.asarray(image.convert("RGB")).astype(float)
    rows, columns = np.array_split(np.arange(pixels.shape[0]), 3), np.array_split(np.arange(pixels.shape[1]), 4)
    cells = [pixels[np.ix_(r, c)].mean((0, 1)).round(3).tolist() for r in rows for c in columns]
    kinds[name] = {"size": [pixels.shape[1], pixels.shape[0]], "cells": cells}
with open(os.path.join(here, "images.json"), "w") as file:
    json.dump({"pillow": "13.0.0", "images": kinds}, file, indent=None, separators=(",", ":"))
    file.write("\n")
