//! Deltas from deltas: differences, parents, means.

use super::*;

/// A parent, what came after it, and the difference: joined they are what came after, to the last bit.
#[test]
fn a_chain_gives_every_value_back() {
    let (before, after) = samples();
    let delta = |values: &[f32], scale: f32| {
        let (weight, bias) = (fp16(values), fp16(&[scale, -0.0]));
        let tensors = [
            TensorValues { name: "w", shape: &[96], payload: &weight },
            TensorValues { name: "b", shape: &[2], payload: &bias },
            TensorValues { name: "same", shape: &[2], payload: &fp16(&[1.0, 2.0]) },
        ];
        write(&plain_header(), &LABELS, &tensors).unwrap()
    };
    let (parent, full) = (delta(&before, 1.0), delta(&after, -1.0));
    let (parent, full) = (Delta::parse(&parent).unwrap(), Delta::parse(&full).unwrap());
    let difference = change(&parent, &full, None).unwrap();
    let difference = Delta::parse(&difference).unwrap();
    assert_eq!(difference.header().parent.as_ref(), Some(parent.identity()));
    assert!(difference.tensor("same").is_none(), "what did not change is left out");
    let joined = join(&parent, &difference).unwrap();
    let joined = Delta::parse(&joined).unwrap();
    let bits =
        |delta: &Delta| -> Vec<u32> { delta.tensors().flat_map(|tensor| tensor.values()).map(f32::to_bits).collect() };
    assert_eq!(bits(&joined), bits(&full));
    assert_eq!(joined.header(), full.header());
    assert_eq!(join(&full, &difference), Err(Error::OtherParent));
    assert_eq!(convert(&difference, "int4".parse().unwrap()), Err(Error::IsDifference));
    let lossy = change(&parent, &full, Some("sign".parse().unwrap())).unwrap();
    let lossy = join(&parent, &Delta::parse(&lossy).unwrap()).unwrap();
    let lossy: Vec<f32> = Delta::parse(&lossy).unwrap().tensor("w").unwrap().values().collect();
    let error = |from: &[f32]| from.iter().zip(&after).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    assert!(error(&lossy) < 0.5 * error(&before), "{} of {}", error(&lossy), error(&before));
}

/// Whatever the two are stored as: parent and difference give the newer delta's very bits, and its very bytes.
#[test]
fn a_chain_gives_every_encoding_back() {
    let (before, after) = samples();
    let encodings = ["fp16", "int8", "int4", "sign", "sparse:10"].map(|name| name.parse::<EncodingChoice>().unwrap());
    let delta = |values: &[f32], scale: f32| {
        let (weight, bias) = (fp16(values), fp16(&[scale, -0.0]));
        let tensors = [
            TensorValues { name: "w", shape: &[96], payload: &weight },
            TensorValues { name: "b", shape: &[2], payload: &bias },
        ];
        write(&plain_header(), &LABELS, &tensors).unwrap()
    };
    let bits = |bytes: &[u8]| -> Vec<u32> {
        Delta::parse(bytes).unwrap().tensors().flat_map(|tensor| tensor.values()).map(f32::to_bits).collect()
    };
    for older in encodings {
        for newer in encodings {
            let parent = convert(&Delta::parse(&delta(&before, 1.0)).unwrap(), older).unwrap();
            let full = convert(&Delta::parse(&delta(&after, 1.0)).unwrap(), newer).unwrap();
            let (parent, full_read) = (Delta::parse(&parent).unwrap(), Delta::parse(&full).unwrap());
            let difference = change(&parent, &full_read, None).unwrap();
            let joined = join(&parent, &Delta::parse(&difference).unwrap()).unwrap();
            assert_eq!(bits(&joined), bits(&full), "{older} to {newer}");
            assert_eq!(joined, full, "{older} to {newer}");
        }
    }
    // Equal deltas: one tensor stays, and joined they are the same again.
    let same = delta(&before, 1.0);
    let parent = Delta::parse(&same).unwrap();
    let difference = change(&parent, &parent, None).unwrap();
    let difference = Delta::parse(&difference).unwrap();
    assert_eq!((difference.tensors().len(), join(&parent, &difference).unwrap()), (1, same.clone()));
}

#[test]
fn merging_is_the_weighted_mean_of_like_deltas() {
    let delta = |values: &[f32], name: &str, method| {
        let payload = fp16(values);
        let header = Header { samples: 10, method, ..plain_header() };
        write(&header, &LABELS, &[TensorValues { name, shape: &[2], payload: &payload }]).unwrap()
    };
    let files = [delta(&[1.0, 2.0], "w", None), delta(&[3.0, -2.0], "w", None), delta(&[0.0, 0.0], "v", None)];
    let [a, b, other] = [0, 1, 2].map(|index| Delta::parse(&files[index]).unwrap());
    let merged = merge(&[a.clone(), b.clone()], &[3.0, 1.0]).unwrap();
    let merged = Delta::parse(&merged).unwrap();
    assert_eq!(merged.tensor("w").unwrap().values().collect::<Vec<_>>(), [1.5, 1.0]);
    assert_eq!((merged.header().samples, merged.labels().next().unwrap().samples), (20, 200));
    assert_eq!(merge(&[a.clone(), other], &[1.0, 1.0]), Err(Error::Unlike));
    assert_eq!(merge(&[a.clone(), b.clone()], &[1.0, f32::NAN]), Err(Error::Unlike));
    assert_eq!(merge(&[a, b], &[1.0]), Err(Error::Unlike));
    let dora = delta(&[1.0, 2.0], "w", Some(Method { kind: MethodKind::Dora, rank: 1, alpha: 1.0 }));
    let dora = Delta::parse(&dora).unwrap();
    assert_eq!(merge(&[dora.clone(), dora], &[1.0, 1.0]), Err(Error::Factors));
}

/// LoRA of some modules, `[5, 3·2]` and `[4, 1·1…]` kernels, with a whole tensor beside.
struct Low {
    method: Method,
    modules: Vec<(&'static str, Vec<f32>, Vec<f32>)>,
    head: f32,
}

impl Low {
    fn written(&self) -> Vec<u8> {
        let rank = self.method.rank;
        let mut tensors = vec![("head".to_string(), vec![1], fp16(&[self.head]))];
        for (name, a, b) in &self.modules {
            tensors.push((format!("{name}.lora_A.weight"), vec![rank, 3, 2], fp16(a)));
            tensors.push((format!("{name}.lora_B.weight"), vec![4, rank, 1], fp16(b)));
        }
        let header = Header { samples: 10, method: Some(self.method), ..plain_header() };
        let tensors: Vec<TensorValues> =
            tensors.iter().map(|(name, shape, payload)| TensorValues { name, shape, payload }).collect();
        write(&header, &LABELS, &tensors).unwrap()
    }
}

/// What a delta of LoRA adds to a module's weight, `[4, 6]`, in float64.
fn added(delta: &Delta, module: &str) -> Vec<f64> {
    let method = delta.header().method.unwrap();
    let rank = method.rank as usize;
    let divisor = if method.kind == MethodKind::RsLora { (rank as f64).sqrt() } else { rank as f64 };
    let values =
        |suffix: &str| -> Option<Vec<f32>> { Some(delta.tensor(&format!("{module}{suffix}"))?.values().collect()) };
    let (Some(a), Some(b)) = (values(".lora_A.weight"), values(".lora_B.weight")) else { return vec![0.0; 24] };
    assert_eq!((a.len(), b.len()), (6 * rank, 4 * rank));
    let product = |row: usize, column: usize| -> f64 {
        (0..rank).map(|r| f64::from(b[row * rank + r]) * f64::from(a[r * 6 + column])).sum()
    };
    (0..24).map(|place| f64::from(method.alpha) / divisor * product(place / 6, place % 6)).collect()
}

fn low() -> impl Strategy<Value = Low> {
    let values = |count: usize| prop::collection::vec((-1000i32..1000).prop_map(|n| n as f32 / 512.0), count);
    let kind = prop_oneof![Just(MethodKind::Lora), Just(MethodKind::RsLora)];
    let of_rank = move |(kind, rank, alpha, has): (MethodKind, u32, f32, [bool; 2])| {
        let (a, b) = (6 * rank as usize, 4 * rank as usize);
        (values(a), values(b), values(a), values(b)).prop_map(move |(a, b, c, d)| {
            let modules = [("layers.0.query", a, b), ("stem", c, d)].into_iter().zip(has);
            let modules = modules.filter(|(_, has)| *has).map(|(module, _)| module).collect();
            Low { method: Method { kind, rank, alpha }, modules, head: alpha }
        })
    };
    let any_has = any::<[bool; 2]>();
    (kind, 1u32..4, (1i32..64).prop_map(|n| n as f32 / 4.0), any_has).prop_flat_map(of_rank)
}

impl std::fmt::Debug for Low {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.method, self.modules)
    }
}

proptest! {
    /// The mean of factors does to a weight what the deltas do on average, whatever their ranks, alphas and modules.
    #[test]
    fn factors_beside_each_other_are_the_mean(
        all in prop::collection::vec(low(), 1..4), weights in prop::collection::vec(1u8..9, 4)
    ) {
        let files: Vec<Vec<u8>> = all.iter().map(Low::written).collect();
        let deltas: Vec<Delta> = files.iter().map(|file| Delta::parse(file).unwrap()).collect();
        let weights: Vec<f32> = weights[..all.len()].iter().copied().map(f32::from).collect();
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let merged = merge(&deltas, &weights).unwrap();
        let merged = Delta::parse(&merged).unwrap();
        let method = merged.header().method.unwrap();
        prop_assert_eq!((method.kind, method.rank), (all[0].method.kind, all.iter().map(|low| low.method.rank).sum()));
        for module in ["layers.0.query", "stem"] {
            let each: Vec<Vec<f64>> = deltas.iter().map(|delta| added(delta, module)).collect();
            for (place, found) in added(&merged, module).into_iter().enumerate() {
                let parts = each.iter().zip(&weights).map(|(added, weight)| added[place] * f64::from(*weight) / total);
                let (mean, size) = parts.fold((0.0, 0.0), |(sum, size): (f64, f64), part| (sum + part, size + part.abs()));
                // Half a unit of fp16 in every value of B; sums of products may cancel.
                let bound = 8.0 * (size + all.iter().map(|low| f64::from(low.method.alpha)).sum::<f64>()) / 2048.0;
                prop_assert!((found - mean).abs() <= bound, "{} {}", found, mean);
            }
        }
        let head = merged.tensor("head").unwrap().values().next().unwrap();
        let mean: f32 = all.iter().zip(&weights).map(|(low, weight)| low.head * weight).sum::<f32>() / total as f32;
        prop_assert!((head - mean).abs() <= mean.abs() / 1000.0);
    }
}

/// Equal weights, ranks and alphas: no value is rounded, and the numbers are those of the formula.
#[test]
fn the_mean_of_equals_rounds_nothing() {
    let method = Method { kind: MethodKind::Lora, rank: 1, alpha: 4.0 };
    let low = |from: f32, names: &[&'static str]| {
        let values = |count: usize| (0..count).map(|n| from + n as f32 / 8.0).collect::<Vec<f32>>();
        Low { method, modules: names.iter().map(|name| (*name, values(6), values(4))).collect(), head: 1.0 }
    };
    let files = [low(1.0, &["q", "v"]).written(), low(-2.0, &["q"]).written()];
    let deltas = [0, 1].map(|index| Delta::parse(&files[index]).unwrap());
    let merged = merge(&deltas, &[2.0, 2.0]).unwrap();
    let merged = Delta::parse(&merged).unwrap();
    // s = ½ · 4, so alpha is twice that.
    assert_eq!(merged.header().method, Some(Method { rank: 2, ..method }));
    let values = |name: &str| merged.tensor(name).unwrap().values().collect::<Vec<f32>>();
    let shape = |name: &str| merged.tensor(name).unwrap().entry.shape.to_vec();
    assert_eq!((shape("q.lora_A.weight"), shape("q.lora_B.weight")), (vec![2, 3, 2], vec![4, 2, 1]));
    assert_eq!(values("q.lora_B.weight"), [1.0, -2.0, 1.125, -1.875, 1.25, -1.75, 1.375, -1.625]);
    assert_eq!(values("q.lora_A.weight")[..7], [1.0, 1.125, 1.25, 1.375, 1.5, 1.625, -2.0]);
    assert_eq!(values("v.lora_B.weight"), [1.0, 0.0, 1.125, 0.0, 1.25, 0.0, 1.375, 0.0]);
    assert_eq!(values("v.lora_A.weight")[6..], [0.0; 6]);
}

#[test]
fn factors_that_do_not_belong_together_are_refused() {
    let low = |rank: u32, alpha: f32, name: &'static str, outputs: u32| {
        let method = Some(Method { kind: MethodKind::Lora, rank, alpha });
        let (a, b) = (fp16(&[1.0; 4]), fp16(&vec![1.0; outputs as usize]));
        let names = [format!("{name}.lora_A.weight"), format!("{name}.lora_B.weight")];
        let tensors = [
            TensorValues { name: &names[0], shape: &[1, 4], payload: &a },
            TensorValues { name: &names[1], shape: &[outputs, 1], payload: &b },
        ];
        write(&Header { method, ..plain_header() }, &LABELS, &tensors).unwrap()
    };
    let merged = |one: Vec<u8>, other: Vec<u8>| {
        merge(&[Delta::parse(&one).unwrap(), Delta::parse(&other).unwrap()], &[1.0, 1.0]).map(|_| ())
    };
    let like = || low(1, 1.0, "q", 3);
    assert_eq!(merged(like(), low(1, 1.0, "v", 3)), Ok(()));
    for other in [low(1, 1.0, "q", 2), low(2, 1.0, "q", 3), low(1, 0.0, "q", 3), low(0, 1.0, "q", 3)] {
        assert_eq!(merged(like(), other), Err(Error::Unlike));
    }
    // Ranks that would take all memory, where nothing contradicts them.
    let hostile = |rank| {
        let method = Some(Method { kind: MethodKind::Lora, rank, alpha: 1.0 });
        let (a, b) = (fp16(&[1.0; 4]), fp16(&[1.0; 3]));
        let other = [
            TensorValues { name: "x", shape: &[4], payload: &a },
            TensorValues { name: "y", shape: &[3], payload: &b },
        ];
        write(&Header { method, ..plain_header() }, &LABELS, &other).unwrap()
    };
    assert_eq!(merged(hostile(u32::MAX), hostile(1)), Ok(()), "no factor, no memory");
    let beside = |rank: u32| {
        let header = Header { method: Some(Method { kind: MethodKind::Lora, rank, alpha: 1.0 }), ..plain_header() };
        let (a, b) = (fp16(&[1.0; 4]), fp16(&[1.0; 3]));
        let all = [
            TensorValues { name: "q.lora_A.weight", shape: &[1, 4], payload: &a },
            TensorValues { name: "q.lora_B.weight", shape: &[3, 1], payload: &b },
            TensorValues { name: "w", shape: &[4], payload: &a },
        ];
        let used = if rank == 1 { &all[..] } else { &all[2..] };
        write(&header, &LABELS, used).unwrap()
    };
    assert_eq!(merged(beside(1), beside(1 << 30)), Err(Error::ValueCount));
    assert_eq!(merged(beside(1), beside(u32::MAX)), Err(Error::ValueCount));
}
