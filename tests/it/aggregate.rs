//! Many deltas → one: every rule against the same thing written plainly, whatever order, blocks and attackers there are.

use edgetune::aggregate::{Clip, Combined, Error, Options, Rule, combine, compare};
use edgetune::delta::{self, Delta, Encoding, Header, Label, Method, MethodKind, TensorValues, encode};
use proptest::prelude::*;

/// A tensor of a delta: name, sizes, values.
type Learned<'a> = (&'a str, &'a [u32], Vec<f32>);

fn written(header: &Header<'_>, tensors: &[Learned<'_>]) -> Vec<u8> {
    let labels = [Label { name: "a", samples: 3 }, Label { name: "b", samples: 4 }];
    let payloads: Vec<_> = tensors.iter().map(|(_, _, values)| encode(values, Encoding::Fp16).unwrap()).collect();
    let tensors: Vec<_> = tensors
        .iter()
        .zip(&payloads)
        .map(|((name, shape, _), payload)| TensorValues { name, shape, payload })
        .collect();
    delta::write(header, &labels, &tensors).unwrap()
}

fn header(device: &str) -> Header<'_> {
    Header { base: [7; 32], device, loss: "cross_entropy", output: "logits", samples: 7, ..Header::default() }
}

/// Values that binary16 holds, so that the plain code sees what the deltas hold.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| delta::f16::from_f32(random.f32() * 2.0 - 1.0).to_f32()).collect()
}

/// A head of 3 × 5 and a bias of 5.
fn whole(device: u64, factor: f32) -> Vec<u8> {
    let values = |seed, count| noise(seed, count).into_iter().map(|value| value * factor).collect();
    let tensors: [Learned<'_>; 2] =
        [("fc.weight", &[3, 5], values(device * 2, 15)), ("fc.bias", &[5], values(device * 2 + 1, 5))];
    written(&header(&format!("device {device}")), &tensors)
}

fn lora_header(device: &str, kind: MethodKind, rank: u32, alpha: f32) -> Header<'_> {
    Header { method: Some(Method { kind, rank, alpha }), ..header(device) }
}

/// LoRA on a layer of 9 × 7, and a bias that is learned whole.
fn lora(device: u64, rank: u32, alpha: f32, factor: f32) -> Vec<u8> {
    let b = noise(device * 3 + 1, 9 * rank as usize).into_iter().map(|value| value * factor).collect();
    let tensors: [Learned<'_>; 3] = [
        ("enc.q.lora_A.weight", &[rank, 7], noise(device * 3, 7 * rank as usize)),
        ("enc.q.lora_B.weight", &[9, rank], b),
        ("head.bias", &[5], noise(device * 3 + 2, 5)),
    ];
    written(&lora_header(&format!("device {device}"), MethodKind::Lora, rank, alpha), &tensors)
}

fn combined(deltas: &[Vec<u8>], weights: &[f64], options: &Options) -> Result<Combined, Error> {
    let mut read = |index: usize, bytes: &mut Vec<u8>| {
        bytes.extend(&deltas[index]);
        Ok(())
    };
    combine(weights, &mut read, None, options)
}

fn equally(deltas: &[Vec<u8>], options: &Options) -> Combined {
    combined(deltas, &vec![1.0; deltas.len()], options).unwrap()
}

fn values(bytes: &[u8], name: &str) -> Vec<f64> {
    Delta::parse(bytes).unwrap().tensor(name).expect(name).values().map(f64::from).collect()
}

/// What a LoRA delta adds to the layer, computed element by element.
fn product(bytes: &[u8]) -> Vec<f64> {
    let method = Delta::parse(bytes).unwrap().header().method.unwrap();
    let (a, b) = (values(bytes, "enc.q.lora_A.weight"), values(bytes, "enc.q.lora_B.weight"));
    let rank = method.rank as usize;
    let scale = f64::from(method.alpha) / f64::from(method.rank);
    let element = |i: usize, j: usize| scale * (0..rank).map(|k| b[i * rank + k] * a[k * 7 + j]).sum::<f64>();
    (0..9).flat_map(|i| (0..7).map(move |j| (i, j))).map(|(i, j)| element(i, j)).collect()
}

fn weighted_mean(columns: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let at = |place: usize| columns.iter().zip(weights).map(|(c, w)| c[place] * w).sum::<f64>() / total;
    (0..columns[0].len()).map(at).collect()
}

/// The mean of what is left of each coordinate without the `left_out` at each end.
fn trimmed(columns: &[Vec<f64>], left_out: usize) -> Vec<f64> {
    let at = |place: usize| {
        let mut sorted: Vec<f64> = columns.iter().map(|column| column[place]).collect();
        sorted.sort_by(f64::total_cmp);
        let kept = &sorted[left_out..sorted.len() - left_out];
        kept.iter().sum::<f64>() / kept.len() as f64
    };
    (0..columns[0].len()).map(at).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
}

#[track_caller]
fn assert_near(found: &[f64], expected: &[f64], relative: f64) {
    let off = distance(found, expected);
    assert!(off <= relative * norm(expected), "off by {off} of {}", norm(expected));
}

/// Half a unit in the last place of binary16.
const FP16: f64 = 1.0 / 2048.0;

const RULES: [Rule; 3] = [Rule::Mean, Rule::Median, Rule::TrimmedMean { part: 0.25 }];

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_rule_is_what_plain_code_says(devices in 1u64..12, seed in 0u64..1 << 40) {
        let deltas: Vec<_> = (0..devices).map(|device| whole(seed + device, 1.0)).collect();
        let weights: Vec<f64> = (0..devices).map(|device| 1.0 + (seed.rotate_left(device as u32) % 90) as f64).collect();
        for name in ["fc.weight", "fc.bias"] {
            let columns: Vec<Vec<f64>> = deltas.iter().map(|delta| values(delta, name)).collect();
            for rule in RULES {
                let expected = match rule {
                    Rule::Mean => weighted_mean(&columns, &weights),
                    Rule::Median => trimmed(&columns, (columns.len() - 1) / 2),
                    Rule::TrimmedMean { part } => trimmed(&columns, (part * columns.len() as f64).floor() as usize),
                };
                let made = combined(&deltas, &weights, &Options { rule, ..Options::default() }).unwrap();
                assert_near(&values(&made.bytes, name), &expected, FP16);
            }
        }
    }

    /// The same bytes whatever the order, and whatever room there is.
    #[test]
    fn order_and_blocks_change_no_byte(seed in 0u64..1 << 40, memory_bytes_max in 1usize..2000, product: bool) {
        let one = |device| if product { lora(seed + device, 1 + (device % 3) as u32, 4.0, 1.0) } else { whole(seed + device, 1.0) };
        let deltas: Vec<_> = (0..7).map(one).collect();
        let weights: Vec<f64> = (1..8).map(f64::from).collect();
        let mut places: Vec<usize> = (0..7).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut places);
        let shuffled: Vec<_> = places.iter().map(|place| deltas[*place].clone()).collect();
        let their_weights: Vec<f64> = places.iter().map(|place| weights[*place]).collect();
        for rule in RULES {
            let options = Options { rule, clip: Some(Clip::AtMedian), ..Options::default() };
            let made = combined(&deltas, &weights, &options).unwrap();
            let again = combined(&shuffled, &their_weights, &Options { memory_bytes_max, ..options }).unwrap();
            prop_assert_eq!(made.bytes, again.bytes);
            prop_assert_eq!(made.residuals, again.residuals);
        }
    }

    /// A delta of weight 2 is that delta twice; all weights may be of any size.
    #[test]
    fn only_the_ratio_of_weights_counts(seed in 0u64..1 << 40, scale in 1e-6f64..1e6) {
        let deltas = [whole(seed, 1.0), whole(seed + 1, 1.0)];
        let once = combined(&deltas, &[2.0, 1.0], &Options::default()).unwrap();
        let scaled = combined(&deltas, &[2.0 * scale, scale], &Options::default()).unwrap();
        let columns: Vec<Vec<f64>> = [0, 0, 1].iter().map(|i| values(&deltas[*i], "fc.weight")).collect();
        assert_near(&values(&once.bytes, "fc.weight"), &weighted_mean(&columns, &[1.0; 3]), FP16);
        assert_near(&values(&scaled.bytes, "fc.weight"), &values(&once.bytes, "fc.weight"), 2.0 * FP16);
    }

    /// The mean of products, not the product of means: exact where the rank has room, whatever ranks and alphas there are.
    #[test]
    fn lora_is_combined_exactly(seed in 0u64..1 << 40, weight in 0.1f64..10.0) {
        let deltas = [lora(seed, 1, 2.0, 1.0), lora(seed + 1, 2, 1.0, 1.0), lora(seed + 2, 3, 8.0, 1.0)];
        let weights = [1.0, weight, 2.0];
        let expected = weighted_mean(&deltas.each_ref().map(|delta| product(delta)), &weights);
        let made = combined(&deltas, &weights, &Options { rank: Some(6), ..Options::default() }).unwrap();
        assert_near(&product(&made.bytes), &expected, 4.0 * FP16);
        prop_assert!(made.residuals[0].1 <= 4.0 * FP16, "{:?}", made.residuals);
        // What is put beside each other exactly does the same.
        let parsed: Vec<Delta<'_>> = deltas.iter().map(|delta| Delta::parse(delta).unwrap()).collect();
        let beside = delta::merge(&parsed, &weights.map(|weight| weight as f32)).unwrap();
        assert_near(&product(&made.bytes), &product(&beside), 4.0 * FP16);
    }
}

/// A rank without room for all: the residual that is reported is the one there is, and no rank-2 matrix is nearer.
#[test]
fn what_a_rank_has_no_room_for_is_reported() {
    let deltas: Vec<_> = (0..4).map(|device| lora(device, 2, 4.0, 1.0)).collect();
    let exact = weighted_mean(&deltas.iter().map(|delta| product(delta)).collect::<Vec<_>>(), &[1.0; 4]);
    let mut before = f64::INFINITY;
    for rank in [1, 2, 4, 7] {
        let made = equally(&deltas, &Options { rank: Some(rank), ..Options::default() });
        let residual = distance(&product(&made.bytes), &exact) / norm(&exact);
        let (module, reported) = &made.residuals[0];
        assert_eq!(module, "enc.q");
        assert!((reported - residual).abs() < 1e-4, "reported {reported}, is {residual}");
        assert!(residual < before, "rank {rank}: {residual}, at the rank below {before}");
        before = residual;
    }
    assert!(before < 2.0 * FP16, "at full rank {before} is left");
}

/// The means of the factors are another matrix altogether, which is why they are never taken.
#[test]
fn the_product_of_means_is_something_else() {
    let deltas: Vec<_> = (0..4).map(|device| lora(device, 2, 4.0, 1.0)).collect();
    let exact = weighted_mean(&deltas.iter().map(|delta| product(delta)).collect::<Vec<_>>(), &[1.0; 4]);
    let factor = |name: &str| weighted_mean(&deltas.iter().map(|d| values(d, name)).collect::<Vec<_>>(), &[1.0; 4]);
    let as_values = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    let tensors: [Learned<'_>; 2] = [
        ("enc.q.lora_A.weight", &[2, 7], as_values(factor("enc.q.lora_A.weight"))),
        ("enc.q.lora_B.weight", &[9, 2], as_values(factor("enc.q.lora_B.weight"))),
    ];
    let wrong = written(&lora_header("", MethodKind::Lora, 2, 4.0), &tensors);
    let best = equally(&deltas, &Options { rank: Some(2), ..Options::default() });
    let (wrong, best) = (distance(&product(&wrong), &exact), distance(&product(&best.bytes), &exact));
    assert!(wrong > 1.3 * best, "factor by factor {wrong}, by products {best}");
}

/// 20 % of the fleet send their change turned round or made larger. The robust rules stay next to what the honest ones
/// learned; a mean without bound goes wherever it is led.
#[test]
fn a_fifth_of_poisoned_deltas_does_not_lead_the_robust_rules() {
    let truth = noise(99, 15);
    let honest = |device: u64| {
        let values = truth.iter().zip(noise(device, 15)).map(|(truth, noise)| truth + 0.1 * noise).collect();
        written(&header(&format!("device {device}")), &[("fc.weight", &[3, 5], values)])
    };
    let poisoned = |device: u64, factor: f32| {
        let values = values(&honest(device), "fc.weight").into_iter().map(|value| value as f32 * factor).collect();
        written(&header(&format!("device {device}")), &[("fc.weight", &[3, 5], values)])
    };
    let truth: Vec<f64> = truth.iter().map(|value| f64::from(*value)).collect();
    for factor in [-1.0, -100.0, 100.0] {
        let mut deltas: Vec<_> = (0..16).map(honest).collect();
        deltas.extend((16..20).map(|device| poisoned(device, factor)));
        let off = |rule, clip| {
            let made = equally(&deltas, &Options { rule, clip, ..Options::default() });
            distance(&values(&made.bytes, "fc.weight"), &truth) / norm(&truth)
        };
        let (median, trimmed) = (off(Rule::Median, None), off(Rule::TrimmedMean { part: 0.2 }, None));
        assert!(median < 0.07 && trimmed < 0.07, "×{factor}: median {median}, trimmed {trimmed}");
        let (mean, clipped) = (off(Rule::Mean, None), off(Rule::Mean, Some(Clip::AtMedian)));
        assert!(mean > 0.35, "×{factor}: mean {mean}");
        // A turned delta is no longer than others, so a bound on the length leaves it at the share it has.
        assert!(clipped < 0.45 && clipped <= mean + 0.01, "×{factor}: clipped {clipped}, mean {mean}");
    }
}

/// Products of factors are measured, shortened and compared as products.
#[test]
fn robust_rules_see_lora_as_what_it_does() {
    // The same change in other factors: 2 B · ½ A.
    let turned = |bytes: &[u8], device: &str, factor: f32| {
        let of = |name, factor: f32| values(bytes, name).into_iter().map(|value| value as f32 * factor).collect();
        let tensors: [Learned<'_>; 3] = [
            ("enc.q.lora_A.weight", &[2, 7], of("enc.q.lora_A.weight", 0.5)),
            ("enc.q.lora_B.weight", &[9, 2], of("enc.q.lora_B.weight", 2.0 * factor)),
            ("head.bias", &[5], of("head.bias", factor)),
        ];
        written(&lora_header(device, MethodKind::Lora, 2, 4.0), &tensors)
    };
    let honest = lora(1, 2, 4.0, 1.0);
    let deltas = [honest.clone(), turned(&honest, "second", 1.0), turned(&honest, "enemy", -30.0)];
    let made = equally(&deltas, &Options { rule: Rule::Median, clip: Some(Clip::AtMedian), ..Options::default() });
    assert_near(&product(&made.bytes), &product(&honest), 4.0 * FP16);
    assert_near(&values(&made.bytes, "head.bias"), &values(&honest, "head.bias"), FP16);
    assert_eq!(made.clipped, 1);
    let expected = (norm(&product(&honest)).powi(2) + norm(&values(&honest, "head.bias")).powi(2)).sqrt();
    for (found, factor) in made.norms.iter().zip([1.0, 1.0, 30.0]) {
        assert!(
            (found - factor * expected).abs() < 1e-3 * factor * expected,
            "{found}, expected {factor} · {expected}"
        );
    }
}

/// A change is what goes beyond the adapter that the round began with.
#[test]
fn lengths_are_measured_from_where_the_round_began() {
    let start = noise(5, 15);
    let moved = |device: &str, by: f32| {
        let values = start.iter().map(|value| value + by).collect();
        written(&header(device), &[("fc.weight", &[3, 5], values)])
    };
    let (reference, deltas) = (moved("release", 0.0), [moved("a", 0.25), moved("b", 0.25), moved("c", 64.0)]);
    let mut read = |index: usize, bytes: &mut Vec<u8>| {
        bytes.extend(&deltas[index]);
        Ok(())
    };
    let options = Options { clip: Some(Clip::AtMedian), ..Options::default() };
    let made = combine(&[1.0; 3], &mut read, Some(&reference), &options).unwrap();
    assert_eq!(made.clipped, 1);
    let expected: Vec<f64> = start.iter().map(|value| f64::from(*value) + 0.25).collect();
    assert_near(&values(&made.bytes, "fc.weight"), &expected, 2.0 * FP16);
    let other = combine(&[1.0; 3], &mut read, Some(&lora(1, 2, 4.0, 1.0)), &options).unwrap_err();
    assert!(matches!(&other, Error::OtherReference(what) if what == "method"), "{other}");
}

/// The outcome says what is common to all and the sum of the samples, nothing that one device says of itself.
#[test]
fn the_outcome_belongs_to_no_device() {
    let mut telling = header("alice's phone");
    (telling.notes, telling.created_unix_s, telling.seed) = ("photographs of the kitchen", Some(5), 3);
    let deltas = [written(&telling, &[("x", &[2], noise(1, 2))]), written(&header("bob"), &[("x", &[2], noise(2, 2))])];
    let made = equally(&deltas, &Options { round: Some(9), ..Options::default() });
    let delta = Delta::parse(&made.bytes).unwrap();
    let header = delta.header();
    assert_eq!((header.device, header.notes, header.created_unix_s, header.seed), ("", "", None, 0));
    assert_eq!((header.samples, header.round, header.base), (14, Some(9), [7; 32]));
    assert_eq!(delta.labels().map(|label| label.samples).collect::<Vec<_>>(), [6, 8]);
}

#[test]
fn what_cannot_be_combined_is_refused_with_its_position() {
    let good = whole(0, 1.0);
    let refused = |other: Vec<u8>| combined(&[good.clone(), other], &[1.0; 2], &Options::default()).unwrap_err();
    let text = |error: Error| error.to_string();
    assert!(matches!(refused(good.clone()), Error::Twice { index: 1, first: 0 }));
    let other_base = Header { base: [8; 32], ..header("b") };
    let shaped = |header: &Header<'_>, sizes: &[u32]| {
        let count = sizes.iter().product::<u32>() as usize;
        written(header, &[("fc.weight", sizes, noise(1, count)), ("fc.bias", &[5], noise(2, 5))])
    };
    assert!(text(refused(shaped(&other_base, &[3, 5]))).contains("delta 1 has another base"));
    assert!(text(refused(shaped(&header("b"), &[5, 3]))).contains("another list of tensors"));
    assert!(text(refused(lora(1, 2, 4.0, 1.0))).contains("another method"));
    let mut damaged = whole(1, 1.0);
    *damaged.last_mut().unwrap() ^= 1;
    let error = text(refused(damaged));
    assert!(error.starts_with("delta 1: the values of tensor"), "{error}");
    assert!(text(refused(b"EDLT".to_vec())).contains("delta 1: the delta is shorter"));
    let dora = written(&lora_header("d", MethodKind::Dora, 2, 4.0), &[("x", &[2], noise(1, 2))]);
    assert!(matches!(
        combined(&[dora], &[1.0], &Options::default()).unwrap_err(),
        Error::Delta { index: 0, source: delta::Error::Factors }
    ));
    let alone = written(&lora_header("d", MethodKind::Lora, 2, 4.0), &[("enc.q.lora_A.weight", &[2, 7], noise(1, 14))]);
    assert!(combined(&[alone], &[1.0], &Options::default()).is_err());
    assert!(matches!(combined(&[], &[], &Options::default()).unwrap_err(), Error::Empty));
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            combined(std::slice::from_ref(&good), &[weight], &Options::default()).unwrap_err(),
            Error::Weight { index: 0, .. }
        ));
    }
    let none = Options { rank: Some(0), ..Options::default() };
    assert!(matches!(combined(&[lora(1, 2, 4.0, 1.0)], &[1.0], &none).unwrap_err(), Error::Rank(0)));
}

/// A store that gives something else at the second reading does not get it in unseen.
#[test]
fn what_changes_between_two_readings_is_found() {
    let deltas = [whole(0, 1.0), lora(1, 2, 4.0, 1.0)];
    let mut readings = 0;
    let mut read = |_: usize, bytes: &mut Vec<u8>| {
        bytes.extend(&deltas[usize::from(readings > 0)]);
        readings += 1;
        Ok(())
    };
    let error = combine(&[1.0], &mut read, None, &Options::default()).unwrap_err();
    assert!(matches!(&error, Error::Unlike { index: 0, what } if what == "method"), "{error}");
    let mut read = |_: usize, _: &mut Vec<u8>| Err("the folder is gone".into());
    let error = combine(&[1.0], &mut read, None, &Options::default()).unwrap_err();
    assert!(error.to_string().contains("delta 0 cannot be read: the folder is gone"), "{error}");
}

/// Two adapters beside each other, factors as what they do, against the products written out.
#[test]
fn adapters_are_compared_by_what_they_do() {
    let both = [lora(1, 2, 4.0, 1.0), lora(2, 3, 6.0, 0.5)];
    let compared = compare([&both[0], &both[1]]).unwrap();
    assert_eq!(compared.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["enc.q", "head.bias"]);
    let plain = [both.each_ref().map(|delta| product(delta)), both.each_ref().map(|delta| values(delta, "head.bias"))];
    for (part, [one, other]) in compared.iter().zip(&plain) {
        let inner: f64 = one.iter().zip(other).map(|(one, other)| one * other).sum();
        let expected = [norm(one), norm(other), distance(one, other), inner / (norm(one) * norm(other))];
        let found = [part.norms[0], part.norms[1], part.difference, part.cosine().unwrap()];
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{}: {found}, expected {expected}", part.name);
        }
        assert_eq!(part.values, one.len());
    }
    let same = compare([&both[0], &both[0]]).unwrap();
    assert!(same.iter().all(|part| part.difference < 1e-6 && part.cosine().unwrap() > 0.999_999));
    let zero = compare([&whole(1, 0.0), &whole(2, 1.0)]).unwrap();
    assert!(zero.iter().all(|part| part.cosine().is_none()));
    assert!(matches!(compare([&both[0], &whole(1, 1.0)]), Err(Error::Unlike { index: 1, .. })));
    assert!(matches!(compare([&both[0], b"PK"]), Err(Error::Delta { index: 1, .. })));
}
