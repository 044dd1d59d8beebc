//! A language model's loss in slices: the same loss and the same gradients as of all tokens at once.

use edgetune::adapter::Parameter;
use edgetune::data::IGNORED;
use edgetune::engine::{self, Options, Session};
use edgetune::graph::{Builder, DType, Dim, Graph, Tensor, TensorType};
use edgetune::train::loss::Loss;
use edgetune::train::slices::{self, WithLoss};
use edgetune::train::step::{self, Again, LABELS};

const WIDTH: u64 = 8;
const VOCABULARY: u64 = 1024;
const RANK: u64 = 3;

/// A layer, an output layer, and LoRA beside both. With `mixes`, the logits of a token depend on those of others.
fn tail(mixes: bool) -> (Graph, Vec<Parameter>) {
    crate::engine::runtime();
    let b = Builder::new(Graph::new("tail", 17), "forward/");
    let mut random = fastrand::Rng::with_seed(11);
    let mut values =
        |shape: [u64; 2]| -> Vec<f32> { (0..shape.iter().product()).map(|_| random.f32() - 0.5).collect() };
    let dims = |shape: [u64; 2]| shape.iter().map(|size| Dim::Fixed(*size)).collect::<Vec<_>>();
    let rows = [Dim::Named("batch".into()), Dim::Named("sequence".into()), Dim::Fixed(WIDTH)];
    let x = b.input("x", TensorType::new(DType::Float, rows.to_vec()));
    let (shapes, names) =
        ([[WIDTH, RANK], [RANK, WIDTH], [WIDTH, RANK], [RANK, VOCABULARY]], ["a", "b", "head_a", "head_b"]);
    let learned: Vec<_> = shapes
        .iter()
        .zip(names)
        .map(|(shape, name)| b.input(name, TensorType::new(DType::Float, dims(*shape))))
        .collect();
    let weight = b.constant(Tensor::from_f32(&[WIDTH, WIDTH], &values([WIDTH, WIDTH])));
    let head = b.constant(Tensor::from_f32(&[WIDTH, VOCABULARY], &values([WIDTH, VOCABULARY])));
    let hidden = (x.matmul(weight) + x.matmul(learned[0]).matmul(learned[1]) * 2.0).tanh();
    let mut logits = hidden.matmul(head) + hidden.matmul(learned[2]).matmul(learned[3]) * 0.5;
    logits = (logits / 3.0).tanh() * 3.0;
    if mixes {
        logits = logits - logits.reduce_sum(&[1], true);
    }
    b.output("logits", logits);
    let mut graph = b.finish();
    engine::infer_types(&mut graph).unwrap();
    let parameter = |(shape, name): (&[u64; 2], &str)| Parameter {
        id: graph.find(name).unwrap(),
        name: name.into(),
        shape: shape.to_vec(),
        initial: values(*shape),
        fresh: false,
    };
    let parameters = shapes.iter().zip(names).map(parameter).collect();
    (graph, parameters)
}

fn labels_type() -> TensorType {
    TensorType::new(DType::Int64, vec![Dim::Named("batch".into()), Dim::Named("sequence".into())])
}

fn sliced(graph: &Graph, parameters: &[Parameter], rows: u64) -> Option<WithLoss> {
    let learned: Vec<_> = parameters.iter().map(|parameter| parameter.id).collect();
    slices::with_loss(graph, &Loss::NextToken, &learned, labels_type(), rows)
}

/// The step graph; its outputs are the loss, the gradients, and one that nobody wants.
fn step(mut with_loss: WithLoss, parameters: &[Parameter]) -> Graph {
    engine::infer_types(&mut with_loss.graph).unwrap();
    let mut graph = step::with_gradients(with_loss, parameters, Again::Cheap).unwrap();
    graph.outputs.pop();
    graph
}

fn run(graph: &Graph, parameters: &[Parameter], batch: u64, sequence: u64, ignored: bool) -> Vec<Vec<f32>> {
    let mut random = fastrand::Rng::with_seed(batch * 100 + sequence);
    let x: Vec<f32> = (0..batch * sequence * WIDTH).map(|_| random.f32() * 2.0 - 1.0).collect();
    let label = |at: u64| if ignored || at % 3 == 1 { IGNORED } else { random.i64(0..VOCABULARY as i64) };
    let labels: Vec<i64> = (0..batch * sequence).map(label).collect();
    let mut fed = vec![
        ("x".to_string(), Tensor::from_f32(&[batch, sequence, WIDTH], &x)),
        (LABELS.to_string(), Tensor::from_i64(&[batch, sequence], &labels)),
    ];
    fed.extend(parameters.iter().map(|p| (p.name.clone(), Tensor::from_f32(&p.shape, &p.initial))));
    let fed: Vec<(&str, &Tensor)> = fed.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let options = Options { threads: 1, ..Options::default() };
    let given = Session::from_graph(graph, &options).unwrap().run(&fed).unwrap();
    given.iter().map(|tensor| tensor.to_f32().unwrap()).collect()
}

#[test]
fn slices_give_the_loss_and_the_gradients_of_the_whole() {
    let (graph, parameters) = tail(false);
    let whole = WithLoss {
        graph: step::with_loss(&graph, (&Loss::NextToken, None), VOCABULARY).unwrap(),
        gradients: Vec::new(),
    };
    let whole = step(whole, &parameters);
    for rows in [1, 3, 7, 100] {
        let sliced = step(sliced(&graph, &parameters, rows).expect("each token alone"), &parameters);
        assert!(sliced.nodes.iter().all(|node| node.op != "LogSoftmax"), "the logits of all tokens are nowhere");
        for (batch, sequence, ignored) in [(1, 1, false), (1, 7, false), (3, 5, false), (2, 11, false), (2, 4, true)] {
            let expected = run(&whole, &parameters, batch, sequence, ignored);
            let found = run(&sliced, &parameters, batch, sequence, ignored);
            for (expected, found) in expected.iter().zip(&found) {
                let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
                assert_eq!(expected.len(), found.len());
                for (one, other) in expected.iter().zip(found) {
                    let apart = (one - other).abs();
                    assert!(apart <= 2e-6 * largest.max(1e-3), "{rows} rows, {batch} × {sequence}: {one}, {other}");
                }
            }
        }
    }
}

#[test]
fn logits_that_depend_on_other_tokens_are_not_made_in_slices() {
    let (graph, parameters) = tail(true);
    assert!(sliced(&graph, &parameters, 7).is_none());
    let (graph, parameters) = tail(false);
    let learned: Vec<_> = parameters.iter().map(|parameter| parameter.id).collect();
    let loss = Loss::TokenCrossEntropy { class_weights: None };
    assert!(slices::with_loss(&graph, &loss, &learned, labels_type(), 7).is_none());
}
