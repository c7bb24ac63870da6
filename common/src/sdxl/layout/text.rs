//! The modules of a text encoder, by transformers' names.

use super::{Module, Modules};
use crate::block::Block;
use crate::sdxl::Part;
use crate::sdxl::config::TextConfig;

pub(super) fn modules(part: Part, config: &TextConfig) -> Vec<Module> {
    let mut modules = Modules::new(part, Some(Block::BASE));
    let hidden = config.hidden;
    modules.table("text_model.embeddings.token_embedding".to_owned(), config.vocab, hidden);
    modules.table("text_model.embeddings.position_embedding".to_owned(), config.positions, hidden);
    for layer in 0..config.layers {
        let at = format!("text_model.encoder.layers.{layer}");
        modules.norm(format!("{at}.layer_norm1"), hidden);
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            modules.linear(format!("{at}.self_attn.{projection}"), hidden, hidden);
        }
        modules.norm(format!("{at}.layer_norm2"), hidden);
        modules.linear(format!("{at}.mlp.fc1"), hidden, config.mlp);
        modules.linear(format!("{at}.mlp.fc2"), config.mlp, hidden);
    }
    modules.norm("text_model.final_layer_norm".to_owned(), hidden);
    if let Some(width) = config.projection {
        // No format of networks has a name for it.
        modules.block = None;
        modules.linear_without_bias("text_projection".to_owned(), hidden, width);
    }
    modules.all
}
