//! What an engine makes of its options.

use lmrun_kernels::KvFormat;

use super::*;
use crate::tests::config;

/// Two layers of three heads of 64: a token's keys and values are 12 heads of 128 bytes, or of 64 and a scale of 4.
#[test]
fn a_pool_holds_as_many_tokens_as_their_format_lets_it() {
    let mut config = config();
    config.layers = vec![config.layers[0]; 2];
    (config.n_kv_heads, config.head_dim) = (3, 64);
    let n_pages = |kv_format| {
        let options = EngineOptions {
            kv_format,
            ..EngineOptions::default()
        };
        decoder_options(&config, &options, 12 * 128 * 16 * 17).n_pages
    };
    assert_eq!(n_pages(KvFormat::Plain), 17);
    assert_eq!(n_pages(KvFormat::Int8), 32);
    assert_eq!(n_pages(KvFormat::E4m3), 32);
}

#[test]
fn a_cpu_keeps_keys_and_values_plainly() {
    let open = |kv_format| crate::DeviceChoice::Cpu.open(kv_format);
    assert!(matches!(open(KvFormat::Plain), Ok(None)));
    for kv_format in [KvFormat::Int8, KvFormat::E4m3] {
        let Err(error) = open(kv_format) else {
            panic!("{kv_format:?} on the CPU");
        };
        assert!(error.to_string().contains("need a GPU"), "{error}");
    }
}
