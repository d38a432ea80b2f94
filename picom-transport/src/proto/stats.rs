//! Counters of one connection.

/// What has happened on a connection so far, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MuxStats {
    /// Streams this side opened.
    pub opened: u64,
    /// Streams the peer opened.
    pub accepted: u64,
    /// Streams of the peer's that were refused.
    pub refused: u64,
    /// Streams that were open when the connection ended.
    pub cut: u32,
    /// Frames that came.
    pub frames_in: u64,
    /// Frames that were handed out.
    pub frames_out: u64,
    /// Our streams that are open.
    pub opened_now: u32,
    /// Calls that wait for a slot.
    pub backlog: usize,
    /// How many slots became free of late: older than a second they count half, older than two a quarter, and so on.
    pub turnover: u64,
    /// The peer's streams whose slots are taken.
    pub accepted_now: u32,
    /// What is free of the receive budget, first windows not counted; bytes.
    pub budget_free: u64,
}
