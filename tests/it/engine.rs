//! The engine: sessions over stock ONNX Runtime, buffers in place, inferred types, and what is refused.

use edgetune::engine::{
    self, Bound, Error, Library, LibraryChoice, Optimisation, Options, Origin, Provider, Session, Step,
};
use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Node, Tensor, TensorType, Val};
use edgetune::onnx;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// ONNX Runtime for this process: the device's, or one that is installed under `target` on the first run.
pub fn runtime() -> &'static Library {
    static RUNTIME: OnceLock<&'static Library> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut choice = LibraryChoice::new(None, |name| std::env::var_os(name));
        choice.data_folder = Some(env!("CARGO_TARGET_TMPDIR").into());
        engine::load_or_install(&choice, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"))
    })
}

fn named(name: &str) -> Dim {
    Dim::Named(name.into())
}

fn float(shape: &[Dim]) -> TensorType {
    TensorType::new(DType::Float, shape.to_vec())
}

/// y = x · w + b with x: [N, 2], w: [2, 2] = [[1, 2], [3, 4]], b: [2] = [10, 20].
fn affine() -> Graph {
    let b = Builder::new(Graph::new("affine", 17), "");
    let x = b.input("x", float(&[named("N"), Dim::Fixed(2)]));
    let w = b.constant(Tensor::from_f32(&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    b.output("y", x.matmul(w) + b.constant(Tensor::from_f32(&[2], &[10.0, 20.0])));
    b.finish()
}

/// A least-squares step: loss = Σ (x·w − t)² / 2 and its gradient xᵀ(x·w − t), with w: [2, 1] fed.
fn step() -> Graph {
    let b = Builder::new(Graph::new("step", 17), "");
    let x = b.input("x", float(&[named("N"), Dim::Fixed(2)]));
    let t = b.input("t", float(&[named("N"), Dim::Fixed(1)]));
    let w = b.input("w", float(&[Dim::Fixed(2), Dim::Fixed(1)]));
    let error = x.matmul(w) - t;
    b.output("loss", (error * error).sum_all() * 0.5);
    b.output("w.grad", x.transpose(&[1, 0]).matmul(error));
    b.finish()
}

fn session(graph: &Graph) -> Session {
    runtime();
    Session::from_graph(graph, &Options::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f32().expect("floats")
}

#[test]
fn a_graph_runs_with_any_batch() {
    let mut session = session(&affine());
    assert_eq!(session.inputs(), [("x".to_string(), float(&[named("N"), Dim::Fixed(2)]))]);
    let x = Tensor::from_f32(&[2, 2], &[1.0, 0.0, 0.0, 1.0]);
    let y = session.run(&[("x", &x)]).unwrap();
    assert_eq!((y.len(), y[0].shape.as_slice(), floats(&y[0])), (1, &[2, 2][..], vec![11.0, 22.0, 13.0, 24.0]));
    let one = session.run(&[("x", &Tensor::from_f32(&[1, 2], &[1.0, 1.0]))]).unwrap();
    assert_eq!((one[0].shape.as_slice(), floats(&one[0])), (&[1, 2][..], vec![14.0, 26.0]));
    let none = session.run(&[("x", &Tensor::from_f32(&[0, 2], &[]))]).unwrap();
    assert_eq!((none[0].shape.as_slice(), none[0].data.len()), (&[0, 2][..], 0));
    drop(session);
    assert_eq!(floats(&y[0]), [11.0, 22.0, 13.0, 24.0], "an output outlives its session");
}

#[test]
fn every_option_gives_the_same_numbers() {
    let x = Tensor::from_f32(&[1, 2], &[0.5, -1.0]);
    runtime();
    for optimisation in [Optimisation::Off, Optimisation::Basic, Optimisation::Extended, Optimisation::All] {
        for plain in [false, true] {
            let options = Options {
                optimisation,
                threads: 1,
                packed_bytes_max: if plain { u64::MAX } else { 0 },
                arena: plain,
                spinning: plain,
                deterministic: plain,
                ..Options::default()
            };
            let y = Session::from_graph(&affine(), &options).unwrap().run(&[("x", &x)]).unwrap();
            assert_eq!(floats(&y[0]), [7.5, 17.0], "{options:?}");
        }
    }
}

#[test]
fn misaligned_bytes_are_copied() {
    let mut bytes = vec![0u8];
    bytes.extend([1.0f32, 1.0].iter().flat_map(|value| value.to_le_bytes()));
    let whole = bytes::Bytes::from(bytes);
    for start in [0, 1] {
        let data = if start == 1 { whole.slice(1..) } else { bytes::Bytes::copy_from_slice(&whole[1..]) };
        let x = Tensor { dtype: DType::Float, shape: vec![1, 2], data };
        assert_eq!(floats(&session(&affine()).run(&[("x", &x)]).unwrap()[0]), [14.0, 26.0]);
    }
}

#[test]
fn wrong_inputs_are_named() {
    let mut session = session(&affine());
    let mut refusal = |name: &str, tensor: &Tensor| session.run(&[(name, tensor)]).unwrap_err().to_string();
    let x = Tensor::from_f32(&[1, 2], &[0.0; 2]);
    assert_eq!(refusal("z", &x), "input `z`: the model has no such input; it has `x`");
    let ints = Tensor::from_i64(&[1, 2], &[0; 2]);
    assert_eq!(refusal("x", &ints), "input `x`: expected float[N,2], got int64[1,2]");
    let wide = Tensor::from_f32(&[1, 3], &[0.0; 3]);
    assert_eq!(refusal("x", &wide), "input `x`: expected float[N,2], got float[1,3]");
    let flat = Tensor::from_f32(&[2], &[0.0; 2]);
    assert_eq!(refusal("x", &flat), "input `x`: expected float[N,2], got float[2]");
    let short = Tensor { data: x.data.slice(..4), ..x.clone() };
    assert_eq!(refusal("x", &short), "input `x`: 4 bytes do not make a float[1,2]");
    assert_eq!(session.run(&[]).unwrap_err().to_string(), "input `x`: no value was given for it");
}

#[test]
fn onnx_runtimes_own_refusal_names_the_node() {
    let b = Builder::new(Graph::new("bad", 17), "bad/");
    let x = b.input("x", float(&[named("N")]));
    b.output("y", b.op("NoSuchOperator", &[x], &[]));
    runtime();
    let error = Session::from_graph(&b.finish(), &Options::default()).unwrap_err();
    assert!(matches!(&error, Error::Load { message, .. } if message.contains("NoSuchOperator")), "{error}");
    assert!(error.to_string().contains("edgetune runtime install"), "{error}");

    let b = Builder::new(Graph::new("bad", 17), "bad/");
    let (x, y) = (b.input("x", float(&[named("N")])), b.input("y", float(&[named("M")])));
    b.output("z", x + y);
    let (x, y) = (Tensor::from_f32(&[2], &[0.0; 2]), Tensor::from_f32(&[3], &[0.0; 3]));
    let error = session(&b.finish()).run(&[("x", &x), ("y", &y)]).unwrap_err();
    assert!(error.to_string().contains("bad/Add_0"), "{error}");
}

#[test]
fn a_provider_is_never_replaced_in_silence() {
    let library = runtime();
    assert!(library.providers.iter().any(|name| name == "CPUExecutionProvider"));
    for provider in [Provider::Cuda, Provider::TensorRt, Provider::Xnnpack] {
        if library.providers.iter().any(|name| name == provider.ort_name()) {
            continue;
        }
        let options = Options { provider, ..Options::default() };
        let error = Session::from_graph(&affine(), &options).unwrap_err();
        let right = matches!(error, Error::ProviderNotBuilt { .. } | Error::ProviderAbsent { .. });
        assert!(right && error.to_string().contains(provider.name()), "{error}");
    }
    assert!("gpu".parse::<Provider>().unwrap_err().to_string().contains("cpu, cuda, tensorrt, xnnpack"));
    assert_eq!("tensorrt".parse::<Provider>().unwrap(), Provider::TensorRt);
}

#[test]
fn a_step_updates_parameters_in_place_with_a_smaller_last_batch() {
    let mut bound = Bound::new(session(&step()), &[("w", &[2, 1])], &[("loss", &[]), ("w.grad", &[2, 1])]).unwrap();
    assert_eq!(bound.run().unwrap_err().to_string(), "input `x`: no value was given for it");
    let (xs, ts) = ([1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0]);
    let address = bound.input::<f32>("w").unwrap().as_ptr();
    for _ in 0..200 {
        for rows in [0..2, 2..3] {
            let (n, columns) = (rows.len() as u64, 2 * rows.start..2 * rows.end);
            bound.set_input("x", &Tensor::from_f32(&[n, 2], &xs[columns])).unwrap();
            bound.set_input("t", &Tensor::from_f32(&[n, 1], &ts[rows])).unwrap();
            bound.run().unwrap();
            let (w, gradient) = bound.update::<f32>("w", "w.grad").unwrap();
            w.iter_mut().zip(gradient).for_each(|(w, gradient)| *w -= 0.3 * gradient);
        }
    }
    let w = bound.input::<f32>("w").unwrap();
    assert!((w[0] - 1.0).abs() < 1e-3 && (w[1] - 2.0).abs() < 1e-3, "{w:?}");
    assert_eq!(w.as_ptr(), address, "the buffer stays where it is");
    assert!(bound.output::<f32>("loss").unwrap()[0] < 1e-6);
}

#[test]
fn a_step_reads_what_was_written() {
    let mut bound = Bound::new(session(&step()), &[("w", &[2, 1])], &[("w.grad", &[2, 1])]).unwrap();
    bound.set_input("x", &Tensor::from_f32(&[1, 2], &[1.0, 2.0])).unwrap();
    bound.set_input("t", &Tensor::from_f32(&[1, 1], &[0.0])).unwrap();
    for value in [1.0, -3.0] {
        bound.input_mut::<f32>("w").unwrap().fill(value);
        bound.run().unwrap();
        assert_eq!(bound.output::<f32>("w.grad").unwrap(), [3.0 * value, 6.0 * value]);
    }
}

#[test]
fn wrong_buffers_are_named() {
    let bind = |inputs: &[(&str, &[u64])], outputs: &[(&str, &[u64])]| {
        Bound::new(session(&step()), inputs, outputs).unwrap_err().to_string()
    };
    assert!(bind(&[("v", &[2, 1])], &[]).contains("input `v`"), "unknown input");
    assert!(bind(&[], &[("gain", &[])]).contains("output `gain`"), "unknown output");
    let wrong = "value `w` is declared as float[2,1]; a buffer of float[1,2] cannot hold it";
    assert_eq!(bind(&[("w", &[1, 2])], &[]), wrong);
    assert!(bind(&[("w", &[2, 1]), ("w", &[2, 1])], &[]).contains("input `w` already has"));

    let mut bound = Bound::new(session(&step()), &[("w", &[2, 1])], &[("loss", &[])]).unwrap();
    assert_eq!(bound.input_mut::<f64>("w").unwrap_err().to_string(), "value `w` holds float, not double");
    assert!(bound.output::<f32>("w.grad").unwrap_err().to_string().contains("no buffer"));
    let w = Tensor::from_f32(&[2, 1], &[0.0; 2]);
    assert!(bound.set_input("w", &w).unwrap_err().to_string().contains("`w` already has a buffer"));
    let x = Tensor::from_f32(&[1, 3], &[0.0; 3]);
    assert!(bound.set_input("x", &x).unwrap_err().to_string().contains("expected float[N,2], got float[1,3]"));
}

#[test]
fn a_wrong_output_shape_is_refused_not_written() {
    let b = Builder::new(Graph::new("sized", 17), "");
    let x = b.input("x", float(&[named("N")]));
    b.output("y", x + x);
    let mut bound = Bound::new(session(&b.finish()), &[], &[("y", &[3])]).unwrap();
    bound.set_input("x", &Tensor::from_f32(&[5], &[1.0; 5])).unwrap();
    bound.run().unwrap_err();
    bound.set_input("x", &Tensor::from_f32(&[3], &[1.0; 3])).unwrap();
    bound.run().unwrap();
    assert_eq!(bound.output::<f32>("y").unwrap(), [2.0; 3]);
}

fn typed(graph: &mut Graph) -> impl Fn(&str) -> Option<String> + '_ {
    runtime();
    engine::infer_types(graph).unwrap_or_else(|error| panic!("{error}"));
    |name| graph.ty(graph.find(name).expect("a value of that name")).map(TensorType::to_string)
}

fn name(value: Val<'_>) -> String {
    value.builder().graph().value_name(value.id()).to_string()
}

#[test]
fn inferred_types_keep_symbolic_names() {
    let b = Builder::new(Graph::new("g", 17), "");
    let x = b.input("x", float(&[named("N"), Dim::Fixed(2)]));
    let product = x.matmul(b.constant(Tensor::from_f32(&[2, 3], &[0.0; 6])));
    let values = [product, product.transpose(&[1, 0]), product.sum_all(), product.shape(), product.greater(product)];
    let names = values.map(name);
    b.output("y", product.reshape_to(&[0, 3, 1]));
    values.iter().enumerate().for_each(|(index, value)| b.output(&format!("out{index}"), *value));
    let mut graph = b.finish();
    let ty = typed(&mut graph);
    let found = names.each_ref().map(|name| ty(name).unwrap());
    assert_eq!(found, ["float[N,3]", "float[3,N]", "float[]", "int64[2]", "bool[N,3]"]);
    assert_eq!(ty("y").unwrap(), "float[N,3,1]");
}

#[test]
fn an_unknown_rank_is_no_scalar() {
    let b = Builder::new(Graph::new("g", 17), "");
    let x = b.input("x", float(&[named("N")]));
    let shape = b.input("shape", TensorType::new(DType::Int64, vec![Dim::Unknown]));
    b.output("y", x.reshape(shape));
    b.output("z", x.sum_all());
    let mut graph = b.finish();
    let ty = typed(&mut graph);
    assert_eq!((ty("y").unwrap(), ty("z").unwrap()), ("float[…]".into(), "float[]".into()));
}

#[test]
fn contrib_operators_are_typed() {
    let mut graph = Graph::new("g", 17);
    graph.domains.insert("com.microsoft".into(), 1);
    let x = graph.add_input("x", float(&[named("N"), Dim::Fixed(4)]));
    let y = graph.add_value("y", None);
    let (inputs, outputs) = (vec![Some(x)], vec![Some(y)]);
    let domain = "com.microsoft".into();
    graph.nodes.push(Node { name: "g".into(), op: "Gelu".into(), domain, inputs, outputs, ..Node::default() });
    graph.outputs.push(y);
    assert_eq!(typed(&mut graph)("y").unwrap(), "float[N,4]");
}

#[test]
fn inference_needs_no_large_weights() {
    let b = Builder::new(Graph::new("g", 17), "");
    let x = b.input("x", float(&[named("N"), Dim::Fixed(1 << 16)]));
    // Declared 64 GiB, with no bytes behind it.
    let mut huge = Tensor::from_f32(&[], &[0.0]);
    huge.shape = vec![1 << 16, 1 << 18];
    b.output("y", x.matmul(b.constant(huge)));
    let mut graph = b.finish();
    let before = (graph.inputs.clone(), graph.outputs.clone(), graph.initializers.len());
    assert_eq!(typed(&mut graph)("y").unwrap(), "float[N,262144]");
    assert_eq!(
        (graph.inputs.clone(), graph.outputs.clone(), graph.initializers.len()),
        before,
        "the graph is as it was"
    );
}

#[test]
fn declared_dimensions_fill_what_is_unknown() {
    let b = Builder::new(Graph::new("g", 17), "");
    let x = b.input("x", float(&[named("N")]));
    let indices = b.op("NonZero", &[x], &[]);
    b.output("y", indices);
    let mut graph = b.finish();
    let id = graph.find("y").unwrap();
    graph.values[id.index()].ty = Some(TensorType::new(DType::Int64, vec![Dim::Fixed(1), named("hits")]));
    assert_eq!(typed(&mut graph)("y").unwrap(), "int64[1,hits]");
}

#[test]
fn an_uninferable_graph_is_refused_by_name() {
    let b = Builder::new(Graph::new("crooked", 17), "");
    let x = b.input("x", float(&[named("N"), Dim::Fixed(2)]));
    b.output("y", b.op("MatMul", &[x, b.constant(Tensor::from_f32(&[3, 1], &[0.0; 3]))], &[]));
    runtime();
    let error = engine::infer_types(&mut b.finish()).unwrap_err();
    assert!(matches!(error, Error::Infer { .. }) && error.to_string().contains("crooked"), "{error}");
}

/// The start of an ELF file for a machine, without any segment.
fn elf(machine: u16) -> Vec<u8> {
    let mut header = vec![0u8; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[18..20].copy_from_slice(&machine.to_le_bytes());
    header
}

/// The ELF machine number of this machine, and of another.
fn machines() -> (u16, u16) {
    if cfg!(target_arch = "x86_64") { (62, 183) } else { (183, 62) }
}

/// A device with nothing on it but what a test puts there.
fn empty_device(root: &Path) -> LibraryChoice {
    LibraryChoice { root: root.into(), data_folder: Some(root.join("home/edgetune")), ..LibraryChoice::default() }
}

fn put(path: PathBuf, bytes: &[u8]) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn unfit_libraries_are_refused_before_they_are_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let (here, other) = machines();
    let cut_off = [&elf(here)[..32], &[64], &[0; 21], &[56, 0, 9, 0], &[0; 6]].concat();
    let cases: [(&str, &[u8], &str); 6] = [
        ("libonnxruntime.so.1.16.3", &elf(here), "version 1.16.3 is too old; edgetune needs 1.17 or newer"),
        ("libonnxruntime.so.1.32.0", &elf(other), "but this edgetune is built for"),
        ("libonnxruntime.so.1.32.1", b"<html>not found</html>", "no Linux shared library"),
        ("libonnxruntime.so.1.32.2", b"", "empty or cut off"),
        ("libonnxruntime.so.1.32.3", &cut_off, "cut off"),
        ("libonnxruntime.so.1.32.4", b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0", "big-endian"),
    ];
    for (name, bytes, reason) in cases {
        let path = put(folder.path().join(name), bytes);
        let choice = LibraryChoice { explicit: Some(path.clone()), ..LibraryChoice::default() };
        let error = engine::find(&choice).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("setting `onnxruntime") && error.contains(name), "{error}");
    }
    let choice = LibraryChoice { environment: Some(folder.path().join("absent.so")), ..LibraryChoice::default() };
    let error = engine::find(&choice).unwrap_err().to_string();
    assert!(error.contains("absent.so") && error.contains("ORT_DYLIB_PATH"), "{error}");
}

#[test]
fn the_search_takes_the_devices_own_before_edgetunes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let choice = empty_device(&root);
    assert!(engine::find(&choice).unwrap().found.is_empty());
    let (here, other) = machines();
    let own = put(root.join("home/edgetune/onnxruntime/1.23.2/libonnxruntime.so.1.23.2"), &elf(here));
    let newer = put(root.join("home/edgetune/onnxruntime/1.32.0/libonnxruntime.so.1.32.0"), &elf(here));
    let capi = "usr/local/lib/python3.10/dist-packages/onnxruntime/capi/libonnxruntime.so.1.24.1";
    let wheel = put(root.join(capi), &elf(here));
    let system = put(root.join("usr/lib/libonnxruntime.so.1.20.0"), &elf(here));
    std::os::unix::fs::symlink(&system, root.join("usr/lib/libonnxruntime.so")).unwrap();
    let foreign = put(root.join("usr/local/lib/libonnxruntime.so"), &elf(other));
    let search = engine::find(&choice).unwrap();
    let order: Vec<_> = search.found.iter().map(|found| (found.path.as_path(), found.origin)).collect();
    let expected = [(&system, Origin::System), (&wheel, Origin::Wheel), (&newer, Origin::Own), (&own, Origin::Own)];
    assert_eq!(order, expected.map(|(path, origin)| (path.as_path(), origin)));
    assert_eq!(search.found[0].version.unwrap().to_string(), "1.20.0", "a link's target names the version");
    assert_eq!(search.passed_over.len(), 1);
    assert_eq!(search.passed_over[0].0, foreign);
}

#[test]
fn the_environment_arrives_as_an_argument() {
    let choice = |variables: &'static [(&str, &str)]| {
        LibraryChoice::new(None, move |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    };
    let folder = |variables| choice(variables).own_folder();
    assert_eq!(folder(&[("HOME", "/h")]).unwrap(), Path::new("/h/.local/share/edgetune/onnxruntime"));
    assert_eq!(folder(&[("HOME", "/h"), ("XDG_DATA_HOME", "/x")]).unwrap(), Path::new("/x/edgetune/onnxruntime"));
    for homeless in [&[][..], &[("HOME", "")], &[("HOME", ""), ("XDG_DATA_HOME", "here")]] {
        let error = folder(homeless).unwrap_err().to_string();
        assert!(error.contains("set HOME or XDG_DATA_HOME"), "{error}");
        assert!(matches!(engine::install(&choice(homeless), None, &mut |_| {}), Err(Error::NoDataFolder)));
    }
    let named = choice(&[("ORT_DYLIB_PATH", "/a.so"), ("VIRTUAL_ENV", "/v"), ("HOME", "/h")]);
    assert_eq!(named.environment.as_deref(), Some(Path::new("/a.so")));
    assert_eq!(named.python_prefixes, [Path::new("/v"), Path::new("/h/.local")]);
}

#[test]
fn a_damaged_wheel_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let choice = empty_device(folder.path());
    let wheel = put(folder.path().join("onnxruntime-1.32.0-cp311-cp311-any.whl"), b"PK not really");
    let mut steps = vec![];
    let error = engine::install_wheel(&choice, &wheel, &mut |step| steps.push(step)).unwrap_err();
    assert!(matches!(&error, Error::Checksum { .. }) && error.to_string().contains("fetch it again"), "{error}");
    assert_eq!(steps, [Step::Verifying]);
    assert!(!folder.path().join("home").exists());
    let other = put(folder.path().join("onnxruntime-1.0.0-any.whl"), b"");
    assert!(matches!(engine::install_wheel(&choice, &other, &mut |_| {}), Err(Error::NoWheel { .. })));
}

#[test]
fn one_process_has_one_library() {
    let library = runtime();
    assert!(library.path.is_absolute());
    assert!(engine::Version::parse(&library.version).is_some_and(|version| version >= engine::Version(1, 17, 0)));
    assert!(library.build_info.contains("ORT Build Info"), "{}", library.build_info);
    assert_eq!(engine::load(&LibraryChoice::default()).unwrap().path, library.path);
    let same = LibraryChoice { explicit: Some(library.path.clone()), ..LibraryChoice::default() };
    assert_eq!(engine::load(&same).unwrap().path, library.path);
    let other = LibraryChoice { explicit: Some("/elsewhere/libonnxruntime.so".into()), ..LibraryChoice::default() };
    assert!(matches!(engine::load(&other), Err(Error::AlreadyLoaded { .. })));
}

#[test]
fn an_output_that_is_an_input_owns_its_bytes() {
    let b = Builder::new(Graph::new("through", 17), "");
    let x = b.input("x", float(&[named("N")]));
    b.output("y", x);
    b.output("z", x.reshape_to(&[-1, 1]));
    let mut graph = b.finish();
    graph.outputs.push(graph.inputs[0]);
    let constant = graph.add_initializer("c", Tensor::from_f32(&[3], &[1.0, 2.0, 3.0]));
    graph.outputs.push(constant);
    for optimisation in [Optimisation::Off, Optimisation::All] {
        runtime();
        let mut session = Session::from_graph(&graph, &Options { optimisation, ..Options::default() }).unwrap();
        let x = Tensor::from_f32(&[3], &[1.0, 2.0, 3.0]);
        let range = x.data.as_ptr_range();
        let outputs = session.run(&[("x", &x)]).unwrap();
        assert!(outputs.iter().all(|output| !range.contains(&output.data.as_ptr())));
        let again = session.run(&[("x", &x)]).unwrap();
        assert!(outputs.iter().zip(&again).all(|(one, two)| one.data.as_ptr() != two.data.as_ptr()));
        drop(x);
        assert!(outputs.iter().all(|output| floats(output) == [1.0, 2.0, 3.0]));

        let mut bound = Bound::new(session, &[], &[("c", &[3]), ("y", &[3]), ("z", &[3, 1])]).unwrap();
        bound.set_input("x", &Tensor::from_f32(&[3], &[4.0, 5.0, 6.0])).unwrap();
        bound.run().unwrap();
        for name in ["y", "z"] {
            assert_eq!(bound.output::<f32>(name).unwrap(), [4.0, 5.0, 6.0], "{name} {optimisation:?}");
        }
        assert_eq!(bound.output::<f32>("c").unwrap(), [1.0, 2.0, 3.0]);
    }
    assert!(matches!(Bound::new(session(&graph), &[], &[("x", &[3])]), Err(Error::PassedThrough { .. })));
}

/// Private memory of this process in bytes.
fn private_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn mapped_weights_cost_no_private_memory() {
    const SIDE: u64 = 6 << 10;
    let (folder, len) = (tempfile::tempdir().unwrap(), 4 * SIDE * SIDE);
    fs::File::create(folder.path().join("w.bin")).unwrap().set_len(len).unwrap();
    let b = Builder::new(Graph::new("large", 17), "");
    let x = b.input("x", float(&[named("N"), Dim::Fixed(SIDE)]));
    let data = onnx::map_file(&folder.path().join("w.bin")).unwrap();
    let w = b.constant(Tensor { dtype: DType::Float, shape: vec![SIDE, SIDE], data });
    let tensors = [(name(w), 0..len)].into();
    b.output("y", x.matmul(w));
    let weights = onnx::WeightsFile { file: "w.bin".into(), tensors };
    let model = put(folder.path().join("model.onnx"), &onnx::encode(&b.finish(), &onnx::Weights::External(&weights)));
    runtime();
    let before = private_bytes();
    let mut session = Session::from_file(&model, &Options { packed_bytes_max: 0, ..Options::default() }).unwrap();
    let x = Tensor::from_f32(&[1, SIDE], &vec![1.0; SIDE as usize]);
    assert_eq!(session.run(&[("x", &x)]).unwrap()[0].shape, [1, SIDE]);
    // Other tests run meanwhile; the weights are 144 MiB.
    let grown = private_bytes().saturating_sub(before);
    assert!(grown < len as usize / 3, "{grown} bytes");

    fs::remove_file(folder.path().join("w.bin")).unwrap();
    let error = Session::from_file(&model, &Options::default()).unwrap_err().to_string();
    assert!(error.contains("model.onnx") && error.contains("weights file in the model's own folder"), "{error}");
}

#[test]
fn weights_beside_a_model_in_memory_are_found() {
    let library = runtime();
    let folder = tempfile::tempdir().unwrap();
    let b = Builder::new(Graph::new("small", 17), "");
    let x = b.input("x", float(&[named("N"), Dim::Fixed(1024)]));
    let w = b.constant(Tensor::from_f32(&[1024, 1], &[1.0; 1024]));
    b.output("y", x.matmul(w));
    let graph = b.finish();
    let weights = onnx::write_weights(&folder.path().join("w.bin"), onnx::initializers(&graph)).unwrap();
    let model = onnx::encode(&graph, &onnx::Weights::External(&weights));
    let loaded = Session::from_bytes(&model, Some(folder.path()), &Options::default());
    let x = Tensor::from_f32(&[1, 1024], &[0.5; 1024]);
    if engine::Version::parse(&library.version).unwrap() < engine::Version(1, 21, 0) {
        assert!(matches!(loaded, Err(Error::WeightsFolder { .. })));
        return;
    }
    assert_eq!(floats(&loaded.unwrap().run(&[("x", &x)]).unwrap()[0]), [512.0]);
}

/// The graph inside an encoded model: field 7 of `ModelProto`.
pub fn graph_proto(model: &[u8]) -> Vec<u8> {
    let mut at = 0;
    let varint = |at: &mut usize| -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = model[*at];
            *at += 1;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                break;
            }
        }
        value
    };
    loop {
        let (tag, value) = (varint(&mut at), varint(&mut at));
        if tag == 7 << 3 | 2 {
            return model[at..at + value as usize].to_vec();
        }
        at += if tag & 7 == 2 { value as usize } else { 0 };
    }
}

#[test]
fn a_subgraph_keeps_the_large_weights_that_it_captures() {
    let branch = |op: &str| {
        let b = Builder::new(Graph::new(op, 17), op);
        let (x, w) = (b.input("x", float(&[])), b.input("w", float(&[])));
        b.output(op, b.op(op, &[x, w], &[]));
        let mut graph = b.finish();
        // What a branch reads from outside is no input of it.
        graph.inputs.clear();
        graph_proto(&onnx::encode(&graph, &onnx::Weights::Embedded)).into()
    };
    let mut graph = Graph::new("choice", 17);
    let x = graph.add_input("x", float(&[named("N"), Dim::Fixed(64)]));
    let condition = graph.add_input("condition", TensorType::new(DType::Bool, vec![]));
    let w = graph.add_initializer("w", Tensor::from_f32(&[64, 64], &[0.0; 64 * 64]));
    let y = graph.add_value("y", None);
    let attribute = |op| Attr::Graph { encoded: branch(op), captures: vec![x, w] };
    let attributes = [("then_branch", "MatMul"), ("else_branch", "MatMul")];
    graph.nodes.push(Node {
        name: "if".into(),
        op: "If".into(),
        inputs: vec![Some(condition)],
        outputs: vec![Some(y)],
        attributes: attributes.map(|(name, op)| (name.to_string(), attribute(op))).into(),
        ..Node::default()
    });
    graph.outputs.push(y);
    assert_eq!(typed(&mut graph)("y").unwrap(), "float[N,64]");
    assert!(graph.initializers.contains_key(&w));
}

#[test]
fn sessions_move_between_threads() {
    fn moves<T: Send + Sync>() {}
    moves::<Session>();
    moves::<Bound>();
    moves::<Error>();
    let y = session(&affine()).run(&[("x", &Tensor::from_f32(&[1, 2], &[1.0, 1.0]))]).unwrap();
    assert_eq!(std::thread::spawn(move || floats(&y[0])).join().unwrap(), [14.0, 26.0]);
}
