use super::parse_module;
use crate::interpret::{Binding, run_entry};
use crate::tensor::Tensor;
use crate::types::DType;
use crate::verify::verify;

const MODULE: &str = r#"entry forward(%ids: i32[b,s], %past: i32[b]) state("layers.{i}.key": 2 x f32[b,2,c,4]) -> (logits, keys) {
  %0 = param "embed.weight" : f32[5,8]
  %1 = gather %0, %ids axis=0 : f32[b,s,8]
  %2 = repeat count=2 index="i" carried=1 (%x = %1, %past = %past) {
    %0 = norm %x kind=rms eps=1e-6 : f32[b,s,8]
    %1 = param "layers.{i}.k.weight" : f32[8,8]
    %2 = dot %0, %1 contract=[(2,1)] : f32[b,s,8]
    %3 = reshape %2 to=[b,s,2,4] : f32[b,s,2,4]
    %4 = transpose %3 axes=[0,2,1,3] : f32[b,2,s,4]
    %5 = state_update %4, %past state="layers.{i}.key" axis=2 : f32[b,2,c,4]
    %6 = reshape %4 to=[b,2,1,s,4] : f32[b,2,1,s,4]
    %7 = attention %6, %5, %5, %past scale=0.5 causal=true past=true : f32[b,2,1,s,4]
    %8 = transpose %7 axes=[0,3,1,2,4] : f32[b,s,2,1,4]
    %9 = reshape %8 to=[b,s,8] : f32[b,s,8]
    %10 = add %x, %9 : f32[b,s,8]
    yield %10
  } : f32[b,s,8]
  %3 = extent of=2*s+1 : i32[]
  %4 = slice %2 axis=1 start=s-1 end=s : f32[b,1,8]
  return %4, %3
}
"#;

#[test]
fn text_round_trips_and_verifies() {
    let module = parse_module(MODULE).unwrap();
    verify(&module).unwrap();
    assert_eq!(module.to_string(), MODULE);
}

#[test]
fn cached_steps_equal_one_pass() {
    let module = parse_module(MODULE).unwrap();
    let params = |name: &str| {
        let shape = if name.starts_with("embed") { [5, 8] } else { [8, 8] };
        let seed = name.len() + name.bytes().map(usize::from).sum::<usize>();
        Some(Tensor::from_fn(DType::F32, &shape, |i| ((i[0] * 7 + i[1] * 3 + seed) as f64).sin()))
    };
    let binding = Binding::from([("c".to_owned(), 6)]);
    let ids = Tensor::new(DType::I32, vec![1, 3], vec![0.0, 4.0, 2.0]);
    let whole = run(&module, &ids, 0.0, &binding, &params, &mut Default::default());
    let mut states = Default::default();
    let mut last = None;
    for (t, id) in [0.0, 4.0, 2.0].into_iter().enumerate() {
        let ids = Tensor::new(DType::I32, vec![1, 1], vec![id]);
        last = Some(run(&module, &ids, t as f64, &binding, &params, &mut states));
    }
    assert_eq!(last.unwrap(), whole);
}

fn run(
    module: &crate::Module,
    ids: &Tensor,
    past: f64,
    binding: &Binding,
    params: &crate::interpret::Params<'_>,
    states: &mut std::collections::HashMap<String, Tensor>,
) -> Tensor {
    let past = Tensor::new(DType::I32, vec![1], vec![past]);
    run_entry(&module.entries[0], &[ids.clone(), past], binding, params, states).unwrap().swap_remove(0)
}

#[test]
fn windows_see_each_position() {
    let text = "entry f(%x: f32[2,n]) -> (y) {\n  %0 = window %x axis=1 taps=3 stride=2 dilation=2 : f32[2,((n-5)/2)+1,3]\n  return %0\n}\n";
    let module = parse_module(text).unwrap();
    verify(&module).unwrap();
    assert_eq!(module.to_string(), text);
    let x = Tensor::from_fn(DType::F32, &[2, 8], |i| (10 * i[0] + i[1]) as f64);
    let run = |x: Tensor| run_entry(&module.entries[0], &[x], &Binding::new(), &|_| None, &mut Default::default());
    let seen = run(x).unwrap().swap_remove(0);
    assert_eq!(seen.shape, [2, 2, 3]);
    assert_eq!(seen.data, [0.0, 2.0, 4.0, 2.0, 4.0, 6.0, 10.0, 12.0, 14.0, 12.0, 14.0, 16.0]);
    assert!(run(Tensor::from_fn(DType::F32, &[2, 2], |_| 0.0)).is_err());
    let wide = text.replace("%x: f32[2,n]", "%x: f32[2,4]");
    assert!(parse_module(&wide).unwrap_err().to_string().contains("3 taps do not fit"));
}

#[test]
fn errors_name_the_place() {
    for (text, expected) in [
        ("entry f(%x: f32[s]) -> (y) {\n  %0 = silu %z : f32[s]\n  return %0\n}", "line 2, column 15: `%z`"),
        ("entry f(%x: f32[s]) -> (y) {\n  %0 = frob %x : f32[s]\n  return %0\n}", "`frob` is not an op"),
        ("entry f(%x: f32[s]) -> (y) {\n  %0 = silu %x : f32[t]\n  return %0\n}", "has type f32[s], declared f32[t]"),
        ("entry f(%x: f32[s], %y: f32[t]) -> (z) {\n  %0 = add %x, %y : f32[s]\n  return %0\n}", "do not broadcast"),
        ("entry f(", "expected `%`"),
    ] {
        let error = parse_module(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn any_prefix_of_a_module_is_an_error_and_not_a_panic() {
    for end in 1..MODULE.len() - 1 {
        assert!(parse_module(&MODULE[..end]).is_err(), "{end}");
    }
}
