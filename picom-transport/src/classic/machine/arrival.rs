//! Bytes in: frames, and what each means by its place.

use super::{Arriving, HELD, LEAST_CHARGE, Machine, Sending, Side, Signals, Socket};
use crate::proto::{ConnectionError, FaultReply, StreamError};
use bytes::{Bytes, BytesMut};
use picom_codec::classic::{BadHeader, Record, error_record, read_header, record, with_integers};
use picom_codec::{Code, LengthError, scan, value};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::codec::Decoder;

impl Machine {
    /// Whether there is room for what comes.
    pub(in crate::classic) fn wants_input(&self) -> bool {
        match self.socket {
            Socket::Working => self.inbox_charge < HELD && self.arriving != Arriving::Over,
            Socket::Finishing => true,
            Socket::Abort | Socket::Gone => false,
        }
    }

    /// Takes whole frames out of `bytes` while there is room.
    pub(in crate::classic) fn receive(&mut self, bytes: &mut BytesMut, now: Instant) {
        let arrived = bytes.len().saturating_sub(self.unread);
        if arrived > 0 {
            self.heard = now;
        }
        if let Some(header) = &mut self.header {
            header.arrived += arrived as u64;
        }
        let mut progress = arrived > 0;
        while self.inbox_charge < HELD && self.socket == Socket::Working && self.arriving != Arriving::Over {
            match self.codec.decode(bytes) {
                Ok(Some(payload)) => {
                    progress = true;
                    self.payload(payload);
                }
                Ok(None) => break,
                Err(error) => self.bad_frame(error),
            }
        }
        if matches!(self.arriving, Arriving::Over) || self.socket != Socket::Working {
            bytes.clear();
        }
        self.unread = bytes.len();
        // What the inbox has no room for is not late, and a header has times of its own.
        let begun = !bytes.is_empty() || self.codec.has_begun();
        let waits = begun && self.inbox_charge < HELD && self.header.is_none();
        self.partial_since = match self.partial_since {
            _ if !waits => None,
            Some(since) if !progress => Some(since),
            _ => Some(now),
        };
    }

    /// When bytes of the peer came last.
    pub(in crate::classic) fn heard(&self) -> Instant {
        self.heard
    }

    fn payload(&mut self, payload: Bytes) {
        if payload.is_empty() {
            return;
        }
        match (self.arriving, self.side) {
            (Arriving::Header, _) => match read_header(&payload, &self.rules.scan) {
                Ok(mut header) => {
                    header.args = header.args.as_ref().map(with_integers);
                    self.arriving = Arriving::Items;
                    self.header = None;
                    self.method = header.cmd.clone().unwrap_or_else(|| "undefined".to_owned());
                    (self.send_held, self.recv_held) = (true, true);
                    self.called = Some(header);
                }
                Err(BadHeader {
                    cmd: Some(cmd),
                    error,
                }) => {
                    self.method = cmd;
                    let text = format!("the arguments cannot be taken: {error}");
                    self.refuse(
                        &text,
                        Self::violation("the arguments are not one value within the limits"),
                    );
                }
                Err(_) => self.violated("the first frame is not one well-formed value within the limits"),
            },
            (Arriving::Items, Side::Server) => self.item(payload),
            (Arriving::Items, Side::Client) | (Arriving::Ignored, Side::Client) => {
                if scan::scan(&payload, &self.rules.scan).is_err() {
                    return self.violated("an item is not one well-formed value within the limits");
                }
                match record(&payload) {
                    None if self.arriving == Arriving::Items => self.item(payload),
                    None => {}
                    Some(Record::End) => self.replied(Ok(())),
                    Some(Record::Error(text)) => {
                        let fault = self.fault_of(text);
                        self.replied(Err(StreamError::Fault(Arc::new(fault))));
                    }
                }
            }
            (Arriving::Ignored, Side::Server) | (Arriving::Over, _) => {}
        }
    }

    fn item(&mut self, payload: Bytes) {
        let payload = with_integers(&payload);
        self.inbox_charge += (payload.len() as u64).max(LEAST_CHARGE);
        self.inbox.push_back(payload);
        self.signals.readable = true;
    }

    /// The server has said all it will: the rest of our input is of no use.
    fn replied(&mut self, end: Result<(), StreamError>) {
        self.arriving = Arriving::Over;
        self.input_end = Some(end);
        self.deadline = None;
        if self.sending == Sending::Open {
            self.sending = Sending::Stopped;
        }
        self.out.clear();
        self.queued = self.written;
        self.socket = Socket::Finishing;
        self.signals = Signals {
            readable: true,
            writable: true,
            ended: true,
            driver: true,
        };
    }

    /// What an error record says, as a fault. Only two kinds can be told apart.
    fn fault_of(&self, text: String) -> FaultReply {
        let unknown = text == format!("{}:{} Does not exist", self.service, self.method);
        let own = text
            .strip_prefix('[')
            .and_then(|text| text.strip_prefix(&*self.service))
            .and_then(|text| text.strip_prefix("] "))
            .map(str::to_owned);
        FaultReply {
            code: if unknown {
                Code::UNKNOWN_METHOD
            } else {
                Code::APPLICATION
            },
            started: !unknown,
            do_not_retry: unknown,
            delay: None,
            text: own.unwrap_or(text),
            name: None,
            details: value::nil(),
        }
    }

    fn bad_frame(&mut self, error: LengthError) {
        let listens = self.header.is_some() || (self.sending == Sending::Open && self.send_held);
        if matches!(error, LengthError::TooLong { .. }) && self.side == Side::Server && listens {
            let text = error.to_string();
            self.refuse(&text, ConnectionError::Frame(error.into()));
        } else {
            self.lose(ConnectionError::Frame(error.into()), Socket::Abort);
        }
    }

    /// The client sent what we do not take, and can be told so.
    fn refuse(&mut self, text: &str, error: ConnectionError) {
        self.push(&error_record(&format!("[{}] {text}", self.service)));
        self.sending = Sending::Finished;
        let error = self.lost(error);
        self.fail(error, Socket::Finishing);
    }

    fn violated(&mut self, text: &'static str) {
        self.lose(Self::violation(text), Socket::Abort);
    }

    fn violation(text: &'static str) -> ConnectionError {
        ConnectionError::Violation {
            code: Code::BAD_MESSAGE,
            text,
        }
    }

    /// The peer sends no more; `left` bytes of a frame had come.
    pub(in crate::classic) fn receive_end(&mut self, left: usize) {
        // Whole frames have been taken: what is left is part of one, and of a payload nothing may have come yet.
        let cut = left > 0 || self.codec.decode_eof(&mut BytesMut::new()).is_err();
        match (self.side, self.arriving) {
            (_, Arriving::Over) => {}
            (Side::Server, Arriving::Header) => self.lose(ConnectionError::PeerClosed, Socket::Gone),
            (Side::Server, _) => {
                self.arriving = Arriving::Over;
                self.input_end = Some(if cut {
                    Err(self.lost(ConnectionError::Truncated { have: left }))
                } else {
                    Ok(())
                });
                self.signals.readable = true;
            }
            (Side::Client, _) => {
                let error = if cut {
                    ConnectionError::Truncated { have: left }
                } else {
                    ConnectionError::PeerClosed
                };
                self.lose(error, Socket::Gone);
            }
        }
    }
}
