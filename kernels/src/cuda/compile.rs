//! Sources to cubins: NVRTC, and the folder where cubins are kept.
//!
//! A cubin's name is a hash of everything it is made from: source, options with the architecture, and NVRTC's version.

use std::ffi::{CStr, CString, c_char};
use std::fs;
use std::path::{Path, PathBuf};

use super::CudaError;
use super::library::{Compiler, Opaque, variable};
use crate::{BLOCK_LEN, BlockFormat, KvFormat};

/// The sources of one module: what all share, and its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    /// The kernels in it.
    pub(crate) kernels: &'static [&'static str],
}

const COMMON: &str = include_str!("../../cuda/common.cu");

/// Rows and pages.
pub(crate) const ROWWISE: Source = Source {
    name: "rowwise.cu",
    text: include_str!("../../cuda/rowwise.cu"),
    kernels: &[
        "round_rows",
        "norm_add",
        "scale",
        "softcap",
        "head_norm",
        "rope_angles",
        "rope",
        "copy_page",
        "select_rows",
        "gate_mul",
    ],
};

/// Products, and rows of weights.
pub(crate) const MATMUL: Source = Source {
    name: "matmul.cu",
    text: include_str!("../../cuda/matmul.cu"),
    kernels: &["narrow_8", "narrow_32", "wide", "gather"],
};

/// Choices of tokens.
pub(crate) const SAMPLING: Source = Source {
    name: "sampling.cu",
    text: include_str!("../../cuda/sampling.cu"),
    kernels: &["sample"],
};

/// Keys and values, and attention over them.
pub(crate) const ATTENTION: Source = Source {
    name: "attention.cu",
    text: include_str!("../../cuda/attention.cu"),
    kernels: &[
        "kv_scatter",
        "attention_whole",
        "attention_split",
        "attention_merge",
    ],
};

/// What activations and plain weights are rounded to before a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Element {
    /// Eight bits of mantissa, the range of f32.
    #[default]
    Bf16,
    /// Eleven bits; beyond 65,504 it saturates.
    F16,
}

/// The constants of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Constants {
    /// Of rows and of sampling.
    Rows(Element),
    /// Of products: blocks of a format, or elements.
    Weights(Option<BlockFormat>, Element),
    /// Of attention: elements of a head, and how keys and values are kept.
    Heads(usize, KvFormat),
}

impl Constants {
    /// What is defined for the preprocessor: `NAME` or `NAME=VALUE`.
    pub(crate) fn definitions(self) -> Vec<String> {
        let (mut definitions, element) = match self {
            Constants::Rows(element) => (Vec::new(), element),
            Constants::Weights(format, element) => {
                let (n_bits, offset, block_len, n_scales, has_minimum) = match format {
                    // As codes of sixteen bits, without scales.
                    None => (16, 0, BLOCK_LEN, 0, false),
                    Some(format) => {
                        let coding = format.coding();
                        let (n_scales, has_minimum) = (coding.n_scales, coding.has_minimum);
                        (
                            coding.n_bits,
                            coding.offset,
                            format.block_len(),
                            n_scales,
                            has_minimum,
                        )
                    }
                };
                let definitions = vec![
                    format!("CODE_BITS={n_bits}"),
                    format!("CODE_OFFSET={offset}"),
                    format!("BLOCK_LEN={block_len}"),
                    format!("BLOCK_SCALES={n_scales}"),
                    format!("HAS_MINIMUM={has_minimum}"),
                ];
                (definitions, element)
            }
            Constants::Heads(head_dim, kv_format) => {
                let mut definitions = vec![format!("HEAD_DIM={head_dim}")];
                definitions.extend(format_definition(kv_format).map(str::to_owned));
                let element = match kv_format {
                    KvFormat::F16 => Element::F16,
                    // Codes are bf16 on their way: scales reach farther than f16.
                    _ => Element::Bf16,
                };
                (definitions, element)
            }
        };
        if element == Element::F16 {
            definitions.push("ELEMENT_F16".into());
        }
        definitions
    }
}

/// What makes keys and values codes of a format.
fn format_definition(format: KvFormat) -> Option<&'static str> {
    match format {
        KvFormat::Plain | KvFormat::F16 | KvFormat::F32 => None,
        KvFormat::Int8 => Some("KV_INT8"),
        KvFormat::E4m3 => Some("KV_E4M3"),
    }
}

/// What a source is compiled for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// `sm_90`
    pub(crate) architecture: String,
    pub(crate) constants: Constants,
}

impl Target {
    pub(crate) fn options(&self) -> Vec<String> {
        let mut options = vec![
            format!("--gpu-architecture={}", self.architecture),
            "--std=c++17".into(),
            // A product and a sum are fused only where the source says so: the emulator then gives the same bits.
            "--fmad=false".into(),
            "--ptxas-options=-v".into(),
        ];
        let definitions = self.constants.definitions();
        options.extend(
            definitions
                .iter()
                .map(|definition| format!("-D{definition}")),
        );
        options
    }
}

/// A program that is destroyed when it is dropped.
struct Program<'a> {
    compiler: &'a Compiler,
    handle: Opaque,
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: `handle` is a program of this compiler, destroyed once. There is nothing to do about a failure.
        let _ = unsafe { (self.compiler.destroy)(&raw mut self.handle) };
    }
}

impl Program<'_> {
    /// A text or image whose length one function tells and another writes.
    fn bytes(
        &self,
        size: unsafe extern "C" fn(Opaque, *mut usize) -> i32,
        fetch: unsafe extern "C" fn(Opaque, *mut c_char) -> i32,
    ) -> Vec<u8> {
        let mut n_bytes = 0;
        // SAFETY: the program is alive and `n_bytes` is writable.
        if unsafe { size(self.handle, &raw mut n_bytes) } != 0 {
            return Vec::new();
        }
        let mut bytes = vec![0u8; n_bytes];
        // SAFETY: the program is alive, and `bytes` has the length it asked for.
        match unsafe { fetch(self.handle, bytes.as_mut_ptr().cast()) } {
            0 => bytes,
            _ => Vec::new(),
        }
    }

    fn log(&self) -> String {
        let bytes = self.bytes(self.compiler.log_size, self.compiler.log);
        String::from_utf8_lossy(&bytes)
            .trim_end_matches('\0')
            .to_owned()
    }
}

impl Compiler {
    /// Major and minor version.
    pub(crate) fn number(&self) -> Result<(i32, i32), CudaError> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both are writable.
        match unsafe { (self.version)(&raw mut major, &raw mut minor) } {
            0 => Ok((major, minor)),
            code => Err(failed("nvrtcVersion", code)),
        }
    }

    /// Compiles a source for a target: the cubin, and the registers and spills of each kernel in ptxas's words.
    pub(crate) fn compile_source(
        &self,
        source: Source,
        target: &Target,
    ) -> Result<(Vec<u8>, String), CudaError> {
        let text = c_string(&format!(
            "{COMMON}\n#line 1 \"{}\"\n{}",
            source.name, source.text
        ));
        let options: Vec<CString> = target.options().iter().map(|o| c_string(o)).collect();
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let name = c"common.cu";
        let mut handle = std::ptr::null_mut();
        // SAFETY: all strings end in a zero and outlive the program; there are no headers.
        let code = unsafe {
            (self.create)(
                &raw mut handle,
                text.as_ptr(),
                name.as_ptr(),
                0,
                std::ptr::null(),
                std::ptr::null(),
            )
        };
        if code != 0 {
            return Err(failed("nvrtcCreateProgram", code));
        }
        let program = Program {
            compiler: self,
            handle,
        };
        // SAFETY: as many option strings as it is told.
        let code = unsafe { (self.compile)(handle, pointers.len() as i32, pointers.as_ptr()) };
        let log = program.log();
        let cubin = program.bytes(self.cubin_size, self.cubin);
        if code != 0 || cubin.is_empty() {
            return Err(CudaError::Compile {
                source_name: source.name,
                architecture: target.architecture.clone(),
                log: first_complaint(&log, code),
            });
        }
        Ok((cubin, log))
    }

    /// The cubin of a source, from the cache folder if it is there. A cache that cannot be written is done without.
    pub(crate) fn cubin_of(
        &self,
        source: Source,
        target: &Target,
        cache: Option<&Path>,
    ) -> Result<Vec<u8>, CudaError> {
        let Some(cache) = cache else {
            return Ok(self.compile_source(source, target)?.0);
        };
        let path = cache.join(cache_name(source, target, self.number()?));
        if let Some(cubin) = read_cached(&path) {
            return Ok(cubin);
        }
        let (cubin, _) = self.compile_source(source, target)?;
        let _ = write_cached(&path, &cubin);
        Ok(cubin)
    }
}

fn failed(function: &'static str, code: i32) -> CudaError {
    CudaError::Call {
        function,
        name: "an NVRTC error".into(),
        code,
    }
}

fn first_complaint(log: &str, code: i32) -> String {
    let mut lines = log.lines().filter(|line| line.contains("error"));
    lines
        .next()
        .map_or_else(|| format!("error {code}"), str::to_owned)
}

fn c_string(text: &str) -> CString {
    CString::new(text).expect("sources and options hold no zero byte")
}

/// `$LMRUN_CACHE`, else `lmrun` in the user's cache; the cubins' own folder there.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let user = || {
        variable("XDG_CACHE_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
    };
    let cache = variable("LMRUN_CACHE").or_else(|| Some(user()?.join("lmrun")))?;
    Some(cache.join("cuda"))
}

/// The file's name says what a person looks for, and its hash all that it depends on.
fn cache_name(source: Source, target: &Target, compiler: (i32, i32)) -> String {
    let mut hash = Fnv::default();
    hash.add(COMMON.as_bytes());
    hash.add(source.text.as_bytes());
    for option in target.options() {
        hash.add(option.as_bytes());
    }
    hash.add(format!("{}.{}", compiler.0, compiler.1).as_bytes());
    let stem = source.name.trim_end_matches(".cu");
    format!("{stem}-{}-{:032x}.cubin", target.architecture, hash.0)
}

/// FNV-1a in 128 bits: the same from one build to the next, unlike the standard library's hashers.
struct Fnv(u128);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv {
    /// Adds a part and its end.
    fn add(&mut self, part: &[u8]) {
        for &byte in part.iter().chain(&part.len().to_le_bytes()) {
            self.0 =
                (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}

/// A cached cubin begins with the hash of what follows, so that a damaged file is no cubin.
fn read_cached(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(path).ok()?;
    let (sum, cubin) = bytes.split_first_chunk::<16>()?;
    (u128::from_le_bytes(*sum) == checksum(cubin)).then(|| cubin.to_vec())
}

/// Writes beside the place and renames, so that a reader never sees half a file.
fn write_cached(path: &Path, cubin: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension(format!("{}", std::process::id()));
    let sum = checksum(cubin).to_le_bytes();
    fs::write(&draft, [&sum[..], cubin].concat())?;
    fs::rename(&draft, path)
}

fn checksum(cubin: &[u8]) -> u128 {
    let mut hash = Fnv::default();
    hash.add(cubin);
    hash.0
}

/// A C string of a kernel's name.
pub(crate) fn kernel_name(name: &str) -> CString {
    c_string(name)
}

/// A name that CUDA wrote into a buffer.
pub(crate) fn text_of(buffer: &[u8]) -> String {
    CStr::from_bytes_until_nul(buffer).map_or_else(
        |_| String::new(),
        |text| text.to_string_lossy().into_owned(),
    )
}
