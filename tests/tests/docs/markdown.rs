//! Just as much of Markdown as the checks need: fenced blocks, headings, links, code spans.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::pattern;

/// A page of the documentation.
pub(crate) struct Page {
    /// Its path in the repository.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// What stands between two fences.
pub(crate) struct Block {
    /// Where it is, as `docs/page.md:12`: the line of the fence.
    pub(crate) place: String,
    /// The first word behind the fence; empty if there is none.
    pub(crate) language: String,
    /// The other words.
    pub(crate) marks: Vec<String>,
    pub(crate) text: String,
}

impl Block {
    pub(crate) fn is(&self, mark: &str) -> bool {
        self.marks.iter().any(|word| word == mark)
    }
}

/// A line of a page: of its text, or of a block.
enum Line<'a> {
    Text(usize, &'a str),
    Block(Block),
}

/// README, what stands beside it, and the guide.
pub(crate) fn pages() -> Vec<Page> {
    let root = crate::root();
    let mut paths: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "bench/README.md"].map(str::to_owned).into();
    let guide = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    paths.extend(guide.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")));
    paths.sort();
    paths.into_iter().map(|path| Page { text: fs::read_to_string(root.join(&path)).unwrap(), path }).collect()
}

impl Page {
    fn lines(&self) -> Vec<Line<'_>> {
        let mut lines = Vec::new();
        let mut open: Option<(usize, Block)> = None;
        for (number, line) in (1..).zip(self.text.lines()) {
            let fence = line.trim_start().strip_prefix("```");
            match (&mut open, fence) {
                (None, Some(info)) => {
                    let mut words = info.split_whitespace().map(str::to_owned);
                    let (language, place) = (words.next().unwrap_or_default(), format!("{}:{number}", self.path));
                    let block = Block { place, language, marks: words.collect(), text: String::new() };
                    open = Some((line.len() - line.trim_start().len(), block));
                }
                (Some(_), Some(_)) => lines.extend(open.take().map(|(_, block)| Line::Block(block))),
                (Some((indent, block)), None) => {
                    block.text.push_str(line.get(*indent..).unwrap_or_default());
                    block.text.push('\n');
                }
                (None, None) => lines.push(Line::Text(number, line)),
            }
        }
        assert!(open.is_none(), "{}: a block does not end", self.path);
        lines
    }

    pub(crate) fn blocks(&self) -> Vec<Block> {
        self.lines()
            .into_iter()
            .filter_map(|line| if let Line::Block(block) = line { Some(block) } else { None })
            .collect()
    }

    /// The lines outside of blocks, with their numbers.
    pub(crate) fn prose(&self) -> Vec<(usize, &str)> {
        let text = |line| if let Line::Text(number, line) = line { Some((number, line)) } else { None };
        self.lines().into_iter().filter_map(text).collect()
    }

    /// What stands between backticks outside of blocks, with its place.
    pub(crate) fn spans<'a>(&'a self) -> Vec<(String, &'a str)> {
        let of_line = |(number, line): (usize, &'a str)| {
            let place = format!("{}:{number}", self.path);
            line.split('`').skip(1).step_by(2).map(move |span| (place.clone(), span)).collect::<Vec<_>>()
        };
        self.prose().into_iter().flat_map(of_line).collect()
    }

    /// What `#...` may name: the headings as GitHub writes them, and anchors of one's own.
    pub(crate) fn anchors(&self) -> BTreeSet<String> {
        let own = pattern(r#"<a id="([^"]+)">"#);
        let mut seen = BTreeMap::<String, usize>::new();
        let mut anchors: BTreeSet<String> = own.captures_iter(&self.text).map(|found| found[1].to_owned()).collect();
        for (_, line) in self.prose() {
            let Some(title) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#')) else { continue };
            let Some(title) = title.strip_prefix(' ') else { continue };
            let slug = slug(title);
            let count = seen.entry(slug.clone()).or_default();
            anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
            *count += 1;
        }
        anchors
    }

    /// Where its links lead, with their places.
    pub(crate) fn links(&self) -> Vec<(String, String)> {
        let link = pattern(r#"(?:\]\(|<img [^>]*src="|<a href=")([^)"\s]+)"#);
        let code = pattern("`[^`]*`");
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            let text = code.replace_all(line, "");
            links.extend(
                link.captures_iter(&text).map(|found| (format!("{}:{number}", self.path), found[1].to_owned())),
            );
        }
        links
    }
}

/// A heading's anchor: lower case, without punctuation, with hyphens for blanks.
fn slug(title: &str) -> String {
    let link = pattern(r"\[([^\]]*)\]\([^)]*\)");
    let kept = |c: &char| c.is_alphanumeric() || ['-', '_', ' '].contains(c);
    link.replace_all(title.trim(), "$1")
        .to_lowercase()
        .chars()
        .filter(kept)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn headings_have_the_anchors_that_github_gives_them() {
    let text = "# A `b`: c, d\n\n## Same\n## Same\n```sh\n# no heading\n```\n## [x](y.md) _z_\n<a id=\"own\"></a>\n"
        .to_owned();
    let page = Page { path: "page.md".to_owned(), text };
    let anchors: Vec<_> = page.anchors().into_iter().collect();
    assert_eq!(anchors, ["a-b-c-d", "own", "same", "same-1", "x-_z_"]);
}
