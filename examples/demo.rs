//! A drive of its own on this machine: starts a small Cloudreve server on loopback with a sample drive, mounts it at
//! the directory given, says what to try, and cleans up on Ctrl-C.
//!
//! `cargo run --release --example demo -- DIR`

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cloudreve_fuse::cli::{self, Instead};
use cloudreve_fuse::commands;
use cloudreve_fuse::config::environment::Environment;
use cloudreve_fuse::failure::Failure;
use cloudreve_test_server::{Options, Server, ShareOptions};

/// What the sample drive holds, beside generated files.
const TEXTS: [(&str, &str); 3] = [
    (
        "Welcome.md",
        "# A drive of your own\n\nIt lives in the memory of the demo and is gone when the demo ends.\n",
    ),
    (
        "Documents/Letter.txt",
        "Dear reader,\n\nthis file came over HTTP, in ranges, from a server on loopback.\n",
    ),
    (
        "Documents/Names/a#b % c?.txt",
        "The server refuses '?' in a name; it is stored as a look-alike.\n",
    ),
];

fn main() -> ExitCode {
    // Before there is a thread, as in the program itself.
    let environment = Environment::take();
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("say where to mount: cargo run --release --example demo -- DIR");
        return ExitCode::from(2);
    };
    match demo(&dir, &environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("demo: {err}");
            ExitCode::FAILURE
        }
    }
}

fn demo(dir: &Path, environment: &Environment) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(dir)?;
    let server = Server::start(Options::default())?;
    fill(&server);
    let share = server.share("Documents", ShareOptions::default());
    let home = tempfile::Builder::new()
        .prefix("cloudreve-fuse-demo-")
        .tempdir()?;
    let credentials = home.path().join("credentials");
    write_credentials(&credentials, &server)?;
    explain(dir, &server, &share);
    let inside = |name: &str| home.path().join(name).into_os_string();
    let arguments: [OsString; 12] = [
        "cloudreve-fuse".into(),
        "mount".into(),
        "cloudreve://my/".into(),
        dir.into(),
        "--address".into(),
        server.address().into(),
        "--credentials".into(),
        credentials.into_os_string(),
        "--state-dir".into(),
        inside("state"),
        "--cache-dir".into(),
        inside("cache"),
    ];
    let invocation = match cli::parse(&arguments) {
        Ok(invocation) => invocation,
        Err(Instead::Show(text)) => return Ok(commands::print(&text)?),
        Err(Instead::Fail(failure)) => return Err(failure.into()),
    };
    commands::logging(invocation.verbosity, environment);
    // Serves until Ctrl-C or umount; the server lives as long.
    let outcome: Result<(), Failure> = commands::run(invocation.command, environment);
    Ok(outcome?)
}

fn fill(server: &Server) {
    for (path, text) in TEXTS {
        // What this server refuses in a name is stored as the mount would store it.
        server.put(&path.replace('?', "？"), text.as_bytes().to_vec());
    }
    for number in 1..=9 {
        server.put_generated(
            &format!("Pictures/IMG_000{number}.jpg"),
            300_000 * number,
            number,
        );
    }
    server.put_generated("Films/Long one.mkv", 700 << 20, 42);
    server.add_many("Archive/20,000 files", 20_000);
}

/// A file of 0600, as mount.cifs has it: secrets have no command-line form.
fn write_credentials(path: &Path, server: &Server) -> std::io::Result<()> {
    let user = server.user();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    write!(
        file,
        "username={}\npassword={}\n",
        user.email, user.password
    )
}

fn explain(dir: &Path, server: &Server, share: &str) {
    let dir = dir.display();
    println!(
        "A Cloudreve server listens on {address}; its drive is mounted at {dir} until you press Ctrl-C.\n\
         In another terminal, try:\n\
         \n  ls -l {dir}\
         \n  cat {dir}/Welcome.md\
         \n  du -sh --apparent-size {dir}/*\
         \n  md5sum '{dir}/Films/Long one.mkv'\
         \n  getfattr -d -m - '{dir}/Films/Long one.mkv'\
         \n  cloudreve-fuse status\
         \n\nDocuments is also shared, to be mounted by anybody on this machine:\
         \n\n  cloudreve-fuse mount {address}/s/{share} DIR --auth anonymous\n",
        address = server.address(),
    );
}
