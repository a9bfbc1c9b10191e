//! Image files of every kind: compared with the pixels of Pillow and of the general decoder, decoded in part, and
//! rejected before they take memory or time.

use super::Folder;
use crate::data::augment::{Augment, Framing};
use crate::data::images::jpeg::Jpeg;
use crate::data::images::{Image, Part, decode};
use crate::data::random::Random;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn goldens() -> Vec<PathBuf> {
    let files = fs::read_dir(golden().join("images")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    files
}

/// The mean of every channel over 4 × 3 cells; if the size is not divisible, the first cells are larger.
fn cells(image: &Image) -> Vec<[f64; 3]> {
    let bounds = |length: usize, parts: usize| -> Vec<usize> {
        (0..=parts).map(|i| i * (length / parts) + i.min(length % parts)).collect()
    };
    let (rows, columns) = (bounds(image.height, 3), bounds(image.width, 4));
    let cell = |top: usize, bottom: usize, left: usize, right: usize| {
        let mut sum = [0.0; 3];
        for y in top..bottom {
            for x in left..right {
                let pixel = &image.rgb[(y * image.width + x) * 3..][..3];
                sum.iter_mut().zip(pixel).for_each(|(s, &byte)| *s += f64::from(byte));
            }
        }
        sum.map(|s| s / ((bottom - top) * (right - left)) as f64)
    };
    let rows = rows.windows(2);
    rows.flat_map(|r| columns.windows(2).map(move |c| (r[0], r[1], c[0], c[1])))
        .map(|(t, b, l, r)| cell(t, b, l, r))
        .collect()
}

#[test]
fn every_kind_of_file_has_pillows_pixels() {
    let expected: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(golden().join("images.json")).unwrap()).unwrap();
    let images = expected["images"].as_object().unwrap();
    assert_eq!(images.len(), goldens().len());
    for file in goldens() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let image = decode::decode(&file).unwrap();
        let size = serde_json::json!([image.width, image.height]);
        assert_eq!(size, images[&name]["size"], "{name}");
        assert_eq!(decode::dimensions(&file).unwrap(), [image.width, image.height], "{name}");
        // Lossless files give equal pixels, except for rounding from 16 bits. Lossy formats leave the transform, the
        // enlargement of chroma and the conversion of ink to light to the decoder.
        let bound = match name.as_str() {
            "cmyk.jpg" | "lossy.webp" => 2.0,
            name if name.ends_with(".jpg") || name.ends_with(".jfif") => 1.0,
            name if name.starts_with("deep") => 0.5,
            _ => 0.001,
        };
        for (got, expected) in cells(&image).iter().zip(images[&name]["cells"].as_array().unwrap()) {
            for (got, expected) in got.iter().zip(expected.as_array().unwrap()) {
                let expected = expected.as_f64().unwrap();
                assert!((got - expected).abs() < bound, "{name}: {got} against {expected}");
            }
        }
    }
}

/// The bytes that `image` decodes.
fn by_the_general_decoder(bytes: &[u8]) -> Image {
    let picture = image::load_from_memory(bytes).unwrap().into_rgb8();
    Image { width: picture.width() as usize, height: picture.height() as usize, rgb: picture.into_raw() }
}

/// Black pixels to decode into.
fn black(jpeg: &Jpeg) -> Vec<u8> {
    vec![0; jpeg.width * jpeg.height * 3]
}

#[test]
fn baseline_jpegs_have_the_general_decoders_bytes_whole_and_in_part() {
    let mut random = Random::new(&[3]);
    let mut baseline = 0;
    for file in goldens().into_iter().filter(|f| f.extension().unwrap() == "jpg" && !f.ends_with("turned.jpg")) {
        let bytes = fs::read(&file).unwrap();
        let whole = by_the_general_decoder(&bytes);
        assert_eq!(decode::decode(&file).unwrap(), whole, "{}", file.display());
        let Some(jpeg) = Jpeg::open(&bytes) else { continue };
        baseline += 1;
        for _ in 0..200 {
            let [left, top] = [random.below(whole.width), random.below(whole.height)];
            let right = left + 1 + random.below(whole.width - left);
            let bottom = top + 1 + random.below(whole.height - top);
            let part = jpeg.decode(&Part { left, top, right, bottom }, black(&jpeg)).unwrap();
            for y in top..bottom {
                let row = (y * whole.width + left) * 3..(y * whole.width + right) * 3;
                assert_eq!(part.rgb[row.clone()], whole.rgb[row], "{} row {y}", file.display());
            }
        }
    }
    assert_eq!(baseline, 8);
}

/// A damaged file gives the same pixels as the general decoder, or is left to it.
#[test]
fn damaged_baseline_jpegs_are_what_the_general_decoder_makes_of_them() {
    let (mut read, mut handed_over) = (0, 0);
    for file in goldens().into_iter().filter(|f| f.extension().unwrap() == "jpg") {
        let seed = fs::read(&file).unwrap();
        for copy in 0..150 {
            let (mut bytes, mut random) = (seed.clone(), Random::new(&[copy]));
            for _ in 0..1 + copy % 3 {
                let at = 20 + random.below(bytes.len() - 22);
                bytes[at] ^= 1 << random.below(8);
            }
            let Some(jpeg) = Jpeg::open(&bytes).filter(|j| j.width * j.height < 1 << 20) else {
                continue;
            };
            match jpeg.decode(&Part::whole([jpeg.width, jpeg.height]), black(&jpeg)) {
                Some(image) => {
                    assert_eq!(image, by_the_general_decoder(&bytes), "{} {copy}", file.display());
                    read += 1;
                }
                None => handed_over += 1,
            }
        }
    }
    assert!(read > 300 && handed_over > 100, "{read} read, {handed_over} handed over");
}

#[test]
fn what_is_drawn_lies_within_reach() {
    let mut random = Random::new(&[8]);
    let (width, height) = (97, 71);
    let rgb = (0..width * height * 3).map(|_| random.next_u64() as u8).collect();
    let image = Image { width, height, rgb };
    let framings = [
        Framing::Letterbox,
        Framing::Scatter { least_scale: 0.5 },
        Framing::Crop { least_area: 0.05 },
        Framing::CentreCrop { resize: 40 },
    ];
    let mut left_out = 0;
    for framing in framings {
        for (size, draw) in
            [(24, 0), (33, 1), (64, 2), (150, 3)].into_iter().flat_map(|(s, d)| (0..20).map(move |i| (s, d * 20 + i)))
        {
            let augment = Augment { framing, flip: 0.5, brightness: 0.2, contrast: 0.2, saturation: 0.2 };
            let key = Random::new(&[draw]);
            let part = augment.reach([width, height], size, &mut key.clone());
            let mut seen = image.clone();
            for (i, byte) in seen.rgb.iter_mut().enumerate() {
                let (x, y) = (i / 3 % width, i / 3 / width);
                if !(part.left..part.right).contains(&x) || !(part.top..part.bottom).contains(&y) {
                    *byte = !*byte;
                    left_out += 1;
                }
            }
            let draw = |image: &Image| {
                let mut canvas = vec![0; size * size * 3];
                augment.draw(image, size, &mut key.clone(), &mut canvas);
                canvas
            };
            assert!(draw(&image) == draw(&seen), "{framing:?} at {size} looks beyond {part:?}");
        }
    }
    assert!(left_out > 1000, "{left_out}");
}

/// A PNG chunk with its checksum.
fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(body);
    [&(body.len() as u32).to_be_bytes(), kind.as_slice(), body, &crc.sum().to_be_bytes()].concat()
}

fn png(width: u32, height: u32, [bits, colour]: [u8; 2], data: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes(), height.to_be_bytes().as_slice(), &[bits, colour, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", data), chunk(b"IEND", b"")].concat()
}

/// This many zeros, deflated.
fn deflated(zeros: usize) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(&vec![0; zeros]).unwrap();
    out.finish().unwrap()
}

#[test]
fn images_that_need_too_much_memory_are_refused_first() {
    let folder = Folder::new();
    let data = deflated(1 << 20);
    let seed = |name: &str| fs::read(golden().join("images").join(name)).unwrap();
    let edited = |name: &str, at: usize, bytes: &[u8]| {
        let mut file = seed(name);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let frame = seed("baseline-420.jpg").windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    let webp = [b"RIFF\xF0\xFF\xFF\xFFWEBPVP8X\x0A\0\0\0\x08\0\0\0\0\0\0\0\0\0EXIF\xF0\xFF\xFF\xEF".as_slice(), b"MM"]
        .concat();
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("huge.png", png(100_000, 100_000, [8, 2], &data), "says 100000 × 100000 pixels; at most 268435456 are read"),
        ("deep.png", png(16_000, 16_000, [16, 6], &data), "take 2048000000 bytes; at most 1073741824 are read"),
        ("bomb.png", png(12_000, 12_000, [8, 2], &data), "says 12000 × 12000 pixels, which"),
        ("huge.jpg", edited("baseline-420.jpg", frame + 5, &[0xFF; 4]), "says 65535 × 65535 pixels"),
        ("huge.gif", edited("frames.gif", 6, &[0xFF; 4]), "says 65535 × 65535 pixels"),
        ("huge.bmp", edited("plain.bmp", 18, &[0x60, 0xEA, 0, 0, 0x60, 0xEA, 0, 0]), "says 60000 × 60000 pixels"),
        ("exif.webp", webp, "truncated WebP: a chunk of 4026531824 bytes"),
    ];
    for (name, bytes, expected) in cases {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        let start = Instant::now();
        let answer = decode::decode(&file).map(|_| ()).map_err(|e| e.to_string());
        assert!(start.elapsed() < Duration::from_secs(2), "{name} took {:?}", start.elapsed());
        assert!(answer.as_ref().is_err_and(|e| e.contains(expected)), "{name}: {answer:?}");
    }
    // A large image is read if its size is true.
    let file = folder.path().join("large.png");
    fs::write(&file, png(4096, 4096, [1, 0], &deflated(4096 * 513))).unwrap();
    assert_eq!(decode::decode(&file).unwrap().rgb.len(), 4096 * 4096 * 3);
    let file = folder.path().join("sparse.png");
    fs::File::create(&file).unwrap().set_len(decode::MAX_BYTES + 1).unwrap();
    assert!(decode::decode(&file).unwrap_err().to_string().contains("the file has 1073741825 bytes; at most"));
}

#[cfg(unix)]
#[test]
fn odd_files_are_errors_and_do_not_block() {
    use crate::data::Dataset;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    let at = |name: &str| folder.path().join(name);
    for name in ["a/1.png", "a/2.png", "b/3.png"] {
        folder.images(&[name]);
    }
    fs::copy(at("a/1.png"), at("a/new\nline.png")).unwrap();
    fs::copy(at("a/1.png"), folder.path().join(OsStr::from_bytes(b"a/\xFFone.png"))).unwrap();
    fs::write(folder.path().join(OsStr::from_bytes(b"a/\xFEone.png")), b"no image").unwrap();
    fs::write(at("b/bad\u{7}\n.png"), b"no image").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at("b/pipe.png")).status().unwrap().success());
    symlink("/dev/zero", at("b/device.png")).unwrap();
    symlink("gone.png", at("b/dangling.png")).unwrap();
    // Links from every folder to the others and back.
    for (from, to) in [("a/up", "../"), ("a/b", "../b"), ("b/a", "../a"), ("b/here", "."), ("b/again", "../b")] {
        symlink(to, at(from)).unwrap();
    }
    let found = crate::data::walk(folder.path()).unwrap();
    assert!(found.len() < 100, "{found:?}");
    for link in ["a/b", "b/a"] {
        let error = Dataset::open(folder.path(), &Default::default()).unwrap_err().to_string();
        assert!(
            error.ends_with(&format!(
                "/{link}: the same folder as {}/, which is another class of task `class`: remove one of the two",
                &link[2..]
            )),
            "{error}"
        );
        fs::remove_file(at(link)).unwrap();
    }
    let dataset = Dataset::open(folder.path(), &Default::default()).unwrap();
    let said: Vec<String> = dataset
        .train
        .iter()
        .chain(&dataset.val)
        .filter_map(|sample| decode::decode(&sample.image).err())
        .map(|e| e.to_string().replace(&*folder.path().to_string_lossy(), ""))
        .collect();
    for expected in [
        r"/a/\xfeone.png: cannot decode",
        r"/b/bad\u{7}\n.png: cannot decode",
        "/b/pipe.png: this is a pipe, a socket or a device, not a file",
        "/b/device.png: this is a pipe, a socket or a device, not a file",
        "cannot read /b/dangling.png: No such file",
    ] {
        assert!(said.iter().any(|s| s.starts_with(expected)), "no `{expected}` in {said:#?}");
    }
    assert!(decode::dimensions(&at("b/pipe.png")).is_err());
    assert!(said.iter().all(|s| s.lines().count() == 1));
}
