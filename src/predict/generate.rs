//! Texts that a language model goes on with.

use crate::data::{Language, Preprocessing, prompts};
use crate::delta::Task;
use crate::learn::Context;
use crate::learn::samples::{self, inputs_of};
use crate::recipe::{Error, Reading, refuse};
use crate::task;
use crate::train::artifact::Adapter;
use crate::train::generate::{Continued, Generator, Sampling};
use crate::train::prepare::Base;
use serde::Serialize;
use std::path::PathBuf;

/// A language model that goes on with texts.
pub struct Writer<'a> {
    base: &'a Base,
    context: &'a Context<'a>,
    reading: Reading,
    language: Language,
    generator: Generator,
    sampling: Sampling,
}

/// A prompt and what follows it.
#[derive(Debug, Serialize)]
pub struct Completion {
    /// What was gone on from.
    pub prompt: String,
    /// What follows.
    pub completion: String,
    /// The completion's tokens.
    pub tokens: Vec<u32>,
}

/// Where the model took no more tokens.
#[derive(Debug)]
pub struct Refusal {
    /// The most tokens that it takes.
    pub tokens_max: usize,
    /// What ONNX Runtime said.
    pub words: String,
}

impl<'a> Writer<'a> {
    /// For a base, and what was learned on it if there is an adapter.
    ///
    /// # Errors
    /// Numbers of `sampling` that are out of their range; no tokenizer; what ONNX Runtime refuses.
    pub fn open(
        (base, adapter): (&'a Base, Option<&Adapter>),
        reading: &Reading,
        sampling: Sampling,
        context: &'a Context<'a>,
    ) -> Result<Self, Error> {
        sampling.check()?;
        let beside = adapter.map(|adapter| adapter.path.as_path());
        let learned = adapter.map_or(&Preprocessing::Plain, |adapter| &adapter.preprocessing);
        let reading = samples::with_tokenizer(reading.clone(), base, (beside, learned), context.observer);
        let Some(file) = reading.tokenizer.as_deref() else {
            refuse!(
                "no tokenizer: put the model's tokenizer.json beside the model, or name it with setting `samples.tokenizer = FILE`"
            )
        };
        let language = Language::open(file, reading.bos_token.as_deref(), reading.eos_token.as_deref())?;
        let bundles = context.folders.bundles()?;
        let bundle = adapter.map(|adapter| adapter.bundle(base, &bundles)).transpose()?;
        let learned = bundle.as_ref().map(|(bundle, values)| (bundle, values.as_slice()));
        let generator = Generator::new(base, learned, &bundles, &context.computing.options())?;
        tracing::info!(cache = generator.has_cache(), "ready to generate");
        Ok(Self { base, context, reading, language, generator, sampling })
    }

    /// The prompts in some files.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds no prompts.
    pub fn prompts(&self, files: &[PathBuf]) -> Result<Vec<String>, Error> {
        let target = task::of_wire(Task::LanguageModel).target;
        let inputs = inputs_of(self.base);
        let options = samples::options(Preprocessing::Plain, self.reading.clone(), &inputs, target, None);
        let mut all = Vec::new();
        for file in files {
            all.extend(prompts(file, &options)?.into_iter().map(|(_, text)| text));
        }
        Ok(all)
    }

    /// Goes on with a text until the model ends it, `tokens_max` are made or it is stopped. `show` is given what follows,
    /// piece by piece, as soon as its characters are whole.
    ///
    /// # Errors
    /// A prompt that is too long; what ONNX Runtime refuses.
    pub fn go_on(
        &mut self,
        prompt: &str,
        tokens_max: usize,
        show: &mut dyn FnMut(&str),
    ) -> Result<(Completion, Option<Refusal>), Error> {
        let tokens = self.language.prompt(prompt)?;
        let (language, context) = (&self.language, self.context);
        let mut shown = Shown { language, show, tokens: vec![], bytes: 0 };
        let tell = &mut |token| {
            shown.add(token);
            !context.is_stopped()
        };
        let ends = |token| language.ends_at(token);
        let Continued { tokens, refused } =
            self.generator.generate(&tokens, tokens_max, &self.sampling, &ends, tell)?;
        let completion = self.language.text(&tokens)?;
        let rest = completion.get(shown.bytes..).unwrap_or_default();
        (shown.show)(rest);
        let refusal = refused.map(|(length, words)| Refusal { tokens_max: length - 1, words });
        Ok((Completion { prompt: prompt.into(), completion, tokens }, refusal))
    }
}

/// A text that grows before somebody's eyes.
struct Shown<'a> {
    language: &'a Language,
    show: &'a mut dyn FnMut(&str),
    tokens: Vec<u32>,
    /// How much of the text was shown.
    bytes: usize,
}

impl Shown<'_> {
    /// Shows what a token adds. A character may take several tokens; until the last of them it is a replacement.
    fn add(&mut self, token: u32) {
        self.tokens.push(token);
        let Ok(text) = self.language.text(&self.tokens) else { return };
        if let Some(new) = text.get(self.bytes..).filter(|_| !text.ends_with(char::REPLACEMENT_CHARACTER)) {
            (self.show)(new);
            self.bytes = text.len();
        }
    }
}
