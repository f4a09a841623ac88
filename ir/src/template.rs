//! Name templates: `model.layers.{i}.weight` stands for one name per iteration of a `repeat`.
//!
//! A brace holds an affine expression of one loop index: `{i}`, `{i+1}`, `{2i}`, `{2i+1}`.

/// Why a template has no expansion.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text between braces is not an affine expression of an index.
    #[error("name template `{template}`: `{{{text}}}` is not of the form {{i}}, {{i+1}}, {{2i}} or {{2i+1}}")]
    Syntax {
        /// The whole template.
        template: String,
        /// The text between the braces.
        text: String,
    },
    /// No enclosing loop has that index.
    #[error("name template `{template}` uses index `{index}`, which no enclosing `repeat` declares")]
    Unbound {
        /// The whole template.
        template: String,
        /// The index.
        index: String,
    },
}

/// Names of the loop indices that occur in a template.
///
/// # Errors
/// A brace that is not an affine expression.
pub fn indices(template: &str) -> Result<Vec<String>, TemplateError> {
    let mut names = Vec::new();
    walk(template, &mut |piece| {
        if let Piece::Index { name, .. } = piece {
            names.push(name.to_owned());
        }
        Ok(())
    })?;
    Ok(names)
}

/// The name for given values of the indices.
///
/// # Errors
/// A brace that is not an affine expression, or whose index has no value.
pub fn expand(template: &str, index: &dyn Fn(&str) -> Option<usize>) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(template.len());
    walk(template, &mut |piece| {
        match piece {
            Piece::Literal(text) => out.push_str(text),
            Piece::Index { factor, name, offset } => {
                let value = index(name)
                    .ok_or_else(|| TemplateError::Unbound { template: template.to_owned(), index: name.to_owned() })?;
                out.push_str(&(factor * value + offset).to_string());
            }
        }
        Ok(())
    })?;
    Ok(out)
}

enum Piece<'a> {
    Literal(&'a str),
    Index { factor: usize, name: &'a str, offset: usize },
}

fn walk<'a>(
    template: &'a str,
    visit: &mut dyn FnMut(Piece<'a>) -> Result<(), TemplateError>,
) -> Result<(), TemplateError> {
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        visit(Piece::Literal(&rest[..open]))?;
        let inner = &rest[open + 1..];
        let error = |text: &str| TemplateError::Syntax { template: template.to_owned(), text: text.to_owned() };
        let close = inner.find('}').ok_or_else(|| error(inner))?;
        visit(affine(&inner[..close]).ok_or_else(|| error(&inner[..close]))?)?;
        rest = &inner[close + 1..];
    }
    visit(Piece::Literal(rest))
}

fn affine(text: &str) -> Option<Piece<'_>> {
    let (product, offset) = match text.split_once('+') {
        Some((product, offset)) => (product, offset.parse().ok()?),
        None => (text, 0),
    };
    let name_at = product.find(|c: char| !c.is_ascii_digit())?;
    let (digits, name) = product.split_at(name_at);
    let factor = if digits.is_empty() { 1 } else { digits.parse().ok()? };
    name.chars().all(|c| c.is_ascii_alphanumeric()).then_some(Piece::Index { factor, name, offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affine_indices_expand() {
        let at = |i: usize| move |name: &str| (name == "i").then_some(i);
        assert_eq!(expand("h.{i}.w", &at(3)).unwrap(), "h.3.w");
        assert_eq!(expand("h.{2i+1}.w.{i}", &at(3)).unwrap(), "h.7.w.3");
        assert_eq!(expand("plain", &at(0)).unwrap(), "plain");
        assert!(matches!(expand("h.{j}", &at(0)), Err(TemplateError::Unbound { .. })));
        assert!(matches!(expand("h.{i*i}", &at(0)), Err(TemplateError::Syntax { .. })));
        assert!(matches!(expand("h.{i", &at(0)), Err(TemplateError::Syntax { .. })));
    }
}
