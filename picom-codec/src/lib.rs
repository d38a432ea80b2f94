//! Frames and values of the picom wire: length-prefixed MessagePack, checked before it is believed.
//!
//! What a peer sends passes three doors, each with its own module and its own errors:
//!
//! 1. [`FrameCodec`] cuts the byte stream into [`Frame`]s: the length prefix is checked against the limit before memory
//!    is reserved, the small head is read by hand, the body is handed on untouched.
//! 2. [`scan`](scan::scan) walks a body without recursion or allocation: depth, number of values, announced lengths,
//!    reserved and trailing bytes, each with the exact offset.
//! 3. [`value::decode`] turns a body into a Rust value, checking what the scan checks as it goes.
//!
//! Nothing that arrives can panic these, hang them, or make them hold more than the limits say. The rules of the wire
//! are in PROTOCOL.md at the root of the repository; comments cite them as "PROTOCOL §n".
//!
//! ```
//! use bytes::BytesMut;
//! use picom_codec::{Frame, FrameCodec, Limits, StreamId, value};
//! use tokio_util::codec::{Decoder, Encoder};
//!
//! let mut codec = FrameCodec::new(64 * 1024);
//! let mut wire = BytesMut::new();
//! codec.encode(Frame::Data { stream: StreamId::FIRST, body: value::encode_body(&("seven", 7))? }, &mut wire)?;
//!
//! let Some(Frame::Data { body, .. }) = codec.decode(&mut wire)? else { panic!("one whole frame was written") };
//! let (word, number): (String, i64) = value::decode_body(&body, &Limits::default())?;
//! assert_eq!((word.as_str(), number), ("seven", 7));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod body;
mod canonical;
pub mod classic;
mod code;
pub mod dialect;
mod frame;
mod frame_codec;
mod frame_error;
pub mod head;
mod items;
mod length_codec;
mod limits;
mod method;
pub mod scan;
mod stream_id;
pub mod value;
pub mod varint;

pub use body::Body;
pub use code::Code;
pub use dialect::{Sniff, sniff};
pub use frame::{Fault, Frame, Goaway, Hello, Open};
pub use frame_codec::FrameCodec;
pub use frame_error::{FrameError, HeadError, HeadFault, Unsendable};
pub use head::{MIN_CHARGE, charge, encode_head};
pub use items::{ItemError, Items, ItemsError, ItemsPacker};
pub use length_codec::{LengthCodec, LengthError};
pub use limits::Limits;
pub use method::{Method, MethodError};
pub use scan::ScanError;
pub use stream_id::StreamId;
pub use value::{Blob, DecodeError, EncodeError, Encoding};
