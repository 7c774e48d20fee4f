//! Archives and packages: written in one go, read by seeking.

use cloudreve_test_server::generated_bytes;

use super::*;

#[test]
#[ignore = "needs zip and unzip, which .ci/run installs; it runs this"]
fn zip_and_unzip_bring_back_what_went_in() {
    let (server, mount) = world(None);
    let source = mount.home.path("source");
    copies::make_source(&source);
    let made = sh(
        &mount,
        "(cd ../source; zip -qry ../mnt/all.zip .); unzip -tq all.zip | grep -c 'No errors'
         unzip -q all.zip -d there; diff -r --no-dereference ../source there && echo same
         echo more > more; zip -q all.zip more; unzip -p all.zip more; zip -qd all.zip more
         unzip -tq all.zip | grep -c 'No errors'",
    );
    assert_eq!(made, "1\nsame\nmore\n1\n");
    arrives(&server, &mount);
}

#[test]
#[ignore = "needs dpkg-deb, which each Debian has; .ci/run runs this"]
fn dpkg_deb_builds_a_package_and_extracts_it() {
    let (server, mount) = world(None);
    let made = sh(
        &mount,
        "mkdir -p sample/DEBIAN sample/usr/share/sample
         printf 'Package: sample\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@example.com>\\nDescription: a sample\\n' > sample/DEBIAN/control
         printf '#!/bin/sh\\nexit 0\\n' > sample/DEBIAN/postinst; chmod 755 sample/DEBIAN/postinst
         seq 10000 > sample/usr/share/sample/numbers; ln -s numbers sample/usr/share/sample/link
         dpkg-deb --root-owner-group --build sample sample.deb >/dev/null
         dpkg-deb --field sample.deb Package Version; dpkg-deb --contents sample.deb | wc -l
         dpkg-deb --raw-extract sample.deb out; diff -r sample out && echo same; readlink out/usr/share/sample/link",
    );
    let right = "Package: sample\nVersion: 1\n6\nsame\nnumbers\n";
    assert_eq!(made, right);
    arrives(&server, &mount);
}

#[test]
#[ignore = "needs zip, unzip and python3, which .ci/run installs; it runs this"]
fn who_seeks_in_a_large_file_reads_what_is_there_and_fetches_little_else() {
    const MIB: u64 = 1 << 20;
    let server = Server::start(Options::default()).unwrap();
    let local = tempfile::tempdir().unwrap();
    let local = local.path();
    // Close to an hour of sound: a second of it is 32,000 bytes.
    std::fs::write(local.join("samples"), generated_bytes(3, 0..96 * MIB)).unwrap();
    std::fs::write(local.join("filler"), generated_bytes(4, 0..48 * MIB)).unwrap();
    shell::stdout(Command::new("sh").current_dir(local).args([
        "-euc",
        "echo needle > needle; zip -q0 all.zip filler needle samples
         /usr/bin/python3 -c 'import wave
w = wave.open(\"sound.wav\", \"wb\"); w.setparams((1, 2, 16000, 0, \"NONE\", \"\"))
w.writeframes(open(\"samples\", \"rb\").read()); w.close()'",
    ]));
    let mut all = 0;
    for name in ["all.zip", "sound.wav"] {
        let content = std::fs::read(local.join(name)).unwrap();
        all += content.len() as u64;
        server.put(name, content);
    }
    let mount = Mounted::new(&server, ROOT, SOON);
    // The directory of an archive is at its end; a player jumps to and fro.
    let script = format!(
        "unzip -p all.zip needle
         for dir in . '{}'; do
             /usr/bin/python3 -c 'import hashlib, sys, wave
w = wave.open(sys.argv[1]); h = hashlib.md5()
for second in [0, 3000, 10, 1500, 3100, 2999]: w.setpos(second * 16000); h.update(w.readframes(16000))
print(w.getnframes(), h.hexdigest())' $dir/sound.wav
         done | uniq | wc -l",
        local.display()
    );
    assert_eq!(sh(&mount, &script), "needle\n1\n");
    let sent = server.content_bytes_sent();
    assert!(sent < all / 5, "{sent} bytes were fetched of {all}");
}
