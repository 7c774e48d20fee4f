//! The kernel's requests, answered by [`Fs`]: translate, run, reply; no logic.
//!
//! What memory can answer is answered on the thread that took the request, the rest by a task. Every request gets
//! one answer: a panic, and the end of the mount, become EIO. This room never speaks to the network, holds no lock and
//! knows no path.
//!
//! Longer than other rooms, since it has a method for each call of the kernel.

mod attr;
mod backing;
mod errno;
mod init;
mod notices;
mod open;
mod serve;
mod writers;

pub use backing::Passthrough;
pub use notices::Notices;
pub use serve::Closer;

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, Config, CopyFileRangeFlags, Errno, FileHandle, Filesystem,
    FopenFlags, Generation, INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents,
    PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, Session, SessionACL, TimeOrNow,
    WriteFlags,
};
use tokio::runtime::Handle;

use crate::asker::Asker;
use crate::attributes::{Special, TARGET_MAX_BYTES};
use crate::fs::{
    At, Believed, Change, Error, FolderEntry, Fs, HandleId, Lookup, Maker, RenameHow, Reserve,
};
use crate::inodes::Ino;
use attr::{absent, file_attr, file_type, set_time};
use backing::{Backing, Way, Ways};
use errno::logged;
use open::Writing;
use serve::{Call, Runner};
use writers::Writers;

/// Threads that take requests from the kernel. With one, it must have sent its reply before it can be woken for the
/// next request, which halves serial lookups; four also cover for one that reads from the local disk.
const DISPATCH_THREADS: usize = 4;

/// Inode numbers are never used for another file while the mount lives, so there is one generation.
const GENERATION: Generation = Generation(0);

/// Unit in which statfs(2) counts.
const SPACE_UNIT_BYTES: u32 = 4096;

/// Longest name in bytes, as the server has it.
const NAME_MAX_BYTES: u32 = 255;

/// Whose requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Those of the user who mounted.
    #[default]
    Owner,
    /// Those of root too.
    OwnerAndRoot,
    /// Everybody's.
    All,
}

impl Access {
    fn acl(self) -> SessionACL {
        match self {
            Self::Owner => SessionACL::Owner,
            Self::OwnerAndRoot => SessionACL::RootAndOwner,
            Self::All => SessionACL::All,
        }
    }
}

/// A mounted device that agreed with the kernel on how to speak.
pub struct Connection(Session<Adapter>);

/// How a mount is answered.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose requests are answered.
    pub access: Access,
    /// Whether the kernel may read files of the cache, and write new ones, by itself; turned off where it cannot.
    pub passthrough: Passthrough,
    /// Where the files of the cache are.
    pub cache_dir: PathBuf,
    /// Where what is written lies.
    pub state_dir: PathBuf,
}

/// Agrees with the kernel behind `device`, a FUSE device mounted just now. Requests are answered by `fs` on
/// `runtime`, from [`Connection::serve`] on; [`Closer`] ends those that wait, and
/// [`Notices`] tell the kernel what changed otherwise.
pub fn connect(
    device: OwnedFd,
    fs: Arc<Fs>,
    runtime: Handle,
    options: Options,
) -> io::Result<(Connection, Closer, Notices)> {
    let Options {
        access,
        passthrough,
        cache_dir,
        state_dir,
    } = options;
    if !fs.lends() {
        passthrough.write_none("what is written is not lent");
    }
    let (runner, closer) = Runner::new(runtime);
    let to_probe = device.try_clone()?;
    let mut config = Config::default();
    config.acl = access.acl();
    config.n_threads = Some(DISPATCH_THREADS);
    let (notices, noted) = Notices::new();
    let to_note = notices.clone();
    let adapter = Adapter {
        notices,
        fs,
        runner,
        ways: Arc::new(Ways::new(passthrough.clone())),
        // One thread is always left for those who do not write.
        writers: Writers::new(DISPATCH_THREADS - 1),
    };
    let session = Session::from_fd(adapter, device, access.acl(), config)?;
    noted.tell(session.notifier())?;
    passthrough.probe(&to_probe, &cache_dir);
    passthrough.probe_writes(&state_dir);
    Ok((Connection(session), closer, to_note))
}

impl Connection {
    /// Answers requests until nothing of the mount is left: it was unmounted, and the last file in it closed.
    /// Blocks.
    pub fn serve(self) -> io::Result<()> {
        self.0.run()
    }
}

fn call(name: &'static str, request: &Request) -> Call {
    Call {
        name,
        asker: Asker::thread(request.pid()),
    }
}

/// What a call on `ino` came to; none where who asked was killed first.
fn heard<T>(
    (name, ino): (&'static str, INodeNo),
    done: Option<Result<T, Error>>,
) -> Result<T, Errno> {
    let done = done.unwrap_or(Err(Error::Interrupted));
    done.map_err(|err| logged(name, ino.0, &err))
}

/// [`Fs`] in the kernel's words.
struct Adapter {
    fs: Arc<Fs>,
    runner: Runner,
    ways: Arc<Ways<Backing>>,
    writers: Writers,
    notices: Notices,
}

impl Adapter {
    fn serve<F>(&self, (name, request): (&'static str, &Request), work: impl FnOnce(Arc<Fs>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.runner
            .run(call(name, request), work(Arc::clone(&self.fs)));
    }

    /// Answers with nothing but whether it worked. Where nobody heard of it, `unheard` notes what may be other now.
    fn serve_plain<F>(
        &self,
        (name, request, ino): (&'static str, &Request, INodeNo),
        reply: ReplyEmpty,
        work: impl FnOnce(Arc<Fs>) -> F,
        unheard: impl FnOnce(&Notices) + Send + 'static,
    ) where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let work = work(Arc::clone(&self.fs));
        let answer = move |done| match heard((name, ino), done) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        };
        let call = call(name, request);
        let notices = self.notices.clone();
        self.runner
            .run_to_the_end(call, work, answer, move |_| unheard(&notices));
    }

    /// Answers with what came to be in the folder `parent`, which counts one lookup.
    fn serve_entry<F>(
        &self,
        (name, request): (&'static str, &Request),
        (parent, child): (INodeNo, &OsStr),
        reply: ReplyEntry,
        work: impl FnOnce(Arc<Fs>) -> F,
    ) where
        F: Future<Output = Result<Believed, Error>> + Send + 'static,
    {
        let work = work(Arc::clone(&self.fs));
        let answer = move |done| match heard((name, parent), done) {
            Ok(Believed { ttl, attr }) => reply.entry(&ttl, &file_attr(&attr), GENERATION),
            Err(errno) => reply.error(errno),
        };
        let (fs, notices) = (Arc::clone(&self.fs), self.notices.clone());
        let child = child.to_owned();
        let unheard = move |made: Result<Believed, Error>| {
            if let Ok(made) = made {
                fs.forget(made.attr.ino, 1);
            }
            notices.name(Ino(parent.0), &child);
        };
        let call = call(name, request);
        self.runner.run_to_the_end(call, work, answer, unheard);
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        init::negotiate(config, self.ways.passthrough());
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.serve(("lookup", request), move |fs| async move {
            match fs.lookup(Ino(parent.0), &name).await {
                Ok(Lookup::Found(found)) => {
                    reply.entry(&found.ttl, &file_attr(&found.attr), GENERATION);
                }
                Ok(Lookup::Absent { ttl }) if ttl > Duration::ZERO => {
                    reply.entry(&ttl, &absent(), GENERATION);
                }
                Ok(Lookup::Absent { .. }) => reply.error(Errno::ENOENT),
                Err(err) => reply.error(logged("lookup", parent.0, &err)),
            }
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        self.runner
            .run_now("forget", || self.fs.forget(Ino(ino.0), lookups));
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.serve(("getattr", request), move |fs| async move {
            match fs.attr(Ino(ino.0)).await {
                Ok(known) => reply.attr(&known.ttl, &file_attr(&known.attr)),
                Err(err) => reply.error(logged("getattr", ino.0, &err)),
            }
        });
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.serve(("opendir", request), move |fs| async move {
            match fs.open_folder(Ino(ino.0)).await {
                Ok(opened) => {
                    let mut flags = FopenFlags::FOPEN_CACHE_DIR;
                    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
                    reply.opened(FileHandle(opened.handle.0), flags);
                }
                Err(err) => reply.error(logged("opendir", ino.0, &err)),
            }
        });
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.serve(("readdir", request), move |fs| async move {
            let read = read_folder(&fs, handle, offset, false, |entry| {
                !reply.add(
                    INodeNo(entry.ino.0),
                    entry.next_offset,
                    file_type(entry.kind),
                    entry.name,
                )
            });
            match read.await {
                Ok(()) => reply.ok(),
                Err(err) => reply.error(logged("readdir", ino.0, &err)),
            }
        });
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.serve(("readdirplus", request), move |fs| async move {
            let read = read_folder(&fs, handle, offset, true, |entry| {
                !reply.add(
                    INodeNo(entry.ino.0),
                    entry.next_offset,
                    entry.name,
                    &entry.believed.ttl,
                    &file_attr(&entry.believed.attr),
                    GENERATION,
                )
            });
            match read.await {
                Ok(()) => reply.ok(),
                Err(err) => reply.error(logged("readdirplus", ino.0, &err)),
            }
        });
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.runner.run_now("releasedir", || {
            self.fs.release_folder(HandleId(handle.0));
            reply.ok();
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        // The kernel says so in a flag that does not get here; root is above it.
        let drops = flags.0 & libc::O_TRUNC != 0 && request.uid() != 0;
        let ways = Arc::clone(&self.ways);
        let ino = Ino(ino.0);
        match Writing::of(flags.0) {
            None => self.serve(("open", request), move |fs| {
                open::to_read(fs, ways, ino, reply)
            }),
            Some(how) => self.serve(("open", request), move |fs| async move {
                let hand_over = |file: BorrowedFd<'_>| reply.open_backing(file);
                if drops && let Err(err) = fs.drop_privileges(ino).await {
                    return reply.error(logged("open", ino.0, &err));
                }
                match open::to_write(&fs, &ways, ino, how, &hand_over).await {
                    Ok((opened, way)) => {
                        let handle = FileHandle(opened.handle.0);
                        let mut flags = FopenFlags::empty();
                        match way {
                            Way::Pages => {
                                flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
                                reply.opened(handle, flags);
                            }
                            Way::File(file) => reply.opened_passthrough(handle, flags, &file.id),
                        }
                    }
                    Err(err) => reply.error(logged("open", ino.0, &err)),
                }
            }),
        }
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.serve(("read", request), move |fs| async move {
            match fs.read(HandleId(handle.0), offset, size).await {
                Ok(bytes) => reply.data(&bytes),
                Err(err) => reply.error(logged("read", ino.0, &err)),
            }
        });
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.runner.run_now("release", || {
            self.ways.release(Ino(ino.0));
            self.fs.release(HandleId(handle.0));
            reply.ok();
        });
    }

    fn statfs(&self, request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.serve(("statfs", request), move |fs| async move {
            match fs.space().await {
                Ok(space) => {
                    let unit = u64::from(SPACE_UNIT_BYTES);
                    let free = space.free_bytes / unit;
                    reply.statfs(
                        space.total_bytes / unit,
                        free,
                        free,
                        // The server sets no limit on the number of files; df shows "-".
                        0,
                        0,
                        SPACE_UNIT_BYTES,
                        NAME_MAX_BYTES,
                        SPACE_UNIT_BYTES,
                    );
                }
                Err(err) => reply.error(logged("statfs", ino.0, &err)),
            }
        });
    }

    fn getxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let name = name.to_owned();
        self.serve(("getxattr", request), move |fs| async move {
            match fs.xattr(Ino(ino.0), &name).await {
                Ok(value) => reply_xattr(reply, &value, size),
                Err(err) => reply.error(logged("getxattr", ino.0, &err)),
            }
        });
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.serve(("listxattr", request), move |fs| async move {
            match fs.xattr_names(Ino(ino.0)).await {
                Ok(names) => {
                    let list: Vec<u8> = names
                        .into_iter()
                        .flat_map(|name| name.into_vec().into_iter().chain([0]))
                        .collect();
                    reply_xattr(reply, &list, size);
                }
                Err(err) => reply.error(logged("listxattr", ino.0, &err)),
            }
        });
    }

    /// The kernel checks modes by itself; it asks only for what access(2) adds, which is nothing here.
    fn access(&self, _: &Request, _: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        if mask.contains(AccessFlags::W_OK) && self.fs.is_read_only() {
            reply.error(Errno::EROFS);
        } else {
            reply.ok();
        }
    }

    fn flush(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: LockOwner,
        reply: ReplyEmpty,
    ) {
        self.serve_plain(
            ("flush", request, ino),
            reply,
            move |fs| async move { fs.flush(HandleId(handle.0)).await },
            |_| {},
        );
    }

    fn fsync(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.serve_plain(
            ("fsync", request, ino),
            reply,
            move |fs| async move { fs.sync(HandleId(handle.0)).await },
            |_| {},
        );
    }

    fn fsyncdir(&self, request: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.serve_plain(
            ("fsyncdir", request, ino),
            reply,
            move |fs| async move { fs.sync_folder(Ino(ino.0)).await },
            |_| {},
        );
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        self.serve(("readlink", request), move |fs| async move {
            match fs.link_target(Ino(ino.0)).await {
                Ok(target) => reply.data(&target),
                Err(err) => reply.error(logged("readlink", ino.0, &err)),
            }
        });
    }

    /// ENOSYS makes the kernel find holes by itself: there are none.
    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    /// ENOSYS makes the kernel answer by itself that a file is always ready.
    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        reply.error(Errno::EINVAL);
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change {
            mode,
            uid,
            gid,
            size_bytes: size,
            modified: mtime.map(set_time),
            accessed: atime.map(set_time),
            // The kernel says so in a flag that does not get here; root is above it.
            drops_privileges: size.is_some() && request.uid() != 0,
        };
        let ways = Arc::clone(&self.ways);
        let fs = Arc::clone(&self.fs);
        let work = async move {
            let handle = handle.map(|handle| HandleId(handle.0));
            open::change(&fs, &ways, Ino(ino.0), change, handle).await
        };
        let answer = move |done| match heard(("setattr", ino), done) {
            Ok(Believed { ttl, attr }) => reply.attr(&ttl, &file_attr(&attr)),
            Err(errno) => reply.error(errno),
        };
        let call = call("setattr", request);
        let notices = self.notices.clone();
        let unheard = move |_| notices.inode(Ino(ino.0));
        self.runner.run_to_the_end(call, work, answer, unheard);
    }

    /// Of a regular file, a named pipe or a socket. Devices are kept out.
    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let kind = mode & libc::S_IFMT;
        let special = match kind {
            libc::S_IFREG | 0 => None,
            libc::S_IFIFO => Some(Special::Fifo),
            libc::S_IFSOCK => Some(Special::Socket),
            _ => return reply.error(Errno::EPERM),
        };
        let (made, maker) = (name.to_owned(), maker(request, mode & !umask));
        self.serve_entry(
            ("mknod", request),
            (parent, name),
            reply,
            move |fs| async move { fs.make_file(Ino(parent.0), &made, maker, special).await },
        );
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let (made, maker) = (name.to_owned(), maker(request, mode & !umask));
        self.serve_entry(
            ("mkdir", request),
            (parent, name),
            reply,
            move |fs| async move {
                fs.in_time(fs.make_folder(Ino(parent.0), &made, maker))
                    .await
            },
        );
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (name, gone) = (name.to_owned(), name.to_owned());
        self.serve_plain(
            ("unlink", request, parent),
            reply,
            move |fs| async move { fs.in_time(fs.unlink(Ino(parent.0), &name)).await },
            move |notices| notices.name(Ino(parent.0), &gone),
        );
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (name, gone) = (name.to_owned(), name.to_owned());
        self.serve_plain(
            ("rmdir", request, parent),
            reply,
            move |fs| async move { fs.in_time(fs.remove_folder(Ino(parent.0), &name)).await },
            move |notices| notices.name(Ino(parent.0), &gone),
        );
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        if target.len() > TARGET_MAX_BYTES {
            return reply.error(Errno::ENAMETOOLONG);
        }
        // Whose it is, is kept; its bits mean nothing, and none are told.
        let plain = u32::from(self.fs.file_mode());
        let (made, maker) = (name.to_owned(), maker(request, plain));
        let special = Some(Special::Symlink(target.into()));
        self.serve_entry(
            ("symlink", request),
            (parent, name),
            reply,
            move |fs| async move { fs.make_file(Ino(parent.0), &made, maker, special).await },
        );
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let how = match flags {
            flags if flags.is_empty() => RenameHow::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameHow::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameHow::Exchange,
            _ => return reply.error(Errno::EINVAL),
        };
        let (from, to) = (Ino(parent.0), Ino(new_parent.0));
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        let ends = [(from, name.clone()), (to, new_name.clone())];
        let unheard = move |notices: &Notices| {
            ends.iter()
                .for_each(|(folder, name)| notices.name(*folder, name));
        };
        self.serve_plain(
            ("rename", request, parent),
            reply,
            move |fs| async move {
                let rename = Box::pin(fs.rename(from, &name, to, &new_name, how));
                match from == to {
                    true => fs.in_time(rename).await,
                    false => fs.in_time_in_line(rename).await,
                }
            },
            unheard,
        );
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (name, maker) = (name.to_owned(), maker(request, mode & !umask));
        let ways = Arc::clone(&self.ways);
        self.serve(("create", request), move |fs| async move {
            let place = (Ino(parent.0), &*name);
            let hand_over = |file: BorrowedFd<'_>| reply.open_backing(file);
            match open::create(&fs, &ways, place, maker, flags, &hand_over).await {
                Ok((made, opened, way)) => {
                    let (ttl, attr) = (made.ttl, file_attr(&made.attr));
                    let handle = FileHandle(opened.handle.0);
                    let mut flags = FopenFlags::empty();
                    match way {
                        Way::Pages => {
                            flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
                            reply.created(&ttl, &attr, GENERATION, handle, flags);
                        }
                        Way::File(file) => {
                            let id = &file.id;
                            reply.created_passthrough(&ttl, &attr, GENERATION, handle, flags, id);
                        }
                    }
                }
                Err(err) => reply.error(logged("create", parent.0, &err)),
            }
        });
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // Pages of a mapping lie where they lie, whatever the file was opened for.
        let is_page = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let appends = flags.0 & libc::O_APPEND != 0 && !is_page;
        // Longer ones than the kernel was allowed to send do not exist.
        let written = bytes.len() as u32;
        let handle = HandleId(handle.0);
        let answer = move |done: Result<(), Error>| match done {
            Ok(()) => reply.written(written),
            Err(err) => reply.error(logged("write", ino.0, &err)),
        };
        if write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
            let bytes = bytes.to_vec();
            self.serve(("write", request), move |fs| async move {
                let write = async {
                    fs.drop_privileges(Ino(ino.0)).await?;
                    fs.write(handle, offset, &bytes, appends)
                };
                answer(write.await);
            });
            return;
        }
        if let Some(_turn) = self.writers.enter() {
            self.runner.run_now("write", || {
                answer(self.fs.write(handle, offset, bytes, appends));
            });
            return;
        }
        let bytes = bytes.to_vec();
        self.serve(("write", request), move |fs| async move {
            let write = move || fs.write(handle, offset, &bytes, appends);
            let done = tokio::task::spawn_blocking(write).await;
            // Where it panicked, the reply is dropped, which is EIO.
            if let Ok(done) = done {
                answer(done);
            }
        });
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(how) = Reserve::of(mode) else {
            return reply.error(Errno::EOPNOTSUPP);
        };
        self.serve_plain(
            ("fallocate", request, ino),
            reply,
            move |fs| async move {
                // The disk may take its time to find the room, and nobody makes many such calls.
                let allocate = move || fs.allocate(HandleId(handle.0), offset, length, how);
                let done = tokio::task::spawn_blocking(allocate).await;
                done.unwrap_or_else(|panic| Err(Error::Disk(Arc::new(io::Error::other(panic)))))
            },
            move |notices| notices.inode(Ino(ino.0)),
        );
    }

    fn copy_file_range(
        &self,
        request: &Request,
        ino_in: INodeNo,
        handle_in: FileHandle,
        offset_in: u64,
        _: INodeNo,
        handle_out: FileHandle,
        offset_out: u64,
        length: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let at = |handle: FileHandle, offset| At {
            handle: HandleId(handle.0),
            offset,
        };
        let (from, to) = (at(handle_in, offset_in), at(handle_out, offset_out));
        self.serve(("copy_file_range", request), move |fs| async move {
            match fs.copy_range(from, to, length).await {
                // Never more than one call copies, which is less than that.
                Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
                Err(err) => reply.error(logged("copy_file_range", ino_in.0, &err)),
            }
        });
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let (name, value) = (name.to_owned(), value.to_vec());
        self.serve_plain(
            ("setxattr", request, ino),
            reply,
            move |fs| async move { fs.set_xattr(Ino(ino.0), &name, &value, flags).await },
            move |notices| notices.inode(Ino(ino.0)),
        );
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.serve_plain(
            ("removexattr", request, ino),
            reply,
            move |fs| async move { fs.remove_xattr(Ino(ino.0), &name).await },
            move |notices| notices.inode(Ino(ino.0)),
        );
    }
}

/// Who asks for something new, which is to have these permission bits.
fn maker(request: &Request, mode: u32) -> Maker {
    Maker {
        mode,
        uid: request.uid(),
        gid: request.gid(),
    }
}

/// Hands entries from `offset` on to `add` until it refuses one. An error after some entries went in is left for the
/// next call to find: the kernel must learn of entries whose lookups were counted.
async fn read_folder(
    fs: &Fs,
    handle: FileHandle,
    offset: u64,
    count: bool,
    mut add: impl FnMut(FolderEntry<'_>) -> bool + Send,
) -> Result<(), Error> {
    let mut added = 0u64;
    let mut take = |entry: FolderEntry<'_>| {
        let taken = add(entry);
        added += u64::from(taken);
        taken
    };
    let read = fs
        .read_folder(HandleId(handle.0), offset, count, &mut take)
        .await;
    match read {
        Err(err) if added > 0 => {
            log::debug!("a listing broke off behind entries that are shown: {err}");
            Ok(())
        }
        read => read,
    }
}

/// As getxattr(2) and listxattr(2) want it: `size` 0 asks how long the value is, and it must fit otherwise.
fn reply_xattr(reply: ReplyXattr, value: &[u8], size: u32) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        Ok(_) => reply.error(Errno::ERANGE),
        Err(_) => reply.error(Errno::E2BIG),
    }
}
