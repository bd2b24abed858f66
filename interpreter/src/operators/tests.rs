//! Tests of operators.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "literals read better")]
fn eval(op: BinaryOp, left: Value, right: Value) -> Answer {
    binary(op, &left, &right)
}

#[test]
fn whole_numbers_stay_whole_and_never_wrap() {
    assert_eq!(eval(BinaryOp::Add, json!(2), json!(3)), Ok(json!(5)));
    assert_eq!(
        eval(BinaryOp::Multiply, json!(2), json!(1.5)),
        Ok(json!(3.0))
    );
    assert_eq!(eval(BinaryOp::Divide, json!(7), json!(2)), Ok(json!(3.5)));
    assert_eq!(eval(BinaryOp::Remainder, json!(-7), json!(3)), Ok(json!(2)));
    for op in [BinaryOp::Add, BinaryOp::Multiply] {
        assert!(
            eval(op, json!(i64::MAX), json!(2))
                .unwrap_err()
                .contains("range of an int")
        );
    }
    assert!(eval(BinaryOp::Remainder, json!(i64::MIN), json!(-1)).is_err());
    assert!(negate(&json!(i64::MIN)).is_err());
    assert!(
        eval(BinaryOp::Multiply, json!(1e200), json!(1e200))
            .unwrap_err()
            .contains("finite")
    );
    assert!(eval(BinaryOp::Divide, json!(1), json!(0.0)).is_err());
    assert!(eval(BinaryOp::Remainder, json!(1.5), json!(0)).is_err());
}

#[test]
fn strings_and_lists_join() {
    assert_eq!(eval(BinaryOp::Add, json!("a"), json!("b")), Ok(json!("ab")));
    assert_eq!(
        eval(BinaryOp::Add, json!([1]), json!(["b"])),
        Ok(json!([1, "b"]))
    );
    let error = eval(BinaryOp::Add, json!("a"), json!(1)).unwrap_err();
    assert_eq!(error, "`+` does not apply to a string and an int");
}

#[test]
fn equality_is_by_value() {
    assert_eq!(eval(BinaryOp::Equal, json!(1), json!(1.0)), Ok(json!(true)));
    assert_eq!(
        eval(
            BinaryOp::Equal,
            json!({"a": 1, "b": 2}),
            json!({"b": 2.0, "a": 1})
        ),
        Ok(json!(true))
    );
    assert_eq!(
        eval(BinaryOp::NotEqual, json!("1"), json!(1)),
        Ok(json!(true))
    );
    let large = i64::MAX;
    assert_eq!(
        eval(BinaryOp::Equal, json!(large), json!(large - 1)),
        Ok(json!(false))
    );
}

#[test]
fn membership() {
    assert_eq!(
        eval(BinaryOp::In, json!(1), json!([2, 1.0])),
        Ok(json!(true))
    );
    assert_eq!(
        eval(BinaryOp::In, json!("b"), json!("abc")),
        Ok(json!(true))
    );
    assert_eq!(
        eval(BinaryOp::In, json!("b"), json!({"a": 1})),
        Ok(json!(false))
    );
    assert!(eval(BinaryOp::In, json!(1), json!("1")).is_err());
}

#[test]
fn indices_count_from_either_end() {
    let list = json!([10, 20, 30]);
    assert_eq!(index(&list, &json!(0)), Ok(json!(10)));
    assert_eq!(index(&list, &json!(-1)), Ok(json!(30)));
    for outside in [json!(3), json!(-4), json!(i64::MIN), json!(i64::MAX)] {
        assert!(
            index(&list, &outside)
                .unwrap_err()
                .contains("outside a list of 3")
        );
    }
    assert!(index(&list, &json!(1.0)).is_err());
    assert_eq!(index(&json!("aé"), &json!(1)), Ok(json!("é")));
    assert_eq!(index(&json!({"k": 1}), &json!("k")), Ok(json!(1)));
    assert!(index(&json!({"k": 1}), &json!("x")).is_err());
}

proptest! {
    #[test]
    fn int_arithmetic_agrees_with_wide_arithmetic(a: i64, b: i64) {
        for (op, wide) in [
            (BinaryOp::Add, i128::from(a) + i128::from(b)),
            (BinaryOp::Subtract, i128::from(a) - i128::from(b)),
            (BinaryOp::Multiply, i128::from(a) * i128::from(b)),
        ] {
            let expected = i64::try_from(wide).ok().map(Value::from);
            prop_assert_eq!(binary(op, &json!(a), &json!(b)).ok(), expected);
        }
    }

    #[test]
    fn no_operator_panics(a in any_value(), b in any_value()) {
        use BinaryOp::*;
        for op in [Add, Subtract, Multiply, Divide, Remainder, Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual, In] {
            let _ = binary(op, &a, &b);
        }
        let _ = (index(&a, &b), negate(&a), not(&a));
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(".{0,2}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
