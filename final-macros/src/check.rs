//! The rules, one function each, with the message a user will see.

use proc_macro2::TokenStream;
use syn::{Error, FnArg, GenericArgument, ItemFn, LitStr, PathArguments, Result, ReturnType, Type};

/// As many arguments as there are implementations of `Handler`.
const MAX_ARGUMENTS: usize = 8;

/// What RabbitMQ and the bus accept; the same rules that `Bus::start` applies to `Router::route`.
pub(crate) fn topic(topic: &LitStr) -> Result<()> {
    let text = topic.value();
    let problem = if text.trim().is_empty() {
        "the topic is empty or blank"
    } else if text.len() > 255 {
        "the topic is longer than 255 bytes, which is what AMQP allows"
    } else if text.chars().any(char::is_control) {
        "the topic contains a control character"
    } else if text.starts_with("amq.") {
        "topics starting with `amq.` are reserved by RabbitMQ"
    } else if text.contains(['*', '#']) {
        "wildcards are not supported; subscribe each topic by its name"
    } else {
        return Ok(());
    };
    Err(Error::new(topic.span(), problem))
}

/// Checks the function, and reports every mistake.
pub(crate) fn function(function: &ItemFn) -> Result<()> {
    let rules = [
        asynchronous,
        concrete,
        plain,
        few_arguments,
        arguments_by_value,
        named_result,
    ];
    let mistakes = rules.iter().filter_map(|rule| rule(function).err());
    match mistakes.reduce(combined) {
        Some(mistakes) => Err(mistakes),
        None => Ok(()),
    }
}

fn combined(mut all: Error, one: Error) -> Error {
    all.combine(one);
    all
}

fn asynchronous(function: &ItemFn) -> Result<()> {
    if function.sig.asyncness.is_some() {
        return Ok(());
    }
    let text = "a handler must be an `async fn`";
    Err(Error::new_spanned(function.sig.fn_token, text))
}

fn concrete(function: &ItemFn) -> Result<()> {
    if function.sig.generics.params.is_empty() {
        return Ok(());
    }
    let text = "a handler cannot be generic: the bus must know which message types it takes";
    Err(Error::new_spanned(&function.sig.generics, text))
}

fn plain(function: &ItemFn) -> Result<()> {
    let sig = &function.sig;
    let tokens: TokenStream = match (&sig.unsafety, &sig.abi, &sig.variadic) {
        (Some(token), ..) => quote::quote!(#token),
        (_, Some(abi), _) => quote::quote!(#abi),
        (.., Some(variadic)) => quote::quote!(#variadic),
        (None, None, None) => return Ok(()),
    };
    let text = "a handler is a plain function: neither `unsafe` nor `extern` nor variadic";
    Err(Error::new_spanned(tokens, text))
}

fn few_arguments(function: &ItemFn) -> Result<()> {
    match function.sig.inputs.iter().nth(MAX_ARGUMENTS) {
        None => Ok(()),
        Some(argument) => {
            let text = format!(
                "a handler takes at most {MAX_ARGUMENTS} arguments; take `Message` for the whole, or write \
                 an extractor that takes several things"
            );
            Err(Error::new_spanned(argument, text))
        }
    }
}

fn arguments_by_value(function: &ItemFn) -> Result<()> {
    let mistakes = function
        .sig
        .inputs
        .iter()
        .filter_map(|argument| match argument {
            FnArg::Receiver(receiver) => {
                let text =
                    "a handler is a free function and has no `self`; take `State<T>` instead";
                Some(Error::new_spanned(receiver, text))
            }
            FnArg::Typed(argument) => by_value(&argument.ty).err(),
        });
    match mistakes.reduce(combined) {
        Some(mistakes) => Err(mistakes),
        None => Ok(()),
    }
}

fn by_value(ty: &Type) -> Result<()> {
    match ty {
        Type::Reference(_) => {
            let text = "a handler takes its arguments by value, `Payload<T>` for example";
            Err(Error::new_spanned(ty, text))
        }
        Type::ImplTrait(_) => {
            let text = "a handler cannot be generic: name the type of the argument";
            Err(Error::new_spanned(ty, text))
        }
        Type::Infer(_) => {
            let text = "name the type of the argument, `Payload<OrderPlaced>` for example";
            Err(Error::new_spanned(ty, text))
        }
        ty if borrows(ty) => {
            let text =
                "a handler's arguments cannot borrow: use an owned type, `String` for example";
            Err(Error::new_spanned(ty, text))
        }
        _ => Ok(()),
    }
}

/// Whether a reference that is not `'static` lies inside, as in `Payload<&str>`.
fn borrows(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => {
            let lifetime = reference.lifetime.as_ref();
            lifetime.is_none_or(|lifetime| lifetime.ident != "static") || borrows(&reference.elem)
        }
        Type::Path(path) => path
            .path
            .segments
            .iter()
            .any(|segment| match &segment.arguments {
                PathArguments::AngleBracketed(arguments) => {
                    arguments.args.iter().any(|argument| match argument {
                        GenericArgument::Type(ty) => borrows(ty),
                        GenericArgument::Lifetime(lifetime) => lifetime.ident != "static",
                        _ => false,
                    })
                }
                _ => false,
            }),
        Type::Tuple(tuple) => tuple.elems.iter().any(borrows),
        Type::Array(array) => borrows(&array.elem),
        Type::Slice(slice) => borrows(&slice.elem),
        Type::Paren(paren) => borrows(&paren.elem),
        Type::Group(group) => borrows(&group.elem),
        _ => false,
    }
}

fn named_result(function: &ItemFn) -> Result<()> {
    match &function.sig.output {
        ReturnType::Type(_, ty) if matches!(**ty, Type::ImplTrait(_)) => {
            let text = "name what the handler returns: `()`, `Outcome` or `Result<(), E>`";
            Err(Error::new_spanned(ty, text))
        }
        _ => Ok(()),
    }
}
