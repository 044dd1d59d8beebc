//! Model files: what is read, what is refused, what is written.

use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Tensor, TensorType};
use edgetune::onnx::{self, Error, Weights};

/// `y = relu(x · w + b)` with a weight that is large enough to go into a weights file.
fn small() -> Graph {
    let mut graph = Graph::new("small", 17);
    let w = graph.add_initializer("w", Tensor::from_f32(&[16, 32], &(0..512).map(|i| i as f32).collect::<Vec<_>>()));
    let b = graph.add_initializer("b", Tensor::from_f32(&[32], &[0.5; 32]));
    let build = Builder::new(graph, "");
    let x = build.input("x", TensorType::new(DType::Float, vec![Dim::Named("batch".into()), Dim::Fixed(16)]));
    let y = x.matmul(build.val(w)) + build.val(b);
    build.output("y", build.op("LeakyRelu", &[y], &[("alpha", Attr::Float(0.25))]));
    build.finish()
}

#[test]
fn embedded_and_external_weights_read_back_as_the_same_graph() {
    let graph = small();
    let folder = tempfile::tempdir().unwrap();
    let embedded = folder.path().join("embedded.onnx");
    let external = folder.path().join("external.onnx");
    let file = onnx::write_weights(&folder.path().join("weights.bin"), onnx::initializers(&graph)).unwrap();
    assert_eq!(file.tensors.keys().collect::<Vec<_>>(), ["w"], "b is too small to leave the model file");
    std::fs::write(&embedded, onnx::encode(&graph, &Weights::Embedded)).unwrap();
    std::fs::write(&external, onnx::encode(&graph, &Weights::External(&file))).unwrap();
    for path in [&embedded, &external] {
        let read = onnx::read(path).unwrap();
        assert_eq!(onnx::hash(&read.graph), onnx::hash(&graph));
        assert_eq!(read.graph.initializers.values().next().unwrap().shape, [16, 32]);
        assert_eq!(read.graph.nodes[2].op, "LeakyRelu");
        assert_eq!(read.graph.nodes[2].float("alpha", 0.0), 0.25);
        assert_eq!(read.graph.ty(read.graph.inputs[0]).unwrap().to_string(), "float[batch,16]");
    }
    assert_eq!(onnx::WeightsFile::reopen([external.as_path()]).unwrap(), Some(file));
    let error = onnx::read(&folder.path().join("weights.bin")).unwrap_err();
    assert!(matches!(error.fault(), Error::Decode { .. } | Error::Missing { .. }), "{error}");
}
