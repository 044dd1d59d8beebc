//! From a recipe's settings to what is done to sensor series: channels, rate and windows, and by whose word.

use super::observer::Observer;
use super::samples::inputs_of;
use crate::data::{self, SeriesColumns, SeriesPreprocessing, SeriesSurvey, TimeUnit};
use crate::graph::{DType, Dim, TensorType};
use crate::recipe::{Error, Samples, refuse};
use crate::train::prepare::Base;
use std::path::Path;

/// Where `edgetune export` says what is done to samples.
const METADATA: &str = "edgetune.preprocessing";
/// What scales nothing, and what brings each channel to mean 0 and deviation 1.
const UNSCALED: &str = "none";
const STANDARD: &str = "standard";

/// The sizes of a model's input behind the batch's; `None` where it leaves one open.
type Sizes = [Option<u64>; 2];

impl Samples {
    /// What is done to the series at `path` for a model's input, without what scales them: that is learned from what trains. `None`
    /// where they are no series.
    ///
    /// # Errors
    /// A setting of series for data of another kind; series that the model does not take, or that cannot be read.
    pub(super) fn series(
        &self,
        base: &Base,
        path: &Path,
        observer: &dyn Observer,
    ) -> Result<Option<SeriesPreprocessing>, Error> {
        let inputs = inputs_of(base);
        let takes = match &inputs[..] {
            [(_, ty)] => takes(ty),
            _ => None,
        };
        let setting = self.series_setting();
        if setting.is_none()
            && takes.is_none_or(|sizes| data::series_width(path).is_none_or(|width| is_flat(sizes, width)))
        {
            return Ok(None);
        }
        let Some(sizes) = takes else {
            let known = inputs.iter().map(|(name, ty)| format!("`{name}` {ty}")).collect::<Vec<_>>().join(", ");
            refuse!(
                "setting `{}`: the model takes no series: its inputs are {known}, and a series is one input of floats such as \
                 [batch, time, channels] or [batch, channels, time]",
                setting.unwrap_or_default()
            )
        };
        self.refuse_others()?;
        if let Some(stated) = self.stated(base, sizes) {
            stated.validate()?;
            observer.note(&format!("series    {} (from the model's metadata `{METADATA}`)", stated.described()));
            return Ok(Some(stated));
        }
        let asked = self.series_columns()?;
        let options =
            data::Options { label: self.label.clone(), group: self.group.clone(), ..data::Options::default() };
        let Some(survey) = data::survey_series(path, &asked, &options)? else {
            refuse!(
                "setting `{}`: {} holds no series: no .csv, .tsv, .jsonl or .npy file; remove the setting",
                setting.unwrap_or_default(),
                path.display()
            )
        };
        let (name, ty) = &inputs[0];
        let series = self.windows(sizes, &survey, &format!("`{name}` ({ty})"))?;
        series.validate()?;
        tell(&series, &survey, &asked, observer);
        Ok(Some(series))
    }

    /// What `edgetune export` has written into the model, where no setting says it otherwise: the model's own answers are by these scales.
    fn stated(&self, base: &Base, sizes: Sizes) -> Option<SeriesPreprocessing> {
        let says = self.series_setting().is_some() || self.scale.is_some() || self.sample_rate.is_some();
        let told: serde_json::Value = serde_json::from_str(base.metadata.get(METADATA).filter(|_| !says)?).ok()?;
        let stated: SeriesPreprocessing = serde_json::from_value(told.get("series")?.clone()).ok()?;
        let fits = sizes.iter().zip(stated.shape()).all(|(size, own)| size.is_none_or(|size| size == own));
        Some(stated).filter(|_| fits && self.layout.is_none())
    }

    /// Whether windows are scaled by the training data.
    ///
    /// # Errors
    /// Another word than those that there are.
    pub fn standardises(&self) -> Result<bool, Error> {
        match self.scale.as_deref() {
            None | Some(STANDARD) => Ok(true),
            Some(UNSCALED) => Ok(false),
            Some(other) => refuse!(
                "setting `samples.scale = {other}`: a series is scaled by `{STANDARD}`, each channel to mean 0 and deviation 1, or \
                 by `{UNSCALED}`"
            ),
        }
    }

    /// The first setting given that only series need.
    fn series_setting(&self) -> Option<&'static str> {
        let given = [
            ("samples.window", self.window.is_some()),
            ("samples.hop", self.hop.is_some()),
            ("samples.channels", self.channels.is_some()),
            ("samples.time", self.time.is_some()),
        ];
        given.into_iter().find_map(|(setting, given)| given.then_some(setting))
    }

    /// Refuses settings that say something of data of other kinds.
    fn refuse_others(&self) -> Result<(), Error> {
        let given = [
            ("samples.preprocessing", self.preprocessing.is_some()),
            ("samples.size", self.size.is_some()),
            ("samples.resize", self.resize.is_some()),
            ("samples.interpolation", self.interpolation.is_some()),
            ("samples.mean", self.mean.is_some()),
            ("samples.std", self.std.is_some()),
            ("samples.duration", self.duration.is_some()),
            ("samples.front-end", self.front_end.is_some()),
            ("samples.tokenizer", self.tokenizer.is_some()),
        ];
        if let Some((setting, _)) = given.into_iter().find(|(_, given)| *given) {
            refuse!("setting `{setting}`: the data are sensor series, which have no use for it; remove it");
        }
        self.standardises().map(drop)
    }

    fn series_columns(&self) -> Result<SeriesColumns, Error> {
        let (time, unit) = match self.time.as_deref().map(|text| (text, text.rsplit_once(':'))) {
            None => (None, None),
            Some((_, Some((column, unit)))) if TimeUnit::named(unit).is_some() => {
                (Some(column.to_string()), TimeUnit::named(unit))
            }
            Some((text, Some((column, unit)))) if unit.len() < 3 && !column.is_empty() => {
                refuse!("setting `samples.time = {text}`: `{unit}` is no unit; there are s, ms, us and ns")
            }
            Some((text, _)) => (Some(text.to_string()), None),
        };
        let names = self.channels.as_deref().unwrap_or_default().split(',').map(|name| name.trim().to_string());
        let channels: Vec<String> = names.filter(|name| !name.is_empty()).collect();
        if self.channels.is_some() && channels.is_empty() {
            refuse!("setting `samples.channels`: no name; write columns with commas between them, such as ax,ay,az");
        }
        let twice = channels.iter().enumerate().find(|(place, name)| channels[..*place].contains(name));
        if let Some((_, name)) = twice {
            refuse!("setting `samples.channels`: `{name}` stands there twice; remove one");
        }
        Ok(SeriesColumns { time, unit, channels, ..SeriesColumns::default() })
    }

    /// The windows, by the settings and the model's input.
    fn windows(&self, sizes: Sizes, survey: &SeriesSurvey, input: &str) -> Result<SeriesPreprocessing, Error> {
        let count = survey.channels.len() as u64;
        let channels_first = self.channels_first(sizes, count, survey, input)?;
        let fixed = sizes[usize::from(channels_first)];
        let (rate, resampled) = match (self.sample_rate, survey.rate) {
            (Some(rate), _) if !rate.is_finite() || rate <= 0.0 => {
                refuse!("setting `samples.sample-rate = {rate}`: write the rows in a second, such as 50 or 0.2")
            }
            (Some(rate), own) => (rate, own.is_some()),
            (None, own) => (own.unwrap_or(0.0), false),
        };
        if rate == 0.0 && survey.time.is_some() {
            refuse!("{}: one row, so nothing tells how many there are in a second", survey.file.display());
        }
        let time =
            |setting: &str, text: &Option<String>| text.as_deref().map(|text| rows_of(setting, text, rate)).transpose();
        let rows = match (time("samples.window", &self.window)?, fixed) {
            (Some(asked), Some(fixed)) if asked != fixed => refuse!(
                "setting `samples.window = {}`: {asked} rows at {} rows in a second, but input {input} takes {fixed}; remove it, or \
                 give setting `samples.sample-rate` so that {fixed} rows are as long",
                self.window.as_deref().unwrap_or_default(),
                rate
            ),
            (Some(rows), _) | (None, Some(rows)) => rows,
            (None, None) => refuse!(
                "input {input} leaves the rows of a window open; give them with setting `samples.window`, such as setting \
                 `samples.window = 2s` or setting `samples.window = 128`"
            ),
        };
        if rows < 2 {
            refuse!(
                "setting `samples.window`: a window has two rows at least, not {rows}{}",
                milliseconds(survey, rate)
            );
        }
        let hop = time("samples.hop", &self.hop)?.unwrap_or((rows / 2).max(1));
        if hop == 0 {
            refuse!(
                "setting `samples.hop`: windows would all start at the same row; give one row at least{}",
                milliseconds(survey, rate)
            );
        }
        let narrow = |rows: u64| u32::try_from(rows).unwrap_or(u32::MAX);
        Ok(SeriesPreprocessing {
            rate,
            resampled,
            rows: narrow(rows),
            hop: narrow(hop),
            channels_first,
            time: survey.time.as_ref().map(|(name, _)| name.clone()),
            unit: survey.time.as_ref().map(|(_, unit)| *unit).unwrap_or_default(),
            channels: survey.channels.clone(),
            scaler: None,
        })
    }

    /// Whether the channels stand before the time in the model's input: the axis that has as many as there are channels.
    fn channels_first(&self, sizes: Sizes, count: u64, survey: &SeriesSurvey, input: &str) -> Result<bool, Error> {
        let asked = match self.layout.as_deref() {
            None => None,
            Some("nct") => Some(true),
            Some("ntc") => Some(false),
            Some(other) => {
                refuse!("setting `samples.layout = {other}`: of a series it is nct (channels before time) or ntc")
            }
        };
        let fits = |axis: usize| sizes[axis].is_none_or(|size| size == count);
        let is_fixed = |axis: usize| sizes[axis] == Some(count);
        match (asked, fits(0), fits(1)) {
            (Some(first), ..) if fits(usize::from(!first)) => Ok(first),
            (None, true, false) => Ok(true),
            (None, false, true) => Ok(false),
            (None, true, true) if is_fixed(0) != is_fixed(1) => Ok(is_fixed(0)),
            (None, true, true) => refuse!(
                "input {input} does not tell which axis the {count} channels are; give setting `samples.layout = nct` (channels before \
                 time) or setting `samples.layout = ntc`"
            ),
            _ => {
                let names = survey.channels.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
                refuse!(
                    "{}: {count} channels ({names}), but input {input} has no axis of {count}; choose the channels that the model \
                     takes with setting `samples.channels = A,B,C`",
                    survey.file.display()
                )
            }
        }
    }
}

/// What else may be wrong where a time is a few rows.
fn milliseconds(survey: &SeriesSurvey, rate: f64) -> String {
    match &survey.time {
        Some((name, TimeUnit::Seconds)) if rate > 0.0 && rate < 10.0 => format!(
            " (column `{name}` is read as seconds, so there are {rate} rows in one; if it counts milliseconds, give setting \
             `samples.time = {name}:ms`)"
        ),
        _ => String::new(),
    }
}

fn tell(series: &SeriesPreprocessing, survey: &SeriesSurvey, asked: &SeriesColumns, observer: &dyn Observer) {
    observer.note(&format!("series    {}", series.described()));
    let time = match &survey.time {
        Some((name, unit)) => format!("time: column {name}, a number in it counts {}", unit.name()),
        None => "no column of time".into(),
    };
    let aside =
        if survey.aside.is_empty() { String::new() } else { format!(", not read: {}", survey.aside.join(", ")) };
    if asked.time.is_none() || asked.channels.is_empty() {
        observer.note(&format!(
            "columns   {time}{aside}; setting `samples.time` COLUMN, setting `samples.channels` A,B,C to change"
        ));
    }
}

/// Reads a length in rows: `2s`, `500ms`, `1min`, or a number of rows.
fn rows_of(setting: &str, text: &str, rate: f64) -> Result<u64, Error> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|time| time.is_finite() && *time > 0.0);
    let units = [("ms", 1e-3), ("min", 60.0), ("h", 3600.0), ("s", 1.0)];
    let seconds = units.iter().find_map(|(unit, each)| Some(number(text.trim().strip_suffix(unit)?)? * each));
    match (seconds, text.trim().parse::<u64>()) {
        (Some(_), _) if rate == 0.0 => refuse!(
            "setting `{setting} = {text}`: nothing tells how many rows there are in a second; name the column of time with setting \
             `samples.time = COLUMN`, or give the rate with setting `samples.sample-rate`"
        ),
        (Some(seconds), _) => Ok((seconds * rate).round() as u64),
        (None, Ok(rows)) => Ok(rows),
        _ => refuse!("setting `{setting} = {text}`: write a time such as 2s or 500ms, or a number of rows"),
    }
}

/// Whether a table of so many columns holds a sample a row, all numbers of a window beside each other.
fn is_flat(sizes: Sizes, columns: usize) -> bool {
    let numbers = sizes.iter().try_fold(1u64, |numbers, size| numbers.checked_mul((*size)?));
    numbers.is_some_and(|numbers| columns as u64 >= numbers)
}

/// The sizes of an input that takes series.
fn takes(ty: &TensorType) -> Option<Sizes> {
    let sizes: Vec<Option<u64>> = ty.shape.as_deref()?.get(1..)?.iter().map(Dim::fixed).collect();
    sizes.try_into().ok().filter(|_| ty.dtype == DType::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(channels: &[&str], rate: Option<f64>) -> SeriesSurvey {
        SeriesSurvey {
            channels: channels.iter().map(|name| name.to_string()).collect(),
            aside: Vec::new(),
            time: rate.map(|_| ("t".into(), TimeUnit::Seconds)),
            rate,
            file: "a.csv".into(),
        }
    }

    fn windows(samples: &Samples, sizes: Sizes, rate: Option<f64>) -> Result<SeriesPreprocessing, String> {
        samples.windows(sizes, &survey(&["x", "y", "z"], rate), "`x`").map_err(|error| error.to_string())
    }

    fn samples_with(window: &str, hop: &str) -> Samples {
        let given = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
        Samples { window: given(window), hop: given(hop), ..Samples::default() }
    }

    #[test]
    fn the_model_says_the_rows_and_the_order_of_axes_where_it_can() {
        let of = |sizes: Sizes| {
            windows(&samples_with("", ""), sizes, Some(50.0))
                .map(|series| (series.rows, series.hop, series.channels_first))
        };
        assert_eq!(of([Some(128), Some(3)]), Ok((128, 64, false)));
        assert_eq!(of([Some(3), Some(128)]), Ok((128, 64, true)));
        assert!(of([None, Some(3)]).unwrap_err().contains("samples.window"));
        assert!(of([Some(3), Some(3)]).unwrap_err().contains("samples.layout"));
        let channels = of([Some(6), Some(128)]).unwrap_err();
        assert!(channels.contains("3 channels (x, y, z)") && channels.contains("samples.channels"), "{channels}");
        let open = |layout: &str| Samples { layout: Some(layout.into()), ..samples_with("1s", "10") };
        assert_eq!(windows(&open("nct"), [None, None], Some(50.0)).map(|series| series.shape()), Ok([3, 50]));
        assert_eq!(windows(&open("ntc"), [None, None], Some(50.0)).map(|series| series.shape()), Ok([50, 3]));
        assert!(windows(&open("nchw"), [None, None], Some(50.0)).unwrap_err().contains("nct"));
    }

    #[test]
    fn lengths_are_times_or_rows_and_what_cannot_be_is_refused() {
        let of = |window: &str, hop: &str, rate| {
            windows(&samples_with(window, hop), [None, Some(3)], rate).map(|series| (series.rows, series.hop))
        };
        assert_eq!(of("2s", "500ms", Some(50.0)), Ok((100, 25)));
        assert_eq!(of("1min", "", Some(0.5)), Ok((30, 15)));
        assert_eq!(of("64", "16", None), Ok((64, 16)));
        let both = windows(&samples_with("2s", ""), [Some(128), Some(3)], Some(50.0)).unwrap_err();
        assert!(both.contains("100 rows") && both.contains("takes 128"), "{both}");
        for (window, hop, rate, told) in [
            ("2s", "", None, "samples.sample-rate"),
            ("10ms", "", Some(50.0), "two rows at least, not 1"),
            ("10s", "", Some(0.05), "samples.time = t:ms"),
            ("2s", "0", Some(50.0), "samples.hop"),
            ("2s", "1ms", Some(50.0), "samples.hop"),
            ("soon", "", Some(50.0), "2s or 500ms"),
            ("-2s", "", Some(50.0), "2s or 500ms"),
        ] {
            let refused = of(window, hop, rate).unwrap_err();
            assert!(refused.contains(told), "{window} {hop}: {refused}");
        }
        let slow = Samples { sample_rate: Some(0.2), ..samples_with("1min", "") };
        let slow = windows(&slow, [None, Some(3)], Some(1.0)).unwrap();
        assert_eq!((slow.rows, slow.resampled), (12, true));
        let zero = Samples { sample_rate: Some(0.0), ..samples_with("2s", "") };
        assert!(windows(&zero, [None, Some(3)], Some(50.0)).unwrap_err().contains("sample-rate = 0"));
    }
}
