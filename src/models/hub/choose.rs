//! Which files of a repository make the model: one GGUF file, or a folder of safetensors with its configuration.

/// The quantisations taken when none is named, best first.
const PREFERRED: &[&str] = &[
    "Q4_K_M", "Q4_1", "Q4_0", "Q5_K_M", "Q8_0", "Q6_K", "Q4_K_S", "Q5_0", "F16", "BF16", "F32",
];

/// What a folder of safetensors needs beside its weights.
const REQUIRED: &[&str] = &["config.json", "tokenizer.json"];

/// What is taken along if it is there.
const WANTED: &[&str] = &[
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
];

/// The files of a model, as indices into the names given.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// One GGUF file.
    Gguf([usize; 1]),
    /// The files of a folder.
    Folder(Vec<usize>),
}

impl Choice {
    pub(super) fn files(&self) -> &[usize] {
        match self {
            Self::Gguf(file) => file,
            Self::Folder(files) => files,
        }
    }
}

/// Chooses among the files of a repository. `quant` is a quantisation or a GGUF file's whole name.
///
/// # Errors
/// What the repository lacks and what it has, to be read after its name.
pub(super) fn choose(names: &[String], quant: Option<&str>) -> Result<Choice, String> {
    let mut ggufs: Vec<usize> = (0..names.len())
        .filter(|&idx| is_model_gguf(&names[idx]))
        .collect();
    // Of equal candidates the one nearest to the root, then the first by name.
    ggufs.sort_by_key(|&idx| (names[idx].matches('/').count(), &names[idx]));
    let find = |quant: &str| {
        ggufs
            .iter()
            .copied()
            .find(|&idx| is_quant(&names[idx], quant))
    };
    let chosen = match (quant, ggufs.as_slice()) {
        (Some(quant), _) => Some(find(quant).ok_or_else(|| no_quant(names, &ggufs, quant))?),
        (None, []) => None,
        (None, [only]) => Some(*only),
        (None, several) => Some(
            PREFERRED
                .iter()
                .find_map(|quant| find(quant))
                .unwrap_or(several[0]),
        ),
    };
    let Some(chosen) = chosen else {
        return folder(names);
    };
    if is_shard(&names[chosen]) {
        return Err(format!(
            "has {} in several parts, which is not supported",
            names[chosen]
        ));
    }
    Ok(Choice::Gguf([chosen]))
}

fn no_quant(names: &[String], ggufs: &[usize], quant: &str) -> String {
    let known: Vec<&str> = ggufs.iter().map(|&idx| names[idx].as_str()).collect();
    if known.is_empty() {
        format!("has no GGUF file, so no {quant}")
    } else {
        format!("has no GGUF file of {quant}, it has {}", known.join(", "))
    }
}

fn folder(names: &[String]) -> Result<Choice, String> {
    let find = |wanted: &str| names.iter().position(|name| name == wanted);
    let weights: Vec<usize> = match find("model.safetensors") {
        Some(whole) => vec![whole],
        None => (0..names.len())
            .filter(|&idx| names[idx].ends_with(".safetensors") && is_shard(&names[idx]))
            .filter(|&idx| !names[idx].contains('/'))
            .collect(),
    };
    if weights.is_empty() {
        return Err("has neither a GGUF file nor model.safetensors".to_owned());
    }
    let mut files = Vec::new();
    for name in REQUIRED {
        files.push(find(name).ok_or_else(|| format!("has weights but no {name}"))?);
    }
    files.extend(WANTED.iter().filter_map(|name| find(name)));
    files.extend(weights);
    Ok(Choice::Folder(files))
}

/// Whether a file holds a language model, and not what feeds images into one or steers its quantisation.
fn is_model_gguf(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".gguf") && !name.contains("mmproj") && !name.contains("imatrix")
}

/// Whether a GGUF file is of a quantisation: its name ends with it, after a separator.
fn is_quant(name: &str, quant: &str) -> bool {
    if name == quant {
        return true;
    }
    let (name, quant) = (name.to_ascii_lowercase(), quant.to_ascii_lowercase());
    let stem = name.trim_end_matches(".gguf");
    let stem = if is_shard(&name) {
        &stem[..stem.len() - SHARD.len()]
    } else {
        stem
    };
    stem.strip_suffix(&quant)
        .is_some_and(|before| before.is_empty() || before.ends_with(['-', '.', '_', '/']))
}

/// The form of what a part's number adds to a name.
const SHARD: &str = "-00001-of-00002";

/// Whether a file is one of several parts: `-00001-of-00002` at the end of its stem.
fn is_shard(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let Some(start) = stem.len().checked_sub(SHARD.len()) else {
        return false;
    };
    stem.as_bytes()[start..]
        .iter()
        .zip(SHARD.bytes())
        .all(|(byte, form)| match form {
            b'0'..=b'9' => byte.is_ascii_digit(),
            _ => *byte == form,
        })
}

#[cfg(test)]
mod tests;
