//! The `#[subscribe]` attribute of `final-core`, which re-exports it.

mod attr;
mod check;
mod expand;

use proc_macro::TokenStream;

#[doc = include_str!("subscribe.md")]
#[proc_macro_attribute]
pub fn subscribe(attr: TokenStream, item: TokenStream) -> TokenStream {
    expand::subscribe(attr.into(), item.into()).into()
}
