//! What is walked: the fields, their names in paths, and the attribute `#[module(…)]`.

use proc_macro2::Ident;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Fields, Generics, LitStr, Member, Result, Type};

use crate::bounds;

const KNOWN: &str = "module(…) knows `skip` and `rename = \"name\"`";

/// A field that both walks show to the visitor.
pub struct Walked {
    /// Its name in paths.
    pub name: String,
    pub member: Member,
    pub ty: Type,
}

#[derive(Default)]
struct Options {
    skip: bool,
    rename: Option<LitStr>,
}

/// The fields to walk, in the order of declaration.
pub fn walked(fields: &Fields, generics: &Generics) -> Result<Vec<Walked>> {
    let mut all: Vec<Walked> = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let options = options(&field.attrs)?;
        if options.skip || bounds::is_number(&field.ty, generics) {
            continue;
        }
        let (member, own) = match &field.ident {
            Some(ident) => (Member::Named(ident.clone()), ident.unraw().to_string()),
            None => (Member::from(i), i.to_string()),
        };
        let name = options.rename.as_ref().map_or(own, LitStr::value);
        if all.iter().any(|other| other.name == name) {
            let place = match &options.rename {
                Some(name) => name.span(),
                None => field.ident.as_ref().map_or(field.ty.span(), Ident::span),
            };
            return Err(Error::new(
                place,
                format!("two fields are named {name:?}; paths must differ"),
            ));
        }
        all.push(Walked { name, member, ty: field.ty.clone() });
    }
    Ok(all)
}

fn options(attributes: &[Attribute]) -> Result<Options> {
    let mut options = Options::default();
    for attribute in attributes.iter().filter(|a| a.path().is_ident("module")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                options.skip = true;
            } else if meta.path.is_ident("rename") {
                let name: LitStr = meta.value()?.parse()?;
                check_name(&name)?;
                options.rename = Some(name);
            } else {
                return Err(meta.error(format!("unknown attribute; {KNOWN}")));
            }
            Ok(())
        })?;
        if let (true, Some(name)) = (options.skip, &options.rename) {
            return Err(Error::new(name.span(), "a field that is skipped has no name in paths"));
        }
    }
    Ok(options)
}

/// A name is one step of a dotted path.
fn check_name(name: &LitStr) -> Result<()> {
    match name.value() {
        v if v.is_empty() => Err(Error::new(name.span(), "the name is empty")),
        v if v.contains('.') => {
            Err(Error::new(name.span(), "a name is one step of a dotted path: it has no dot"))
        }
        _ => Ok(()),
    }
}

/// Refuses `#[module(…)]` where it means nothing: on the type or on a variant.
pub fn refuse_attributes(attributes: &[Attribute]) -> Result<()> {
    match attributes.iter().find(|a| a.path().is_ident("module")) {
        None => Ok(()),
        Some(a) => Err(Error::new(a.span(), format!("this belongs on a field; {KNOWN}"))),
    }
}
