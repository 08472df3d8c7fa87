//! What `#[subscribe]` writes.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, Error, FnArg, Ident, ItemFn, Path, ReturnType, Type, Visibility, ext::IdentExt,
    parse_quote_spanned, spanned::Spanned,
};

use crate::{
    attr::{Attr, OnFailure},
    check,
};

/// The attribute, from tokens to tokens.
pub(crate) fn subscribe(attr: TokenStream, item: TokenStream) -> TokenStream {
    let mut function = match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) => function,
        Err(_) => {
            let text = "`#[subscribe]` belongs on a free `async fn`";
            let error = Error::new_spanned(first(item.clone()), text).into_compile_error();
            return quote!(#error #item);
        }
    };
    let (attr, attr_is_fine) = Attr::read(attr);
    let function_is_fine = check::function(&function);
    let as_it_is = function.to_token_stream();
    // A function is made a handler even with a wrong topic, or without `async`: else every use of it
    // would complain, too, and bury the one message that matters.
    function.sig.asyncness.get_or_insert_default();
    let output = match check::function(&function) {
        Ok(()) => handler(attr, function),
        Err(_) => as_it_is,
    };
    let mistakes = [attr_is_fine, function_is_fine]
        .into_iter()
        .filter_map(Result::err);
    let mistakes = mistakes.map(Error::into_compile_error);
    quote!(#(#mistakes)* #output)
}

/// An error about the whole item points at its beginning.
fn first(item: TokenStream) -> TokenStream {
    item.into_iter().take(1).collect()
}

/// The function as a handler that knows its topic.
///
/// The `async fn` moves inside a function of the same name, which attaches the topic's type to its
/// future. That type has a name of its own: one named like the function would be in the way of a module
/// of that name.
fn handler(attr: Attr, mut function: ItemFn) -> TokenStream {
    let Attr {
        topic,
        krate,
        on_failure,
    } = attr;
    // With the span of the user's own `fn`, the lints take what is written here for the user's, too, and
    // report a handler that is never registered; and errors about the future point there.
    let span = function.sig.fn_token.span;
    let krate = krate.unwrap_or_else(|| parse_quote_spanned!(span=> ::final_core));
    let (outer, inner) = split_attributes(std::mem::take(&mut function.attrs));
    function.attrs = inner;
    let vis = std::mem::replace(&mut function.vis, Visibility::Inherited);
    let (name, types) = (function.sig.ident.clone(), argument_types(&function));
    let marker = format_ident!("__subscribed_{}", name.unraw(), span = name.span());
    let arguments: Vec<Ident> = (0..types.len())
        .map(|at| Ident::new(&format!("arg{at}"), Span::mixed_site()))
        .collect();
    let output = output_type(&function);
    let is_outcome = is_outcome(&krate, &function);
    let on_failure = on_failure.map(|said| on_failure_const(&krate, said));
    let gates = outer.iter().filter(|attr| attr.path().is_ident("cfg"));
    let hidden = quote! {
        #(#gates)*
        #[doc(hidden)]
        #[allow(dead_code, missing_debug_implementations, non_camel_case_types, unreachable_pub)]
    };

    let wrapper = quote_spanned! {span=>
        #vis fn #name(#(#arguments: #types),*) -> #krate::handler::Subscribed<
            #marker,
            impl ::core::future::Future<Output = #output> + ::core::marker::Send,
        > {
            #function
            #krate::handler::Subscribed::new(#name(#(#arguments),*))
        }
    };

    quote! {
        #(#outer)*
        #wrapper

        #hidden
        #vis enum #marker {}

        const _: () = {
            impl #krate::handler::SubscribedTopic for #marker {
                const TOPIC: &'static str = #topic;
                const NAME: &'static str = ::core::concat!(
                    ::core::module_path!(), "::", ::core::stringify!(#name),
                );
                #on_failure
            }

            #is_outcome
        };
    }
}

/// Lint levels, documentation and what callers see stay outside, where they hold for the inside, too.
/// Everything else may want the `async fn` itself.
fn split_attributes(attributes: Vec<Attribute>) -> (Vec<Attribute>, Vec<Attribute>) {
    const OUTER: [&str; 9] = [
        "allow",
        "cfg",
        "deny",
        "deprecated",
        "doc",
        "expect",
        "forbid",
        "must_use",
        "warn",
    ];
    attributes
        .into_iter()
        .partition(|attr| OUTER.iter().any(|name| attr.path().is_ident(name)))
}

fn argument_types(function: &ItemFn) -> Vec<Type> {
    let inputs = function.sig.inputs.iter();
    inputs
        .filter_map(|argument| match argument {
            FnArg::Typed(argument) => Some((*argument.ty).clone()),
            FnArg::Receiver(_) => None,
        })
        .collect()
}

fn output_type(function: &ItemFn) -> Type {
    match &function.sig.output {
        ReturnType::Default => parse_quote_spanned!(function.sig.fn_token.span=> ()),
        ReturnType::Type(_, ty) => (**ty).clone(),
    }
}

/// What the option `on_failure` becomes.
fn on_failure_const(krate: &Path, said: OnFailure) -> TokenStream {
    let handler = quote!(#krate::handler);
    let said = match said {
        OnFailure::DeadLetter => quote!(DeadLetter),
        OnFailure::Hold => quote!(Hold(#handler::Hold::Key)),
        OnFailure::HoldTopic => quote!(Hold(#handler::Hold::Topic)),
    };
    quote! {
        const ON_FAILURE: ::core::option::Option<#handler::OnFailure> =
            ::core::option::Option::Some(#handler::OnFailure::#said);
    }
}

/// Lets the compiler check the result, and point at it.
fn is_outcome(krate: &Path, function: &ItemFn) -> TokenStream {
    let ReturnType::Type(_, ty) = &function.sig.output else {
        return TokenStream::new();
    };
    quote_spanned! {ty.span()=>
        const _: () = {
            const fn is_what_a_handler_may_return<T: #krate::handler::IntoOutcome>() {}
            is_what_a_handler_may_return::<#ty>()
        };
    }
}
