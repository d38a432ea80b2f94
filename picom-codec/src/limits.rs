//! How much structure one message may have. Its length in bytes is limited where it is received (PROTOCOL §4.4).

/// Bounds of the [scan](crate::scan), and of the recursion while a value is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    depth: u8,
    nodes: u32,
}

impl Limits {
    /// The deepest nesting there is. In a debug build decoding takes 3 to 8 KiB of stack a level, and tokio's workers
    /// have 2 MiB: 64 levels stay under a quarter of that. No limit can be set above it.
    pub const MAX_DEPTH: u8 = 64;

    /// Values in one message unless set otherwise: as `rmpv::Value`s (40 bytes and more each) about 42 MB.
    pub const DEFAULT_NODES: u32 = 262_144;

    /// Values in one message of a peer that is not trusted: a quarter, as its messages are shorter too.
    pub const UNTRUSTED_NODES: u32 = 65_536;

    /// At most `depth` arrays and maps within each other (at most [`MAX_DEPTH`](Self::MAX_DEPTH), which larger numbers
    /// mean too) and `nodes` values in all. Arrays, maps, keys and everything in them count one each.
    pub const fn new(depth: u8, nodes: u32) -> Self {
        let depth = if depth > Self::MAX_DEPTH {
            Self::MAX_DEPTH
        } else {
            depth
        };
        Limits { depth, nodes }
    }

    /// For messages of peers that are not trusted.
    pub const fn untrusted() -> Self {
        Limits::new(Self::MAX_DEPTH, Self::UNTRUSTED_NODES)
    }

    /// The same with another depth.
    pub const fn with_depth(self, depth: u8) -> Self {
        Limits::new(depth, self.nodes)
    }

    /// The same with another number of values.
    pub const fn with_nodes(self, nodes: u32) -> Self {
        Limits::new(self.depth, nodes)
    }

    /// What both allow.
    pub(crate) const fn tighter(&self, other: &Limits) -> Self {
        let depth = if self.depth < other.depth {
            self.depth
        } else {
            other.depth
        };
        let nodes = if self.nodes < other.nodes {
            self.nodes
        } else {
            other.nodes
        };
        Limits { depth, nodes }
    }

    /// How many arrays and maps may stand within each other. A lone number has depth 0, an empty array 1.
    pub const fn depth(&self) -> u8 {
        self.depth
    }

    /// How many values there may be in all.
    pub const fn nodes(&self) -> u32 {
        self.nodes
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::new(Self::MAX_DEPTH, Self::DEFAULT_NODES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_depth_above_the_safe_one_can_be_set() {
        assert_eq!(Limits::new(255, 10).depth(), 64);
        assert_eq!(Limits::default().with_depth(65).depth(), 64);
        assert_eq!(Limits::default().with_depth(3), Limits::new(3, 262_144));
        assert_eq!(Limits::untrusted().nodes(), 65_536);
    }
}
