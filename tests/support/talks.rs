//! Conversations of payloads.rs, drawn in several ways.

#![allow(unreachable_pub)]

use tlsdump::event::Dir;
use tlsdump::flow::What;

use super::draw::{Drawn, Pen};
use super::payloads::{Message, Talk};

/// Messages; the answers lost, if so.
pub fn speak(pen: &mut Pen<'_, &mut Vec<u8>>, on: &mut Drawn, messages: &[Message], are_answers_lost: bool) {
    for (asks, bytes) in messages {
        let dir = if *asks { Dir::Out } else { Dir::In };
        let is_lost = are_answers_lost && !asks;
        pen.draw(on, dir, if is_lost { What::Gap(bytes.len() as u64) } else { What::Data(bytes) });
    }
}

/// One conversation in one way: from its `start`, from its `middle`, or with the `loss` of a whole answer,
/// after which it goes on.
pub fn converse(pen: &mut Pen<'_, &mut Vec<u8>>, on: &mut Drawn, talk: &Talk, way: &str) {
    pen.open(on);
    if way != "middle" {
        speak(pen, on, &talk.beginning, false);
    }
    speak(pen, on, &talk.exchange, false);
    if way == "loss" {
        speak(pen, on, &talk.exchange, true);
        speak(pen, on, &talk.exchange, false);
    }
    pen.close(on);
}
