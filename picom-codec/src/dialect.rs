//! What a client speaks, told from its first bytes (PROTOCOL §2.1). What to do about it is for the accepting side.

use crate::varint;

/// How many empty frames may stand before the first payload. No client sends any; a few are forgiven, and more would let
/// a peer keep the accepting side looking for ever.
const MAX_EMPTY: usize = 16;

/// [`sniff`] decides within so many bytes: the empty frames, in their longest form, a prefix, and one byte of payload.
pub const MAX_SNIFF: usize = MAX_EMPTY * varint::MAX_LENIENT + varint::MAX_LENIENT + 1;

/// What the first bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// Too few bytes to tell.
    NeedMore,
    /// picom's native dialect. [`leading_empty`] says what to drop before the first frame.
    Native,
    /// The Node library's dialect: [`classic`](crate::classic).
    Classic,
    /// The hello of TLS: the client expects an encrypted connection.
    Tls,
    /// A request of HTTP: the client has the wrong port.
    Http,
    /// None of these.
    Unknown,
}

/// What the stream that begins with `bytes` is. Decides within [`MAX_SNIFF`] bytes.
pub fn sniff(bytes: &[u8]) -> Sniff {
    match bytes {
        [] | [0x16] => return Sniff::NeedMore,
        [0x16, 0x03, ..] => return Sniff::Tls,
        _ => {}
    }
    let start = leading_empty(bytes);
    let rest = bytes.get(start..).unwrap_or_default();
    let payload = match varint::read_lenient(rest) {
        // `leading_empty` passed over as many as are forgiven.
        Ok(Some((0, _))) | Err(_) => return Sniff::Unknown,
        Ok(Some((_, width))) => rest.get(width),
        Ok(None) => return Sniff::NeedMore,
    };
    match payload {
        None => Sniff::NeedMore,
        Some(0x90..=0x9f | 0xdc | 0xdd) => Sniff::Native,
        Some(0x80..=0x8f | 0xde | 0xdf) => Sniff::Classic,
        // No call, but there its sender is told so. Nil is told nothing there either, small numbers begin the texts of many
        // protocols, and `c1` begins nothing.
        Some(0xa0..=0xbf | 0xc2..=0xff) => Sniff::Classic,
        Some(_) => http(bytes),
    }
}

/// How many bytes of empty frames stand before the first payload.
pub fn leading_empty(bytes: &[u8]) -> usize {
    let mut at = 0;
    for _ in 0..MAX_EMPTY {
        match varint::read_lenient(bytes.get(at..).unwrap_or_default()) {
            Ok(Some((0, width))) => at += width,
            _ => break,
        }
    }
    at
}

/// The requests of HTTP/1 and the preface of HTTP/2. As frames they would begin with a small number, so nothing of
/// picom's is lost to them.
const HTTP: [&[u8]; 10] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
    b"PRI * ",
];

fn http(bytes: &[u8]) -> Sniff {
    if HTTP.iter().any(|method| bytes.starts_with(method)) {
        Sniff::Http
    } else if HTTP.iter().any(|method| method.starts_with(bytes)) {
        Sniff::NeedMore
    } else {
        Sniff::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_dialect() {
        let table: &[(&[u8], Sniff)] = &[
            (&[], Sniff::NeedMore),
            (&[0x05], Sniff::NeedMore),
            (&[0x05, 0x90], Sniff::Native),
            (&[0x1a, 0x9d], Sniff::Native),
            (&[0x05, 0xdc], Sniff::Native),
            (&[0x05, 0xdd], Sniff::Native),
            (&[0x80, 0x02, 0x92], Sniff::Native),
            (&[0x80, 0x02], Sniff::NeedMore),
            (&[0x05, 0x80], Sniff::Classic),
            (&[0x05, 0xde], Sniff::Classic),
            (&[0x05, 0xdf], Sniff::Classic),
            (&[0x05, 0xa4], Sniff::Classic),
            (&[0x05, 0xd9], Sniff::Classic),
            (&[0x05, 0xce], Sniff::Classic),
            (&[0x01, 0xc3], Sniff::Classic),
            // In a needlessly long form, which the classic dialect tolerates.
            (&[0x85, 0x80, 0x00, 0x81], Sniff::Classic),
            (&[0x16], Sniff::NeedMore),
            (&[0x16, 0x03], Sniff::Tls),
            (&[0x16, 0x03, 0x01, 0x02], Sniff::Tls),
            // A frame of 22 bytes is not TLS.
            (&[0x16, 0x93], Sniff::Native),
            (b"G", Sniff::NeedMore),
            (b"GET", Sniff::NeedMore),
            (b"GET / HTTP/1.1\r\n", Sniff::Http),
            (b"PRI * HTTP/2.0\r\n", Sniff::Http),
            (b"GEX", Sniff::Unknown),
            (b"SSH-2.0-OpenSSH", Sniff::Unknown),
            (&[0x05, 0xc1], Sniff::Unknown),
            (&[0x05, 0xc0], Sniff::Unknown),
            (&[0xff; 11], Sniff::Unknown),
        ];
        for (bytes, expected) in table {
            assert_eq!(sniff(bytes), *expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn a_few_empty_frames_may_stand_before_the_first() {
        for empty in 0..=MAX_EMPTY {
            let mut bytes = vec![0; empty];
            assert_eq!(sniff(&bytes), Sniff::NeedMore);
            bytes.extend([0x03, 0x93]);
            assert_eq!(sniff(&bytes), Sniff::Native);
            assert_eq!(leading_empty(&bytes), empty);
        }
        assert_eq!(sniff(&[0; MAX_EMPTY + 1]), Sniff::Unknown);
    }

    #[test]
    fn the_dialect_is_decided_within_the_bound() {
        // The longest form of each empty frame, of the prefix, and then one byte.
        let longest_zero = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
        let mut bytes = longest_zero.repeat(MAX_EMPTY);
        bytes.extend([0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]);
        assert_eq!(sniff(&bytes), Sniff::NeedMore);
        bytes.push(0x80);
        assert_eq!(bytes.len(), MAX_SNIFF);
        assert_eq!(sniff(&bytes), Sniff::Classic);
    }
}
