//! The document's golden lines are what the code writes.

use super::samples;
use crate::msg::channel::OUR_LAYOUT;
use crate::window::testing::TestWindow;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn messages_and_channel_layout() {
    let mut lines = Vec::new();
    for (kind, response, _, message) in samples::all() {
        let frame = message.encode();
        let size = usize::from(u16::from_le_bytes([frame[6], frame[7]]));
        assert!(frame[size..].iter().all(|byte| *byte == 0));
        let side = if response {
            "response"
        } else if kind.is_event() {
            "event"
        } else {
            "request"
        };
        lines.push(format!("{kind:?} {side} {}", hex(&frame[..size])));
    }
    let window = TestWindow::new(0x2000);
    OUR_LAYOUT.publish(&window);
    lines.push(format!("ChannelLayout {}", hex(&window.copy_out()[..64])));
    let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../", "docs/protocol.md"));
    for line in &lines {
        let there = document.lines().any(|other| other == line);
        assert!(there, "docs/protocol.md lacks:\n{}", lines.join("\n"));
    }
}
