//! Which encoding a delta gets: the one that was asked for, or the smallest that does no harm, found by measurement.

use super::observer::Observer;
use crate::delta::{EncodingChoice, Payload};
use crate::order::Order;
use crate::recipe::{EncodingName, Error};
use crate::train::artifact;
use crate::train::evaluate::Metrics;
use crate::train::loss::Loss;
use serde::Serialize;

/// By how much the loss may grow where nothing else is said. Cross-entropies, of which this is a factor of 0.99 on the right
/// answer's probability (a perplexity higher by 1 %), have 0.01; squared errors have the data's units, so theirs is 1 %.
pub fn increase_max(loss: &Loss, reference: f64) -> f64 {
    match loss {
        Loss::MeanSquaredError | Loss::Huber { .. } | Loss::Boxes { .. } | Loss::Normality { .. } => 0.01 * reference,
        // A loss of one's own may be below zero.
        Loss::File(_) => 0.01 * reference.abs(),
        Loss::CrossEntropy { .. }
        | Loss::BinaryCrossEntropy
        | Loss::NextToken
        | Loss::Coral
        | Loss::TokenCrossEntropy { .. }
        | Loss::PixelCrossEntropy { .. }
        | Loss::Ctc
        | Loss::Likeness { .. } => 0.01,
    }
}

/// An encoding that was tried.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct Tried {
    pub encoding: String,
    /// Bytes of all values; the delta's header comes on top.
    pub payload_bytes: usize,
    /// None without validation.
    pub loss: Option<f64>,
    pub accuracy: Option<f64>,
    pub perplexity: Option<f64>,
}

impl Tried {
    fn new(choice: EncodingChoice, payloads: &[Payload], metrics: Option<&Metrics>) -> Self {
        Self {
            encoding: choice.to_string(),
            payload_bytes: size(payloads),
            loss: metrics.map(|metrics| metrics.loss),
            accuracy: metrics.and_then(|metrics| metrics.accuracy),
            perplexity: metrics.and_then(|metrics| metrics.perplexity),
        }
    }
}

fn size(payloads: &[Payload]) -> usize {
    payloads.iter().map(|payload| payload.bytes.len()).sum()
}

/// Learned values as they ship.
#[derive(Debug)]
pub struct Shipped {
    /// What lies in the delta, in the order of the parameters.
    pub payloads: Vec<Payload>,
    /// What a reader finds there.
    pub values: Vec<Vec<f32>>,
    /// What these values showed; none without validation.
    pub metrics: Option<Metrics>,
    /// The encoding.
    pub encoding: String,
    /// All that were tried: fp16 first, then the smallest and so on, up to the one that was taken.
    pub tried: Vec<Tried>,
}

impl Shipped {
    fn new(parameters: &[Vec<f32>], choice: EncodingChoice) -> Result<Self, Error> {
        let payloads = artifact::payloads(parameters, choice)?;
        let read = |(payload, learned): (&Payload, &Vec<f32>)| {
            payload.values(learned.len()).expect("what was just written can be read")
        };
        let values = payloads.iter().zip(parameters).map(read).collect();
        Ok(Self { payloads, values, metrics: None, encoding: choice.to_string(), tried: Vec::new() })
    }
}

/// What values show on the validation samples; nothing where there are none.
pub type Measure<'m> = dyn FnMut(&[Vec<f32>]) -> Result<Option<Metrics>, Error> + 'm;

/// Encodes learned values as asked for. `measure` tells what values show on the validation samples, if there are any;
/// [`EncodingName::Auto`] takes the smallest whose loss is above that of fp16 by at most `bound`, or [`increase_max`].
///
/// # Errors
/// Values that are not finite; what `measure` returned.
pub fn encode(
    parameters: &[Vec<f32>],
    (wanted, bound, loss): (EncodingName, Option<f64>, &Loss),
    measure: &mut Measure<'_>,
    observer: &dyn Observer,
) -> Result<Shipped, Error> {
    let mut tried = Vec::new();
    let mut measured = |mut encoded: Shipped, choice, tried: &mut Vec<Tried>| -> Result<Shipped, Error> {
        encoded.metrics = measure(&encoded.values)?;
        tried.push(Tried::new(choice, &encoded.payloads, encoded.metrics.as_ref()));
        Ok(encoded)
    };
    let reference = measured(Shipped::new(parameters, EncodingChoice::Fp16)?, EncodingChoice::Fp16, &mut tried)?;
    let before = reference.metrics.as_ref().map_or(0.0, |metrics| metrics.loss);
    let mut taken = None;
    match wanted {
        EncodingName::Of(EncodingChoice::Fp16) => {}
        EncodingName::Of(choice) => taken = Some(measured(Shipped::new(parameters, choice)?, choice, &mut tried)?),
        EncodingName::Auto => {
            let bound = bound.unwrap_or_else(|| increase_max(loss, before));
            let mut sizes = Vec::new();
            for choice in EncodingChoice::TRIED {
                sizes.push((size(&artifact::payloads(parameters, choice)?), choice));
            }
            sizes.order_by_key(|(size, _)| *size);
            let smaller = sizes.into_iter().filter(|(bytes, _)| *bytes < size(&reference.payloads));
            for (_, choice) in smaller {
                let encoded = measured(Shipped::new(parameters, choice)?, choice, &mut tried)?;
                if encoded.metrics.as_ref().is_some_and(|metrics| metrics.loss - before <= bound) {
                    taken = Some(encoded);
                    break;
                }
            }
        }
    }
    if tried.len() > 1 {
        tried.iter().for_each(|tried| tell(tried, before, observer));
    }
    Ok(Shipped { tried, ..taken.unwrap_or(reference) })
}

fn tell(tried: &Tried, before: f64, observer: &dyn Observer) {
    let loss = tried.loss.map_or(String::new(), |loss| format!(", loss {loss:.4} ({:+.4})", loss - before));
    let accuracy = tried.accuracy.map_or(String::new(), |accuracy| format!(", accuracy {accuracy:.4}"));
    let perplexity = tried.perplexity.map_or(String::new(), |perplexity| format!(", perplexity {perplexity:.2}"));
    let (name, bytes) = (&tried.encoding, tried.payload_bytes);
    observer.note(&format!("encoding  {name}: {bytes} bytes of values{loss}{accuracy}{perplexity}"));
}

#[cfg(test)]
mod tests {
    use super::super::observer::Told;
    use super::*;

    fn metrics(loss: f64) -> Metrics {
        Metrics {
            loss,
            accuracy: None,
            perplexity: None,
            samples: 9,
            tokens: None,
            figures: Default::default(),
            per_class: Vec::new(),
        }
    }

    /// The loss here is the mean square of what the encoding changed.
    fn encoded(wanted: &str, bound: f64) -> Shipped {
        let learned: Vec<f32> = (0..4096).map(|index| ((index * 37 % 101) as f32 - 50.0) / 64.0).collect();
        let measure = &mut |values: &[Vec<f32>]| {
            let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
            Ok(Some(metrics(1.0 + values[0].iter().zip(&learned).map(square).sum::<f64>() / 4096.0)))
        };
        let how = (wanted.parse().unwrap(), Some(bound), &Loss::MeanSquaredError);
        encode(std::slice::from_ref(&learned), how, measure, &Told::nobody()).unwrap()
    }

    #[test]
    fn auto_takes_the_smallest_within_the_bound() {
        assert_eq!(encoded("auto", 0.0).encoding, "fp16");
        assert_eq!(encoded("auto", 1e-4).encoding, "int8");
        assert_eq!(encoded("auto", 1e-2).encoding, "int4");
        let sign = encoded("auto", 9.0);
        assert_eq!(sign.encoding, "sign");
        assert_eq!(sign.tried.iter().map(|tried| tried.encoding.as_str()).collect::<Vec<_>>(), ["fp16", "sign"]);
        let named: Vec<_> = encoded("auto", 0.0).tried.into_iter().map(|tried| tried.payload_bytes).collect();
        assert!(named[1..].is_sorted() && named[1..].iter().all(|bytes| *bytes < named[0]), "{named:?}");
    }

    #[test]
    fn an_encoding_that_was_asked_for_is_taken_and_compared_with_fp16() {
        let sign = encoded("sign", 0.0);
        assert_eq!((sign.encoding.as_str(), sign.tried.len()), ("sign", 2));
        assert!(sign.metrics.unwrap().loss > sign.tried[0].loss.unwrap());
        assert_eq!(encoded("fp16", 0.0).tried.len(), 1);
        assert!("int5".parse::<EncodingName>().unwrap_err().contains("auto"));
    }

    #[test]
    fn bounds_have_the_loss_s_units() {
        assert_eq!(increase_max(&Loss::NextToken, 4.0), 0.01);
        assert_eq!(increase_max(&Loss::MeanSquaredError, 250.0), 2.5);
    }
}
