//! What `tlsdump list` says of a row's file.

use serde_json::Value;

use crate::capture::tlsdump;
use crate::container::Container;
use crate::process::run;

/// Of a file that a process of the container has mapped.
pub(crate) enum Listed {
    /// It would be probed: the library, and its version as far as it can be told.
    Found { library: String, version: String },
    /// It would not, because of this.
    Refused(String),
}

impl Listed {
    /// Asks about the file in that container whose name begins so.
    #[track_caller]
    pub(crate) fn of(container: &Container, file: &str) -> Self {
        let ended = run(&tlsdump(&["list", "--json", &container.option()]));
        assert!(matches!(ended.status.code(), Some(0 | 1)), "{ended}");
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let used = |key: &str| {
            let fits = |entry: &&Value| {
                is_file(entry["path"].as_str().unwrap(), file)
                    && !entry["processes"].as_array().unwrap().is_empty()
            };
            report[key].as_array().unwrap().iter().filter(fits).cloned().collect::<Vec<_>>()
        };
        match (&used("found")[..], &used("not_probed")[..]) {
            ([entry], []) => {
                assert!(entry["places"].as_u64().unwrap() > 0, "{entry:#}");
                let text = |key: &str| entry[key].as_str().unwrap().to_owned();
                Self::Found { library: text("library"), version: text("version") }
            }
            ([], [entry]) => Self::Refused(entry["why"].as_str().unwrap().to_owned()),
            (found, refused) => {
                panic!("it should be told once of {file}, is of {found:#?} {refused:#?}\n{report:#}")
            }
        }
    }
}

/// Whether the name of the file at `path` begins so, or so: `|` stands between.
pub(crate) fn is_file(path: &str, beginnings: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| beginnings.split('|').any(|start| name.starts_with(start)))
}
