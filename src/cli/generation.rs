//! Texts that a language model goes on with, as `predict` shows them.

use super::Done;
use super::args::{Compute, Global};
use super::inputs::Asked;
use super::print::Printer;
use super::run::inputs_of;
use super::samples::{self, Reading};
use super::settings;
use crate::data::{Language, Preprocessing, prompts};
use crate::train::artifact::Adapter;
use crate::train::generate::{Continued, Generator, Sampling};
use crate::train::prepare::Base;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a language model goes on from a text.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Language models")]
pub struct Generating {
    /// Text to go on from, repeatable; or name a file of them as INPUT
    #[arg(long, value_name = "TEXT")]
    pub prompt: Vec<String>,
    /// Tokens to go on with, at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_new_tokens: usize,
    /// 0 takes the likeliest token; above it tokens are drawn, the more freely the higher
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw from so many of the likeliest tokens only [default: all]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the likeliest tokens that have this probability together [default: all]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Decides what is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// A prompt and what follows it.
#[derive(Debug, Serialize)]
struct Generated {
    prompt: String,
    completion: String,
    /// The completion's tokens.
    tokens: Vec<u32>,
}

/// Goes on from each prompt with a base, and with what was learned on it if there is an adapter.
pub fn generate(
    (base, adapter): (&Base, Option<&Adapter>),
    (generating, inputs, reading): (&Generating, &Asked, &Reading),
    compute: &Compute,
    (global, printer): (&Global, &Printer),
    stop: &AtomicBool,
) -> Result<Done> {
    let Generating { temperature, top_k, top_p, seed, .. } = *generating;
    let sampling = Sampling { temperature, top_k, top_p, seed };
    sampling.check()?;
    let reading =
        samples::with_tokenizer(reading.clone(), base, adapter.map(|adapter| adapter.path.as_path()), printer);
    let file = reading
        .tokenizer
        .as_deref()
        .context("no tokenizer: put the model's tokenizer.json beside the model, or name it with --tokenizer FILE")?;
    let language = Language::open(file, reading.bos_token.as_deref(), reading.eos_token.as_deref())?;
    let target = settings::target_of(crate::delta::Task::LanguageModel);
    let plain = samples::options(Preprocessing::Plain, reading.clone(), &inputs_of(base), target, None);
    let mut asked = generating.prompt.clone();
    match inputs {
        Asked::Texts { texts, .. } => asked.extend_from_slice(texts),
        Asked::Paths(files) => {
            for file in files {
                asked.extend(prompts(file, &plain)?.into_iter().map(|(_, text)| text));
            }
        }
    }
    let bundles = global.bundles()?;
    let bundle = adapter.map(|adapter| adapter.bundle(base, &bundles)).transpose()?;
    let learned = bundle.as_ref().map(|(bundle, values)| (bundle, values.as_slice()));
    let mut generator = Generator::new(base, learned, &bundles, &compute.options())?;
    tracing::info!(cache = generator.has_cache(), prompts = asked.len(), "ready to generate");
    let mut all = Vec::with_capacity(asked.len());
    for prompt in asked {
        let tokens = language.prompt(&prompt)?;
        let mut shown = Shown { language: &language, printer, tokens: vec![], bytes: 0 };
        printer.piece(&prompt);
        let tell = &mut |token| {
            shown.add(token);
            !stop.load(Ordering::Relaxed)
        };
        let ends = |token| language.ends_at(token);
        let Continued { tokens, refused } =
            generator.generate(&tokens, generating.max_new_tokens, &sampling, &ends, tell)?;
        let completion = language.text(&tokens)?;
        printer.piece(completion.get(shown.bytes..).unwrap_or_default());
        printer.text("");
        if let Some((length, words)) = refused {
            let most = length - 1;
            printer.warn(format!("the model takes no more than {most} tokens; lower --max-new-tokens ({words})"));
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(Done::Interrupted);
        }
        all.push(Generated { prompt, completion, tokens });
    }
    printer.document(&all);
    Ok(Done::Fully)
}

/// A text that grows on the screen.
struct Shown<'a> {
    language: &'a Language,
    printer: &'a Printer,
    tokens: Vec<u32>,
    /// How much of the text is on the screen.
    bytes: usize,
}

impl Shown<'_> {
    /// Shows what a token adds. A character may take several tokens; until the last of them it is a replacement.
    fn add(&mut self, token: u32) {
        self.tokens.push(token);
        let Ok(text) = self.language.text(&self.tokens) else { return };
        if let Some(new) = text.get(self.bytes..).filter(|_| !text.ends_with(char::REPLACEMENT_CHARACTER)) {
            self.printer.piece(new);
            self.bytes = text.len();
        }
    }
}

/// Whether the command is about a language model.
///
/// # Errors
/// A prompt for another kind of model; no adapter for one.
pub fn is_asked(adapter: Option<&Adapter>, generating: &Generating) -> Result<bool> {
    match adapter.map(|adapter| adapter.task) {
        Some(crate::delta::Task::LanguageModel) | None => Ok(true),
        Some(_) if !generating.prompt.is_empty() => {
            bail!("--prompt: the adapter is not of a language model; name images, or a table or text file, as INPUT")
        }
        Some(_) => Ok(false),
    }
}
