//! A file system in memory whose power can be cut: what was not brought to the disk by `fsync` is lost, kept or torn, by chance.
//!
//! ```text
//! power MOUNTPOINT SEED
//! ```
//!
//! Says `mounted`, then answers each line `cut` on standard input with `cut FILES LOST`: how many files there are, and how many
//! operations were lost, all cuts together. It waits until no file is open: power takes all processes at once, so whoever cuts kills
//! them first. It ends, and unmounts, with its standard input.

mod disk;

use disk::{Disk, Inode, Kind};
use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

/// Nothing is remembered by the kernel: after a cut it would be wrong.
const AT_ONCE: Duration = Duration::ZERO;
/// How long processes that were killed may take to close their files.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

struct Mounted(Arc<Mutex<Disk>>);

impl Mounted {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().expect("no operation panics")
    }
}

fn attributes(number: u64, inode: &Inode) -> FileAttr {
    let (kind, size) = match &inode.kind {
        Kind::File(file) => (FileType::RegularFile, file.now.len() as u64),
        Kind::Folder(_) => (FileType::Directory, 0),
        Kind::Link(to) => (FileType::Symlink, to.len() as u64),
    };
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: inode.modified,
        mtime: inode.modified,
        ctime: inode.modified,
        crtime: inode.modified,
        kind,
        perm: inode.mode,
        nlink: 1,
        uid: inode.owner.0,
        gid: inode.owner.1,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn made(disk: &Disk, number: Result<u64, Errno>, reply: ReplyEntry) {
    match number {
        Ok(number) => reply.entry(&AT_ONCE, &attributes(number, disk.inode(number)), Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn done(outcome: Result<(), Errno>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let disk = self.disk();
        made(&disk, disk.find(parent.0, name).ok_or(Errno::ENOENT), reply);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&AT_ONCE, &attributes(number.0, self.disk().inode(number.0)));
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        if let Some(size) = size {
            disk.truncate(number.0, size as usize);
        }
        let inode = disk.inode_mut(number.0);
        inode.mode = mode.map_or(inode.mode, |mode| (mode & 0o7777) as u16);
        inode.owner = (uid.unwrap_or(inode.owner.0), gid.unwrap_or(inode.owner.1));
        match modified {
            Some(TimeOrNow::SpecificTime(time)) => inode.modified = time,
            Some(TimeOrNow::Now) => inode.modified = SystemTime::now(),
            None => {}
        }
        reply.attr(&AT_ONCE, &attributes(number.0, inode));
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match &self.disk().inode(number.0).kind {
            Kind::Link(to) => reply.data(to.as_bytes()),
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let (owner, mut disk) = ((request.uid(), request.gid()), self.disk());
        let number = disk.make(parent.0, name, Inode::new(Kind::Folder(Default::default()), mode & !umask, owner));
        made(&disk, number, reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (owner, mut disk) = ((request.uid(), request.gid()), self.disk());
        let number = disk.make(parent.0, name, Inode::new(Kind::Link(target.as_os_str().to_owned()), 0o777, owner));
        made(&disk, number, reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let (owner, mut disk) = ((request.uid(), request.gid()), self.disk());
        match disk.make(parent.0, name, Inode::new(Kind::File(Default::default()), mode & !umask, owner)) {
            Ok(number) => {
                disk.open += 1;
                let attributes = attributes(number, disk.inode(number));
                reply.created(&AT_ONCE, &attributes, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut disk = self.disk();
        let linked = disk.link(number.0, parent.0, name).map(|()| number.0);
        made(&disk, linked, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.disk().remove(parent.0, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.disk().remove(parent.0, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let replaces = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        done(self.disk().rename((parent.0, name), (to.0, new_name), replaces), reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.disk().open += 1;
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.disk().open -= 1;
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let disk = self.disk();
        let Kind::File(file) = &disk.inode(number.0).kind else { return reply.error(Errno::EISDIR) };
        let start = (offset as usize).min(file.now.len());
        let end = (start + size as usize).min(file.now.len());
        reply.data(&file.now[start..end]);
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.disk().write(number.0, offset as usize, data);
        reply.written(data.len() as u32);
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.disk().sync_file(number.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.disk().sync_folder(number.0);
        reply.ok();
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = self.disk();
        let Kind::Folder(names) = &disk.inode(number.0).kind else { return reply.error(Errno::ENOTDIR) };
        for (place, (name, entry)) in names.iter().enumerate().skip(offset as usize) {
            let kind = attributes(*entry, disk.inode(*entry)).kind;
            if reply.add(INodeNo(*entry), place as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        // 16 GiB, all of it free.
        reply.statfs(1 << 22, 1 << 22, 1 << 22, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(seed)) = (arguments.next(), arguments.next().and_then(|seed| seed.parse().ok())) else {
        eprintln!("usage: power MOUNTPOINT SEED");
        std::process::exit(2);
    };
    let disk = Arc::new(Mutex::new(Disk::new(seed)));
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("power".into())];
    let session = match fuser::spawn_mount(Mounted(disk.clone()), &folder, &config) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("{folder}: {error}; a file system is mounted by root where there is /dev/fuse");
            std::process::exit(77);
        }
    };
    println!("mounted");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line != "cut" {
            eprintln!("`{line}` is no command; there is `cut`");
            std::process::exit(2);
        }
        let begun = Instant::now();
        while disk.lock().expect("no operation panics").open > 0 {
            if begun.elapsed() > CLOSED_WITHIN {
                eprintln!("files are still open");
                std::process::exit(1);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let (files, lost) = disk.lock().expect("no operation panics").cut();
        println!("cut {files} {lost}");
    }
    drop(session);
}
