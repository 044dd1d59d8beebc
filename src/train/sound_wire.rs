//! What is done to sounds, as data have it and as a delta's header says it.

use crate::{data, delta};

/// As a delta says it.
pub(super) fn to_wire(sound: &data::SoundPreprocessing) -> delta::SoundPreprocessing {
    let data::SoundPreprocessing { rate, samples, scale, unit_axis, mel, frames_first } = *sound;
    delta::SoundPreprocessing {
        rate,
        samples,
        scale,
        unit_axis: match unit_axis {
            data::UnitAxis::None => delta::UnitAxis::None,
            data::UnitAxis::First => delta::UnitAxis::First,
            data::UnitAxis::Last => delta::UnitAxis::Last,
        },
        mel: mel.map(|mel| delta::LogMel {
            fft: mel.fft,
            window: mel.window,
            hop: mel.hop,
            mels: mel.mels,
            low_hz: mel.low_hz,
            high_hz: mel.high_hz,
            scale: match mel.scale {
                data::MelScale::Htk => delta::MelScale::Htk,
                data::MelScale::Slaney => delta::MelScale::Slaney,
            },
            same_area: mel.same_area,
            edge: match mel.edge {
                data::Edge::Reflect => delta::Edge::Reflect,
                data::Edge::Zero => delta::Edge::Zero,
                data::Edge::Open => delta::Edge::Open,
            },
            log: match mel.log {
                data::Logarithm::Decibel => delta::Logarithm::Decibel,
                data::Logarithm::Natural => delta::Logarithm::Natural,
            },
            floor: mel.floor,
            frames_first,
        }),
    }
}

/// As a delta has said it.
pub(super) fn from_wire(sound: &delta::SoundPreprocessing) -> data::SoundPreprocessing {
    data::SoundPreprocessing {
        rate: sound.rate,
        samples: sound.samples,
        scale: sound.scale,
        unit_axis: match sound.unit_axis {
            delta::UnitAxis::None => data::UnitAxis::None,
            delta::UnitAxis::First => data::UnitAxis::First,
            delta::UnitAxis::Last => data::UnitAxis::Last,
        },
        mel: sound.mel.as_ref().map(|mel| data::LogMel {
            fft: mel.fft,
            window: mel.window,
            hop: mel.hop,
            mels: mel.mels,
            low_hz: mel.low_hz,
            high_hz: mel.high_hz,
            scale: match mel.scale {
                delta::MelScale::Htk => data::MelScale::Htk,
                delta::MelScale::Slaney => data::MelScale::Slaney,
            },
            same_area: mel.same_area,
            edge: match mel.edge {
                delta::Edge::Reflect => data::Edge::Reflect,
                delta::Edge::Zero => data::Edge::Zero,
                delta::Edge::Open => data::Edge::Open,
            },
            log: match mel.log {
                delta::Logarithm::Decibel => data::Logarithm::Decibel,
                delta::Logarithm::Natural => data::Logarithm::Natural,
            },
            floor: mel.floor,
        }),
        frames_first: sound.mel.as_ref().is_some_and(|mel| mel.frames_first),
    }
}
