//! Called by mount(8): `mount -t cloudreve`, `mount -a` over an fstab, and by its other names.
//!
//! Everything happens in a mount namespace of its own, where `/sbin` and `/etc` have a layer of ours on top; the
//! machine's own are not touched.

use std::path::Path;
use std::process::Command;

use cloudreve_test_server::{Options, Server};

use crate::support::mounted::{BINARY, Home};
use crate::support::shell;

/// Runs `script` as root in a mount namespace in which the program is `/sbin/mount.cloudreve`, `$DIR` is an empty
/// directory, and the user's password is in a credentials file.
fn in_a_namespace(server: &Server, home: &Home, script: &str) -> String {
    let user = server.user();
    let credentials = home.path("credentials");
    let text = format!("username={}\npassword={}\n", user.email, user.password);
    std::fs::write(&credentials, text).unwrap();
    std::fs::set_permissions(
        &credentials,
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    for name in ["sbin", "sbin-work", "fstab"] {
        std::fs::create_dir_all(home.path(name)).unwrap();
    }
    std::os::unix::fs::symlink(BINARY, home.path("sbin/mount.cloudreve")).unwrap();
    std::os::unix::fs::symlink(BINARY, home.path("sbin/cloudreve-fuse")).unwrap();
    let prepare = r#"
        set -eu
        sbin=$(readlink -f /sbin)
        mkdir -p "$HOME_DIR/layers" && mount -t tmpfs none "$HOME_DIR/layers"
        mkdir "$HOME_DIR/layers/upper" "$HOME_DIR/layers/work"
        cp -P "$HOME_DIR/sbin/"* "$HOME_DIR/layers/upper"
        mount -t overlay overlay -o "lowerdir=$sbin,upperdir=$HOME_DIR/layers/upper,workdir=$HOME_DIR/layers/work" "$sbin"
    "#;
    let mut command = Command::new("unshare");
    command
        .args(["-m", "--propagation", "private", "sh", "-c"])
        .arg(format!("{prepare}\n{script}"));
    shell::take_environment(&mut command, &home.program());
    command
        .env("HOME_DIR", home.path(""))
        .env("DIR", home.path("mnt"))
        .env("ADDRESS", server.address())
        .env("CREDENTIALS", &credentials);
    shell::stdout(&mut command)
}

fn drive() -> Server {
    let server = Server::start(Options::default()).unwrap();
    server.put("folder/file.txt", b"content".to_vec());
    server
}

#[test]
fn mount_8_mounts_by_type_and_umount_8_ends_it() {
    let server = drive();
    let home = Home::new();
    let shown = in_a_namespace(
        &server,
        &home,
        r#"
        mount -t cloudreve cloudreve://my/ "$DIR" -o "address=$ADDRESS,credentials=$CREDENTIALS,nofail,_netdev,noauto,x-systemd.automount"
        cat "$DIR/folder/file.txt"; echo
        findmnt -n -o FSTYPE,SOURCE,OPTIONS "$DIR"
        umount "$DIR"
        ls -A "$DIR"
        "#,
    );
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some("content"));
    let mounted = lines.next().unwrap_or_default();
    assert!(
        mounted.starts_with("fuse.cloudreve-fuse")
            && mounted.contains("nosuid")
            && mounted.contains("nodev"),
        "{shown}"
    );
    assert_eq!(lines.next(), None, "it is still mounted: {shown}");
}

#[test]
fn mount_a_mounts_what_the_fstab_says() {
    let server = drive();
    let home = Home::new();
    let share = server.share("folder", Default::default());
    let fstab = format!(
        "cloudreve://my/  {dir}  cloudreve  address={address},credentials={credentials},_netdev,nofail,allow_other  0 0\n\
         {address}/s/{share}  {second}  cloudreve  auth=anonymous,ro,_netdev  0 0\n",
        dir = home.path("mnt").display(),
        second = home.path("second").display(),
        address = server.address(),
        credentials = home.path("credentials").display(),
    );
    std::fs::create_dir(home.path("second")).unwrap();
    std::fs::write(home.path("the-fstab"), fstab).unwrap();
    let shown = in_a_namespace(
        &server,
        &home,
        r#"
        mount --bind "$HOME_DIR/the-fstab" /etc/fstab 2>/dev/null || { touch /etc/fstab; mount --bind "$HOME_DIR/the-fstab" /etc/fstab; }
        mount -a -t cloudreve
        cat "$DIR/folder/file.txt"; echo
        cat "$HOME_DIR/second/file.txt"; echo
        umount "$DIR" "$HOME_DIR/second"
        "#,
    );
    assert_eq!(shown, "content\ncontent\n");
}

#[test]
fn the_program_itself_takes_a_uri_and_a_directory() {
    let server = drive();
    let home = Home::new();
    let user = server.user();
    let mut command = home.program();
    command.arg("cloudreve://my/folder").arg(home.path("mnt"));
    command.args([
        "-o",
        &format!(
            "rw,noatime,address={},username={}",
            server.address(),
            user.email
        ),
    ]);
    command.env("CLOUDREVE_PASSWORD", &user.password);
    shell::stdout(&mut command);
    assert_eq!(
        std::fs::read(home.path("mnt/file.txt")).unwrap(),
        b"content"
    );
    shell::stdout(home.program().arg("umount").arg(home.path("mnt")));
}

#[test]
fn a_mount_helper_fails_with_the_codes_of_mount_8() {
    let server = drive();
    let home = Home::new();
    let helper = home.path("mount.cloudreve");
    std::os::unix::fs::symlink(BINARY, &helper).unwrap();
    let run = |options: &str, dir: &Path| {
        let mut command = Command::new(&helper);
        shell::take_environment(&mut command, &home.program());
        command
            .arg("cloudreve://my/")
            .arg(dir)
            .args(["-o", options]);
        shell::output(&mut command).status.code()
    };
    assert_eq!(run("ordr_by=name", &home.path("mnt")), Some(1), "usage");
    let wrong = format!(
        "address={},username=a@example.com,auth=profile",
        server.address()
    );
    assert_eq!(run(&wrong, &home.path("mnt")), Some(32), "the mount failed");
}
