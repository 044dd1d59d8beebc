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
    let factors = delta(&[1.0, 2.0], "w", Some(Method { kind: MethodKind::Lora, rank: 1, alpha: 1.0 }));
    let factors = Delta::parse(&factors).unwrap();
    assert_eq!(merge(&[factors.clone(), factors], &[1.0, 1.0]), Err(Error::Factors));
}
