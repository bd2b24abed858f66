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
    // 256 bytes a head: eight pages and a half.
    assert_eq!(n_pages(KvFormat::F32), 9);
    assert_eq!(n_pages(KvFormat::Int8), 32);
    assert_eq!(n_pages(KvFormat::E4m3), 32);
}
