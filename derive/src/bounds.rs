//! Which bounds the written `impl` needs: `M: Module` for a type parameter that is walked, and little else.
//!
//! A bound too many is no harm to the compiler but to the reader of a generic function, who would have to repeat it. So what the body of the `impl` can prove
//! by itself (`Param<T>` for every `T: Float`) gets none, and neither does a type that mentions the one being derived, for which
//! the proof would run in a circle.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    DeriveInput, GenericArgument, Generics, PathArguments, PathSegment, Type, TypeParam,
    TypeParamBound, WherePredicate,
};

use crate::fields::Walked;

/// The type's own `where` clause and the bounds that the walked fields need.
pub fn where_clause(input: &DeriveInput, fields: &[Walked]) -> TokenStream {
    let own = input.generics.where_clause.iter().flat_map(|w| &w.predicates);
    let mut needed: Vec<Type> = Vec::new();
    for field in fields {
        collect(&field.ty, input, &mut needed);
    }
    let needed = needed.iter().map(|ty| quote_spanned!(crate::place(ty)=> #ty: ::gradus::Module));
    let all: Vec<_> = own.map(|p| quote!(#p)).chain(needed).collect();
    if all.is_empty() { TokenStream::new() } else { quote!(where #(#all),*) }
}

/// Adds the types inside `ty` that need a bound.
fn collect(ty: &Type, input: &DeriveInput, needed: &mut Vec<Type>) {
    if let Some(parts) = parts(ty) {
        return parts.into_iter().for_each(|part| collect(part, input, needed));
    }
    let generics = &input.generics;
    let mut mentioned = generics.type_params().filter(|p| mentions(ty, &p.ident)).peekable();
    let provable = mentioned.peek().is_none()
        || mentioned.all(|p| is_number_param(p, generics)) && !is_param(ty, generics)
        || mentions(ty, &input.ident)
        || mentions(ty, &"Self");
    if !provable && !needed.iter().any(|n| text(n) == text(ty)) {
        needed.push(ty.clone());
    }
}

/// Whether a type is made of number parameters (`T: Float`) only: configuration, with nothing to walk.
pub fn is_number(ty: &Type, generics: &Generics) -> bool {
    match parts(ty) {
        Some(parts) => !parts.is_empty() && parts.into_iter().all(|p| is_number(p, generics)),
        None => generics.type_params().any(|p| is_number_param(p, generics) && is_exactly(ty, p)),
    }
}

fn is_exactly(ty: &Type, p: &TypeParam) -> bool {
    matches!(ty, Type::Path(path) if path.qself.is_none() && path.path.is_ident(&p.ident))
}

fn is_param(ty: &Type, generics: &Generics) -> bool {
    generics.type_params().any(|p| is_exactly(ty, p))
}

/// Whether a parameter is declared as an element type: `T: Float`, `T: Num` or `T: Element`.
fn is_number_param(p: &TypeParam, generics: &Generics) -> bool {
    let names_number = |b: &TypeParamBound| match b {
        TypeParamBound::Trait(t) => t
            .path
            .segments
            .last()
            .is_some_and(|s| ["Float", "Num", "Element"].iter().any(|n| s.ident == n)),
        _ => false,
    };
    let in_where = generics.where_clause.iter().flat_map(|w| &w.predicates).any(|w| match w {
        WherePredicate::Type(w) => {
            is_exactly(&w.bounded_ty, p) && w.bounds.iter().any(names_number)
        }
        _ => false,
    });
    in_where || p.bounds.iter().any(names_number)
}

/// The parts of a type that is a module exactly if they are: `Vec`, `Option`, `Box`, arrays, slices and tuples; `None` for any other type.
fn parts(ty: &Type) -> Option<Vec<&Type>> {
    match ty {
        Type::Array(t) => Some(vec![&*t.elem]),
        Type::Slice(t) => Some(vec![&*t.elem]),
        Type::Paren(t) => Some(vec![&*t.elem]),
        Type::Group(t) => Some(vec![&*t.elem]),
        Type::Tuple(t) => Some(t.elems.iter().collect()),
        Type::Path(t) if t.qself.is_none() => container(t.path.segments.last()?),
        _ => None,
    }
}

fn container(segment: &PathSegment) -> Option<Vec<&Type>> {
    if segment.ident == "PhantomData" {
        return Some(Vec::new());
    }
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    let known = ["Vec", "Option", "Box"].iter().any(|n| segment.ident == n);
    let types = arguments.args.iter().filter_map(|a| match a {
        GenericArgument::Type(t) => Some(t),
        _ => None,
    });
    known.then(|| types.collect())
}

/// Types have no equality of their own.
fn text(ty: &Type) -> String {
    ty.to_token_stream().to_string()
}

/// Whether a name stands anywhere in a type.
fn mentions(ty: &Type, name: &impl ToString) -> bool {
    fn inside(tokens: TokenStream, name: &str) -> bool {
        tokens.into_iter().any(|t| match t {
            TokenTree::Ident(i) => i == name,
            TokenTree::Group(g) => inside(g.stream(), name),
            _ => false,
        })
    }
    inside(ty.to_token_stream(), &name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn bounds(input: DeriveInput) -> String {
        let syn::Data::Struct(s) = &input.data else { panic!("a struct") };
        let fields = crate::fields::walked(&s.fields, &input.generics).unwrap();
        where_clause(&input, &fields).to_string().replace(' ', "")
    }

    #[test]
    fn only_what_the_body_cannot_prove() {
        let plain = bounds(parse_quote!(
            struct A {
                weight: Param,
                n: usize,
            }
        ));
        assert_eq!(plain, "");
        let float = bounds(parse_quote!(
            struct A<T: Float> {
                w: Param<T>,
                inner: Dense<T>,
                slope: T,
                all: Vec<T>,
            }
        ));
        assert_eq!(float, "");
        let in_where = bounds(parse_quote!(
            struct A<T>
            where
                T: gradus::Float,
            {
                w: Param<T>,
                slope: T,
            }
        ));
        assert_eq!(in_where, "whereT:gradus::Float");
        let module = bounds(parse_quote!(
            struct A<M, const N: usize> {
                a: [M; N],
                b: Vec<Option<M>>,
            }
        ));
        assert_eq!(module, "whereM:::gradus::Module");
        let foreign = bounds(parse_quote!(
            struct A<T: Float, M> {
                a: Pair<T, M>,
                b: PhantomData<M>,
            }
        ));
        assert_eq!(foreign, "wherePair<T,M>:::gradus::Module");
        let recursive = bounds(parse_quote!(
            struct A<M> {
                own: M,
                rest: Option<Box<A<M>>>,
            }
        ));
        assert_eq!(recursive, "whereM:::gradus::Module");
    }
}
