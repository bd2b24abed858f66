//! Text and stops, cut into tokens in every way.

use proptest::prelude::*;

use super::*;

/// Pushes pieces until a stop; returns text, stop and the number of tokens kept.
fn run(stops: &[&str], pieces: &[&[u8]]) -> (String, Option<String>, usize) {
    let mut output = Output::new(stops.iter().map(|&stop| stop.to_owned()).collect());
    let mut text = String::new();
    for (piece_idx, piece) in pieces.iter().enumerate() {
        let pushed = output.push(piece_idx as TokenId, piece);
        text += &pushed.text;
        if pushed.stop.is_some() {
            assert_eq!(output.finish(), "", "nothing is held back after a stop");
            return (text, pushed.stop, output.tokens().len());
        }
    }
    text += &output.finish();
    (text, None, output.tokens().len())
}

#[test]
fn text_that_may_become_a_stop_is_held_back() {
    let mut output = Output::new(vec!["END".into()]);
    assert_eq!(output.push(0, b"some E").text, "some ");
    assert_eq!(output.push(1, b"N").text, "");
    assert_eq!(output.push(2, b"emy E").text, "ENemy ");
    let pushed = output.push(3, b"ND of it");
    assert_eq!(
        (pushed.text.as_str(), pushed.stop.as_deref()),
        ("", Some("END"))
    );
}

#[test]
fn tokens_wholly_within_the_stop_are_dropped() {
    assert_eq!(
        run(&["STOP"], &[b"ab", b"cST", b"OP", b"x"]),
        ("abc".into(), Some("STOP".into()), 2)
    );
    assert_eq!(
        run(&["STOP"], &[b"ab", b"ST", b"OPx"]),
        ("ab".into(), Some("STOP".into()), 1)
    );
    assert_eq!(
        run(&["STOP"], &[b"STOP"]),
        (String::new(), Some("STOP".into()), 0)
    );
    assert_eq!(
        run(&["STOP"], &[b"ab", b"", b"STOP"]).2,
        1,
        "a special token before the stop"
    );
}

#[test]
fn the_first_stop_wins_and_the_longest_of_those() {
    assert_eq!(
        run(&["bc", "abc"], &[b"xabcx"]),
        ("x".into(), Some("abc".into()), 1)
    );
    assert_eq!(
        run(&["a", "ab"], &[b"xab"]),
        ("x".into(), Some("ab".into()), 1)
    );
    assert_eq!(
        run(&["aab"], &[b"a", b"a", b"a", b"b"]),
        ("a".into(), Some("aab".into()), 1)
    );
}

#[test]
fn characters_come_whole() {
    let mut output = Output::new(Vec::new());
    let [a, b, c] = *"€".as_bytes() else {
        panic!("three bytes")
    };
    assert_eq!(output.push(0, &[b'x', a]).text, "x");
    assert_eq!(output.push(1, &[b]).text, "");
    assert_eq!(output.push(2, &[c, 0xff, b'y', a]).text, "€\u{fffd}y");
    assert_eq!(output.push(3, b"z").text, "\u{fffd}z");
    assert_eq!(output.push(4, &[a]).text, "");
    assert_eq!(output.finish(), "\u{fffd}");
    assert_eq!(output.finish(), "");
}

proptest! {
    /// However bytes are cut into tokens, the text is that of the bytes up to the first stop.
    #[test]
    fn cuts_do_not_matter(
        text in "[ab€é]{0,30}",
        stops in prop::collection::vec("[ab€é]{1,4}", 0..3),
        cuts in prop::collection::vec(1usize..5, 40),
    ) {
        let mut rest = text.as_bytes();
        let mut pieces = Vec::new();
        for cut in cuts {
            let (piece, others) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = others;
        }
        pieces.push(rest);
        let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
        let (given, stop, n_tokens) = run(&stops, &pieces);
        // A stop that is found early may hide one that begins earlier and ends later: the text up to either is a
        // prefix of the whole, and no stop lies wholly within it.
        prop_assert!(text.starts_with(&given));
        prop_assert!(stops.iter().all(|stop| !given.contains(stop)));
        match stop {
            Some(stop) => {
                prop_assert!(text[given.len()..].starts_with(&stop));
                let kept: usize = pieces[..n_tokens].iter().map(|piece| piece.len()).sum();
                prop_assert!(kept >= given.len() && n_tokens <= pieces.len());
            }
            None => prop_assert_eq!(given, text),
        }
    }
}
