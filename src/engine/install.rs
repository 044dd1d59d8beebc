//! Installing the library: the wheel that PyPI has for this machine, through the device's own pip, checked against a
//! pinned SHA-256, and of it the one file that is needed.
//!
//! Takes a version and edgetune's folder for data; gives the path of the library. It never speaks to the network itself,
//! never runs what it has not verified, and never leaves a half-written library.

use super::runtime::{Library, LibraryChoice, load};
use super::{Error, Result};
use crate::atomic::write_atomically;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The version that is installed where none is asked for.
pub const DEFAULT_VERSION: &str = "1.32.0";

/// A wheel that may be installed. All are the CPython 3.11 ones: the library inside is the same for every Python.
struct Wheel {
    version: &'static str,
    arch: &'static str,
    sha256: &'static str,
}

const fn wheel(version: &'static str, arch: &'static str, sha256: &'static str) -> Wheel {
    Wheel { version, arch, sha256 }
}

/// The pinned wheels, newest first. All need glibc 2.27 or 2.28.
#[rustfmt::skip]
static WHEELS: &[Wheel] = &[
    wheel("1.32.0", "aarch64", "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c"),
    wheel("1.32.0", "x86_64",  "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d"),
    wheel("1.28.0", "aarch64", "8d66f9ceb29909c70839e4e4fb3435c7b490050d8f162bd5f3aba4ca01ee517f"),
    wheel("1.28.0", "x86_64",  "a166b78ee04f3a37fa1ef82034b6a3ce96d9684e582d4d30b296de83e9998bb5"),
    wheel("1.23.2", "aarch64", "bbfd2fca76c855317568c1b36a885ddea2272c13cb0e395002c402f2360429a6"),
    wheel("1.23.2", "x86_64",  "da44b99206e77734c5819aa2142c69e64f3b46edc3bd314f6a45a932defc0b3e"),
    wheel("1.20.1", "aarch64", "f6243e34d74423bdd1edf0ae9596dd61023b260f546ee17d701723915f06a9f7"),
    wheel("1.20.1", "x86_64",  "5eec64c0269dcdb8d9a9a53dc4d64f87b9e0c19801d9321246a53b7eb5a7d1bc"),
];

/// Ways to run pip, tried in order.
const PIPS: &[&[&str]] = &[&["python3", "-m", "pip"], &["pip3"], &["pip"]];

/// No library of ONNX Runtime is larger; a wheel that unpacks to more is refused.
const LIBRARY_BYTES_MAX: u64 = 256 << 20;

/// What an installation is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// pip fetches the wheel (about 30 MB).
    Downloading {
        /// The version asked for.
        version: String,
        /// The architecture.
        arch: String,
    },
    /// The wheel's SHA-256 is compared.
    Verifying,
    /// The library is unpacked.
    Unpacking {
        /// Where to.
        path: PathBuf,
    },
}

/// A library that was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The library.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
    /// Its size.
    pub size_bytes: u64,
}

/// The versions that can be installed on an architecture, newest first.
pub fn versions(arch: &str) -> Vec<&'static str> {
    WHEELS.iter().filter(|wheel| wheel.arch == arch).map(|wheel| wheel.version).collect()
}

/// Downloads and installs a pinned `version` (or the default) into edgetune's folder for data.
///
/// # Errors
/// [`Error::NoWheel`] for another version or machine, [`Error::NoPip`], [`Error::Pip`] with pip's words,
/// [`Error::Checksum`], [`Error::Wheel`], [`Error::NoDataFolder`], each with what helps.
pub fn install(choice: &LibraryChoice, version: Option<&str>, progress: &mut dyn FnMut(Step)) -> Result<Installed> {
    let wheel = pinned(version.unwrap_or(DEFAULT_VERSION), std::env::consts::ARCH)?;
    let folder = choice.own_folder()?;
    let download = Scratch::new(&folder)?;
    progress(Step::Downloading { version: wheel.version.into(), arch: wheel.arch.into() });
    let file = download_with(PIPS, wheel, &download.0)?;
    unpack(&folder, wheel, &file, progress)
}

/// Installs from a wheel that was copied to the device, named as PyPI names it. It must be one of the pinned ones.
///
/// # Errors
/// As [`install`], but for pip's.
pub fn install_wheel(choice: &LibraryChoice, file: &Path, progress: &mut dyn FnMut(Step)) -> Result<Installed> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let version = name.strip_prefix("onnxruntime-").and_then(|rest| rest.split('-').next());
    let version = version.filter(|_| name.ends_with(".whl")).ok_or_else(|| Error::Wheel {
        path: file.into(),
        reason: "its name must be as PyPI gives it, onnxruntime-VERSION-….whl; rename or download it again".into(),
    })?;
    let wheel = pinned(version, std::env::consts::ARCH)?;
    unpack(&choice.own_folder()?, wheel, file, progress)
}

/// [`load`], after an [`install`] of the default version if the device has no library that will do. A library that the
/// user or the environment names is never replaced by another.
///
/// # Errors
/// As the two.
pub fn load_or_install(choice: &LibraryChoice, progress: &mut dyn FnMut(Step)) -> Result<&'static Library> {
    match load(choice) {
        Err(Error::NotFound { .. }) => {
            install(choice, None, progress)?;
            load(choice)
        }
        other => other,
    }
}

fn pinned(version: &str, arch: &str) -> Result<&'static Wheel> {
    WHEELS.iter().find(|wheel| wheel.version == version && wheel.arch == arch).ok_or_else(|| Error::NoWheel {
        version: version.into(),
        arch: arch.into(),
        known: versions(arch).join(", "),
    })
}

/// Fetches the wheel into `folder` with the first pip that runs.
fn download_with(pips: &[&[&str]], wheel: &Wheel, folder: &Path) -> Result<PathBuf> {
    let runs = |pip: &&&[&str]| {
        let mut command = Command::new(pip[0]);
        command.args(&pip[1..]).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let pip = pips.iter().find(runs).ok_or(Error::NoPip)?;
    let requirement = format!("onnxruntime=={}", wheel.version);
    let platform = format!("manylinux_2_28_{}", wheel.arch);
    let mut command = Command::new(pip[0]);
    command.args(&pip[1..]);
    command.args(["download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--no-deps"]);
    command.args(["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]);
    command.args(["--platform", &platform, "--dest"]).arg(folder).arg(&requirement).stdin(Stdio::null());
    let output =
        command.output().map_err(|error| Error::Pip { requirement: requirement.clone(), said: error.to_string() })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Err(Error::Pip { requirement, said });
    }
    let is_wheel = |path: &PathBuf| path.extension() == Some(OsStr::new("whl"));
    let files = fs::read_dir(folder).map_err(|error| Error::file(folder, error))?.flatten().map(|entry| entry.path());
    files.filter(is_wheel).max().ok_or_else(|| Error::Pip { requirement, said: "it left no wheel behind".into() })
}

/// Verifies the wheel and writes its library to `<folder>/<version>/libonnxruntime.so.<version>`.
fn unpack(folder: &Path, wheel: &Wheel, file: &Path, progress: &mut dyn FnMut(Step)) -> Result<Installed> {
    progress(Step::Verifying);
    let found = sha256(file)?;
    if found != wheel.sha256 {
        return Err(Error::Checksum { path: file.into(), expected: wheel.sha256.into(), found });
    }
    let name = format!("libonnxruntime.so.{}", wheel.version);
    let path = folder.join(wheel.version).join(&name);
    progress(Step::Unpacking { path: path.clone() });
    let unusable = |reason: String| Error::Wheel { path: file.into(), reason };
    let opened = File::open(file).map_err(|error| Error::file(file, error))?;
    let mut archive = zip::ZipArchive::new(opened).map_err(|error| unusable(error.to_string()))?;
    let entry = archive.by_name(&format!("onnxruntime/capi/{name}")).map_err(|error| unusable(error.to_string()))?;
    if entry.size() > LIBRARY_BYTES_MAX {
        return Err(unusable(format!("{name} unpacks to {} bytes", entry.size())));
    }
    fs::create_dir_all(folder.join(wheel.version)).map_err(|error| Error::file(folder, error))?;
    let mut entry = entry.take(LIBRARY_BYTES_MAX);
    let size_bytes = write_atomically(&path, |library| io::copy(&mut entry, library))
        .map_err(|error: io::Error| Error::file(&path, error))?;
    Ok(Installed { path, version: wheel.version.into(), size_bytes })
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|error| Error::file(path, error))?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).map_err(|error| Error::file(path, error))?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A folder for the download, on the same disk as the library; removed when the installation ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(beside: &Path) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = beside.join(format!(".download-{}-{number}", std::process::id()));
        // Left behind by a killed process of the same number.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).map_err(|error| Error::file(&path, error))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing reads it again; a folder that stays is only untidy.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_has_every_version_and_the_default() {
        for arch in ["aarch64", "x86_64"] {
            assert_eq!(versions(arch), ["1.32.0", "1.28.0", "1.23.2", "1.20.1"]);
            assert!(versions(arch).contains(&DEFAULT_VERSION));
        }
        assert!(WHEELS.iter().all(|wheel| wheel.sha256.len() == 64));
    }

    #[test]
    fn other_machines_and_versions_are_told_what_there_is() {
        let error = pinned("1.32.0", "arm").err().unwrap().to_string();
        assert!(error.contains("arm") && error.contains("setting `onnxruntime"), "{error}");
        let error = pinned("1.21.0", "x86_64").err().unwrap().to_string();
        assert!(error.contains("1.21.0") && error.contains("1.23.2"), "{error}");
    }

    #[test]
    fn a_device_without_pip_is_told_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = download_with(&[&["no-such-python", "-m", "pip"]], &WHEELS[0], folder.path()).unwrap_err();
        assert!(matches!(error, Error::NoPip) && error.to_string().contains("setting `onnxruntime"), "{error}");
    }

    #[test]
    fn pips_own_words_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let script = "case $1 in *version) ;; *) echo no route to host >&2; exit 1 ;; esac";
        let error = download_with(&[&["sh", "-c", script, "pip"]], &WHEELS[0], folder.path()).unwrap_err();
        assert!(matches!(&error, Error::Pip { said, .. } if said == "no route to host"), "{error}");
    }
}
