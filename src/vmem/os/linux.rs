// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files in /proc and /sys that Linux reports its state in, and the calls that only Linux has. The code here does not use the heap, so that
//! it works when memory has run out.

use std::ffi::{CStr, c_int, c_ulong};
use std::fmt::{self, Write as _};
use std::ptr;

use super::{Mapping, Result, SystemError};
use crate::vmem::{Protect, UsageStatus};

/// Precondition: the advice changes no contents.
fn madvise(start: usize, size: usize, advice: c_int) -> Result<()> {
    // SAFETY: the advice changes no contents.
    match unsafe { libc::madvise(ptr::with_exposed_provenance_mut(start), size, advice) } {
        0 => Ok(()),
        _ => Err(SystemError::last()),
    }
}

pub fn populate(start: usize, size: usize, write: bool) -> Result<bool> {
    const MADV_POPULATE_READ: c_int = 22;
    const MADV_POPULATE_WRITE: c_int = 23;
    match madvise(start, size, if write { MADV_POPULATE_WRITE } else { MADV_POPULATE_READ }) {
        Ok(()) => Ok(true),
        // The kernel does not have it, or a sandbox forbids it.
        Err(SystemError(libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

pub fn advise_huge(start: usize, size: usize) -> Result<bool> {
    match madvise(start, size, libc::MADV_HUGEPAGE) {
        Ok(()) => Ok(true),
        Err(SystemError(libc::EINVAL)) => Ok(false),
        Err(error) => Err(error),
    }
}

pub fn set_name(start: usize, size: usize, name: Option<&CStr>) {
    const PR_SET_VMA: c_int = 0x5356_4d41;
    const PR_SET_VMA_ANON_NAME: c_ulong = 0;
    let name = name.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: the call reads the text and names mappings. If the kernel has no names, it fails and changes nothing.
    unsafe { libc::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, start as c_ulong, size as c_ulong, name) };
}

/// A file that is open for reading. (std's File uses the heap to open a long path.)
struct File(c_int);

impl File {
    fn open(path: &CStr) -> Result<File> {
        // SAFETY: the path is ended by a NUL.
        let descriptor = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        if descriptor < 0 { Err(SystemError::last()) } else { Ok(File(descriptor)) }
    }

    /// Reads into the buffer, and returns the number of bytes; 0 at the end of the file.
    fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        // SAFETY: the buffer has the length that the call gets.
        let count = unsafe { libc::read(self.0, buffer.as_mut_ptr().cast(), buffer.len()) };
        usize::try_from(count).map_err(|_| SystemError::last())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: this value's own descriptor.
        unsafe { libc::close(self.0) };
    }
}

/// Reads a text file line by line, with a buffer of its own. It cuts a line that is longer than the buffer.
struct Lines {
    file: File,
    buffer: [u8; 1024],
    /// `buffer[from..to]` was read and not yet returned.
    from: usize,
    to: usize,
    /// Whether that starts with the rest of a line whose beginning was returned.
    skip: bool,
}

impl Lines {
    fn open(path: &CStr) -> Result<Lines> {
        let file = File::open(path)?;
        Ok(Lines { file, buffer: [0; 1024], from: 0, to: 0, skip: false })
    }

    /// Returns the next line, or None at the end. Fails iff the file can't be read.
    fn next(&mut self) -> Result<Option<&str>> {
        loop {
            let (from, skip) = (self.from, self.skip);
            let len = match self.buffer[from..self.to].iter().position(|&byte| byte == b'\n') {
                Some(len) => {
                    self.from += len + 1;
                    self.skip = false;
                    len
                }
                None if self.to - from == self.buffer.len() => {
                    self.from = self.to;
                    self.skip = true;
                    self.buffer.len()
                }
                None => {
                    self.buffer.copy_within(from..self.to, 0);
                    self.to -= from;
                    self.from = 0;
                    match self.file.read(&mut self.buffer[self.to..])? {
                        0 if self.to == 0 => return Ok(None),
                        0 => {
                            self.buffer[self.to] = b'\n'; // the last line may have no newline
                            self.to += 1;
                        }
                        count => self.to += count,
                    }
                    continue;
                }
            };
            if !skip {
                return Ok(Some(text(&self.buffer[from..from + len])));
            }
        }
    }
}

/// Returns the bytes as text, up to the first byte that is not UTF-8.
fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
    }
}

/// A path that is built without the heap. The paths of all files read here fit.
struct PathText {
    /// The path, and at least one NUL.
    bytes: [u8; 1024],
    len: usize,
}

impl PathText {
    /// Returns the path of these parts, or None if it does not fit.
    fn of(parts: fmt::Arguments<'_>) -> Option<PathText> {
        let mut path = PathText { bytes: [0; 1024], len: 0 };
        path.write_fmt(parts).ok()?;
        Some(path)
    }

    fn as_str(&self) -> &str {
        text(&self.bytes[..self.len])
    }

    /// Opens the file, or returns None if that fails.
    fn open(&self) -> Option<Lines> {
        Lines::open(CStr::from_bytes_until_nul(&self.bytes).ok()?).ok()
    }
}

impl fmt::Write for PathText {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.len + s.len();
        let room = self.bytes.len() - 1;
        self.bytes[..room].get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// A walk over the mappings of the process, in ascending order. The first call of `at_or_after` opens the file, and dropping this closes
/// it. A descriptor that stays open would disturb fork, and programs that close or count their descriptors.
pub struct Mappings {
    source: Source,
}

#[expect(clippy::large_enum_variant, reason = "the heap may be out of memory")]
enum Source {
    Unopened,
    /// The file answers queries for an address (Linux 6.11 and later).
    Query(File),
    /// The file is read as a list, line by line. The mapping is the last one that was read.
    List(Lines, Option<Mapping>),
}

/// The lists of mappings. The first is empty after the main thread has ended by pthread_exit(3); the second is for that case. (The second
/// alone does not suffice: it does not exist before Linux 3.17, and emulators replace only the first.)
const MAPS: [&CStr; 2] = [c"/proc/self/maps", c"/proc/thread-self/maps"];

impl Mappings {
    pub fn new() -> Self {
        Mappings { source: Source::Unopened }
    }

    /// Returns the mapping that contains `address`, or else the first one behind it. Fails iff neither queries nor a list can be read.
    /// Precondition: the addresses of successive calls ascend.
    pub fn at_or_after(&mut self, address: usize) -> Result<Option<Mapping>> {
        if let Source::Unopened = self.source {
            self.source = Source::Query(File::open(MAPS[0])?);
        }
        if let Source::Query(file) = &self.source {
            match query(file, address) {
                Ok(mapping) => return Ok(Some(mapping)),
                Err(SystemError(libc::ENOENT)) => return Ok(None),
                Err(_) => self.read_list(&MAPS)?, // the kernel has no queries, or a sandbox refuses them
            }
        }
        let Source::List(lines, last) = &mut self.source else { return Ok(None) };
        while last.is_none_or(|mapping| mapping.end <= address) {
            let Some(line) = lines.next()? else { return Ok(None) };
            *last = mapping(line).or(*last);
        }
        Ok(*last)
    }

    /// Starts to read the first of these lists that has a mapping. Fails iff none has one, or a list before it can't be read: every process
    /// has mappings.
    fn read_list(&mut self, paths: &[&CStr]) -> Result<()> {
        for path in paths {
            let mut lines = Lines::open(path)?;
            if let Some(first) = lines.next()?.and_then(mapping) {
                self.source = Source::List(lines, Some(first));
                return Ok(());
            }
        }
        Err(SystemError(libc::EIO))
    }
}

/// Parses a line of /proc/self/maps: "55d0c8a00000-55d0c8a21000 r-xp 00000000 fe:00 1234  /bin/cat".
fn mapping(line: &str) -> Option<Mapping> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let has = |letter: u8| rest.as_bytes().iter().take(3).any(|&byte| byte == letter);
    Some(Mapping {
        start: usize::from_str_radix(start, 16).ok()?,
        end: usize::from_str_radix(end, 16).ok()?,
        protect: Some(Protect::of(has(b'r'), has(b'w'), has(b'x'))),
    })
}

/// The kernel's struct procmap_query.
#[repr(C)]
#[derive(Default)]
struct ProcmapQuery {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

const _: () = assert!(size_of::<ProcmapQuery>() == 104);

/// Asks the kernel for the mapping that contains `address`, or else the first one behind it. Fails with ENOENT iff no such mapping exists.
fn query(file: &File, address: usize) -> Result<Mapping> {
    const COVERING_OR_NEXT: u64 = 0x10;
    const PROCMAP_QUERY: u32 = (3 << 30) | ((size_of::<ProcmapQuery>() as u32) << 16) | ((b'f' as u32) << 8) | 17;
    let mut query = ProcmapQuery {
        size: size_of::<ProcmapQuery>() as u64,
        query_flags: COVERING_OR_NEXT,
        query_addr: address as u64,
        ..Default::default()
    };
    // SAFETY: the request's number contains the number of bytes that the kernel may read and write: one ProcmapQuery.
    if unsafe { libc::ioctl(file.0, PROCMAP_QUERY as _, &raw mut query) } != 0 {
        return Err(SystemError::last());
    }
    let flag = |bit: u64| query.vma_flags & bit != 0;
    Ok(Mapping {
        start: query.vma_start as usize,
        end: query.vma_end as usize,
        protect: Some(Protect::of(flag(1), flag(2), flag(4))),
    })
}

/// Returns the number behind `key`, in bytes, from a line like "MemTotal:   24000000 kB" or "inactive_file 4096".
fn number(line: &str, key: &str) -> Option<usize> {
    let rest = line.strip_prefix(key)?.trim_start_matches(':');
    let mut words = rest.starts_with([' ', '\t']).then(|| rest.split_ascii_whitespace())?;
    let number: u64 = words.next()?.parse().ok()?;
    let unit = if words.next() == Some("kB") { 1024 } else { 1 };
    Some(usize::try_from(number.saturating_mul(unit)).unwrap_or(usize::MAX))
}

pub fn usage_status() -> Result<UsageStatus> {
    let (mut total, mut available, mut free) = (None, None, None);
    let mut lines = Lines::open(c"/proc/meminfo")?;
    while let Some(line) = lines.next()? {
        total = total.or(number(line, "MemTotal"));
        available = available.or(number(line, "MemAvailable"));
        free = free.or(number(line, "MemFree")); // Linux before 3.14 has no MemAvailable
        if total.is_some() && available.is_some() {
            break;
        }
    }
    let total = total.ok_or(SystemError(libc::EIO))?;
    let limit = cgroup_leaves(&["/proc/thread-self", "/proc/self"]).unwrap_or(usize::MAX);
    let available = available.or(free).unwrap_or(total).min(limit);
    Ok(UsageStatus { total_physical_bytes: total, avail_physical_bytes: available.min(total) })
}

/// The files of a cgroup's memory controller.
struct Controller {
    /// The type of its file system in mountinfo.
    system: &'static str,
    /// The files of its limits. The lowest limit counts. Beyond memory.high the kernel slows the process down very much.
    limits: &'static [&'static str],
    /// The file of the memory in use.
    usage: &'static str,
    /// The lines of memory.stat with memory that the kernel can reclaim without swapping.
    cache: &'static [&'static str],
}

const V1: Controller = Controller {
    system: "cgroup",
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    cache: &["total_inactive_file", "total_active_file"],
};

const V2: Controller = Controller {
    system: "cgroup2",
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    cache: &["inactive_file", "active_file", "slab_reclaimable"],
};

/// Returns the memory that the limits of the process's cgroups and their ancestors leave, or None without a limit. `processes` are the
/// possible names of the process's directory in /proc; the first one that has a file is used. (The directory of a process describes its
/// main thread, which may have ended. The directory of a thread does not exist before Linux 3.17.)
fn cgroup_leaves(processes: &[&str]) -> Option<usize> {
    let file = |name: &str| processes.iter().find_map(|process| PathText::of(format_args!("{process}/{name}"))?.open());
    let mut least = None;
    let mut cgroups = file("cgroup")?;
    while let Ok(Some(line)) = cgroups.next() {
        // "4:memory:/a/b" (v1) or "0::/a/b" (v2)
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let kind = match controllers {
            "" => &V2,
            list if list.split(',').any(|name| name == "memory") => &V1,
            _ => continue,
        };
        let mut mounts = file("mountinfo")?;
        while let Ok(Some(line)) = mounts.next() {
            let Some((root, mount)) = cgroup_mount(line, kind) else { continue };
            // Skip a mount of a part of the tree that does not contain the process.
            let inside = path.strip_prefix(root.trim_end_matches('/'));
            let Some(inside) = inside.filter(|inside| inside.is_empty() || inside.starts_with('/')) else { continue };
            let Some(mount) = unescaped(mount) else { continue };
            least = [least, walk_up(mount.as_str(), inside, kind)].into_iter().flatten().min();
            break;
        }
    }
    least
}

/// Returns root and mount point, if the line of mountinfo describes the mount of this controller:
/// "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory".
fn cgroup_mount<'a>(line: &'a str, kind: &Controller) -> Option<(&'a str, &'a str)> {
    let (place, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    let (name, options) = (system.next()?, system.nth(1)?);
    let has_memory = kind.system == V2.system || options.split(',').any(|option| option == "memory");
    let wanted = name == kind.system && has_memory;
    let mut place = place.split(' ').skip(3);
    wanted.then_some((place.next()?, place.next()?))
}

/// Returns a path of mountinfo without its escapes, such as \040 for a space. Returns None if it is malformed or does not fit.
fn unescaped(path: &str) -> Option<PathText> {
    let mut parts = path.split('\\');
    let mut text = PathText::of(format_args!("{}", parts.next()?))?;
    for part in parts {
        let code = u8::from_str_radix(part.get(..3)?, 8).ok()?;
        text.write_fmt(format_args!("{}{}", char::from(code), &part[3..])).ok()?;
    }
    Some(text)
}

/// Returns the lowest number of bytes that the cgroup at `inside` in the mount, or one of its ancestors, leaves; None without a limit.
fn walk_up(mount: &str, mut inside: &str, kind: &Controller) -> Option<usize> {
    let mut least = None;
    loop {
        inside = inside.trim_end_matches('/');
        least = [least, leaves(mount, inside, kind)].into_iter().flatten().min();
        match inside.rfind('/') {
            Some(parent) => inside = &inside[..parent],
            None => return least,
        }
    }
}

/// Returns the number of bytes that one cgroup leaves, or None if it has no limit.
fn leaves(mount: &str, inside: &str, kind: &Controller) -> Option<usize> {
    let file = |name: &str| PathText::of(format_args!("{mount}{inside}/{name}"))?.open();
    let value = |name: &str| file(name)?.next().ok()??.trim().parse::<u64>().ok(); // "max" is no number
    let limit = kind.limits.iter().filter_map(|limit| value(limit)).min()?;
    let used = value(kind.usage)?;
    let mut cache = 0_usize;
    if let Some(mut lines) = file("memory.stat") {
        while let Ok(Some(line)) = lines.next() {
            cache = kind.cache.iter().find_map(|key| number(line, key)).unwrap_or(0).saturating_add(cache);
        }
    }
    usize::try_from(limit.saturating_sub(used.saturating_sub(cache as u64))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    #[test]
    fn the_list_and_the_queries_agree() {
        let mut by_list = Mappings::new();
        by_list.read_list(&MAPS).unwrap();
        let mut by_query = Mappings::new();
        let mut address = 0;
        let mut same = 0;
        // Other tests map and unmap memory meanwhile, so some mappings may differ. Those of the program are the same.
        while let Some(mapping) = by_list.at_or_after(address).unwrap() {
            same += usize::from(by_query.at_or_after(address).unwrap() == Some(mapping));
            address = mapping.end;
        }
        assert!(same >= 5, "{same}");
    }

    fn c_path(path: &Path) -> CString {
        CString::new(path.as_os_str().as_bytes()).unwrap()
    }

    #[test]
    fn an_empty_list_of_mappings_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            c_path(&path)
        };
        let (empty, list) = (file("empty", ""), file("list", "1000-2000 r--p 00000000 00:00 0\n"));
        let missing = c_path(&directory.path().join("missing"));
        let first = |paths: &[&CStr]| {
            let mut mappings = Mappings::new();
            mappings.read_list(paths)?;
            mappings.at_or_after(0)
        };
        let mapping = Mapping { start: 0x1000, end: 0x2000, protect: Some(Protect::Read) };
        assert_eq!(first(&[&list]), Ok(Some(mapping)));
        assert_eq!(first(&[&empty, &list]), Ok(Some(mapping)));
        assert_eq!(first(&[&empty]), Err(SystemError(libc::EIO)));
        assert_eq!(first(&[&empty, &empty]), Err(SystemError(libc::EIO)));
        assert_eq!(first(&[&missing, &list]), Err(SystemError(libc::ENOENT)));
    }

    #[test]
    fn lines_of_any_length_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text");
        fs::write(&path, format!("first\n{}\n\nlast", "x".repeat(10_000))).unwrap();
        let mut lines = Lines::open(&c_path(&path)).unwrap();
        assert_eq!(lines.next(), Ok(Some("first")));
        assert_eq!(lines.next(), Ok(Some("x".repeat(1024).as_str())));
        assert_eq!(lines.next(), Ok(Some("")));
        assert_eq!(lines.next(), Ok(Some("last")));
        assert_eq!(lines.next(), Ok(None));
    }

    #[test]
    fn cgroup_limits_count_with_those_of_ancestors() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        let put = |path: &str, text: &str| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("proc/cgroup", "1:cpu:/a\n4:memory:/slice/job\n0::/slice/job\n");
        put(
            "proc/mountinfo",
            &format!(
                "1 0 0:1 / /x rw - tmpfs tmpfs rw,memory\n9 1 0:3 /slic {root}/other rw - cgroup2 cgroup2 rw\n2 1 0:2 / {root}/v1 rw shared:3 - cgroup cgroup rw,memory\n\
                 3 1 0:3 /slice {root}/v2 rw - cgroup2 cgroup2 rw\n"
            ),
        );
        let leaves = || cgroup_leaves(&[&format!("{root}/gone"), &format!("{root}/proc")]);
        assert_eq!(leaves(), None);
        assert_eq!(unescaped("/a\\040b\\134c").unwrap().as_str(), "/a b\\c");
        put("v1/slice/job/memory.limit_in_bytes", "9000\n");
        put("v1/slice/job/memory.usage_in_bytes", "5000\n");
        put("v1/slice/job/memory.stat", "inactive_file 999\ntotal_inactive_file 300\ntotal_active_file 200\n");
        assert_eq!(leaves(), Some(4500));
        put("v1/slice/memory.limit_in_bytes", "6000\n");
        put("v1/slice/memory.usage_in_bytes", "5500\n");
        assert_eq!(leaves(), Some(500));
        put("v2/job/memory.max", "max\n");
        put("v2/job/memory.current", "400\n");
        assert_eq!(leaves(), Some(500));
        put("v2/memory.max", "700\n");
        put("v2/memory.current", "400\n");
        put("v2/memory.stat", "anon 100\nslab_reclaimable 50\n");
        assert_eq!(leaves(), Some(350));
        put("v2/memory.current", "800\n");
        assert_eq!(leaves(), Some(0));
        put("v2/memory.current", "400\n");
        put("v2/memory.high", "600\n");
        assert_eq!(leaves(), Some(250));
        put("v2/memory.high", "max\n");
        assert_eq!(leaves(), Some(350));
    }
}
