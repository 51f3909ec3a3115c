//! Circles of imports inside a room: at every level of the module tree, modules
//! that stand side by side must be readable in some order.
//!
//! A module and its children count as one towards their neighbours, and may use
//! each other freely. A name that a module passes on by `use` belongs to the
//! module that defines it.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{self, CodePath};
use super::rules::Source;

/// A module's path from the crate's root.
type Module = Vec<String>;

/// How many times a name may be passed on before the search gives up.
const LONGEST_CHAIN: usize = 8;

/// What is known of the modules: which there are, and which names each takes in
/// by `use`, with the full path of each.
struct Tree {
    modules: BTreeSet<Module>,
    taken_in: BTreeMap<(Module, String), Module>,
}

/// Each circle as one line: the modules on it, and an import for every step.
pub(crate) fn circles(sources: &[Source]) -> Vec<String> {
    let files: Vec<(Module, Vec<CodePath>)> = sources
        .iter()
        .filter(|source| !source.is_test_file() && source.path() != "src/lib.rs")
        .map(|source| {
            let module = source.module().into_iter().map(str::to_owned).collect();
            (module, code::paths(&code::without_tests(source.tokens())))
        })
        .collect();
    let mut tree =
        Tree { modules: files.iter().map(|(module, _)| module.clone()).collect(), taken_in: BTreeMap::new() };
    for (module, paths) in &files {
        for path in paths.iter().filter(|path| path.segments.len() > 1) {
            if let (Some(full), Some(name)) = (tree.full_path(module, path), path.segments.last()) {
                tree.taken_in.entry((module.clone(), name.clone())).or_insert(full);
            }
        }
    }
    // By the parent of the modules that stand side by side: who imports whom, and where.
    let mut levels: BTreeMap<Module, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
    for (module, paths) in &files {
        for path in paths {
            let Some(full) = tree.full_path(module, path) else { continue };
            let target = tree.home_of(&full, LONGEST_CHAIN);
            let shared = module.iter().zip(&target).take_while(|(own, other)| own == other).count();
            // Between rooms another rule holds.
            if let (Some(own), Some(other), true) = (module.get(shared), target.get(shared), shared > 0) {
                let level = levels.entry(module.iter().take(shared).cloned().collect()).or_default();
                let place = format!("{}:{}", module.join("/"), path.line);
                level.entry(own.clone()).or_default().entry(other.clone()).or_insert(place);
            }
        }
    }
    levels.iter().flat_map(|(parent, imports)| circles_of_level(parent, imports)).collect()
}

impl Tree {
    /// The path from the crate's root, for paths that lead into the crate.
    fn full_path(&self, module: &Module, path: &CodePath) -> Option<Module> {
        let segments = &path.segments;
        let climbs = segments.iter().take_while(|step| *step == "super").count();
        match segments.first()?.as_str() {
            "crate" => Some(segments.iter().skip(1).cloned().collect()),
            "self" => Some(module.iter().chain(segments.iter().skip(1)).cloned().collect()),
            "super" => {
                let outside = climbs.saturating_sub(path.inline_depth);
                let base = module.get(..module.len().checked_sub(outside)?)?;
                Some(base.iter().chain(segments.iter().skip(climbs)).cloned().collect())
            }
            first => {
                let child: Module = module.iter().cloned().chain([first.to_owned()]).collect();
                let is_child = segments.len() > 1 && self.modules.contains(&child);
                is_child.then(|| module.iter().chain(segments).cloned().collect())
            }
        }
    }

    /// The module that defines what a full path names.
    fn home_of(&self, full: &Module, chain: usize) -> Module {
        let mut outward = (0..=full.len()).rev().filter_map(|depth| full.get(..depth));
        let home = outward.find(|module| self.modules.contains(*module)).unwrap_or_default().to_vec();
        let passed_on =
            full.get(home.len()).and_then(|name| self.taken_in.get(&(home.clone(), name.clone())));
        match passed_on {
            Some(further) if chain > 0 && further != full => self.home_of(further, chain - 1),
            _ => home,
        }
    }
}

fn circles_of_level(parent: &Module, imports: &BTreeMap<String, BTreeMap<String, String>>) -> Vec<String> {
    let mut found = Vec::new();
    let mut told: BTreeSet<BTreeSet<&String>> = BTreeSet::new();
    for start in imports.keys() {
        let Some(way) = shortest_way_back(start, imports) else { continue };
        if told.insert(way.iter().copied().collect()) {
            let steps = way.iter().zip(way.iter().cycle().skip(1)).map(|(from, to)| {
                let place = imports.get(*from).and_then(|targets| targets.get(*to));
                format!("{from} -> {to} ({})", place.map_or("", String::as_str))
            });
            let steps: Vec<String> = steps.collect();
            found.push(format!("src/{}: a circle of imports: {}", parent.join("/"), steps.join(", ")));
        }
    }
    found
}

/// The modules from `start` along imports until `start` is imported again.
fn shortest_way_back<'a>(
    start: &'a String,
    imports: &'a BTreeMap<String, BTreeMap<String, String>>,
) -> Option<Vec<&'a String>> {
    let mut ways = std::collections::VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in way.last().and_then(|last| imports.get(*last)).into_iter().flat_map(BTreeMap::keys) {
            if next == start {
                return Some(way);
            }
            if seen.insert(next) {
                ways.push_back(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}
