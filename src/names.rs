//! What the numbers in events stand for: libraries and containers, as the stream told them.

use std::collections::{HashMap, VecDeque};

use crate::event::{Container, Event, Library, MountNs, Start};

/// Most libraries that are remembered; the stream may come from a damaged file.
const LIBRARIES_MAX: usize = 65_536;
/// Most containers that are remembered; then the one that was named first is forgotten.
const CONTAINERS_MAX: usize = 65_536;

/// The names that the stream has told so far.
#[derive(Debug, Default)]
pub struct Names {
    start: Option<Start<'static>>,
    libraries: HashMap<u32, Library<'static>>,
    containers: HashMap<MountNs, Container<'static>>,
    /// The keys of `containers`, the oldest first.
    order: VecDeque<MountNs>,
}

impl Names {
    /// Takes in what `event` tells, if it tells a name.
    pub fn learn(&mut self, event: &Event<'_>) {
        match event {
            Event::Start(start) => {
                self.start = Some(Start {
                    application: owned(&start.application),
                    os: owned(&start.os),
                    command: owned(&start.command),
                });
            }
            Event::Library(l) if self.libraries.len() < LIBRARIES_MAX => {
                let library = Library { id: l.id, path: owned(&l.path), version: owned(&l.version) };
                self.libraries.insert(l.id, library);
            }
            Event::Container(c) => {
                let container =
                    Container { mntns: c.mntns, name: owned(&c.name), description: owned(&c.description) };
                if self.containers.insert(c.mntns, container).is_none() {
                    self.order.push_back(c.mntns);
                }
                if self.order.len() > CONTAINERS_MAX {
                    self.order.pop_front().iter().for_each(|oldest| drop(self.containers.remove(oldest)));
                }
            }
            _ => {}
        }
    }

    /// Where and how the stream was captured.
    #[must_use]
    pub fn start(&self) -> Option<&Start<'static>> {
        self.start.as_ref()
    }

    /// The library with that number. Number 0 (the kernel can't tell) is the only one, if there is only one.
    #[must_use]
    pub fn library(&self, id: u32) -> Option<&Library<'static>> {
        let only = || self.libraries.values().next().filter(|_| id == 0 && self.libraries.len() == 1);
        self.libraries.get(&id).or_else(only)
    }

    /// The container of that mount namespace.
    #[must_use]
    pub fn container(&self, mntns: MountNs) -> Option<&Container<'static>> {
        self.containers.get(&mntns)
    }
}

fn owned(text: &str) -> std::borrow::Cow<'static, str> {
    std::borrow::Cow::Owned(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_library_is_the_only_one_there_is() {
        let mut names = Names::default();
        let library = |id| Event::Library(Library { id, path: "/lib/a".into(), version: "".into() });
        assert_eq!(names.library(0), None);
        names.learn(&library(1));
        assert_eq!(names.library(0).map(|library| library.id), Some(1));
        assert_eq!(names.library(2), None);
        names.learn(&library(2));
        assert_eq!(names.library(0), None);
        assert_eq!(names.library(2).map(|library| library.id), Some(2));
    }
    #[test]
    fn containers_are_bounded() {
        let mut names = Names::default();
        let mntns = |number| MountNs { number, id: 0 };
        for number in 0..=CONTAINERS_MAX as u32 {
            let container = Container { mntns: mntns(number), name: "c".into(), description: "".into() };
            names.learn(&Event::Container(container.clone()));
            names.learn(&Event::Container(container));
        }
        assert_eq!((names.containers.len(), names.order.len()), (CONTAINERS_MAX, CONTAINERS_MAX));
        assert_eq!(names.container(mntns(0)), None);
        assert!(
            names.container(mntns(1)).is_some() && names.container(mntns(CONTAINERS_MAX as u32)).is_some()
        );
    }
}
