//! A named file comes before the file that names it; files that name each other become one group.
//!
//! Pure: numbers to numbers. The groups are the strongly connected components of the graph of
//! references, in the order in which Tarjan's algorithm completes them, which is the order needed.
//! It keeps its own stack, so that a chain may have any length.

/// Files that get their names together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Group {
    /// One file that does not name itself.
    One(usize),
    /// Files each of which leads to every other, or one that names itself; in ascending order.
    Ring(Vec<usize>),
}

/// Orders the files, of which `names[n]` are those that file `n` names.
pub(super) fn order(names: &[Vec<usize>]) -> Vec<Group> {
    let mut search = Search { names, state: vec![None; names.len()], open: Vec::new(), groups: Vec::new(), next: 0 };
    for file in 0..names.len() {
        if search.state[file].is_none() {
            search.from(file);
        }
    }
    search.groups
}

/// When a file was reached, the earliest open file that it leads to, and whether it is in no group yet.
#[derive(Debug, Clone, Copy)]
struct Visit {
    reached: usize,
    lowest: usize,
    is_open: bool,
}

struct Search<'a> {
    names: &'a [Vec<usize>],
    state: Vec<Option<Visit>>,
    open: Vec<usize>,
    groups: Vec<Group>,
    next: usize,
}

impl Search<'_> {
    fn from(&mut self, start: usize) {
        // Each level is a file, and which of the files that it names is looked at next.
        let mut path = vec![(start, 0)];
        self.reach(start);
        while let Some((file, edge)) = path.last_mut() {
            let file = *file;
            let Some(&named) = self.names[file].get(*edge) else {
                path.pop();
                self.leave(file, path.last().map(|(parent, _)| *parent));
                continue;
            };
            *edge += 1;
            match self.state[named] {
                None => {
                    self.reach(named);
                    path.push((named, 0));
                }
                Some(visit) if visit.is_open => self.lower(file, visit.reached),
                Some(_) => {}
            }
        }
    }

    fn reach(&mut self, file: usize) {
        self.state[file] = Some(Visit { reached: self.next, lowest: self.next, is_open: true });
        self.next += 1;
        self.open.push(file);
    }

    fn lower(&mut self, file: usize, to: usize) {
        if let Some(visit) = &mut self.state[file] {
            visit.lowest = visit.lowest.min(to);
        }
    }

    fn leave(&mut self, file: usize, parent: Option<usize>) {
        let Some(visit) = self.state[file] else { return };
        if let Some(parent) = parent {
            self.lower(parent, visit.lowest);
        }
        if visit.lowest == visit.reached {
            self.close(file);
        }
    }

    fn close(&mut self, root: usize) {
        let at = self.open.iter().rposition(|&file| file == root).unwrap_or(0);
        let mut members = self.open.split_off(at);
        members.sort_unstable();
        for &member in &members {
            if let Some(visit) = &mut self.state[member] {
                visit.is_open = false;
            }
        }
        self.groups.push(match members[..] {
            [file] if !self.names[file].contains(&file) => Group::One(file),
            _ => Group::Ring(members),
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_named_come_before_the_namer() {
        use Group::{One, Ring};
        for (names, expected) in [
            (vec![], vec![]),
            (vec![vec![1], vec![]], vec![One(1), One(0)]),
            (vec![vec![1, 2], vec![2], vec![]], vec![One(2), One(1), One(0)]),
            (vec![vec![0]], vec![Ring(vec![0])]), // it names itself
            (vec![vec![1], vec![0, 2], vec![]], vec![One(2), Ring(vec![0, 1])]),
            (vec![vec![1], vec![2], vec![0, 3], vec![4], vec![3]], vec![Ring(vec![3, 4]), Ring(vec![0, 1, 2])]),
        ] {
            assert_eq!(order(&names), expected, "for {names:?}");
        }
    }

    #[test]
    fn a_chain_may_have_any_length() {
        let n = 200_000;
        let names: Vec<Vec<usize>> =
            (0..n).map(|file| (file + 1 < n).then_some(file + 1).into_iter().collect()).collect();
        let groups = order(&names);
        assert_eq!((groups.first(), groups.last()), (Some(&Group::One(n - 1)), Some(&Group::One(0))));
    }

    proptest! {
        #[test]
        fn every_file_is_in_one_group_after_all_that_it_names(
            names in (1_usize..12).prop_flat_map(|n| prop::collection::vec(prop::collection::vec(0..n, 0..4), n)),
        ) {
            let mut group_of = vec![None; names.len()];
            for (at, group) in order(&names).iter().enumerate() {
                let members = match group {
                    Group::One(file) => vec![*file],
                    Group::Ring(members) => members.clone(),
                };
                for member in members {
                    prop_assert_eq!(group_of[member].replace(at), None);
                }
            }
            for (file, named) in names.iter().enumerate() {
                prop_assert!(named.iter().all(|&named| group_of[named] <= group_of[file]));
            }
        }
    }
}
