//! Videos: written by a program that goes back to their beginning, and looked into by one that seeks.

use super::*;

#[test]
#[ignore = "needs ffmpeg and some seconds: .ci/run has both"]
fn a_video_is_made_on_the_mount_and_any_moment_of_it_is_found_on_another() {
    let (server, mount) = world(None);
    sh(
        &mount,
        "ffmpeg -nostdin -v error -f lavfi -i testsrc2=duration=60:size=640x360:rate=10,noise=alls=40 \
         -c:v mpeg4 -q:v 3 -movflags +faststart film.mp4",
    );
    let local = mount.home.path("film.mp4");
    std::fs::copy(mount.path("film.mp4"), &local).unwrap();
    mount.sync();
    let size = local.metadata().unwrap().len();
    assert!(size > 16 << 20, "it is worth seeking in: {size}");
    let other = Mounted::new(&server, ROOT, SOON);
    let film = other.path("film.mp4");
    let probed = |film: &Path| {
        let mut probe = Command::new("ffprobe");
        probe.args([
            "-v",
            "error",
            "-show_entries",
            "format=duration,size:stream=nb_frames",
        ]);
        shell::stdout(probe.arg(film))
    };
    let frame = |film: &Path, second: &str| {
        let mut seek = Command::new("ffmpeg");
        seek.args(["-nostdin", "-v", "error", "-ss", second, "-i"])
            .arg(film);
        shell::stdout(seek.args(["-frames:v", "1", "-f", "framemd5", "-"]))
    };
    assert_eq!(probed(&film), probed(&local));
    for second in ["55", "1", "33.3", "59.8"] {
        let found = frame(&film, second);
        assert!(found.contains("0,"), "no frame at {second}: {found}");
        assert_eq!(found, frame(&local, second), "at {second} s");
    }
    let read = other.status()["reading"]["network_bytes"].as_u64().unwrap();
    assert!(
        read < size / 2,
        "{read} of {size} bytes came for four pictures"
    );
}
