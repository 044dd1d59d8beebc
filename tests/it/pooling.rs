//! The mean that an appended head reads, against the mean by hand.

use crate::engine::runtime;
use edgetune::adapter::{self, Request};
use edgetune::engine::{Optimisation, Options, Session};
use edgetune::graph::{Builder, DType, Dim, Graph, Tensor, TensorType};

fn named(name: &str) -> Dim {
    Dim::Named(name.into())
}

/// A model whose output is its input, after a node that an exporter could have written.
fn identity(inputs: &[(&str, DType, Vec<Dim>)]) -> Graph {
    let builder = Builder::new(Graph::new("identity", 17), "");
    let mut values =
        inputs.iter().map(|(name, dtype, shape)| builder.input(name, TensorType::new(*dtype, shape.clone())));
    let value = values.next().unwrap();
    values.for_each(drop);
    builder.output("hidden", value.unary("Identity"));
    let mut graph = builder.finish();
    let output = graph.outputs[0];
    graph.values[output.index()].ty = graph.ty(graph.inputs[0]).cloned();
    graph
}

/// What a head of the identity reads: the pooled features.
fn pooled(graph: &Graph, features: u64, given: &[(&str, Tensor)]) -> Vec<f32> {
    runtime();
    let request = Request { width: Some(features), ..Request::default() };
    let mut adapted = adapter::install(graph.clone(), &request).unwrap_or_else(|error| panic!("{error}"));
    let eye: Vec<f32> = (0..features * features).map(|i| f32::from(i % (features + 1) == 0)).collect();
    let weight = adapted.graph.find("edgetune.head.weight").unwrap();
    adapted.graph.initializers.insert(weight, Tensor::from_f32(&[features, features], &eye));
    adapted.graph.outputs = vec![adapted.output];
    let options = Options { optimisation: Optimisation::Off, ..Options::default() };
    let mut session = Session::from_graph(&adapted.graph, &options).unwrap_or_else(|error| panic!("{error}"));
    let given: Vec<(&str, &Tensor)> = given.iter().map(|(name, tensor)| (*name, tensor)).collect();
    session.run(&given).unwrap_or_else(|error| panic!("{error}")).remove(0).to_f32().unwrap()
}

#[test]
fn an_open_dimension_is_averaged_at_run_time() {
    let graph = identity(&[("x", DType::Float, vec![named("n"), Dim::Fixed(1), named("time"), Dim::Fixed(2)])]);
    for time in [1u64, 3, 50] {
        let values: Vec<f32> = (0..2 * time * 2).map(|i| (i % 7) as f32).collect();
        let mean = |sample: u64, feature: u64| {
            let of = |t: u64| values[((sample * time + t) * 2 + feature) as usize];
            (0..time).map(of).sum::<f32>() / time as f32
        };
        let expected: Vec<f32> = (0..4).map(|i| mean(i / 2, i % 2)).collect();
        let found = pooled(&graph, 2, &[("x", Tensor::from_f32(&[2, 1, time, 2], &values))]);
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}, not {expected:?}");
    }
}

#[test]
fn channels_come_first_where_there_is_space_behind_them() {
    let graph = identity(&[("x", DType::Float, vec![named("n"), Dim::Fixed(2), named("h"), named("w")])]);
    let x = Tensor::from_f32(&[1, 2, 2, 1], &[1.0, 3.0, 10.0, 20.0]);
    assert_eq!(pooled(&graph, 2, &[("x", x)]), [2.0, 15.0]);
}

#[test]
fn tokens_that_are_padding_do_not_count() {
    let hidden = vec![named("n"), named("sequence"), Dim::Fixed(2)];
    let mask = vec![named("n"), named("sequence")];
    let graph = identity(&[("hidden_in", DType::Float, hidden), ("attention_mask", DType::Int64, mask)]);
    let hidden = Tensor::from_f32(&[3, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 99.0, -99.0, 7.0, 7.0, 7.0, 7.0]);
    let mask = Tensor::from_i64(&[3, 2], &[1, 1, 1, 0, 0, 0]);
    let found = pooled(&graph, 2, &[("hidden_in", hidden), ("attention_mask", mask)]);
    assert_eq!(found, [2.0, 3.0, 5.0, 6.0, 0.0, 0.0], "both tokens, the first alone, none at all");
}

#[test]
fn a_fixed_space_is_averaged_by_a_constant() {
    let graph = identity(&[("x", DType::Float, vec![named("n"), Dim::Fixed(2), Dim::Fixed(2), Dim::Fixed(1)])]);
    let x = Tensor::from_f32(&[1, 2, 2, 1], &[1.0, 3.0, 10.0, 20.0]);
    assert_eq!(pooled(&graph, 2, &[("x", x)]), [2.0, 15.0]);
}
