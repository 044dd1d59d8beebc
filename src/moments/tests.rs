//! Exactness as a property, and a file that believes nothing.

use super::owned::{About, Moments, sign};
use super::*;
use crate::delta::{KeptPreprocessing, KeyPair, Preprocessing, Task};
use proptest::prelude::*;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

/// Numbers that a seed decides (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn within(&mut self, limit: i64) -> i16 {
        (self.below(2 * limit as usize + 1) as i64 - limit) as i16
    }
}

fn about(task: Task, coordinates: usize) -> About {
    About {
        base: [1; 32],
        basis: [2; 32],
        directions: Directions::Classifier,
        output: "logits".into(),
        appended: false,
        features: coordinates as u32 + 3,
        coordinates: coordinates as u32,
        bits: 16,
        task,
        target_step: if task == Task::Regression { 0.25 } else { 1.0 },
        preprocessing: KeptPreprocessing::default(),
    }
}

/// A sample that owns its numbers.
#[derive(Debug, Clone)]
struct Drawn {
    z: Vec<i16>,
    clipped: u32,
    class: usize,
    row: Vec<i16>,
}

impl Drawn {
    fn sample(&self, task: Task) -> Sample<'_> {
        let target = if task == Task::Classification { Target::Class(self.class) } else { Target::Row(&self.row) };
        Sample { coordinates: &self.z, clipped: self.clipped, target }
    }
}

fn drawn(noise: &mut Noise, (task, m, k): (Task, usize, usize), limit: i64) -> Drawn {
    let y_max = if task == Task::Regression { VALUE_MAX } else { 1 };
    let row = (0..k).map(|_| if task == Task::MultiLabel { noise.below(2) as i16 } else { noise.within(y_max) });
    let row = row.collect();
    let z = (0..m).map(|_| noise.within(limit)).collect();
    Drawn { z, clipped: noise.below(m + 1) as u32, class: noise.below(k), row }
}

fn names(k: usize) -> Vec<String> {
    (0..k).map(|class| ["ant", "bee", "cat", "dog"][class].to_string()).collect()
}

/// Moments of some samples, whose classes are all that there are or only those of these samples.
fn moments_of(task: Task, m: usize, k: usize, samples: &[&Drawn]) -> Moments {
    let mut moments = Moments::new(about(task, m), k, &names(k)).unwrap();
    let rows: Vec<i16> = samples.iter().flat_map(|sample| sample.z.clone()).collect();
    let rest: Vec<(u32, Target)> = samples.iter().map(|sample| (sample.clipped, sample.sample(task).target)).collect();
    moments.add_all(&rows, &rest).unwrap();
    moments
}

fn tasks() -> impl Strategy<Value = Task> {
    prop_oneof![Just(Task::Classification), Just(Task::MultiLabel), Just(Task::Regression)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was added, taken away and put together on the way, in whatever parts and order: the same file.
    #[test]
    fn every_way_to_the_same_samples_ends_in_equal_bytes(task in tasks(), m in 1usize..7, k in 1usize..5, count in 1usize..20, seed: u64) {
        let noise = &mut Noise(seed);
        let limit = [3, 200, VALUE_MAX][noise.below(3)];
        let all: Vec<Drawn> = (0..count).map(|_| drawn(noise, (task, m, k), limit)).collect();
        let wanted = moments_of(task, m, k, &all.iter().collect::<Vec<_>>()).encode().unwrap();

        let mut parts: Vec<Moments> = (0..1 + noise.below(4)).map(|_| moments_of(task, m, k, &[])).collect();
        let mut waiting: Vec<&Drawn> = all.iter().collect();
        while let Some(sample) = (!waiting.is_empty()).then(|| waiting.swap_remove(noise.below(waiting.len()))) {
            let place = noise.below(parts.len());
            // A stranger comes and goes, alone or with the sample that stays.
            let stranger = drawn(noise, (task, m, k), limit);
            match noise.below(4) {
                0 => parts[place].merge(&moments_of(task, m, k, &[sample])).unwrap(),
                1 => {
                    parts[place].merge(&moments_of(task, m, k, &[&stranger, sample])).unwrap();
                    parts[place].subtract(&moments_of(task, m, k, &[&stranger])).unwrap();
                }
                2 => {
                    let whole = parts[place].clone();
                    parts[place].merge(&moments_of(task, m, k, &[sample])).unwrap();
                    let mut other = parts[place].clone();
                    other.subtract(&whole).unwrap();
                    prop_assert_eq!(other.encode().unwrap(), moments_of(task, m, k, &[sample]).encode().unwrap());
                }
                _ => {
                    let mut one = moments_of(task, m, k, &[&stranger]);
                    one.merge(&moments_of(task, m, k, &[sample])).unwrap();
                    one.subtract(&moments_of(task, m, k, &[&stranger])).unwrap();
                    let read = Moments::parse(&one.encode().unwrap()).unwrap();
                    parts[place].merge(&read).unwrap();
                }
            }
        }
        while parts.len() > 1 {
            let part = parts.swap_remove(noise.below(parts.len()));
            let place = noise.below(parts.len());
            parts[place].merge(&part).unwrap();
        }
        prop_assert!(parts[0].encode().unwrap() == wanted);
        prop_assert!(Moments::parse(&wanted).unwrap().encode().unwrap() == wanted);
    }

    /// In the caller's memory, one by one, and many at a time: the same cells; and what was added and taken away was never there.
    #[test]
    fn one_by_one_is_all_at_once_and_taking_away_undoes(task in tasks(), m in 1usize..20, count in 1usize..40, seed: u64) {
        let noise = &mut Noise(seed);
        let limit = [1, 180, 12_000, VALUE_MAX][noise.below(4)];
        let k = 3;
        let all: Vec<Drawn> = (0..count).map(|_| drawn(noise, (task, m, k), limit)).collect();
        let shape = Shape::new(task, m, k).unwrap();
        let mut sums = Sums::zero(shape, vec![7; shape.cells()]).unwrap();
        let mut between = Vec::new();
        for sample in &all {
            between.push(sums.clone());
            sums.add(&sample.sample(task)).unwrap();
        }
        let together = moments_of(task, m, k, &all.iter().collect::<Vec<_>>());
        prop_assert_eq!(sums.cells(), together.sums().cells());
        for (sample, before) in all.iter().zip(&between).rev() {
            sums.remove(&sample.sample(task)).unwrap();
            prop_assert_eq!(&sums, before);
        }
        prop_assert!(sums.remove(&all[0].sample(task)).is_err());
    }
}

#[test]
fn the_largest_numbers_of_the_most_samples_stay_in_range() {
    let sample = Drawn { z: vec![i16::MAX, -i16::MAX], clipped: 2, class: 0, row: vec![i16::MAX] };
    for task in [Task::Classification, Task::Regression] {
        let mut sums = moments_of(task, 2, 1, &[&sample]).sums().clone();
        for _ in 0..31 {
            let same = sums.clone();
            sums.merge(&same).unwrap();
        }
        let (half, before) = (sums.clone(), sums.clone());
        assert_eq!(sums.merge(&half), Err(Error::TooMany));
        assert_eq!(sums, before);
        let mut rest = half;
        rest.remove(&sample.sample(task)).unwrap();
        sums.merge(&rest).unwrap();
        assert_eq!((sums.samples(), sums.product(0, 1)), (SAMPLES_MAX, -SAMPLES_MAX * VALUE_MAX * VALUE_MAX));
        assert_eq!(sums.add(&sample.sample(task)), Err(Error::TooMany));
        // What explains a product of means goes through 128 bits.
        assert_eq!(sums.centered_product(0, 0), 0.0);
    }
}

#[test]
fn what_was_never_added_cannot_be_taken_away() {
    let noise = &mut Noise(5);
    let shape = (Task::Classification, 4, 3);
    let known: Vec<Drawn> = (0..12).map(|_| drawn(noise, shape, 40)).collect();
    let all = moments_of(shape.0, 4, 3, &known.iter().collect::<Vec<_>>());
    let refused = |field| Err(Error::NotContained(field));
    let mut left = all.clone();
    let large = Drawn { z: vec![30_000; 4], clipped: 0, class: 0, row: vec![] };
    assert_eq!(left.subtract(&moments_of(shape.0, 4, 3, &[&large])), refused(Field::Products));
    let many: Vec<&Drawn> = known.iter().chain(&known).collect();
    assert_eq!(left.subtract(&moments_of(shape.0, 4, 3, &many)), refused(Field::Samples));
    let mut other = Moments::new(about(shape.0, 4), 1, &["zebra".into()]).unwrap();
    other.add_all(&known[0].z, &[(0, Target::Class(0))]).unwrap();
    assert_eq!(left.subtract(&other), refused(Field::Labels));
    assert_eq!(left, all);
    let mut alone = moments_of(shape.0, 4, 3, &[&known[0]]);
    assert_eq!(alone.subtract(&moments_of(shape.0, 4, 3, &[&known[1]])).is_err(), known[0].z != known[1].z);
}

#[test]
fn a_class_comes_and_goes_by_its_name() {
    let noise = &mut Noise(9);
    let parts: Vec<Moments> = ["dog", "ant", "cat"]
        .iter()
        .map(|name| {
            let mut part = Moments::new(about(Task::Classification, 2), 1, &[name.to_string()]).unwrap();
            part.add_all(&[noise.within(9), noise.within(9)], &[(0, Target::Class(0))]).unwrap();
            part
        })
        .collect();
    let joined = |order: [usize; 3]| {
        let mut all = parts[order[0]].clone();
        order[1..].iter().for_each(|part| all.merge(&parts[*part]).unwrap());
        all
    };
    let all = joined([0, 1, 2]);
    assert_eq!(all.labels(), ["ant", "cat", "dog"]);
    for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        assert_eq!(joined(order), all);
    }
    let mut without = all.clone();
    without.subtract(&parts[2]).unwrap();
    assert_eq!(without.labels(), ["ant", "dog"]);
    let mut never = parts[0].clone();
    never.merge(&parts[1]).unwrap();
    assert_eq!(without.encode().unwrap(), never.encode().unwrap());
}

#[test]
fn unlike_moments_are_told_by_what_differs() {
    let base = moments_of(Task::Classification, 2, 2, &[]);
    let differs = |change: &dyn Fn(&mut About), field: Field| {
        let mut about = about(Task::Classification, 2);
        change(&mut about);
        let other = Moments::new(about, 2, &names(2)).unwrap();
        assert_eq!(base.clone().merge(&other), Err(Error::Unlike(field)));
        assert_eq!(base.clone().subtract(&other), Err(Error::Unlike(field)));
    };
    differs(&|about| about.base[3] = 0, Field::Base);
    differs(&|about| about.basis[3] = 0, Field::Basis);
    differs(&|about| about.coordinates = 3, Field::Coordinates);
    differs(&|about| about.bits = 8, Field::Bits);
    differs(&|about| about.appended = true, Field::Output);
    differs(&|about| about.preprocessing = (&Preprocessing::Text { max_length: 4 }).into(), Field::Preprocessing);
    let numbers = |step| {
        let about = About { target_step: step, ..about(Task::Regression, 2) };
        Moments::new(about, 1, &[]).unwrap()
    };
    assert_eq!(numbers(0.5).merge(&numbers(0.25)), Err(Error::Unlike(Field::TargetStep)));
}

/// A file of each task.
fn files() -> Vec<Vec<u8>> {
    let file = |task| {
        let noise = &mut Noise(3);
        let all: Vec<Drawn> = (0..9).map(|_| drawn(noise, (task, 5, 3), 100)).collect();
        moments_of(task, 5, 3, &all.iter().collect::<Vec<_>>()).encode().unwrap()
    };
    [Task::Classification, Task::MultiLabel, Task::Regression].map(file).to_vec()
}

/// Puts the hash right again, as an attacker would.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 32;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..6]).update(&bytes[8..end]);
    bytes[end..].copy_from_slice(hasher.finalize().as_bytes());
    bytes
}

#[test]
fn no_byte_of_a_file_can_change_unseen() {
    for bytes in files() {
        assert!(Moments::parse(&bytes).is_ok());
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1 << (place % 8);
            assert!(Moments::parse(&changed).is_err(), "byte {place}");
            assert!(Moments::parse(&bytes[..place]).is_err(), "cut at {place}");
        }
        assert_eq!(Moments::parse(&[&bytes[..], &[0]].concat()), Err(Error::TooLong));
        assert_eq!(Moments::parse(b"EDLT............"), Err(Error::Magic));
    }
}

/// With the hash put right, what is read is either refused, or the one encoding of what it says.
#[test]
fn what_an_attacker_seals_is_refused_or_has_one_form() {
    let mut accepted = 0;
    for bytes in files() {
        for place in 0..bytes.len() - 32 {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                let changed = resealed(changed);
                if let Ok(moments) = Moments::parse(&changed) {
                    assert!(moments.encode().unwrap() == changed, "byte {place}: two forms");
                    accepted += 1;
                }
            }
        }
    }
    assert!(accepted > 0, "a hash of the base may be any");
}

/// Cells that no data give, sealed as if they were.
#[test]
fn sums_that_no_data_give_are_refused_with_the_field() {
    let tampered = |task: Task, change: &dyn Fn(Shape, &mut [i64])| {
        let noise = &mut Noise(11);
        let all: Vec<Drawn> = (0..30).map(|_| drawn(noise, (task, 4, 3), 100)).collect();
        let mut moments = moments_of(task, 4, 3, &all.iter().collect::<Vec<_>>());
        let shape = moments.sums().shape();
        change(shape, moments.sums_mut().cells_mut());
        Moments::parse(&moments.encode().unwrap()).unwrap_err()
    };
    let classes = |change: &dyn Fn(Shape, &mut [i64])| tampered(Task::Classification, change);
    let numbers = |change: &dyn Fn(Shape, &mut [i64])| tampered(Task::Regression, change);
    let impossible = Error::Impossible;
    assert_eq!(classes(&|shape, cells| cells[shape.product_at(1, 1)] = -2), impossible(Field::Products));
    assert_eq!(classes(&|shape, cells| cells[shape.product_at(1, 1)] = 1 << 40), impossible(Field::Products));
    assert_eq!(classes(&|shape, cells| cells[shape.product_at(0, 1)] = 1 << 30), impossible(Field::Products));
    assert_eq!(classes(&|shape, cells| cells[shape.product_at(2, 2)] += 1), impossible(Field::Sums));
    assert_eq!(classes(&|shape, cells| cells[shape.mixed_at(0, 1)] += 1 << 20), impossible(Field::Sums));
    assert_eq!(classes(&|shape, cells| cells[shape.mixed_at(4, 0)] = 31), impossible(Field::Counts));
    assert_eq!(classes(&|shape, cells| cells[shape.clipped_at()] = 121), impossible(Field::Clipped));
    assert_eq!(numbers(&|shape, cells| cells[shape.squares_at()] = -1), impossible(Field::Squares));
    assert_eq!(numbers(&|shape, cells| cells[shape.mixed_at(4, 0)] = 1 << 40), impossible(Field::Counts));
    // Each product is small enough beside its squares, but all of them together are those of nothing.
    let scatter = |shape: Shape, cells: &mut [i64]| {
        for (i, j, sign) in [(0, 1, 1), (1, 2, 1), (0, 2, -1)] {
            let most = cells[shape.product_at(i, i)].min(cells[shape.product_at(j, j)]) * 9 / 10;
            cells[shape.product_at(i, j)] = sign * most;
        }
    };
    assert_eq!(classes(&scatter), impossible(Field::Scatter));
    assert_eq!(numbers(&scatter), impossible(Field::Scatter));
    // A target that is explained better than perfectly.
    let mixed = |shape: Shape, cells: &mut [i64]| {
        let most = |square: i64, own: i64| ((square as f64 * own as f64).sqrt() * 0.9) as i64;
        for i in 0..4 {
            cells[shape.mixed_at(i, 0)] = most(cells[shape.squares_at()], cells[shape.product_at(i, i)]);
        }
    };
    assert_eq!(numbers(&mixed), impossible(Field::Mixed));
    let none = moments_of(Task::Classification, 4, 3, &[]).encode();
    assert_eq!(none, Err(Error::Wrong(Field::Samples)));
}

#[test]
fn a_signature_is_of_one_key_and_leaves_the_identity() {
    let key = KeyPair::from_secret(&[7; 32]);
    for bytes in files() {
        let signed = sign(&bytes, &key).unwrap();
        let view = View::parse(&signed).unwrap();
        assert_eq!((view.verify(&key.public()), view.verify(&[1; 32])), (Ok(()), Err(Error::OtherKey)));
        assert_eq!(View::parse(&bytes).unwrap().verify(&key.public()), Err(Error::Unsigned));
        assert_eq!(view.identity(), View::parse(&bytes).unwrap().identity());
        assert_eq!(sign(&signed, &key).unwrap(), signed);
        let mut wrong = signed.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(Moments::parse(&wrong).unwrap_err(), Error::Signature);
        let mut of_delta = signed.clone();
        let end = of_delta.len() - 64;
        of_delta[end..].copy_from_slice(&crate::delta::signature_of("edgetune delta 1", view.identity(), &key));
        assert_eq!(Moments::parse(&of_delta).unwrap_err(), Error::Signature);
    }
}

/// The normal equations hold, each coordinate in the units of its step; and the intercept is that of the means.
#[test]
fn a_head_solves_its_equations() {
    let noise = &mut Noise(21);
    let (m, k) = (6, 3);
    let all: Vec<Drawn> = (0..40).map(|_| drawn(noise, (Task::Classification, m, k), 60)).collect();
    let moments = moments_of(Task::Classification, m, k, &all.iter().collect::<Vec<_>>());
    let sums = moments.sums();
    let steps: Vec<f32> = (0..m).map(|i| 0.5 + i as f32).collect();
    let (mut lent, mut weights) = (vec![0.0; work(m)], vec![0.0; k * (m + 1)]);
    solve(sums, &steps, 0.1, &mut lent, &mut weights).unwrap();
    let step = |i: usize| f64::from(steps[i]);
    let product = |i: usize, j: usize| step(i) * step(j) * sums.centered_product(i.min(j), i.max(j));
    let lambda = 0.1 * (0..m).map(|i| product(i, i)).sum::<f64>() / m as f64;
    for (class, row) in weights.chunks(m + 1).enumerate() {
        for i in 0..m {
            let left: f64 = (0..m).map(|j| product(i, j) * row[j]).sum::<f64>() + lambda * row[i];
            let right = 2.0 * step(i) * sums.centered_mixed(i, class);
            assert!((left - right).abs() < 1e-9 * right.abs().max(1e3), "{left} {right}");
        }
        // On average a class is foretold as often as it is there.
        let score = |sample: &Drawn| {
            row[m] + sample.z.iter().enumerate().map(|(i, z)| row[i] * step(i) * f64::from(*z)).sum::<f64>()
        };
        let mean = all.iter().map(score).sum::<f64>() / all.len() as f64;
        let wanted = 2.0 * sums.count(class) as f64 / all.len() as f64 - 1.0;
        assert!((mean - wanted).abs() < 1e-9, "{mean} {wanted}");
    }
    assert_eq!(solve(sums, &steps, 0.0, &mut lent, &mut weights), Err(Error::Penalty));
    assert_eq!(solve(sums, &steps[1..], 0.1, &mut lent, &mut weights), Err(Error::Shape));
}

#[test]
fn coordinates_are_rounded_clipped_and_the_same_in_flash() {
    let close = |value, step, bits| quantise(value, step, value_max(bits));
    assert_eq!(close(0.74, 0.5, 16), (1, false));
    assert_eq!(close(-0.75, 0.5, 16), (-2, false));
    assert_eq!(close(64.0, 0.5, 8), (127, true));
    assert_eq!(close(f32::NEG_INFINITY, 0.5, 16), (-32_767, true));
    let directions = [1.0, 0.0, 0.0, 2.0, 1.0, -1.0];
    let projection = Projection { center: &[1.0, 0.0, 0.0], directions: &directions, steps: &[0.5, 0.25], bits: 4 };
    let (mut work, mut z) = ([0.0; 2], [0; 2]);
    assert_eq!(projection.apply(&[2.0, 1.0, 0.5], &mut work, &mut z), Ok(0));
    assert_eq!(z, [3, 6]);
    assert_eq!(projection.apply(&[2.0, 1.0, 9.0], &mut work, &mut z), Ok(2));
    assert_eq!(z, [7, -7]);
    assert_eq!(projection.apply(&[2.0, f32::NAN, 9.0], &mut work, &mut z), Err(Error::NotFinite));
    assert_eq!(projection.apply(&[2.0], &mut work, &mut z), Err(Error::Shape));
    let identity = Projection { directions: &[], center: &[], ..projection };
    assert_eq!(identity.apply(&[1.0, -0.5], &mut work, &mut z), Ok(0));
    assert_eq!(z, [2, -2]);
}
