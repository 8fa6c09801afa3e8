//! Other YAML that people write for meshgate, beside bootstrap and resources: requests to explain, policy tests.
//!
//! The one idea: a [`Source`] keeps its text, so that whatever is found wrong with it later, by whomever, still has a
//! file and a line. JSON is read as the YAML that it is.

use std::fmt;
use std::io::Read;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::files;
use crate::problem::Problem;
use crate::yaml;

/// A text and where it is from.
#[derive(Clone, Debug)]
pub struct Source {
    name: PathBuf,
    text: String,
}

/// One document of a [`Source`].
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    name: &'a Path,
    document: yaml::Document<'a>,
}

impl Source {
    /// Reads a regular file of at most 4 MiB.
    ///
    /// # Errors
    /// It cannot be read, is larger, or is not UTF-8.
    pub fn open(path: &Path) -> Result<Source, Problem> {
        let text = files::read(path).map_err(|error| Problem::error(path, error.to_string()))?;
        Ok(Source { name: path.to_path_buf(), text })
    }

    /// Reads at most 4 MiB, which messages call `name`.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn read(name: impl AsRef<Path>, reader: impl Read) -> Result<Source, Problem> {
        let text = files::read_from(reader).map_err(|error| Problem::error(&name, error.to_string()))?;
        Ok(Source { name: name.as_ref().to_path_buf(), text })
    }

    /// Its documents, without those of nothing but blank lines and comments.
    pub fn documents(&self) -> Vec<Written<'_>> {
        let documents = yaml::documents(&self.text).into_iter();
        documents.map(|document| Written { name: &self.name, document }).collect()
    }

    /// A mistake of the text as a whole.
    pub fn error(&self, message: impl Into<String>) -> Problem {
        Problem::error(&self.name, message)
    }
}

impl<'a> Written<'a> {
    /// Reads it as a `T`.
    ///
    /// # Errors
    /// It is no YAML, or no `T`; with the line and the field.
    pub fn parse<T: Deserialize<'a>>(&self) -> Result<T, Problem> {
        let value = self.document.check().and_then(|()| self.document.parse());
        value.map_err(|error| {
            let problem = error.into_problem(self.name);
            // The YAML crate's path to an element of a list at the root begins with a dot.
            let field = problem.field.as_deref().map(|field| field.trim_start_matches('.').to_owned());
            problem.in_field(field)
        })
    }

    /// The file, or what stands for it.
    pub fn name(&self) -> &'a Path {
        self.name
    }

    /// Whether a word stands in it anywhere.
    pub fn mentions(&self, word: &str) -> bool {
        self.document.text.contains(word)
    }

    /// The line of the value at a path such as `spec.cases[2].expect`, or of the nearest parent that is there. Reads the
    /// document again.
    pub fn line(&self, path: &str) -> usize {
        self.document.locate(path)
    }

    /// A mistake at a path.
    pub fn error(&self, path: &str, message: impl Into<String>) -> Problem {
        let field = Some(path.to_owned()).filter(|path| !path.is_empty());
        Problem::error(self.name, message).at(Some(self.line(path))).in_field(field)
    }
}

/// A mapping, or a list of such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OneOrMany<T> {
    /// A mapping.
    One(T),
    /// A list, which may be empty.
    Many(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

/// Unlike an untagged enum, keeps the place of a mistake.
struct OneOrManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMany<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(OneOrMany::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrMany<T>, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany::Many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Point {
        x: u16,
    }

    fn points(text: &str) -> Result<Vec<u16>, String> {
        let source = Source::read("points.yaml", text.as_bytes()).map_err(|problem| problem.to_string())?;
        let mut found = Vec::new();
        for document in source.documents() {
            match document.parse().map_err(|problem| problem.to_string())? {
                OneOrMany::One(Point { x }) => found.push(x),
                OneOrMany::Many(points) => found.extend(points.into_iter().map(|point| point.x)),
            }
        }
        Ok(found)
    }

    #[test]
    fn reads_one_many_and_many_documents() {
        assert_eq!(points("x: 1"), Ok(vec![1]));
        assert_eq!(points("[{\"x\": 1}, {\"x\": 2}]"), Ok(vec![1, 2]));
        assert_eq!(points("x: 1\n---\n- x: 2\n- x: 3\n---\n# nothing\n"), Ok(vec![1, 2, 3]));
        assert_eq!(points(""), Ok(vec![]));
    }

    #[test]
    fn mistakes_have_line_and_field() {
        for (text, expected) in [
            (
                "x: 1\n---\n- x: 2\n- y: 3\n",
                "points.yaml:4: [1].y: unknown field `y`, expected `x` (did you mean `x`?)",
            ),
            (
                "x: 1\n---\n\nx: 70000\n",
                "points.yaml:4: x: invalid value: integer `70000`, expected a whole number from 0 to 65535",
            ),
            ("word", "points.yaml:1: invalid type: string \"word\", expected an object or a list of objects"),
        ] {
            assert_eq!(points(text).unwrap_err(), expected, "{text:?}");
        }
        let large = format!("x: 1 # {}", "a".repeat(5 * 1024 * 1024));
        assert_eq!(points(&large).unwrap_err(), "points.yaml: is larger than 4 MiB, the most that is read");
    }
}
