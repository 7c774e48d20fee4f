//! A captcha, shown to the person who has to read it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::api::CaptchaImage;
use crate::config::environment::Environment;

/// A captcha's picture in a private file; removed on drop.
pub(super) struct ShownCaptcha {
    path: PathBuf,
}

impl ShownCaptcha {
    /// Saves the picture and opens it where there is a display.
    pub(super) fn show(captcha: &CaptchaImage, environment: &Environment) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let extension = extension(&captcha.image);
        let path = std::env::temp_dir().join(format!("cloudreve-fuse-captcha-{name}.{extension}"));
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?
            .write_all(&captcha.image)?;
        let has_display = ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| environment.get(name).is_some());
        if has_display {
            open(&path);
        }
        Ok(Self { path })
    }

    /// Where the picture is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ShownCaptcha {
    fn drop(&mut self) {
        if let Err(err) = fs::remove_file(&self.path) {
            log::debug!("{}: {err}", self.path.display());
        }
    }
}

/// Opens a file or a link with whatever the desktop has for it; whether that worked shows on the screen.
pub(super) fn open(what: impl AsRef<std::ffi::OsStr>) -> bool {
    let started = Command::new("xdg-open")
        .arg(what)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    started.is_ok()
}

fn extension(image: &[u8]) -> &'static str {
    match image {
        [0xff, 0xd8, ..] => "jpg",
        [b'G', b'I', b'F', ..] => "gif",
        [b'<', ..] => "svg",
        _ => "png",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_picture_is_private_and_gone_afterwards() {
        let captcha = CaptchaImage {
            image: b"\x89PNG\r\n".to_vec(),
            ticket: String::new(),
        };
        let shown = ShownCaptcha::show(&captcha, &Environment::default()).unwrap();
        let path = shown.path().to_owned();
        assert_eq!(fs::read(&path).unwrap(), captcha.image);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(path.extension(), Some("png".as_ref()));
        drop(shown);
        assert!(!path.exists());
    }
}
