//! tiktoken's format.

use super::*;

#[test]
fn base64_as_rfc_4648_has_it() {
    for (encoded, plain) in [
        ("", ""),
        ("Zg==", "f"),
        ("Zm8=", "fo"),
        ("Zm9v", "foo"),
        ("Zm9vYg==", "foob"),
        ("Zm9vYmE=", "fooba"),
        ("Zm9vYmFy", "foobar"),
    ] {
        assert_eq!(
            decode(encoded.as_bytes()).as_deref(),
            Some(plain.as_bytes())
        );
    }
    for wrong in ["Zg", "Z===", "Zg==Zg==", "Zm 9", "===="] {
        assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn a_line_is_a_token_and_its_id() {
    assert_eq!(parse("IQ== 17"), Ok((b"!".to_vec(), 17)));
    for wrong in ["IQ==", "IQ== x", "IQ== 99999999", "I 1", "IQ== -1"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
