//! What the checkpoint holds against what the model asks for: every tensor is used, or known to be
//! unused, and has the shape that the config says.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::Size;

/// A checkpoint and a config that do not fit each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// Tensors that the model needs and the checkpoint lacks.
    #[error("{} tensors are missing: {}", .0.len(), list(.0))]
    Missing(Vec<String>),
    /// Tensors that the model has no use for.
    #[error("{} tensors are not used by this architecture: {}", .0.len(), list(.0))]
    Unused(Vec<String>),
    /// A tensor of another shape.
    #[error("tensor {name:?} has shape {found:?}, the config asks for {expected:?} ({origin})")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape by the config.
        expected: Vec<usize>,
        /// The config keys behind each extent.
        origin: String,
    },
}

/// The first names of a list that may be long.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|n| format!("{n:?}")).collect();
    let rest = names.len().saturating_sub(SHOWN);
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}

/// Tells whether two tensors of the checkpoint hold the same values.
pub type SameValues<'a> = dyn Fn(&str, &str) -> bool + 'a;

/// The checkpoint's tensors by name, with a record of what has been asked for.
pub struct Inventory<'a> {
    /// None where there is only a config: then the model has whatever it asks for.
    shapes: Option<BTreeMap<String, Vec<usize>>>,
    same_values: &'a SameValues<'a>,
    record: RefCell<Record>,
}

#[derive(Default)]
struct Record {
    /// Shapes by the config.
    used: BTreeMap<String, Vec<usize>>,
    missing: Vec<String>,
    misshapen: Option<TensorError>,
}

impl<'a> Inventory<'a> {
    /// An inventory of which nothing is used yet; without shapes, of a model of which there is only the config.
    pub fn new(shapes: Option<BTreeMap<String, Vec<usize>>>, same_values: &'a SameValues<'a>) -> Inventory<'a> {
        Inventory { shapes, same_values, record: RefCell::default() }
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// Extents of the tensor of that name, if there is one.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.as_ref()?.get(name).map(Vec::as_slice)
    }

    /// Extent of an axis of a tensor, for widths that no config says; nothing if there is no such tensor.
    pub fn extent(&self, name: &str, axis: usize) -> Option<usize> {
        self.shapes.as_ref()?.get(name)?.get(axis).copied().filter(|&extent| extent > 0)
    }

    /// `prefix` if some tensor's name begins with it, else nothing: the checkpoint of a base model
    /// names its tensors without the prefix that it has under a head.
    pub fn prefix(&self, prefix: &str) -> String {
        let stored = self.shapes.as_ref().is_none_or(|shapes| shapes.keys().any(|name| name.starts_with(prefix)));
        if stored { prefix.to_owned() } else { String::new() }
    }

    /// Names of the tensors that serve as embedding and as output matrix.
    ///
    /// As in transformers, tying is symmetric (the one that is stored serves as both), and a tied pair
    /// that is stored with different values is not tied.
    pub fn tied(&self, embedding: &str, head: &str, tie: bool) -> (String, String) {
        if tie {
            let [embedding, head] = self.all_tied([embedding, head]);
            (embedding, head)
        } else {
            (embedding.to_owned(), head.to_owned())
        }
    }

    /// Names of the tensors that serve as each of several that are tied to the first: the first of them that is
    /// stored, and those that are stored with other values.
    pub fn all_tied<const N: usize>(&self, names: [&str; N]) -> [String; N] {
        let stored = names.into_iter().find(|name| self.has(name));
        names.map(|name| {
            let Some(first) = stored else { return names[0].to_owned() };
            if name != first && self.has(name) {
                if !(self.same_values)(first, name) {
                    return name.to_owned();
                }
                let shape = self.shapes.as_ref().and_then(|shapes| shapes.get(name)).cloned().unwrap_or_default();
                self.record.borrow_mut().used.insert(name.to_owned(), shape);
            }
            first.to_owned()
        })
    }

    /// Notes that the model uses a tensor of that shape; gives whether there is one of that
    /// name, as far as is known.
    pub fn request(&self, name: &str, shape: &[&Size]) -> bool {
        let mut record = self.record.borrow_mut();
        let expected: Vec<usize> = shape.iter().map(|s| s.value()).collect();
        let Some(shapes) = &self.shapes else {
            record.used.insert(name.to_owned(), expected);
            return true;
        };
        if record.used.insert(name.to_owned(), expected.clone()).is_some() {
            return shapes.contains_key(name);
        }
        match shapes.get(name) {
            None => record.missing.push(name.to_owned()),
            Some(found) if *found != expected => {
                let (name, found) = (name.to_owned(), found.clone());
                let origin = shape.iter().map(|s| s.to_string()).collect::<Vec<_>>().join(" × ");
                record.misshapen.get_or_insert(TensorError::Shape { name, found, expected, origin });
            }
            Some(_) => {}
        }
        shapes.contains_key(name)
    }

    /// The tensors that were asked for, with their shapes by the config.
    pub fn used(&self) -> BTreeMap<String, Vec<usize>> {
        self.record.borrow().used.clone()
    }

    /// Compares what is there with what was asked for. In the patterns of names that are known to be
    /// unused, `*` stands for any characters.
    ///
    /// # Errors
    /// Missing tensors, else the first misshapen one, else those that are left over.
    pub fn check(&self, known_unused: &[&str]) -> Result<(), TensorError> {
        let record = self.record.borrow();
        if !record.missing.is_empty() {
            return Err(TensorError::Missing(record.missing.clone()));
        }
        if let Some(error) = &record.misshapen {
            return Err(error.clone());
        }
        let left_over =
            |name: &&String| !record.used.contains_key(*name) && !known_unused.iter().any(|p| matches(p, name));
        let unused: Vec<String> =
            self.shapes.iter().flat_map(|shapes| shapes.keys()).filter(left_over).cloned().collect();
        if unused.is_empty() { Ok(()) } else { Err(TensorError::Unused(unused)) }
    }
}

/// Whether a name fits a pattern in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).filter(|&i| rest.is_char_boundary(i)).any(|i| matches(tail, &rest[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory<'a>(names: &[&str], same_values: &'a SameValues<'a>) -> Inventory<'a> {
        Inventory::new(Some(names.iter().map(|n| (n.to_string(), vec![2, 3])).collect()), same_values)
    }

    #[test]
    fn stars_stand_for_any_characters() {
        assert!(matches("*.attn.bias", "h.0.attn.bias") && matches("cls.*", "cls.a.b") && matches("a", "a"));
        assert!(!matches("*.attn.bias", "h.0.attn.c_attn.bias") && !matches("cls.*", "bert.cls.a"));
    }

    #[test]
    fn a_tied_pair_is_what_the_checkpoint_stores() {
        let names = |stored: &[&str], tie, same: bool| inventory(stored, &|_, _| same).tied("e", "h", tie);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(names(&["e"], true, false), pair("e", "e"));
        assert_eq!(names(&["h"], true, false), pair("h", "h"));
        assert_eq!(names(&["e", "h"], true, true), pair("e", "e"));
        assert_eq!(names(&["e", "h"], true, false), pair("e", "h"));
        assert_eq!(names(&["e"], false, false), pair("e", "h"));
    }

    #[test]
    fn errors_list_names_and_origins() {
        let (rows, columns) = (Size::new(2, "rows"), Size::new(4, "columns"));
        let same = |_: &str, _: &str| false;
        let all = inventory(&["a", "b", "c"], &same);
        all.request("a", &[&rows, &columns]);
        let error = all.check(&["b"]).unwrap_err().to_string();
        assert_eq!(error, r#"tensor "a" has shape [2, 3], the config asks for [2, 4] (rows × columns)"#);
        all.request("d", &[&rows]);
        assert_eq!(all.check(&[]).unwrap_err(), TensorError::Missing(vec!["d".into()]));
        let none = inventory(&["a", "b"], &same);
        assert_eq!(none.check(&["b"]).unwrap_err(), TensorError::Unused(vec!["a".into()]));
    }
}
