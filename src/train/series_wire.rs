//! What is done to sensor series, as data have it and as a delta's header says it.

use crate::{data, delta};

/// As a delta says it.
pub(super) fn to_wire(series: &data::SeriesPreprocessing) -> delta::KeptPreprocessing {
    let pair = |scaler: &data::Scaler| -> Vec<u8> {
        let pairs = scaler.mean.iter().zip(&scaler.std);
        pairs.flat_map(|(mean, std)| [mean.to_le_bytes(), std.to_le_bytes()].concat()).collect()
    };
    let scaler = series.scaler.as_ref().map(pair).unwrap_or_default();
    let channels = series.channels.join("\n");
    let wire = delta::SeriesPreprocessing {
        rate: series.rate,
        resampled: series.resampled,
        rows: series.rows,
        hop: series.hop,
        channels_first: series.channels_first,
        time: series.time.as_deref().unwrap_or_default(),
        unit: match series.unit {
            data::TimeUnit::Seconds => delta::TimeUnit::Seconds,
            data::TimeUnit::Milliseconds => delta::TimeUnit::Milliseconds,
            data::TimeUnit::Microseconds => delta::TimeUnit::Microseconds,
            data::TimeUnit::Nanoseconds => delta::TimeUnit::Nanoseconds,
        },
        channels: &channels,
        scaler: &scaler,
    };
    (&delta::Preprocessing::Series(wire)).into()
}

/// As a delta has said it.
pub(super) fn from_wire(series: &delta::SeriesPreprocessing<'_>) -> data::SeriesPreprocessing {
    let (mean, std) = series.scales().map(|[mean, std]| (mean, std)).unzip();
    data::SeriesPreprocessing {
        rate: series.rate,
        resampled: series.resampled,
        rows: series.rows,
        hop: series.hop,
        channels_first: series.channels_first,
        time: (!series.time.is_empty()).then(|| series.time.into()),
        unit: match series.unit {
            delta::TimeUnit::Seconds => data::TimeUnit::Seconds,
            delta::TimeUnit::Milliseconds => data::TimeUnit::Milliseconds,
            delta::TimeUnit::Microseconds => data::TimeUnit::Microseconds,
            delta::TimeUnit::Nanoseconds => data::TimeUnit::Nanoseconds,
        },
        channels: series.channels.split('\n').map(String::from).collect(),
        scaler: (!series.scaler.is_empty()).then_some(data::Scaler { mean, std }),
    }
}
