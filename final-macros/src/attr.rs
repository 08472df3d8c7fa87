//! What stands in the parentheses: `"topic"`, then options.

use proc_macro2::{Span, TokenStream};
use syn::{
    Error, Ident, LitStr, Path, Result, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
};

use crate::check;

/// The arguments of the attribute.
pub(crate) struct Attr {
    pub(crate) topic: LitStr,
    /// Where `final_core` is found, if that is said.
    pub(crate) krate: Option<Path>,
    /// What happens to messages that the function cannot handle, if that is said.
    pub(crate) on_failure: Option<OnFailure>,
}

/// The words of the option `on_failure`.
#[derive(Clone, Copy)]
pub(crate) enum OnFailure {
    DeadLetter,
    Hold,
    HoldTopic,
}

impl Attr {
    /// Reads and checks the arguments.
    ///
    /// What cannot be read is replaced by something that can be used, so that the function still
    /// becomes a handler and the one mistake is the only one reported.
    pub(crate) fn read(tokens: TokenStream) -> (Self, Result<()>) {
        let mut attr = Self {
            topic: LitStr::new("topic", Span::call_site()),
            krate: None,
            on_failure: None,
        };
        let result = (|input: ParseStream<'_>| attr.parse(input)).parse2(tokens);
        (attr, result)
    }

    fn parse(&mut self, input: ParseStream<'_>) -> Result<()> {
        if input.is_empty() {
            let text = "`#[subscribe]` needs a topic: `#[subscribe(\"order.placed\")]`";
            return Err(Error::new(Span::call_site(), text));
        }
        let topic = input.parse::<LitStr>().map_err(|error| {
            let text =
                "the topic comes first and is a string literal: `#[subscribe(\"order.placed\")]`";
            Error::new(error.span(), text)
        })?;
        let checked = check::topic(&topic);
        self.topic = topic;
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if !input.is_empty() {
                self.parse_option(input)?;
            }
        }
        checked
    }

    fn parse_option(&mut self, input: ParseStream<'_>) -> Result<()> {
        // `crate` is a keyword, so not every parser takes it for a name.
        let name = input.call(Ident::parse_any)?;
        if name == "on_failure" {
            return self.parse_on_failure(input);
        }
        if name != "crate" {
            let text = format!("unknown option `{name}`; known options are: `crate`, `on_failure`");
            // Whatever follows belongs to it.
            input.parse::<TokenStream>()?;
            return Err(Error::new(name.span(), text));
        }
        input.parse::<Token![=]>()?;
        if input.peek(LitStr) {
            let text =
                "the option `crate` is a path without quotes: `crate = my_house::final_core`";
            return Err(input.error(text));
        }
        self.krate = Some(input.call(Path::parse_mod_style)?);
        Ok(())
    }

    fn parse_on_failure(&mut self, input: ParseStream<'_>) -> Result<()> {
        input.parse::<Token![=]>()?;
        let word = input.call(Ident::parse_any)?;
        let said = match word.to_string().as_str() {
            "dead_letter" => OnFailure::DeadLetter,
            "hold" => OnFailure::Hold,
            "hold_topic" => OnFailure::HoldTopic,
            _ => {
                let text = "the option `on_failure` is `dead_letter`, `hold` or `hold_topic`";
                return Err(Error::new(word.span(), text));
            }
        };
        self.on_failure = Some(said);
        Ok(())
    }
}
