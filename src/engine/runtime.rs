//! The ONNX Runtime library: found on the device, checked before a line of it runs, loaded once per process.

use super::elf::{self, Version};
use super::{Error, Result};
use crate::order::Order;
use ort::environment::Environment;
use ort::logging::LogLevel;
use std::ffi::{CStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The oldest version whose API is enough (the number in the `api-17` feature of `ort`).
const OLDEST: Version = Version(1, 17, 0);

/// Where to look for the library. [`LibraryChoice::new`] fills it in for this machine.
#[derive(Debug, Clone, Default)]
pub struct LibraryChoice {
    /// The file, or a folder with it, that the user named (setting `onnxruntime`): this one or none.
    pub explicit: Option<PathBuf>,
    /// What the variable `ORT_DYLIB_PATH` names: this one or none, unless `explicit` is set.
    pub environment: Option<PathBuf>,
    /// The root of the file system, `/`.
    pub root: PathBuf,
    /// Folders outside of `root`'s own that have `lib/python3*/site-packages`: an active virtual environment, the user's.
    pub python_prefixes: Vec<PathBuf>,
    /// edgetune's own folder for data; `None` where the environment names no home.
    pub data_folder: Option<PathBuf>,
    /// Where inferred types are kept for the next process; `None` infers them each time.
    pub types_folder: Option<PathBuf>,
}

impl LibraryChoice {
    /// The choice for this machine; `variable` looks up an environment variable.
    pub fn new(explicit: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        // An empty variable counts as unset; a relative one names another folder for each process.
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = |name: &str| set(name).filter(|path| path.is_absolute());
        let home = folder("HOME");
        let data = folder("XDG_DATA_HOME").or_else(|| home.as_ref().map(|home| home.join(".local/share")));
        Self {
            explicit,
            environment: set("ORT_DYLIB_PATH"),
            root: PathBuf::from("/"),
            python_prefixes: folder("VIRTUAL_ENV").into_iter().chain(home.map(|home| home.join(".local"))).collect(),
            data_folder: data.map(|data| data.join("edgetune")),
            types_folder: None,
        }
    }

    /// Where the copies that edgetune installs lie.
    ///
    /// # Errors
    /// [`Error::NoDataFolder`] if the environment names no home.
    pub fn own_folder(&self) -> Result<PathBuf> {
        self.data_folder.as_ref().map(|folder| folder.join("onnxruntime")).ok_or(Error::NoDataFolder)
    }
}

/// Who put a library where it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The user named it on the command line.
    Explicit,
    /// The variable `ORT_DYLIB_PATH` names it.
    Environment,
    /// The device's system.
    System,
    /// A Python wheel on the device.
    Wheel,
    /// edgetune's installation.
    Own,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Explicit => "named with setting `onnxruntime`",
            Self::Environment => "named by ORT_DYLIB_PATH",
            Self::System => "the system's",
            Self::Wheel => "a Python wheel's",
            Self::Own => "installed by edgetune",
        })
    }
}

/// A library that may be loaded.
#[derive(Debug, Clone)]
pub struct FoundLibrary {
    /// The file, links resolved.
    pub path: PathBuf,
    /// Its version, where the file tells.
    pub version: Option<Version>,
    /// Who put it there.
    pub origin: Origin,
}

/// What a search has found.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The libraries that may be loaded, best first.
    pub found: Vec<FoundLibrary>,
    /// Those that may not, with the reason.
    pub passed_over: Vec<(PathBuf, String)>,
}

/// The loaded library.
#[derive(Debug, Clone)]
pub struct Library {
    /// The file, links resolved.
    pub path: PathBuf,
    /// Its version; `unknown` for a build that does not tell.
    pub version: String,
    /// Who put it there.
    pub origin: Origin,
    /// What the library says about its build.
    pub build_info: String,
    /// The execution providers that it was built with, by ONNX Runtime's names.
    pub providers: Vec<String>,
    /// Libraries that came before it in the search, and why they were not taken.
    pub passed_over: Vec<(PathBuf, String)>,
}

/// What a process has one of.
struct Loaded {
    library: Library,
    environment: Environment,
    types_folder: Option<PathBuf>,
}

static LOADED: OnceLock<Loaded> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// All libraries on the device, in the order in which [`load`] tries them. Nothing is loaded.
///
/// # Errors
/// [`Error::Library`] if the one that the user or the environment names is unfit.
pub fn find(choice: &LibraryChoice) -> Result<Search> {
    let named = [(&choice.explicit, Origin::Explicit), (&choice.environment, Origin::Environment)];
    if let Some((path, origin)) = named.into_iter().find_map(|(path, origin)| Some((path.as_ref()?, origin))) {
        let file = if path.is_dir() { libraries_in(path).into_iter().next() } else { Some(path.clone()) };
        let refused = |reason| Error::Library { path: path.clone(), origin: Some(origin), reason };
        if !path.exists() {
            let reason = "does not exist; correct the path, or leave it out to use the device's own library";
            return Err(refused(reason.into()));
        }
        let file = file.ok_or_else(|| refused("no libonnxruntime.so in this folder; name the file itself".into()))?;
        return Ok(Search { found: vec![examine(&file, origin).map_err(refused)?], passed_over: vec![] });
    }
    let Search { mut found, mut passed_over } = Search::default();
    for (folder, origin) in folders(choice) {
        for file in libraries_in(&folder) {
            match examine(&file, origin) {
                Ok(library) if found.iter().any(|known| known.path == library.path) => {}
                Ok(library) => found.push(library),
                Err(reason) => passed_over.push((file, reason)),
            }
        }
    }
    Ok(Search { found, passed_over })
}

/// Loads the best library, once per process; later calls give the same one.
///
/// # Errors
/// [`Error::NotFound`] with what was passed over, [`Error::Library`] for a named one that is unfit, or
/// [`Error::AlreadyLoaded`] if another file than the one named was loaded before.
pub fn load(choice: &LibraryChoice) -> Result<&'static Library> {
    let _guard = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Loaded { library, .. }) = LOADED.get() {
        let same = |asked: &PathBuf| asked.canonicalize().is_ok_and(|asked| library.path.starts_with(asked));
        return match &choice.explicit {
            Some(asked) if !same(asked) => {
                Err(Error::AlreadyLoaded { loaded: library.path.clone(), asked: asked.clone() })
            }
            _ => Ok(library),
        };
    }
    let Search { found, mut passed_over } = find(choice)?;
    for library in found {
        let named = matches!(library.origin, Origin::Explicit | Origin::Environment);
        match open(&library) {
            Ok((mut library, environment)) => {
                library.passed_over = passed_over;
                let types_folder = choice.types_folder.clone();
                return Ok(&LOADED.get_or_init(|| Loaded { library, environment, types_folder }).library);
            }
            Err(reason) if named => {
                return Err(Error::Library { path: library.path, origin: Some(library.origin), reason });
            }
            Err(reason) => passed_over.push((library.path, reason)),
        }
    }
    Err(Error::NotFound { passed_over })
}

/// Sets what ONNX Runtime needs of the whole process: `main` calls it first, before there is another thread.
///
/// - Official builds from 1.29 on make a device id and a store of events below the user's home as soon as an environment is created,
///   before telemetry can be switched off through the API. The variable `ORT_DISABLE_TELEMETRY`, which is set here, keeps them from it.
/// - With glibc, large blocks go back to the system when they are freed.
///
/// Returns whether it was done. A process that has several threads already, or whose threads cannot be counted (other systems than Linux), is
/// left as it is, for another thread may be reading the environment: set the variable before such a program starts.
pub fn configure_process() -> bool {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if alone {
        // SAFETY: this is the process's only thread, so nothing reads the environment meanwhile.
        unsafe { configure() };
    }
    alone
}

/// The same for edgetune's own programs, whose `main` begins with it. Their process may have other threads even then: an emulator's (QEMU's
/// user mode has one of its own), or those of a library that somebody has preloaded.
pub fn configure_own_process() {
    // SAFETY: `main` has started no thread yet, and what runs beside it reads this program's environment for nobody.
    unsafe { configure() };
}

/// # Safety
/// No other thread reads the environment meanwhile.
unsafe fn configure() {
    // SAFETY: as this function asks for.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    give_large_blocks_back();
}

/// glibc keeps freed blocks of up to 32 MB for itself once one such block was freed, in the order of use, which leaves holes:
/// a session's arena stayed resident after the session. Above a fixed threshold blocks are mapped one by one and go back
/// to the system when they are freed (measured: 124 instead of 168 MB for a run that makes and drops many sessions).
#[cfg(target_env = "gnu")]
fn give_large_blocks_back() {
    use std::ffi::c_int;
    const M_MMAP_THRESHOLD: c_int = -3;
    const LARGE_BYTES: c_int = 512 << 10;
    unsafe extern "C" {
        fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }
    // SAFETY: glibc's own setting, guarded by the allocator's lock; any threshold is valid.
    unsafe { mallopt(M_MMAP_THRESHOLD, LARGE_BYTES) };
}

/// glibc also keeps what was freed in small blocks, of which a session has thousands (some 7 KiB for each node of its graph),
/// unless it is asked for them.
#[cfg(target_env = "gnu")]
pub(super) fn give_small_blocks_back() {
    use std::ffi::c_int;
    unsafe extern "C" {
        fn malloc_trim(keep: usize) -> c_int;
    }
    // SAFETY: glibc's own function, guarded by the allocator's lock; it touches free blocks only.
    unsafe { malloc_trim(0) };
}

/// Other C libraries have no such function.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_small_blocks_back() {}

/// Other C libraries give large blocks back by themselves.
#[cfg(not(target_env = "gnu"))]
fn give_large_blocks_back() {}

/// The library that [`load`] has loaded.
///
/// # Errors
/// [`Error::NotLoaded`] before that.
pub fn loaded() -> Result<&'static Library> {
    LOADED.get().map(|loaded| &loaded.library).ok_or(Error::NotLoaded)
}

/// Where inferred types are kept.
pub(super) fn types_folder() -> Result<Option<&'static Path>> {
    LOADED.get().map(|loaded| loaded.types_folder.as_deref()).ok_or(Error::NotLoaded)
}

/// ONNX Runtime's environment, of which a process has one.
pub(super) fn environment() -> Result<&'static Environment> {
    LOADED.get().map(|loaded| &loaded.environment).ok_or(Error::NotLoaded)
}

/// The loaded version, for messages.
pub(super) fn version_text() -> String {
    loaded().map(|library| library.version.clone()).unwrap_or_default()
}

/// The folders of the search, in its order.
fn folders(choice: &LibraryChoice) -> Vec<(PathBuf, Origin)> {
    let triple = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let system = ["usr/lib", &triple, "usr/lib/arm-linux-gnueabihf", "usr/lib64", "usr/local/lib"];
    let system = system.iter().map(|folder| (choice.root.join(folder), Origin::System));
    let prefixes = ["usr/local", "usr"].map(|prefix| choice.root.join(prefix));
    let packages = choice.python_prefixes.iter().chain(&prefixes).flat_map(|prefix| python_packages(prefix));
    let wheels = packages.map(|packages| (packages.join("onnxruntime/capi"), Origin::Wheel));
    let own = choice.own_folder().map(|folder| newest_first(entries(&folder))).unwrap_or_default();
    system.chain(wheels).chain(own.into_iter().map(|folder| (folder, Origin::Own))).collect()
}

/// `lib/python3*/{site,dist}-packages` of a prefix, newest Python first.
fn python_packages(prefix: &Path) -> Vec<PathBuf> {
    let pythons = entries(&prefix.join("lib")).into_iter().filter(|path| file_name(path).starts_with("python3"));
    let both = |python: PathBuf| ["site-packages", "dist-packages"].map(|packages| python.join(packages));
    newest_first(pythons.collect()).into_iter().flat_map(both).collect()
}

/// The files of a folder that are named like the library, newest version first.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let is_library = |path: &PathBuf| {
        let name = file_name(path);
        name == "libonnxruntime.so" || name.starts_with("libonnxruntime.so.")
    };
    newest_first(entries(folder).into_iter().filter(is_library).collect())
}

/// The entries of a folder, sorted; none if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// Sorted by the version at the end of the name (after the letters), newest first.
fn newest_first(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let version = |path: &PathBuf| {
        let name = file_name(path);
        let name = name.strip_prefix("libonnxruntime.so.").unwrap_or(&name);
        Version::parse(name.trim_start_matches(|c: char| !c.is_ascii_digit()))
    };
    paths.order_by_key(|path| std::cmp::Reverse(version(path)));
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a library may be loaded, from its file alone; the error says why not and what helps.
fn examine(path: &Path, origin: Origin) -> Result<FoundLibrary, String> {
    let path = path.canonicalize().map_err(|error| format!("cannot be opened: {error}"))?;
    let header = elf::read(&path)?;
    if header.arch != std::env::consts::ARCH {
        let here = std::env::consts::ARCH;
        return Err(format!("built for {}, but this edgetune is built for {here}; take the {here} build", header.arch));
    }
    let named = || file_name(&path).strip_prefix("libonnxruntime.so.").and_then(Version::parse);
    let version = header.version.or_else(named);
    match version {
        Some(version) if version < OLDEST => Err(format!(
            "version {version} is too old; edgetune needs {}.{} or newer: `edgetune runtime install`",
            OLDEST.0, OLDEST.1
        )),
        Some(version) => match known_bad(version, has_lse()) {
            Some(reason) => Err(format!("version {version} {reason}")),
            None => Ok(FoundLibrary { path, version: Some(version), origin }),
        },
        None => Ok(FoundLibrary { path, version, origin }),
    }
}

/// Versions that kill the process on this kind of machine; `has_lse` tells whether the CPU has ARMv8.1's atomics, or is no
/// ARM at all.
fn known_bad(version: Version, has_lse: bool) -> Option<&'static str> {
    // onnxruntime#23957, #24112: compiled for ARMv8.2, SIGILL on load on a Raspberry Pi 3 or 4. 1.21.1 is good.
    let needs_lse = version == Version(1, 21, 0);
    (needs_lse && !has_lse).then_some(
        "stops with an illegal instruction on this CPU (ARMv8.0, as in Raspberry Pi 3 and 4: onnxruntime#23957); \
         take another: `edgetune runtime install`",
    )
}

#[cfg(target_arch = "aarch64")]
fn has_lse() -> bool {
    std::arch::is_aarch64_feature_detected!("lse")
}

#[cfg(not(target_arch = "aarch64"))]
fn has_lse() -> bool {
    true
}

fn open(found: &FoundLibrary) -> Result<(Library, Environment), String> {
    let builder = ort::init_from(&found.path).map_err(|error| with_remedy(error.to_string()))?;
    let environment = builder.with_name("edgetune").with_telemetry(false).build().map_err(|error| error.to_string())?;
    // Verbose messages would be written out for every node before the subscriber drops them.
    environment.set_log_level(LogLevel::Warning);
    let library = Library {
        path: found.path.clone(),
        version: found.version.map_or_else(|| "unknown".into(), |version| version.to_string()),
        origin: found.origin,
        build_info: ort::info().to_string(),
        providers: available_providers().map_err(|error| error.to_string())?,
        passed_over: vec![],
    };
    Ok((library, environment))
}

/// What the dynamic loader said, and what helps against it.
fn with_remedy(message: String) -> String {
    let remedy = if message.contains("GLIBC_") || message.contains("GLIBCXX_") {
        "; this system's C or C++ library is older than the one it was built for: install an older ONNX Runtime \
         (`edgetune runtime install --version 1.20.1`) or a newer system"
    } else if message.contains("cannot open shared object file") {
        "; install the library that it names"
    } else {
        ""
    };
    message + remedy
}

/// The providers that the loaded library was built with.
fn available_providers() -> Result<Vec<String>> {
    let mut names = ptr::null_mut();
    let mut count = 0;
    // SAFETY: both pointers are written by the call and what they get is released below.
    super::value::check(unsafe { (ort::api().GetAvailableProviders)(&mut names, &mut count) })?;
    // SAFETY: ONNX Runtime returned `count` C strings, valid until they are released.
    let read = |index| unsafe { CStr::from_ptr(*names.add(index)) }.to_string_lossy().into_owned();
    let providers = (0..usize::try_from(count).unwrap_or(0)).map(read).collect();
    // SAFETY: what the first call returned, released once.
    super::value::check(unsafe { (ort::api().ReleaseAvailableProviders)(names, count) })?;
    Ok(providers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_several_threads_keeps_its_environment() {
        // Tests run in threads of their own.
        assert!(!configure_process());
    }

    #[test]
    fn the_build_that_kills_a_raspberry_pi_4_is_known() {
        assert!(known_bad(Version(1, 21, 0), false).is_some_and(|reason| reason.contains("23957")));
        assert_eq!(known_bad(Version(1, 21, 0), true), None);
        assert_eq!(known_bad(Version(1, 21, 1), false), None);
    }

    #[test]
    fn an_old_c_library_gets_a_remedy() {
        let said = "/lib/libc.so.6: version `GLIBC_2.28' not found (required by libonnxruntime.so)".to_string();
        assert!(with_remedy(said).contains("--version 1.20.1"));
    }
}
