//! What the numbers in events stand for: libraries and containers, as the stream told them.

use std::collections::HashMap;

use crate::event::{Container, Event, Library, MountNs, Start};

/// Most libraries and most containers that are remembered; the stream may come from a damaged file.
const NAMES_MAX: usize = 65_536;

/// The names that the stream has told so far.
#[derive(Debug, Default)]
pub struct Names {
    start: Option<Start<'static>>,
    libraries: HashMap<u32, Library<'static>>,
    containers: HashMap<MountNs, Container<'static>>,
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
            Event::Library(l) if self.libraries.len() < NAMES_MAX => {
                let library = Library { id: l.id, path: owned(&l.path), version: owned(&l.version) };
                self.libraries.insert(l.id, library);
            }
            Event::Container(c) if self.containers.len() < NAMES_MAX => {
                let container =
                    Container { mntns: c.mntns, name: owned(&c.name), description: owned(&c.description) };
                self.containers.insert(c.mntns, container);
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
}
