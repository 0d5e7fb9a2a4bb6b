//! The parser that pest makes of `grammar/stockade.pest`.

#[derive(pest_derive::Parser)]
#[grammar = "../grammar/stockade.pest"]
pub(super) struct Grammar;
