//! Which interface the packets of a container are on.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::event::MountNs;
use crate::names::Names;

/// Most containers that have an interface of their own. Packets of any further one are on the interface
/// `other`; their comments still tell the container.
pub const INTERFACES_MAX: usize = 4096;

/// An interface of the file and what was counted on it.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    /// The container's name, else `mnt:[4026532573]`.
    pub(super) name: String,
    /// Runtime, image, pod as far as known, and the mount namespace.
    pub(super) description: String,
    /// Packets on it.
    pub(super) packets: u64,
    /// Places in these packets where bytes are missing.
    pub(super) losses: u64,
}

impl Interface {
    pub(super) fn new(name: &str, description: String) -> Self {
        Self { name: name.to_owned(), description, packets: 0, losses: 0 }
    }

    fn of_container(mntns: MountNs, names: &Names) -> Self {
        let number = format!("mnt:[{}]", mntns.number);
        match names.container(mntns) {
            Some(container) if container.name != number => {
                let comma = if container.description.is_empty() { "" } else { ", " };
                Self::new(&container.name, format!("{}{comma}{number}", container.description))
            }
            _ => Self::new(&number, format!("mount namespace {}", mntns.number)),
        }
    }
}

/// The interfaces of a file, in order of first appearance.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    list: Vec<Interface>,
    numbers: HashMap<MountNs, usize, RandomState>,
}

impl Interfaces {
    /// All of them; the index is the number.
    pub(super) fn list(&self) -> &[Interface] {
        &self.list
    }

    /// Number of the container's interface, and whether it is new.
    pub(super) fn number(&mut self, mntns: MountNs, names: &Names) -> (usize, bool) {
        if let Some(&number) = self.numbers.get(&mntns) {
            return (number, false);
        }
        if self.numbers.len() == INTERFACES_MAX {
            let new = self.list.len() == INTERFACES_MAX;
            if new {
                self.add(Interface::new("other", format!("containers after the first {INTERFACES_MAX}")));
            }
            return (INTERFACES_MAX, new);
        }
        let number = self.add(Interface::of_container(mntns, names));
        self.numbers.insert(mntns, number);
        (number, true)
    }

    /// The interface with that number, which [`Self::number`] gave.
    pub(super) fn get_mut(&mut self, number: usize) -> &mut Interface {
        &mut self.list[number]
    }

    /// Adds an interface that belongs to no container, and gives its number.
    pub(super) fn add(&mut self, interface: Interface) -> usize {
        self.list.push(interface);
        self.list.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Container, Event};

    #[test]
    fn a_container_without_a_name_is_its_namespace() {
        let mntns = MountNs { number: 7, id: 1 };
        let mut names = Names::default();
        let plain = Interface::of_container(mntns, &names);
        assert_eq!((plain.name.as_str(), plain.description.as_str()), ("mnt:[7]", "mount namespace 7"));

        let container = Container { mntns, name: "web-1".into(), description: "docker, nginx:1.27".into() };
        names.learn(&Event::Container(container));
        let named = Interface::of_container(mntns, &names);
        assert_eq!(
            (named.name.as_str(), named.description.as_str()),
            ("web-1", "docker, nginx:1.27, mnt:[7]")
        );
    }

    #[test]
    fn one_number_with_another_id_is_another_container() {
        let mut interfaces = Interfaces::default();
        let names = Names::default();
        assert_eq!(interfaces.number(MountNs { number: 7, id: 1 }, &names), (0, true));
        assert_eq!(interfaces.number(MountNs { number: 7, id: 2 }, &names), (1, true));
        assert_eq!(interfaces.number(MountNs { number: 7, id: 1 }, &names), (0, false));
    }

    #[test]
    fn interfaces_are_bounded() {
        let mut interfaces = Interfaces::default();
        let names = Names::default();
        let ns = |number| MountNs { number, id: 0 };
        for number in 0..INTERFACES_MAX as u32 {
            assert_eq!(interfaces.number(ns(number), &names), (number as usize, true));
        }
        assert_eq!(interfaces.number(ns(1 << 20), &names), (INTERFACES_MAX, true));
        assert_eq!(interfaces.number(ns(1 << 21), &names), (INTERFACES_MAX, false));
        assert_eq!(interfaces.number(ns(5), &names), (5, false));
        assert_eq!(interfaces.list().last().map(|i| i.name.as_str()), Some("other"));
    }
}
