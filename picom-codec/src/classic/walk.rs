//! The values of a message one after the other, by their first bytes. Whoever calls it has scanned the message.

/// What the first bytes of a value say.
pub(super) struct Head {
    pub(super) marker: u8,
    /// Bytes of the value itself: of an array or map those of its header.
    pub(super) len: usize,
    /// Bytes of `len` that stand before the data of a text, of bytes, or of an ext with its type.
    pub(super) skip: usize,
    /// Values within it.
    pub(super) children: u64,
}

impl Head {
    pub(super) fn is_map(&self) -> bool {
        matches!(self.marker, 0x80..=0x8f | 0xde | 0xdf)
    }
}

/// What stands at the front of `bytes`; `None` if it is cut off.
pub(super) fn head(bytes: &[u8]) -> Option<Head> {
    let (&marker, rest) = bytes.split_first()?;
    let number = |width: usize| -> Option<u64> {
        let bytes = rest.get(..width)?;
        Some(
            bytes
                .iter()
                .fold(0, |number, &byte| number << 8 | u64::from(byte)),
        )
    };
    let plain = |width: usize| (1 + width, 1, 0);
    let data = |width: usize, more: u64| -> Option<(usize, usize, u64)> {
        let len = usize::try_from(number(width)? + more).ok()?;
        Some(((1 + width).checked_add(len)?, 1 + width, 0))
    };
    let (len, skip, children) = match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0..=0xc3 => plain(0),
        0x80..=0x8f => (1, 1, 2 * u64::from(marker & 0x0f)),
        0x90..=0x9f => (1, 1, u64::from(marker & 0x0f)),
        0xa0..=0xbf => plain(usize::from(marker & 0x1f)),
        0xcc | 0xd0 => plain(1),
        0xcd | 0xd1 => plain(2),
        0xca | 0xce | 0xd2 => plain(4),
        0xcb | 0xcf | 0xd3 => plain(8),
        0xc4 | 0xd9 => data(1, 0)?,
        0xc5 | 0xda => data(2, 0)?,
        0xc6 | 0xdb => data(4, 0)?,
        0xc7 => data(1, 1)?,
        0xc8 => data(2, 1)?,
        0xc9 => data(4, 1)?,
        0xd4..=0xd8 => plain(1 + (1 << (marker - 0xd4))),
        0xdc => (3, 3, number(2)?),
        0xdd => (5, 5, number(4)?),
        0xde => (3, 3, 2 * number(2)?),
        0xdf => (5, 5, 2 * number(4)?),
    };
    (len <= bytes.len()).then_some(Head {
        marker,
        len,
        skip,
        children,
    })
}

/// How long the value at the front of `bytes` is, with all that is in it.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut left) = (0, 1_u64);
    while left > 0 {
        let head = head(bytes.get(at..)?)?;
        at += head.len;
        left = left - 1 + head.children;
    }
    Some(at)
}

/// The data of a text.
pub(super) fn text(bytes: &[u8]) -> Option<&[u8]> {
    let head = head(bytes)?;
    match head.marker {
        0xa0..=0xbf | 0xd9..=0xdb => bytes.get(head.skip..head.len),
        _ => None,
    }
}

/// The text that JavaScript makes of a value that is the key of a map, where that may be a word: of a text, of bytes, and of
/// an array of one of these, however deep.
pub(super) fn text_of_key(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let head = head(bytes)?;
        match head.marker {
            0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb => return bytes.get(head.skip..head.len),
            0x91 | 0xdc | 0xdd if head.children == 1 => bytes = bytes.get(head.len..)?,
            _ => return None,
        }
    }
}

/// The entries of a map: each key and each value, whole. Nothing if it is no map.
pub(super) fn entries(map: &[u8]) -> Entries<'_> {
    match head(map) {
        Some(head) if head.is_map() => Entries {
            rest: map.get(head.len..).unwrap_or_default(),
            left: head.children / 2,
        },
        _ => Entries { rest: &[], left: 0 },
    }
}

pub(super) struct Entries<'a> {
    rest: &'a [u8],
    left: u64,
}

impl<'a> Entries<'a> {
    fn value(&mut self) -> Option<&'a [u8]> {
        let (value, rest) = self.rest.split_at_checked(length(self.rest)?)?;
        self.rest = rest;
        Some(value)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some((self.value()?, self.value()?))
    }
}
