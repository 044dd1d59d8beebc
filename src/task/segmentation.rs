//! A class for each pixel of a picture: the ground, a person, a text block.

use super::loss::{Loss, Target as Of};
use super::{Answer, Asked, Counts, Mask, Share, Task, enlarge, largest, softmax};
use crate::data::{IGNORED, IGNORED_PIXEL, Labels, Masks, Target};
use crate::delta;
use crate::graph::Tensor;
use crate::order::Order;

/// Its row.
pub(super) const TASK: Task = Task {
    name: "segmentation",
    target: Target::Pixels,
    wire: delta::Task::Segmentation,
    losses: &["pixel-cross-entropy", "dice-cross-entropy"],
    data: "a folder with `images` and `masks` (PNG, a class number a pixel), or NAME_mask.png beside each picture",
    metric: "mean IoU, accuracy a pixel, IoU of each class",
    answers: "a mask as PNG, and each class's share of the picture",
    example: &[("data", "pages/"), ("loss", "pixel-cross-entropy"), ("train", "head")],
    labels: "a class for each pixel: choose pixel-cross-entropy",
    has: |labels| matches!(labels, Labels::Pixels { .. }),
    width: |labels| Some(labels.names().len() as u64),
    tensor,
    measure,
    commonest,
    figures: |counts| vec![("mean_iou", mean_iou(counts))],
    answer,
};

fn masks(labels: &Labels) -> &Masks {
    let Labels::Pixels { masks, .. } = labels else { unreachable!("labels of another task") };
    masks
}

/// `[samples, height, width]` i64, [`IGNORED`] where a pixel does not count.
fn tensor(labels: &Labels, samples: &[usize]) -> Tensor {
    let masks = masks(labels);
    let [height, width] = masks.size();
    let number = |class: u8| if class == IGNORED_PIXEL { IGNORED } else { i64::from(class) };
    let values: Vec<i64> = samples.iter().flat_map(|sample| masks.pixels(*sample)).map(number).collect();
    Tensor::from_vec(&[samples.len() as u64, height, width], values)
}

/// `output`: `[classes, height, width]` of the mask's size, or the same scores for every pixel.
fn measure(counts: &mut Counts, labels: &Labels, loss: &Loss, output: &[f32], sample: usize) {
    let classes = labels.names().len();
    let pixels = output.len() / classes.max(1);
    let mut scores = vec![0.0f32; classes];
    for (place, class) in masks(labels).pixels(sample).enumerate().filter(|(_, class)| *class != IGNORED_PIXEL) {
        let place = if pixels == 1 { 0 } else { place };
        scores.iter_mut().zip(output.iter().skip(place).step_by(pixels)).for_each(|(to, from)| *to = *from);
        let (right, answered) = (usize::from(class), largest(&scores));
        counts.sum += loss.of_row(&scores, Of::Class(right));
        counts.positions += 1;
        counts.classes[right].0 += 1;
        counts.classes[right].1 += usize::from(answered == right);
        counts.answered[answered] += 1;
        counts.right += usize::from(answered == right);
        counts.decisions += 1;
        if loss.has_overlap() {
            counts.overlap.resize(classes, [0.0; 2]);
            for (class, share) in softmax(&scores).into_iter().enumerate() {
                let overlap = &mut counts.overlap[class];
                overlap[0] += if class == right { f64::from(share) } else { 0.0 };
                overlap[1] += f64::from(share);
            }
        }
    }
}

/// Of each class the pixels that are in both, the labels and the answers, over those that are in either; `None` where it is in neither.
pub fn ious(counts: &Counts) -> Vec<Option<f64>> {
    let classes = counts.classes.iter().zip(&counts.answered);
    let iou = |((labelled, right), answered): (&(usize, usize), &usize)| {
        let either = labelled + answered - right;
        (either > 0).then(|| *right as f64 / either as f64)
    };
    classes.map(iou).collect()
}

/// The mean of [`ious`] over all pixels of all samples, as scikit-learn's `jaccard_score(average="macro")` has it.
fn mean_iou(counts: &Counts) -> f64 {
    let seen: Vec<f64> = ious(counts).into_iter().flatten().collect();
    seen.iter().sum::<f64>() / seen.len().max(1) as f64
}

/// The shares of the classes among the pixels, one more counted in each.
fn commonest(labels: &Labels, samples: &[usize]) -> Option<Vec<f32>> {
    let mut counts = vec![1.0f64; labels.names().len()];
    for sample in samples {
        let pixels = masks(labels).counts(*sample, counts.len());
        counts.iter_mut().zip(pixels).for_each(|(count, more)| *count += more as f64);
    }
    Some(counts.iter().map(|of_class| of_class.ln() as f32).collect())
}

/// The likeliest class of each pixel that the model sees.
fn answer(asked: &Asked<'_>, output: Vec<f32>) -> Answer {
    let classes = asked.names.len().max(1);
    let Some(sizes) = asked.pixels else { return Answer { values: output, ..Answer::default() } };
    let scores = enlarge(&output, sizes.scores, sizes.seen);
    let pixels = scores.len() / classes;
    let mut best: Vec<(u8, f32)> = scores.iter().take(pixels).map(|score| (0, *score)).collect();
    for (class, plane) in scores.chunks_exact(pixels.max(1)).enumerate().skip(1) {
        let better = best.iter_mut().zip(plane).filter(|((_, score), other)| *other > score);
        better.for_each(|(best, score)| *best = (class as u8, *score));
    }
    let mut counts = vec![0usize; classes];
    best.iter().for_each(|(class, _)| counts[usize::from(*class)] += 1);
    let share =
        |(name, count): (&String, &usize)| Share { class: name.clone(), share: *count as f64 / pixels.max(1) as f64 };
    let mut shares: Vec<Share> = asked.names.iter().zip(&counts).map(share).filter(|share| share.share > 0.0).collect();
    shares.order_by(|one, other| other.share.total_cmp(&one.share));
    let mask = Mask { size: sizes.seen, classes: best.into_iter().map(|(class, _)| class).collect() };
    Answer { shares, mask: Some(mask), ..Answer::default() }
}

#[cfg(test)]
mod tests {
    use super::super::Pixels;
    use super::*;

    #[test]
    fn an_answer_is_the_likeliest_class_and_each_class_s_share() {
        let names = ["ground", "text", "figure"].map(String::from);
        // Scores of 1 × 2 pixels: the left one is text, the right one a figure.
        let output = vec![0.0, 0.0, 2.0, -1.0, 0.0, 1.0];
        let pixels = Some(Pixels { scores: [1, 2], seen: [2, 4] });
        let answer = answer(&Asked { names: &names, pixels, ..Asked::default() }, output);
        assert_eq!(answer.mask.unwrap().classes, [1, 1, 2, 2, 1, 1, 2, 2]);
        let told: Vec<_> = answer.shares.iter().map(|share| (share.class.as_str(), share.share)).collect();
        assert_eq!(told, [("text", 0.5), ("figure", 0.5)]);
    }

    #[test]
    fn a_class_that_is_in_neither_is_left_out_of_the_mean() {
        let mut masks = Masks::new(1, 4);
        masks.push(&[0, 0, 1, IGNORED_PIXEL]);
        let labels = Labels::Pixels { names: ["a", "b", "c"].map(String::from).to_vec(), masks };
        let mut counts = Counts::new(&labels);
        let loss = Loss::named("pixel-cross-entropy").unwrap();
        measure(
            &mut counts,
            &labels,
            &loss,
            &[[3.0, 0.0, 0.0, 0.0], [0.0, 3.0, 3.0, 0.0], [0.0, 0.0, 0.0, 9.0]].concat(),
            0,
        );
        assert_eq!(ious(&counts), [Some(0.5), Some(0.5), None]);
        assert_eq!((mean_iou(&counts), counts.right, counts.decisions), (0.5, 2, 3));
    }
}
