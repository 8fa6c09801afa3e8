//! Links lead somewhere, and every page of the guide is found from its index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::markdown::{Page, pages};
use crate::{none_wrong, root};

/// A link of a page as a path in the repository, and what stands behind `#`; none if it leads elsewhere.
fn target(page: &Page, link: &str) -> Option<(String, Option<String>)> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor.to_owned())));
    if path.is_empty() {
        return Some((page.path.clone(), anchor));
    }
    let mut whole = PathBuf::new();
    for part in Path::new(&page.path).parent().unwrap().join(path).components() {
        if part == Component::ParentDir {
            assert!(whole.pop(), "{}: {link} leads out of the repository", page.path);
        } else {
            whole.push(part);
        }
    }
    Some((whole.to_str().unwrap().to_owned(), anchor))
}

#[test]
fn links_lead_to_files_and_headings_that_there_are() {
    let pages = pages();
    let anchors: BTreeMap<_, _> = pages.iter().map(|page| (page.path.as_str(), page.anchors())).collect();
    let (mut wrong, mut followed) = (Vec::new(), 0);
    for page in &pages {
        for (place, link) in page.links() {
            let Some((path, anchor)) = target(page, &link) else { continue };
            followed += 1;
            if !root().join(&path).exists() {
                wrong.push(format!("{place}: {link}: there is no {path}"));
            } else if let (Some(anchor), Some(known)) = (anchor, anchors.get(path.as_str()))
                && !known.contains(&anchor)
            {
                wrong.push(format!("{place}: {link}: {path} has no such heading"));
            }
        }
    }
    none_wrong(&wrong);
    assert!(followed > 100, "{followed}");
}

#[test]
fn every_page_of_the_guide_is_in_its_index() {
    let pages = pages();
    let index = pages.iter().find(|page| page.path == "docs/README.md").unwrap();
    let listed: BTreeSet<_> = index.links().iter().filter_map(|(_, link)| Some(target(index, link)?.0)).collect();
    let of_guide = |page: &&Page| page.path.starts_with("docs/") && page.path != index.path;
    let missing = pages.iter().filter(of_guide).filter(|page| !listed.contains(&page.path));
    none_wrong(&missing.map(|page| format!("docs/README.md has no link to {}", page.path)).collect::<Vec<_>>());
}
