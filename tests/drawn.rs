//! Whatever a flow does, the independent reader gets its bytes and its gaps out of the file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod draw;
    pub mod pcapng;
    pub mod streams;
}

use proptest::prelude::{Strategy, any, prop_oneof, proptest};

use support::draw::{flow, noise, record};
use support::pcapng;
use support::streams::conversations;
use tlsdump::event::Dir;
use tlsdump::flow::What;
use tlsdump::frame::SEGMENT_MAX;

#[derive(Clone, Debug)]
enum Do {
    Data(usize, bool, usize),
    Gap(usize, bool, u64),
}

fn steps() -> impl Strategy<Value = Vec<Do>> {
    let length = prop_oneof![0..2000usize, SEGMENT_MAX - 2..SEGMENT_MAX * 2 + 2];
    let gap = prop_oneof![0..5u64, 0..1u64 << 33, any::<u64>().prop_map(|n| n >> 8)];
    let step = prop_oneof![
        3 => (0..3usize, any::<bool>(), length).prop_map(|(flow, out, n)| Do::Data(flow, out, n)),
        1 => (0..3usize, any::<bool>(), gap).prop_map(|(flow, out, n)| Do::Gap(flow, out, n)),
    ];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    #[test]
    fn whatever_is_drawn_reads_back(steps in steps()) {
        let ends = [("10.0.0.1:1", "10.0.0.2:443"), ("[::1]:2", "[::1]:443"), ("10.0.0.1:3", "10.0.0.2:443")];
        let mut flows: Vec<_> =
            (1..).zip(ends).map(|(id, (local, remote))| flow(id * 7919, local, remote)).collect();
        flows[2].flow.local_is_client = false;
        // By flow and direction: the bytes, and the gaps as the reader gives them.
        let mut model = vec![[(Vec::new(), Vec::<(usize, u64)>::new()), (Vec::new(), Vec::new())]; 3];
        let source = noise(SEGMENT_MAX * 3);
        let file = record(|pen| {
            for flow in &mut flows {
                pen.open(flow);
            }
            for (number, step) in steps.iter().enumerate() {
                match *step {
                    Do::Data(on, out, length) => {
                        let dir = if out { Dir::Out } else { Dir::In };
                        let bytes = &source[number..number + length];
                        pen.draw(&mut flows[on], dir, What::Data(bytes));
                        model[on][dir.index()].0.extend_from_slice(bytes);
                    }
                    Do::Gap(on, out, length) => {
                        let dir = if out { Dir::Out } else { Dir::In };
                        pen.draw(&mut flows[on], dir, What::Gap(length));
                        let (bytes, gaps) = &mut model[on][dir.index()];
                        match gaps.last_mut().filter(|gap| gap.0 == bytes.len()) {
                            Some(gap) => gap.1 += length,
                            None if length > 0 => gaps.push((bytes.len(), length)),
                            None => {}
                        }
                    }
                }
            }
        });
        let found = conversations(&pcapng::read(&file).unwrap()).unwrap();
        assert_eq!(found.len(), 3);
        for (conversation, [written, read]) in found.iter().zip(&model) {
            assert!(conversation.written().bytes() == written.0 && conversation.read().bytes() == read.0);
            assert_eq!(conversation.written().gaps(), written.1);
            assert_eq!(conversation.read().gaps(), read.1);
        }
    }
}
