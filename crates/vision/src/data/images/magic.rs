//! Recognises the formats of pictures by their first bytes: those that are read, and those that are only named.

/// The number of bytes that tell every format.
pub const LENGTH: usize = 16;

/// Whether a file that begins like this is a picture in a format that is read.
pub fn is_read(start: &[u8]) -> bool {
    let begins: [&[u8]; 7] = [b"\xFF\xD8\xFF", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"];
    let is_bmp = start.starts_with(b"BM") && start.get(6..10) == Some(&[0; 4]);
    let is_webp = start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP");
    let is_pnm = matches!(start, [b'P', b'1'..=b'6', b' ' | b'\n' | b'\r' | b'\t', b'0'..=b'9' | b'#', ..]);
    begins.iter().any(|magic| start.starts_with(magic)) || is_bmp || is_webp || is_pnm
}

/// The name of a format that is not read, of a file that begins like this; `None` for others.
pub fn not_read(start: &[u8]) -> Option<&'static str> {
    let begins: [(&[u8], &str); 6] = [
        (b"\0\0\0\x0CjP  ", "JPEG 2000"),
        (b"\xFF\x4F\xFF\x51", "JPEG 2000"),
        (b"\0\0\0\x0CJXL ", "JPEG XL"),
        (b"\xFF\x0A", "JPEG XL"),
        (b"8BPS", "PSD"),
        (b"qoif", "QOI"),
    ];
    let brand = start.get(4..12).and_then(|kind| kind.strip_prefix(b"ftyp"));
    match brand {
        Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => Some("HEIC"),
        Some(b"avif" | b"avis") => Some("AVIF"),
        _ => begins.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, name)| *name),
    }
}
