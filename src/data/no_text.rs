//! In the place of the crate `tokenizers` where the feature `text` is off: nothing is a tokenizer, and that is said.

// Only a real tokenizer makes these values and reads those fields.
#![allow(dead_code)]

/// No tokenizer is ever made.
#[derive(Debug)]
pub enum Tokenizer {}

/// No text is ever tokenised.
#[derive(Debug)]
pub enum Encoding {}

/// How texts are padded, as a tokenizer states it.
#[derive(Debug)]
pub struct PaddingParams {
    pub direction: PaddingDirection,
    pub pad_id: u32,
    pub pad_type_id: u32,
}

/// On which side texts are padded.
#[derive(Debug)]
pub enum PaddingDirection {
    Left,
}

/// How long texts may be, as a tokenizer states it.
#[derive(Debug, Clone, Default)]
pub struct TruncationParams {
    pub max_length: usize,
    pub stride: usize,
}

impl Tokenizer {
    pub fn from_bytes(_bytes: Vec<u8>) -> Result<Self, String> {
        Err("edgetune was built without the feature `text`".into())
    }

    pub fn get_padding(&self) -> Option<&PaddingParams> {
        match *self {}
    }

    pub fn get_truncation(&self) -> Option<&TruncationParams> {
        match *self {}
    }

    pub fn get_post_processor(&self) -> Option<()> {
        match *self {}
    }

    pub fn with_padding(&mut self, _padding: Option<PaddingParams>) {
        match *self {}
    }

    pub fn with_truncation(&mut self, _truncation: Option<TruncationParams>) -> Result<(), String> {
        match *self {}
    }

    pub fn token_to_id(&self, _token: &str) -> Option<u32> {
        match *self {}
    }

    pub fn encode_fast<T>(&self, _text: T, _special: bool) -> Result<Encoding, String> {
        match *self {}
    }

    pub fn encode<T>(&self, _text: T, _special: bool) -> Result<Encoding, String> {
        match *self {}
    }

    pub fn decode(&self, _tokens: &[u32], _without_special: bool) -> Result<String, String> {
        match *self {}
    }
}

impl Encoding {
    pub fn is_empty(&self) -> bool {
        match *self {}
    }

    pub fn len(&self) -> usize {
        match *self {}
    }

    pub fn get_ids(&self) -> &[u32] {
        match *self {}
    }

    pub fn get_type_ids(&self) -> &[u32] {
        match *self {}
    }

    pub fn get_offsets(&self) -> &[(usize, usize)] {
        match *self {}
    }

    pub fn get_special_tokens_mask(&self) -> &[u32] {
        match *self {}
    }

    pub fn get_overflowing(&self) -> &[Encoding] {
        match *self {}
    }
}
