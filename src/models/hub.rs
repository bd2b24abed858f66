//! Models of the Hugging Face hub, in the hub's own cache, shared with every program that keeps to its layout:
//! `models--ORG--REPO/refs/main` holds a commit, `snapshots/COMMIT/FILE` links to `blobs/ETAG`, and the ETag of a
//! large file is its sha256. <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>

mod choose;
mod layout;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use self::choose::Choice;
pub(super) use self::layout::Cached;
use self::layout::Repository;
use super::error::{Context, ModelsError};
use super::files::{self, Expected, Incomplete, Lock};
use super::http::Client;
use super::name::{Reference, is_plain};
use super::report::Report;
use super::verified::Records;

/// How to reach the hub and where its files are kept.
#[derive(Clone)]
pub(super) struct Settings {
    /// The cache: `$HF_HUB_CACHE`, `$HF_HOME/hub`.
    pub(super) cache: PathBuf,
    /// The server, without a slash at its end.
    pub(super) endpoint: String,
    /// Sent to the endpoint with each request.
    pub(super) token: Option<String>,
}

/// The hub, as one run of lmrun sees it.
pub(super) struct Hub<'a> {
    pub(super) settings: &'a Settings,
    pub(super) records: &'a Records,
    pub(super) report: &'a dyn Report,
}

/// A repository's state, as `api/models/ORG/REPO` tells it.
#[derive(Debug, Deserialize)]
struct Listing {
    /// The commit.
    sha: String,
    siblings: Vec<Sibling>,
}

/// A file of a repository.
#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

/// A large file's digest and size.
#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Sibling {
    /// The name of its blob, and what it must be.
    fn blob(&self) -> Option<(&str, Expected)> {
        let (etag, expected) = match &self.lfs {
            Some(Lfs { sha256, size }) => (
                sha256,
                Expected {
                    size: Some(*size),
                    sha256: Some(sha256.clone()),
                },
            ),
            None => (
                self.blob_id.as_ref()?,
                Expected {
                    size: self.size,
                    sha256: None,
                },
            ),
        };
        is_plain(etag).then_some((etag.as_str(), expected))
    }
}

impl Hub<'_> {
    /// The model if it is in the cache, whole and undamaged: a GGUF file or a folder.
    pub(super) fn cached(&self, reference: &Reference) -> Result<Option<PathBuf>, ModelsError> {
        let repository = Repository::new(&self.settings.cache, &reference.repo);
        let Some(snapshot) = repository.snapshot() else {
            return Ok(None);
        };
        let names = layout::files_of(&snapshot);
        let Ok(choice) = choose::choose(&names, reference.quant.as_deref()) else {
            return Ok(None);
        };
        for &file_idx in choice.files() {
            let path = snapshot.join(&names[file_idx]);
            let Some(etag) = layout::blob_name(&path) else {
                continue;
            };
            // Of a large file the name is the digest.
            let sha256 = (etag.len() == 64).then(|| etag.clone());
            let expected = Expected { size: None, sha256 };
            let key = repository.key(&etag);
            if let Some(mismatch) = self.records.check(&key, &path, &expected)? {
                let name = &names[file_idx];
                self.report
                    .note(&format!("{name} in the cache is damaged: {mismatch}"));
                return Ok(None);
            }
        }
        Ok(match choice {
            Choice::Gguf(file_idx) => Some(snapshot.join(&names[file_idx[0]])),
            Choice::Folder(_) => layout::has_every_shard(&snapshot).then_some(snapshot),
        })
    }

    /// The model as the hub has it now; what is cached already is not fetched again.
    pub(super) fn fetch(&self, reference: &Reference) -> Result<PathBuf, ModelsError> {
        let repo = &reference.repo;
        let client = Client::new(self.settings.token.clone());
        let listing = self.listing(&client, repo)?;
        let names: Vec<String> = listing
            .siblings
            .iter()
            .map(|sibling| sibling.rfilename.clone())
            .collect();
        let choice = choose::choose(&names, reference.quant.as_deref()).map_err(|reason| {
            ModelsError::Repository {
                repo: repo.clone(),
                reason,
            }
        })?;
        let repository = Repository::new(&self.settings.cache, repo);
        let snapshot = repository.snapshot_of(&listing.sha);
        let mut siblings: Vec<&Sibling> = choice
            .files()
            .iter()
            .map(|&idx| &listing.siblings[idx])
            .collect();
        // The weights last: a snapshot that has them has everything.
        siblings.sort_by_key(|sibling| is_weights(&sibling.rfilename));
        for sibling in siblings {
            self.file(&client, &repository, &listing.sha, sibling)?;
        }
        repository.point_main_to(&listing.sha)?;
        Ok(match choice {
            Choice::Gguf(file_idx) => snapshot.join(&names[file_idx[0]]),
            Choice::Folder(_) => snapshot,
        })
    }

    /// Fetches a file that is known beforehand to `target`, outside of the hub's cache; gives its digest.
    pub(super) fn known_file(
        &self,
        repo: &str,
        file: &str,
        expected: &Expected,
        target: &Path,
    ) -> Result<String, ModelsError> {
        let url = format!("{}/{repo}/resolve/main/{file}", self.settings.endpoint);
        let client = Client::new(self.settings.token.clone());
        download(&client, &url, file, expected, target, self.report)
    }

    fn listing(&self, client: &Client, repo: &str) -> Result<Listing, ModelsError> {
        let url = format!(
            "{}/api/models/{repo}/revision/main?blobs=true",
            self.settings.endpoint
        );
        let listing: Listing =
            serde_json::from_str(&client.text(&url)?).map_err(|error| ModelsError::Http {
                url: url.clone(),
                reason: format!("not a listing: {error}"),
            })?;
        // What the server says becomes paths here.
        let is_sound = |sibling: &Sibling| {
            sibling.rfilename.split('/').all(|part| {
                !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0'])
            })
        };
        if !is_plain(&listing.sha) || !listing.siblings.iter().all(is_sound) {
            let reason = "the listing names files outside of the repository".to_owned();
            return Err(ModelsError::Http { url, reason });
        }
        Ok(listing)
    }

    /// Sees to it that a file's blob is there and sound, and that the snapshot links to it.
    fn file(
        &self,
        client: &Client,
        repository: &Repository,
        commit: &str,
        sibling: &Sibling,
    ) -> Result<(), ModelsError> {
        let name = &sibling.rfilename;
        let (etag, expected) = sibling.blob().ok_or_else(|| ModelsError::Repository {
            repo: repository.repo.clone(),
            reason: format!("does not say what {name} is"),
        })?;
        let (blob, key) = (repository.blob(etag), repository.key(etag));
        let _lock = Lock::take(&repository.lock(etag), name, self.report)?;
        let is_sound = blob.exists() && self.records.check(&key, &blob, &expected)?.is_none();
        if !is_sound {
            let url = format!(
                "{}/{}/resolve/{commit}/{name}",
                self.settings.endpoint, repository.repo
            );
            files::create_folder(&repository.blobs())?;
            let sha256 = download(client, &url, name, &expected, &blob, self.report)?;
            self.records.remember(&key, &blob, sha256);
        }
        repository.link(commit, name, etag)
    }
}

/// Fetches `url` to `target`; gives its digest. What an earlier attempt left may be damaged, so a download that went on
/// from it and does not fit is done once more from the start.
fn download(
    client: &Client,
    url: &str,
    what: &str,
    expected: &Expected,
    target: &Path,
    report: &dyn Report,
) -> Result<String, ModelsError> {
    let path = files::beside(target, ".incomplete");
    loop {
        let mut incomplete = Incomplete::open(path.clone())?;
        let was_resumed = incomplete.n_bytes() > 0;
        client.file(url, what, expected, &mut incomplete, report)?;
        match incomplete.finish(expected, target) {
            Err(ModelsError::Mismatch { .. }) if was_resumed => {
                report.note(&format!(
                    "{what}: the part fetched earlier does not fit, once more"
                ));
            }
            other => return other,
        }
    }
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".gguf") || name.ends_with(".safetensors")
}

/// Removes what the cache holds of a reference: one GGUF file if it names one, else the repository. Gives what was
/// removed and how many bytes that were.
pub(super) fn remove(
    settings: &Settings,
    records: &Records,
    reference: &Reference,
) -> Result<Vec<(PathBuf, u64)>, ModelsError> {
    let repository = Repository::new(&settings.cache, &reference.repo);
    let folder = repository.folder();
    if reference.quant.is_none() {
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let blobs = layout::blobs_of(&folder);
        for (etag, _) in &blobs {
            records.forget(&repository.key(etag));
        }
        fs::remove_dir_all(&folder).while_doing("remove", &folder)?;
        return Ok(vec![(folder, blobs.iter().map(|(_, size)| size).sum())]);
    }
    let Some(snapshot) = repository.snapshot() else {
        return Ok(Vec::new());
    };
    let names = layout::files_of(&snapshot);
    let Ok(Choice::Gguf(file_idx)) = choose::choose(&names, reference.quant.as_deref()) else {
        return Ok(Vec::new());
    };
    let path = snapshot.join(&names[file_idx[0]]);
    let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if let Some(etag) = layout::blob_name(&path) {
        records.forget(&repository.key(&etag));
        files::remove(&repository.blob(&etag))?;
    }
    files::remove(&path)?;
    Ok(vec![(path, size)])
}

/// Every model in the cache, by the name that gives it.
pub(super) fn list(settings: &Settings) -> Vec<Cached> {
    layout::list(&settings.cache)
}
