//! `#[derive(Module)]` for the crate gradus.
//!
//! Use it through `gradus::Module`; this crate is a part of gradus only because the compiler wants such macros in a crate of their own.

mod bounds;
mod fields;

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DataEnum, DeriveInput, Error, Fields, Result};

use fields::Walked;

/// Writes `Module` for a struct or an enum: both walks go over the fields in the order of declaration, each under its name, or under its number where
/// it has none. Of an enum the active variant is walked.
///
/// - `#[module(skip)]` on a field passes it over, whatever its type.
/// - `#[module(rename = "gamma")]` gives a field another name in paths.
///
/// A field has to be a module: a parameter, a buffer, a mode, a layer, plain configuration (numbers, strings, `bool`), or a `Vec`, array, `Option`, tuple or
/// `Box` of these. A type parameter `M` that is the type of a field gets the bound `M: Module`; a field of type `T` where `T: Float` is
/// configuration.
#[proc_macro_derive(Module, attributes(module))]
pub fn derive_module(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(|e| e.to_compile_error()).into()
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    fields::refuse_attributes(&input.attrs)?;
    let mut walked = Vec::new();
    let [read, change] = match &input.data {
        Data::Struct(s) => {
            let fields = fields::walked(&s.fields, &input.generics)?;
            let bodies = [walk_struct(&fields, quote!(&)), walk_struct(&fields, quote!(&mut))];
            walked.extend(fields);
            bodies
        }
        Data::Enum(e) => walk_enum(e, input, &mut walked)?,
        Data::Union(u) => {
            return Err(Error::new(
                u.union_token.span,
                "Module cannot be derived for a union: which of its fields is alive is not known; use an enum",
            ));
        }
    };
    let name = &input.ident;
    let (parameters, arguments, _) = input.generics.split_for_impl();
    let bounds = bounds::where_clause(input, &walked);
    Ok(quote! {
        #[automatically_derived]
        impl #parameters ::gradus::Module for #name #arguments #bounds {
            fn visit(&self, __v: &mut ::gradus::nn::Visitor<'_>) {
                #read
            }
            fn visit_mut(&mut self, __v: &mut ::gradus::nn::VisitorMut<'_>) {
                #change
            }
        }
    })
}

/// One call per field, with the place of the field's type, so that the compiler points there if it is no module.
fn walk_struct(fields: &[Walked], borrow: TokenStream) -> TokenStream {
    let calls = fields.iter().map(|f| {
        let (name, member) = (&f.name, &f.member);
        quote_spanned! { place(&f.ty)=> __v.named(#name, #borrow self.#member); }
    });
    quote!(#(#calls)*)
}

/// A match whose arms call `field` for the bindings of each variant, once for each of the two walks: the bindings borrow by themselves.
fn walk_enum(
    e: &DataEnum,
    input: &DeriveInput,
    walked: &mut Vec<Walked>,
) -> Result<[TokenStream; 2]> {
    let mut arms = Vec::new();
    for variant in &e.variants {
        fields::refuse_attributes(&variant.attrs)?;
        let fields = fields::walked(&variant.fields, &input.generics)?;
        let bindings: Vec<_> = (0..fields.len()).map(|i| format_ident!("__f{i}")).collect();
        let patterns = fields.iter().zip(&bindings).map(|(f, b)| {
            let member = &f.member;
            quote!(#member: #b)
        });
        let calls = fields.iter().zip(&bindings).map(|(f, b)| {
            let name = &f.name;
            quote_spanned! { place(&f.ty)=> __v.named(#name, #b); }
        });
        let ident = &variant.ident;
        let pattern = match variant.fields {
            Fields::Unit => quote!(Self::#ident),
            _ => quote!(Self::#ident { #(#patterns,)* .. }),
        };
        arms.push(quote!(#pattern => { #(#calls)* }));
        walked.extend(fields);
    }
    Ok(match arms.is_empty() {
        true => [quote!(match *self {}), quote!(match *self {})],
        false => [quote!(match self { #(#arms)* }), quote!(match self { #(#arms)* })],
    })
}

/// Where a type stands, with the names of the generated code.
fn place(ty: &syn::Type) -> Span {
    ty.span().resolved_at(Span::call_site())
}
