//! A machine of scripted answers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::system::{Ran, System};

/// Answers by what a command begins with, `iptables-nft-save` or `nft -f`; the longest beginning decides, and a program is
/// there when something begins with it. Several answers of one beginning are given in turn, the last one for ever.
#[derive(Debug, Default)]
pub(crate) struct Script {
    files: BTreeMap<String, String>,
    answers: Vec<(String, RefCell<Vec<Ran>>)>,
    /// What was run, with its input.
    pub(crate) ran: RefCell<Vec<(String, String)>>,
    /// What was told.
    pub(crate) notes: RefCell<Vec<String>>,
}

impl Script {
    pub(crate) fn file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.to_owned(), content.to_owned());
        self
    }

    pub(crate) fn prints(self, command: &str, outputs: &[&str]) -> Self {
        let ran = |output: &&str| Ran { succeeded: true, output: (*output).to_owned(), complaint: String::new() };
        self.answers(command, outputs.iter().map(ran).collect())
    }

    pub(crate) fn fails(self, command: &str, complaint: &str) -> Self {
        let ran = Ran { succeeded: false, output: String::new(), complaint: complaint.to_owned() };
        self.answers(command, vec![ran])
    }

    pub(crate) fn answers(mut self, command: &str, mut turns: Vec<Ran>) -> Self {
        turns.reverse();
        self.answers.push((command.to_owned(), RefCell::new(turns)));
        self
    }

    /// What was fed to commands that begin so.
    pub(crate) fn fed(&self, command: &str) -> Vec<String> {
        let ran = self.ran.borrow();
        ran.iter().filter(|(line, _)| line.starts_with(command)).map(|(_, input)| input.clone()).collect()
    }
}

impl System for Script {
    fn find(&self, program: &str) -> Option<PathBuf> {
        let there = self.answers.iter().any(|(command, _)| command.split(' ').next() == Some(program));
        there.then(|| PathBuf::from(program))
    }

    fn run(&self, program: &Path, arguments: &[&str], input: Option<&str>) -> Result<Ran, Error> {
        let line = format!("{} {}", program.display(), arguments.join(" ")).trim().to_owned();
        self.ran.borrow_mut().push((line.clone(), input.unwrap_or_default().to_owned()));
        let matching = self.answers.iter().filter(|(command, _)| line.starts_with(command.as_str()));
        let (_, turns) = matching.max_by_key(|(command, _)| command.len()).unwrap_or_else(|| panic!("{line}"));
        let mut turns = turns.borrow_mut();
        let turn = if turns.len() > 1 { turns.pop() } else { turns.last().cloned() };
        Ok(turn.unwrap())
    }

    fn run_self_as(&self, _user: u32, arguments: &[&str]) -> Result<Ran, Error> {
        self.run(Path::new("self"), arguments, None)
    }

    fn read(&self, path: &str) -> Option<String> {
        self.files.get(path).cloned()
    }

    fn note(&self, line: &str) {
        self.notes.borrow_mut().push(line.to_owned());
    }
}
