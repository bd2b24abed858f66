//! Percentiles against a count by hand.

use super::*;

fn of(samples: impl IntoIterator<Item = u64>) -> Option<Percentiles> {
    let mut timings = Timings::default();
    samples
        .into_iter()
        .for_each(|micros| timings.push(Duration::from_micros(micros)));
    timings.percentiles()
}

#[test]
fn percentiles_are_nearest_ranks() {
    let expected = Percentiles {
        n: 1000,
        p50: 500.0,
        p95: 950.0,
        p99: 990.0,
        p999: 999.0,
        max: 1000.0,
        mean: 500.5,
    };
    assert_eq!(of((1..=1000).rev()), Some(expected));
}

#[test]
fn few_samples_have_percentiles_too() {
    assert_eq!(of([]), None);
    let one = of([7]).expect("a sample");
    assert_eq!((one.p50, one.p999, one.max, one.mean), (7.0, 7.0, 7.0, 7.0));
    let three = of([1, 2, 9]).expect("samples");
    assert_eq!((three.p50, three.p95, three.mean), (2.0, 9.0, 4.0));
}

#[test]
fn json_keeps_nanoseconds() {
    let mut timings = Timings::default();
    timings.push(Duration::from_nanos(1_234));
    let json = timings.percentiles().expect("a sample").to_json();
    assert_eq!(json["p50"], json!(1.234));
}
