//! Texts that a language model goes on with, as `predict` shows them.

use super::Done;
use super::inputs::Asked;
use super::print::Printer;
use crate::delta::Task;
use crate::learn::Context;
use crate::predict::Writer;
use crate::recipe::Reading;
use crate::train::artifact::Adapter;
use crate::train::generate::Sampling;
use crate::train::prepare::Base;
use anyhow::{Result, bail};
use clap::Args;

/// How a language model goes on from a text.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Language models")]
pub struct Generating {
    /// Text that the model continues, repeatable; or name a file of texts as INPUT
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

/// Goes on from each prompt with a base, and with what was learned on it if there is an adapter.
pub fn generate(
    model: (&Base, Option<&Adapter>),
    (generating, inputs, reading): (&Generating, &Asked, &Reading),
    context: &Context<'_>,
    printer: &Printer,
) -> Result<Done> {
    let Generating { temperature, top_k, top_p, seed, .. } = *generating;
    let mut writer = Writer::open(model, reading, Sampling { temperature, top_k, top_p, seed }, context)?;
    let mut asked = generating.prompt.clone();
    match inputs {
        Asked::Texts { texts, .. } => asked.extend_from_slice(texts),
        Asked::Paths(files) => asked.extend(writer.prompts(files)?),
    }
    let mut all = Vec::with_capacity(asked.len());
    for prompt in asked {
        printer.piece(&prompt);
        let (completion, refusal) =
            writer.go_on(&prompt, generating.max_new_tokens, &mut |piece| printer.piece(piece))?;
        printer.text("");
        if let Some(refusal) = refusal {
            let (most, words) = (refusal.tokens_max, refusal.words);
            printer.warn(format!("the model takes no more than {most} tokens; lower --max-new-tokens ({words})"));
        }
        if context.is_stopped() {
            return Ok(Done::Interrupted);
        }
        all.push(completion);
    }
    printer.document(&all);
    Ok(Done::Fully)
}

/// Whether the command is about a language model.
///
/// # Errors
/// A prompt for another kind of model; no adapter for one.
pub fn is_asked(adapter: Option<&Adapter>, generating: &Generating) -> Result<bool> {
    match adapter.map(|adapter| adapter.task) {
        Some(Task::LanguageModel) => Ok(true),
        None => Ok(!generating.prompt.is_empty()),
        Some(_) if !generating.prompt.is_empty() => {
            bail!("--prompt: the adapter is not of a language model; name images, or a table or text file, as INPUT")
        }
        Some(_) => Ok(false),
    }
}
