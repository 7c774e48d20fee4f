//! From whatever picture a server sends to a PNG of the size that the desktop wants.

use std::io::Cursor;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

/// Longest edge of a picture that is decoded, in pixels. Thumbnails are a few hundred; an administrator may want them
/// larger, but not like this.
const EDGE_MAX: u32 = 2048;
/// Most memory that decoding may take, in bytes: what an RGBA picture of that size takes, twice.
const MEMORY_MAX_BYTES: u64 = 32 << 20;

/// The picture, turned as its camera says; or why it is none.
pub(super) fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(EDGE_MAX);
    limits.max_image_height = Some(EDGE_MAX);
    limits.max_alloc = Some(MEMORY_MAX_BYTES);
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(|err| err.to_string())?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|err| err.to_string())?;
    if decoder.total_bytes() > MEMORY_MAX_BYTES {
        return Err("the picture is too large".into());
    }
    // Without a word of its orientation a picture stays as it is.
    let orientation = decoder.orientation().ok();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|err| err.to_string())?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    Ok(picture)
}

/// `picture` in a box of `edge` pixels, never larger than it is, as an 8-bit PNG with `texts`.
pub(super) fn png(
    picture: &DynamicImage,
    edge: u32,
    texts: &[(&str, String)],
) -> Result<Vec<u8>, String> {
    let scaled;
    let picture = match picture.width().max(picture.height()) > edge {
        true => {
            scaled = picture.resize(edge, edge, FilterType::Triangle);
            &scaled
        }
        false => picture,
    };
    let (color, pixels) = match picture.color().has_alpha() {
        true => (png::ColorType::Rgba, picture.to_rgba8().into_raw()),
        false => (png::ColorType::Rgb, picture.to_rgb8().into_raw()),
    };
    let mut bytes = Vec::new();
    let mut write = || -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::new(&mut bytes, picture.width(), picture.height());
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        // Half as large again as the smallest, in a tenth of the time: a folder has hundreds.
        encoder.set_compression(png::Compression::Fast);
        for (keyword, text) in texts {
            encoder.add_text_chunk((*keyword).to_owned(), text.clone())?;
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&pixels)?;
        writer.finish()
    };
    write().map_err(|err| err.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageFormat;

    fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let picture = DynamicImage::new_rgb8(width, height);
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn pictures_of_the_servers_formats_become_pngs_that_fit_and_are_never_larger_than_they_were() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let picture = decode(&encoded(400, 300, format)).unwrap();
            for (edge, size) in [(128, (128, 96)), (256, (256, 192)), (512, (400, 300))] {
                let png = png(&picture, edge, &[]).unwrap();
                let found = image::load_from_memory_with_format(&png, ImageFormat::Png).unwrap();
                assert_eq!((found.width(), found.height()), size, "{format:?}");
            }
        }
    }

    #[test]
    fn what_is_no_picture_or_too_large_or_cut_off_is_an_error_and_nothing_worse() {
        let whole = encoded(40, 30, ImageFormat::Png);
        let mut broken = vec![
            Vec::new(),
            b"<html>sign in</html>".to_vec(),
            b"\x89PNG\r\n\x1a\n".to_vec(),
            b"\xff\xd8\xff\xe0".to_vec(),
            b"RIFF\0\0\0\0WEBPVP8 ".to_vec(),
            encoded(EDGE_MAX + 1, 1, ImageFormat::Png),
            encoded(1, EDGE_MAX + 1, ImageFormat::Jpeg),
        ];
        broken.extend(
            (9..whole.len() - 20)
                .step_by(7)
                .map(|len| whole[..len].to_vec()),
        );
        // A header that promises gigabytes.
        let mut vast = whole.clone();
        vast[16..24].copy_from_slice(&[0x7f; 8]);
        broken.push(vast);
        for bytes in broken {
            assert!(
                decode(&bytes).is_err(),
                "{:?}",
                &bytes[..bytes.len().min(24)]
            );
        }
    }

    #[test]
    fn bytes_that_were_changed_at_random_are_a_picture_or_an_error() {
        let mut state = 1_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let whole = encoded(40, 30, format);
            for _ in 0..200 {
                let mut bytes = whole.clone();
                for _ in 0..1 + random(4) {
                    let at = random(bytes.len());
                    bytes[at] = random(256) as u8;
                }
                if let Ok(picture) = decode(&bytes) {
                    assert!(png(&picture, 16, &[]).is_ok());
                }
            }
        }
    }
}
