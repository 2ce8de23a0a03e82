//! Whatever a flow does, the independent reader gets its bytes and its gaps out of the file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod draw;
    pub mod pcapng;
    pub mod streams;
}

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use support::draw::{flow, noise, record_as};
use support::pcapng;
use support::streams::{Conversation, conversations};
use tlsdump::event::Dir;
use tlsdump::flow::What;
use tlsdump::frame::{Envelope, FILL_MAX, SEGMENT_MAX};

#[derive(Clone, Debug)]
enum Do {
    Data(usize, bool, usize),
    Gap(usize, bool, u64),
}

fn steps() -> impl Strategy<Value = Vec<Do>> {
    let length = prop_oneof![0..2000usize, SEGMENT_MAX - 2..SEGMENT_MAX * 2 + 2];
    let gap = prop_oneof![
        8 => 0..5u64,
        4 => 0..100_000u64,
        1 => Just(FILL_MAX),
        4 => FILL_MAX..1u64 << 33,
        4 => any::<u64>().prop_map(|n| n >> 8),
    ];
    let step = prop_oneof![
        3 => (0..3usize, any::<bool>(), length).prop_map(|(flow, out, n)| Do::Data(flow, out, n)),
        1 => (0..3usize, any::<bool>(), gap).prop_map(|(flow, out, n)| Do::Gap(flow, out, n)),
    ];
    proptest::collection::vec(step, 0..40)
}

/// The bytes, and the gaps as the reader gives them.
type Side = (Vec<u8>, Vec<(usize, u64)>);

/// What is to be read of a conversation, by direction.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    sides: [Side; 2],
    anew: Option<u64>,
}

impl Model {
    fn lose(&mut self, dir: Dir, length: u64) {
        let (bytes, gaps) = &mut self.sides[dir.index()];
        match gaps.last_mut().filter(|gap| gap.0 == bytes.len()) {
            Some(gap) => gap.1 += length,
            None if length > 0 => gaps.push((bytes.len(), length)),
            None => {}
        }
    }
}

impl From<&Conversation> for Model {
    fn from(read: &Conversation) -> Self {
        let sides = [read.written(), read.read()].map(|side| (side.bytes().to_vec(), side.gaps().to_vec()));
        Self { sides, anew: read.anew }
    }
}

fn reads_back(steps: &[Do], envelope: Envelope) {
    let ends = [("10.0.0.1:1", "10.0.0.2:443"), ("[::1]:2", "[::1]:443"), ("10.0.0.1:3", "10.0.0.2:443")];
    let mut flows: Vec<_> =
        (1..).zip(ends).map(|(id, (local, remote))| flow(id * 7919, local, remote)).collect();
    flows[2].flow.local_is_client = false;
    flows[1].flow.names.server = Some(b"a.example"[..].into());
    flows[2].flow.names.alpn = Some([0xff; 255].into());
    let mut model = vec![vec![Model::default()]; 3];
    let source = noise(SEGMENT_MAX * 3);
    let file = record_as(envelope, |pen| {
        flows.iter_mut().for_each(|flow| pen.open(flow));
        for (number, step) in steps.iter().enumerate() {
            match *step {
                Do::Data(on, out, length) => {
                    let dir = if out { Dir::Out } else { Dir::In };
                    let bytes = &source[number..number + length];
                    pen.draw(&mut flows[on], dir, What::Data(bytes));
                    model[on].last_mut().unwrap().sides[dir.index()].0.extend_from_slice(bytes);
                }
                Do::Gap(on, out, length) => {
                    let dir = if out { Dir::Out } else { Dir::In };
                    pen.draw(&mut flows[on], dir, What::Gap(length));
                    if envelope != Envelope::Plain && length > FILL_MAX {
                        model[on].push(Model { anew: Some(length), ..Model::default() });
                    } else {
                        model[on].last_mut().unwrap().lose(dir, length);
                    }
                }
            }
        }
    });
    let found = conversations(&pcapng::read(&file).unwrap()).unwrap();
    for (number, (model, (local, _))) in model.iter().zip(ends).enumerate() {
        let local = local.parse().unwrap();
        let mine: Vec<_> = found.iter().filter(|c| c.client == local || c.server == local).collect();
        let read: Vec<_> = mine.iter().map(|c| Model::from(*c)).collect();
        assert!(read == *model, "flow {number}");
        let (last, before) = mine.split_last().unwrap();
        assert!(!last.reset && before.iter().all(|c| c.reset), "flow {number}");
    }
}

proptest! {
    #[test]
    fn whatever_is_drawn_reads_back(steps in steps()) {
        reads_back(&steps, Envelope::Plain);
        reads_back(&steps, Envelope::Tls);
        reads_back(&steps, Envelope::Sealed);
    }
}
