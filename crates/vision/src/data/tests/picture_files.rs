//! Picture files that are rarer: TIFF of few bits and of decimal numbers, files without a telling name, and formats that are only
//! named.

use super::{Folder, of_class};
use crate::data::check::{CheckOptions, ProblemKind, check};
use crate::data::dataset::OpenOptions;
use crate::data::images::decode;
use crate::data::progress::Progress;

/// The samples of a TIFF file without compression.
struct Samples<'a> {
    size: [u16; 2],
    bits: u16,
    photometric: u16,
    format: u16,
    bytes: &'a [u8],
    colours: &'a [u16],
}

impl Samples<'_> {
    /// The file, with numbers of the first byte first if `little`.
    fn file(&self, little: bool) -> Vec<u8> {
        let word = |value: u16| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        let long = |value: u32| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        let (samples, colours) = (8, 8 + self.bytes.len().next_multiple_of(2));
        let directory = colours + 2 * self.colours.len();
        let mut file = if little { b"II".to_vec() } else { b"MM".to_vec() };
        file.extend(word(42));
        file.extend(long(directory as u32));
        file.extend(self.bytes);
        file.resize(colours, 0);
        self.colours.iter().for_each(|colour| file.extend(word(*colour)));
        let words = [
            (256, self.size[0]),
            (257, self.size[1]),
            (258, self.bits),
            (259, 1),
            (262, self.photometric),
            (277, 1),
            (278, self.size[1]),
            (339, self.format),
        ];
        let mut entries: Vec<(u16, Vec<u8>)> = words
            .into_iter()
            .map(|(tag, value)| (tag, [&word(3)[..], &long(1), &word(value), &[0, 0]].concat()))
            .collect();
        let of_longs = |tag: u16, value: usize| (tag, [&word(4)[..], &long(1), &long(value as u32)].concat());
        entries.extend([of_longs(273, samples), of_longs(279, self.bytes.len())]);
        if !self.colours.is_empty() {
            entries.push((320, [&word(3)[..], &long(self.colours.len() as u32), &long(colours as u32)].concat()));
        }
        entries.sort();
        file.extend(word(entries.len() as u16));
        entries.iter().for_each(|(tag, rest)| file.extend([&word(*tag)[..], rest].concat()));
        file.extend(long(0));
        file
    }
}

/// The first channel of the decoded picture, or the error's words.
fn reds(folder: &Folder, file: &[u8]) -> Result<Vec<u8>, String> {
    let path = folder.path().join("picture.tif");
    std::fs::write(&path, file).unwrap();
    let image = decode::decode(&path).map_err(|error| error.reason())?;
    assert_eq!(decode::dimensions(&path).unwrap(), [image.width, image.height]);
    Ok(image.rgb.iter().step_by(3).copied().collect())
}

#[test]
fn tiff_files_of_few_bits_have_the_colours_of_their_palette() {
    let folder = Folder::new();
    for little in [true, false] {
        // Rows begin at whole bytes: three samples of 4 bits take two bytes.
        let bytes = [0x0F, 0x70, 0x12, 0x30];
        let grey = Samples { size: [3, 2], bits: 4, photometric: 1, format: 1, bytes: &bytes, colours: &[] };
        assert_eq!(reds(&folder, &grey.file(little)).unwrap(), [0, 255, 119, 17, 34, 51]);
        let inverted = Samples { photometric: 0, ..grey };
        assert_eq!(reds(&folder, &inverted.file(little)).unwrap(), [255, 0, 136, 238, 221, 204]);
        let colours: Vec<u16> = (0..48u16).map(|i| if i < 16 { (200 - i) << 8 } else { i << 8 }).collect();
        let palette = Samples { photometric: 3, colours: &colours, ..Samples { bytes: &bytes, ..inverted } };
        assert_eq!(reds(&folder, &palette.file(little)).unwrap(), [200, 185, 193, 199, 198, 197]);
        // Some programs write the shares of colour as bytes.
        let colours: Vec<u16> = colours.iter().map(|share| share >> 8).collect();
        let of_bytes = Samples { colours: &colours, ..palette };
        assert_eq!(reds(&folder, &of_bytes.file(little)).unwrap(), [200, 185, 193, 199, 198, 197]);
        let short = Samples { colours: &colours[..30], ..of_bytes };
        assert!(reds(&folder, &short.file(little)).unwrap_err().contains("a palette of another length"));
    }
}

#[test]
fn decimal_numbers_are_shares_of_white_or_refused() {
    let folder = Folder::new();
    let of = |numbers: [f32; 3]| {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let samples = Samples { size: [3, 1], bits: 32, photometric: 1, format: 3, bytes: &bytes, colours: &[] };
        reds(&folder, &samples.file(true))
    };
    assert_eq!(of([0.0, 1.0, 0.5]).unwrap(), [0, 255, 128]);
    assert_eq!(
        of([-3.5, 1.0, 40.0]).unwrap_err(),
        "its pixels are decimal numbers from -3.5 to 40, and only 0 (black) to 1 (white) are read: scale them to that range, or save the picture with 8 or 16 bits"
    );
    assert!(of([0.0, f32::NAN, 0.5]).unwrap_err().starts_with("some of its pixels are not numbers"));
    let double: Vec<u8> = [0.0, 0.25f64].iter().flat_map(|number| number.to_be_bytes()).collect();
    let samples = Samples { size: [2, 1], bits: 64, photometric: 1, format: 3, bytes: &double, colours: &[] };
    assert_eq!(reds(&folder, &samples.file(false)).unwrap(), [0, 64]);
}

#[test]
fn pictures_in_formats_that_are_not_read_are_named() {
    let folder = Folder::new();
    for (start, name) in [
        (b"\0\0\0\x18ftypheic\0\0\0\0".as_slice(), "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x0CjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xFF\x0A\xFA\x7F", "JPEG XL"),
    ] {
        let file = folder.path().join("picture.jpg");
        std::fs::write(&file, start).unwrap();
        let expected = format!("this is a picture in the format {name}, which is not read: convert it to JPEG or PNG");
        assert_eq!(decode::decode(&file).unwrap_err().reason(), expected);
        assert_eq!(decode::dimensions(&file).unwrap_err().reason(), expected);
    }
}

#[test]
fn a_picture_without_a_telling_name_is_known_by_its_content() {
    let folder = Folder::new();
    folder.images(&["cat/a.png", "dog/b.png"]).text("cat/README", "P is for picture").text("dog/notes.7", "II");
    for (from, to) in [("cat/a.png", "cat/photo14"), ("dog/b.png", "dog/c.jpg_large"), ("dog/b.png", "dog/2024.05.01")]
    {
        std::fs::copy(folder.path().join(from), folder.path().join(to)).unwrap();
    }
    std::fs::rename(folder.path().join("dog/b.png"), folder.path().join("dog/b.jfif")).unwrap();
    let dataset = folder.open();
    let mut names: Vec<&str> = dataset.train.iter().chain(&dataset.val).map(|sample| sample.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cat/a.png", "cat/photo14", "dog/2024.05.01", "dog/b.jfif", "dog/c.jpg_large"]);
    assert_eq!(super::label(&dataset, "cat/photo14", 0), &of_class(0));

    let listed = Folder::new();
    listed.images(&["images/a.png"]).text("labels/a.txt", "0 0.5 0.5 0.5 0.5");
    std::fs::copy(listed.path().join("images/a.png"), listed.path().join("images/b.data")).unwrap();
    listed.text("train.txt", "images/a.png\nimages/b.data\n").text("data.yaml", "train: train.txt\nnames: [thing]\n");
    let dataset = listed.open();
    let names = dataset.train.iter().chain(&dataset.val).map(|sample| sample.name.as_str());
    assert!(names.into_iter().any(|name| name == "images/b.data"), "{:?}", dataset.train);
}

#[test]
fn a_picture_of_twelve_bits_stored_in_sixteen_is_named_by_the_check() {
    let folder = Folder::new();
    folder.images(&["cat/a.png", "dog/b.png"]);
    let deep = |name: &str, most: u16| {
        let picture = image::ImageBuffer::from_fn(8, 8, |x, y| image::Luma([(x + 8 * y) as u16 * (most / 63)]));
        picture.save(folder.path().join(name)).unwrap();
    };
    deep("cat/twelve.png", 4095);
    deep("cat/sixteen.png", u16::MAX);
    image::GrayImage::from_pixel(8, 8, image::Luma([9])).save(folder.path().join("dog/dark.png")).unwrap();
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.01 };
    let found = check(folder.path(), &options, &Progress::default()).unwrap().check;
    let faint: Vec<_> = found.problems.iter().filter(|problem| problem.kind == ProblemKind::FaintImage).collect();
    let [one] = &faint[..] else { panic!("{faint:?}") };
    assert!(one.file.ends_with("cat/twelve.png") && one.message.contains("multiply the values by 16"), "{one:?}");
}
