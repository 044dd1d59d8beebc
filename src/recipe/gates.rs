//! What an adapter must meet before it is written, as a recipe says it.

use super::budget::{BYTE_UNITS, parse};
use super::error::{Error, refuse};
use super::{LossName, Recipe};
use serde::{Deserialize, Serialize};

/// How sure the least gain is, where nothing else is said.
const CONFIDENCE: f64 = 0.95;
const LATENCY_UNITS: &[(&str, f64)] = &[("us", 1e-3), ("ms", 1.0), ("s", 1e3)];

/// Measured conditions; what is left open is not asked for. What of the base's knowledge may be lost is `keep-base` of
/// [`super::Retention`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Gates {
    /// Gain over what was there before, at least
    pub gain_min: Option<f64>,
    /// How sure that gain has to be
    pub confidence: Option<f64>,
    /// The expected calibration error, at most
    pub calibration_max: Option<f64>,
    /// Time that the answer to one sample takes on this device, at most
    pub latency_max: Option<String>,
    /// Bytes of the delta, at most
    pub size_max: Option<String>,
    /// Whether an adapter is written that changes no output
    pub allow_idle: bool,
}

impl Gates {
    /// These settings, with what they leave open taken from `other`.
    pub fn or(self, other: Self) -> Self {
        Self {
            gain_min: self.gain_min.or(other.gain_min),
            confidence: self.confidence.or(other.confidence),
            calibration_max: self.calibration_max.or(other.calibration_max),
            latency_max: self.latency_max.or(other.latency_max),
            size_max: self.size_max.or(other.size_max),
            allow_idle: self.allow_idle || other.allow_idle,
        }
    }

    /// How sure the least gain has to be.
    pub fn confidence(&self) -> f64 {
        self.confidence.unwrap_or(CONFIDENCE)
    }

    /// Milliseconds that a sample may take.
    ///
    /// # Errors
    /// A text that is no time.
    pub fn latency_ms(&self) -> Result<Option<f64>, Error> {
        let text = self.latency_max.as_deref();
        text.map(|text| parse("setting `gates.latency-max`", text, LATENCY_UNITS, "20ms")).transpose()
    }

    /// Bytes that the delta may have.
    ///
    /// # Errors
    /// A text that is no amount of bytes.
    pub fn size_bytes(&self) -> Result<Option<f64>, Error> {
        let text = self.size_max.as_deref();
        text.map(|text| parse("setting `gates.size-max`", text, BYTE_UNITS, "64KiB")).transpose()
    }

    fn check(&self) -> Result<(), Error> {
        if let Some(least) = self.gain_min.filter(|least| !(-1.0..1.0).contains(least)) {
            refuse!("setting `gates.gain-min = {least}`: write a share between -1 and 1, such as 0.02");
        }
        if let Some(share) = self.confidence.filter(|share| !(0.5..1.0).contains(share)) {
            refuse!("setting `gates.confidence = {share}`: write a share from 0.5 to below 1, such as 0.95");
        }
        if self.confidence.is_some() && self.gain_min.is_none() {
            refuse!("setting `gates.confidence`: it is of the least gain; add setting `gates.gain-min`, or remove it");
        }
        if let Some(most) = self.calibration_max.filter(|most| !(0.0..=1.0).contains(most)) {
            refuse!("setting `gates.calibration-max = {most}`: write a share from 0 to 1, such as 0.05");
        }
        self.latency_ms()?;
        self.size_bytes()?;
        Ok(())
    }
}

impl Recipe {
    /// Refuses gates out of their range, and those that nothing could be measured for.
    ///
    /// # Errors
    /// The first such setting, with the remedy.
    pub(super) fn check_gates(&self) -> Result<(), Error> {
        self.gates.check()?;
        let of_classes =
            [("gates.calibration-max", self.gates.calibration_max.is_some()), ("calibrate", self.calibrate)];
        let of_classes = of_classes.into_iter().find(|(_, given)| *given).map(|(setting, _)| setting);
        let has_classes = matches!(self.loss, None | Some(LossName::CrossEntropy));
        if let Some(setting) = of_classes.filter(|_| !has_classes) {
            refuse!(
                "setting `{setting}`: only samples of one class each have probabilities that are compared; remove it"
            );
        }
        if self.gates.gain_min.is_some() && self.loss.is_some_and(|loss| !is_of_each_sample(loss)) {
            refuse!(
                "setting `gates.gain-min`: what is learned here is not measured sample by sample, so nothing says how sure a gain is; remove it"
            );
        }
        let held_out = self.val_fraction() > 0.0 || self.val.is_some();
        if self.calibrate && !held_out {
            refuse!(
                "setting `calibrate`: it needs samples that validate; raise setting `val-fraction` above 0, or remove it"
            );
        }
        let measured = self.gates.gain_min.map(|_| "gates.gain-min").or(of_classes);
        if let Some(setting) = measured.filter(|_| !held_out && self.test.is_none()) {
            refuse!(
                "setting `{setting}`: nothing is held out to measure it by; raise setting `val-fraction` above 0, name setting `test`, or remove it"
            );
        }
        Ok(())
    }
}

/// Whether a loss is that of each sample by itself, and edgetune's own.
fn is_of_each_sample(loss: LossName) -> bool {
    matches!(
        loss,
        LossName::CrossEntropy
            | LossName::BinaryCrossEntropy
            | LossName::MeanSquaredError
            | LossName::NextToken
            | LossName::Huber
            | LossName::Coral
            | LossName::TokenCrossEntropy
            | LossName::PixelCrossEntropy
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_have_ranges_and_something_to_measure_by() {
        for (text, part) in [
            ("[gates]\ngain-min = 1.5", "gates.gain-min = 1.5"),
            ("[gates]\ngain-min = 0.1\nconfidence = 1.0", "gates.confidence = 1"),
            ("[gates]\nconfidence = 0.9", "add setting `gates.gain-min`"),
            ("[gates]\ncalibration-max = -0.1", "gates.calibration-max = -0.1"),
            ("[gates]\nlatency-max = '20'", "20ms"),
            ("[gates]\nsize-max = 'small'", "64KiB"),
            ("loss = 'mse'\n[gates]\ncalibration-max = 0.1", "gates.calibration-max"),
            ("loss = 'huber'\ncalibrate = true", "`calibrate`"),
            ("loss = 'triplet'\n[gates]\ngain-min = 0.1", "sample by sample"),
            ("val-fraction = 0.0\n[gates]\ngain-min = 0.1", "nothing is held out"),
            ("val-fraction = 0.0\ntest = 'test'\ncalibrate = true", "needs samples that validate"),
        ] {
            let recipe: Recipe = toml::from_str(text).unwrap();
            let refused = recipe.settings().unwrap_err().to_string();
            assert!(refused.contains(part), "{text}: {refused}");
        }
        let good =
            "val-fraction = 0.0\ntest = 'test'\n[gates]\ngain-min = -0.02\nlatency-max = '1.5 ms'\nsize-max = '1KiB'";
        let recipe: Recipe = toml::from_str(good).unwrap();
        recipe.settings().unwrap();
        assert_eq!((recipe.gates.latency_ms().unwrap(), recipe.gates.size_bytes().unwrap()), (Some(1.5), Some(1024.0)));
        assert_eq!(recipe.gates.confidence(), 0.95);
    }
}
