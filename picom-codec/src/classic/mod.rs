//! The dialect of the Node library 0.3.x (PROTOCOL §12): headers, records, and which values its peers can read. Framing is
//! [`LengthCodec::lenient`](crate::LengthCodec::lenient); connections are for the layer above.

pub mod date;
mod header;
mod readable;
mod record;
mod walk;

pub use date::ClassicDate;
pub use header::{BadHeader, ClassicHeader, read_header, write_header};
pub use readable::{Unreadable, readable, readable_item, with_integers};
pub use record::{END, Record, error_record, record};
