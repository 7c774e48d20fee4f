//! What each system call does on a mount, as README's table says it: a case for each row, and a row for each case.
//!
//! A case does what its row says, and ends with the errno that its row names, or with none.

mod content;
mod names;
mod opening;
mod told;
mod trouble;

use std::any::Any;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use cloudreve_test_server::{Options, Server};
use rustix::io::Errno;

use crate::support::mounted::Mounted;

const ROOT: &str = "cloudreve://my/";

/// How README's table begins.
const HEAD: &str = "| system call | on a mount | errno |";

/// What stands in the third column of what succeeds.
const NONE: &str = "–";

/// What is on the server before.
const BIG_BYTES: u64 = 5_000_001;

/// One row of the table.
struct Case {
    call: &'static str,
    does: &'static str,
    errno: &'static str,
    check: fn(&World) -> io::Result<()>,
}

/// A drive and its mount, with a folder for each case.
struct World {
    /// Ends first: it delivers what is owed.
    mount: Mounted,
    server: Server,
    folder: String,
}

impl World {
    /// With two files that somebody else has put there.
    fn new(options: &[&str]) -> Self {
        let server = Server::start(Options::default()).unwrap();
        server.put("theirs", "theirs");
        server.put_generated("big", BIG_BYTES, 1);
        Self::of(server, ROOT, options)
    }

    fn of(server: Server, uri: &str, options: &[&str]) -> Self {
        let mount = Mounted::new(&server, uri, options);
        let folder = String::new();
        Self {
            server,
            mount,
            folder,
        }
    }

    /// A path in the folder of the case.
    fn at(&self, name: &str) -> PathBuf {
        self.mount.path(&self.folder).join(name)
    }

    /// What the server has of it.
    fn there(&self, name: &str) -> Option<Vec<u8>> {
        self.server.content(&format!("{}/{name}", self.folder))
    }

    /// A file of the case, open to read and write.
    fn file(&self, name: &str, content: &[u8]) -> File {
        std::fs::write(self.at(name), content).unwrap();
        both_ways(&self.at(name))
    }
}

fn both_ways(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).open(path).unwrap()
}

/// All rows, in the order of the table.
fn cases() -> impl Iterator<Item = &'static Case> {
    let parts = [
        opening::CASES,
        content::CASES,
        names::CASES,
        told::CASES,
        trouble::CASES,
    ];
    parts.into_iter().flatten()
}

fn row(case: &Case) -> String {
    format!("| {} | {} | {} |", case.call, case.does, case.errno)
}

fn errno_of(name: &str) -> Option<Errno> {
    Some(match name {
        NONE => return None,
        "EACCES" => Errno::ACCESS,
        "EAGAIN" => Errno::AGAIN,
        "EBUSY" => Errno::BUSY,
        "EEXIST" => Errno::EXIST,
        "EFBIG" => Errno::FBIG,
        "EINVAL" => Errno::INVAL,
        "EIO" => Errno::IO,
        "EISDIR" => Errno::ISDIR,
        "ELOOP" => Errno::LOOP,
        "ENAMETOOLONG" => Errno::NAMETOOLONG,
        "ENODATA" => Errno::NODATA,
        "ENOENT" => Errno::NOENT,
        "ENOSPC" => Errno::NOSPC,
        "ENOTDIR" => Errno::NOTDIR,
        "ENOTEMPTY" => Errno::NOTEMPTY,
        "ENOTTY" => Errno::NOTTY,
        "ENXIO" => Errno::NXIO,
        "EOPNOTSUPP" => Errno::OPNOTSUPP,
        "EPERM" => Errno::PERM,
        "ERANGE" => Errno::RANGE,
        "EROFS" => Errno::ROFS,
        "ETIMEDOUT" => Errno::TIMEDOUT,
        "ETXTBSY" => Errno::TXTBSY,
        "E2BIG" => Errno::TOOBIG,
        "EXDEV" => Errno::XDEV,
        other => panic!("{other} is not known here"),
    })
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned()));
    text.unwrap_or_else(|| "it panicked".to_owned())
}

#[test]
fn each_system_call_does_what_its_row_says_with_that_errno() {
    let mut world = World::new(&["--upload-delay", "100ms"]);
    let mut wrong = Vec::new();
    for (case, number) in cases().zip(1..) {
        world.folder = format!("case {number}");
        std::fs::create_dir(world.at("")).unwrap();
        let began = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| (case.check)(&world)));
        println!("{:>6.1?} {}", began.elapsed(), case.call);
        let found = match done {
            Ok(done) => done.err().map(|err| Errno::from_io_error(&err)),
            Err(panic) => {
                wrong.push(format!("{}: {}", row(case), said(&*panic)));
                continue;
            }
        };
        let right = errno_of(case.errno).map(Some);
        if found != right {
            wrong.push(format!("{}: not so, but {found:?}", row(case)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        wrong.join("\n"),
        world.mount.log()
    );
    world.mount.sync();
    assert!(world.mount.end().success(), "{}", world.mount.log());
}

#[test]
fn each_row_of_the_table_in_readme_is_a_case_here_and_each_case_is_a_row() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let after = text.lines().skip_while(|line| *line != HEAD).skip(2);
    let rows: Vec<_> = after.take_while(|line| line.starts_with('|')).collect();
    let cases: Vec<_> = cases().map(row).collect();
    let as_set = |rows: &[&str]| {
        rows.iter()
            .map(|row| (*row).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let untested: Vec<_> = as_set(&rows)
        .into_iter()
        .filter(|row| !cases.contains(row))
        .collect();
    let untold: Vec<_> = cases
        .iter()
        .filter(|case| !rows.contains(&case.as_str()))
        .collect();
    assert!(
        rows == cases,
        "rows without a case: {untested:#?}\ncases without a row: {untold:#?}\nthe table is\n{HEAD}\n|---|---|---|\n{}",
        cases.join("\n")
    );
}
