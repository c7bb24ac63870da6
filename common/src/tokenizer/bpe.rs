//! CLIP's byte-pair encoding, put together out of the parts of the `tokenizers` library.

use super::{END, Error, START};
use std::collections::HashMap;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, NormalizerWrapper, Replace, Sequence, replace::ReplacePattern};
use tokenizers::pre_tokenizers::{
    byte_level::ByteLevel, sequence::Sequence as Splits, split::Split, split::SplitPattern,
};
use tokenizers::{
    AddedToken, DecoderWrapper, PostProcessorWrapper, SplitDelimiterBehavior, TokenizerBuilder, TokenizerImpl,
};

/// The library's tokenizer with CLIP's parts.
pub(super) type Model = TokenizerImpl<BPE, Sequence, Splits, PostProcessorWrapper, DecoderWrapper>;

static VOCABULARY: &str = include_str!("../../assets/clip/vocab.json");
static MERGES: &str = include_str!("../../assets/clip/merges.txt");

/// What ends a token that ends a word.
const WORD_END: &str = "</w>";

/// CLIP's words: its two marks, English contractions, runs of letters, single digits, runs of anything else.
const WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Builds the tokenizer from the built-in vocabulary.
pub(super) fn model() -> Result<Model, Error> {
    let vocabulary: HashMap<String, u32> = serde_json::from_str(VOCABULARY)?;
    let end_mark = mark(&vocabulary, END)?;
    let start_mark = mark(&vocabulary, START)?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary.into_iter().collect::<Vocab>(), merges()?)
        .end_of_word_suffix(WORD_END.to_owned())
        .unk_token(end_mark.clone())
        .build()
        .map_err(library)?;
    let mut model = TokenizerBuilder::new()
        .with_model(bpe)
        .with_normalizer(Some(normalizer()?))
        .with_pre_tokenizer(Some(words()?))
        .with_post_processor(None)
        .with_decoder(None)
        .build()
        .map_err(library)?;
    // Marks in the text count as marks, in capitals too, as they do for the reference.
    let marks = [start_mark, end_mark].map(|content| AddedToken::from(content, true).normalized(true));
    model.add_special_tokens(&marks);
    Ok(model)
}

/// A text's ids, without marks around them.
pub(super) fn ids(model: &Model, text: &str) -> Result<Vec<u32>, Error> {
    Ok(model.encode_fast(text, false).map_err(library)?.get_ids().to_vec())
}

/// The text of a mark by its id.
fn mark(vocabulary: &HashMap<String, u32>, id: u32) -> Result<String, Error> {
    let found = vocabulary.iter().find(|(_, of_token)| **of_token == id);
    found.map(|(token, _)| token.clone()).ok_or_else(|| Error::Library(format!("the vocabulary has no id {id}")))
}

/// Pairs of tokens in the order in which they merge; the file's first line is a comment.
fn merges() -> Result<Merges, Error> {
    let lines = MERGES.lines().enumerate().skip(1);
    let pairs = lines.map(|(number, line)| {
        let (left, right) = line.split_once(' ').ok_or(Error::Merge(number + 1))?;
        Ok((left.to_owned(), right.to_owned()))
    });
    pairs.collect()
}

fn normalizer() -> Result<Sequence, Error> {
    let white_space = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ").map_err(library)?;
    let steps: Vec<NormalizerWrapper> = vec![NFC.into(), white_space.into(), Lowercase.into()];
    Ok(Sequence::new(steps))
}

/// Splits a text into words, and spells their bytes with the vocabulary's printable characters.
fn words() -> Result<Splits, Error> {
    let pattern = SplitPattern::Regex(WORDS.to_owned());
    let words = Split::new(pattern, SplitDelimiterBehavior::Removed, true).map_err(library)?;
    Ok(Splits::new(vec![words.into(), ByteLevel::new(false, true, false).into()]))
}

fn library(error: tokenizers::Error) -> Error {
    Error::Library(error.to_string())
}
