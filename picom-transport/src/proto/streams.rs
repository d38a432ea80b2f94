//! The table of a connection's streams: a slab, so that the halves find theirs by index, and a map from ids on the
//! wire. What a stream is stands in `stream.rs`.

use super::stream::Stream;
use picom_codec::StreamId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Names a stream to the two halves that hold it: a place in the table, and a number that tells its tenants apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    index: u32,
    serial: u64,
}

impl Key {
    pub(super) fn new(index: u32, serial: u64) -> Self {
        Self { index, serial }
    }

    /// The place in the table: dense, reused.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Ids are no choice of the peer's (each is the last + 2, PROTOCOL §5.1), so one multiplication spreads them well enough
/// and there is nothing to flood.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        // 2^64 divided by the golden ratio: Knuth's multiplicative hashing.
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

#[derive(Default)]
pub(super) struct Streams {
    slots: Vec<Option<(u64, Stream)>>,
    vacant: Vec<u32>,
    by_id: HashMap<StreamId, Key, BuildHasherDefault<IdHasher>>,
    serial: u64,
}

impl Streams {
    pub(super) fn insert(&mut self, mut stream: Stream) -> Key {
        self.serial += 1;
        let index = self.vacant.pop().unwrap_or_else(|| {
            if self.slots.capacity() == 0 {
                // One call at a time is what most connections know.
                self.slots.reserve_exact(1);
            }
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        let key = Key::new(index, self.serial);
        if let Some(id) = stream.id {
            self.by_id.insert(id, key);
            stream.named = true;
        }
        if let Some(slot) = self.slots.get_mut(index as usize) {
            *slot = Some((self.serial, stream));
        }
        key
    }

    /// The stream has got its id.
    pub(super) fn name(&mut self, id: StreamId, key: Key) {
        if let Some(stream) = self.get_mut(key) {
            stream.named = true;
            self.by_id.insert(id, key);
        }
    }

    /// Frames for the id of this stream are no longer for anybody.
    pub(super) fn unname(&mut self, key: Key) {
        if let Some(stream) = self.get_mut(key)
            && std::mem::take(&mut stream.named)
            && let Some(id) = stream.id
        {
            self.by_id.remove(&id);
        }
    }

    pub(super) fn find(&self, id: StreamId) -> Option<Key> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn get(&self, key: Key) -> Option<&Stream> {
        match self.slots.get(key.index as usize) {
            Some(Some((serial, stream))) if *serial == key.serial => Some(stream),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Stream> {
        match self.slots.get_mut(key.index as usize) {
            Some(Some((serial, stream))) if *serial == key.serial => Some(stream),
            _ => None,
        }
    }

    /// Takes the stream out, having asked it for the last time.
    pub(super) fn remove<R>(&mut self, key: Key, last: impl FnOnce(&mut Stream) -> R) -> Option<R> {
        let place = self.slots.get_mut(key.index as usize)?;
        let (_, stream) = place.as_mut().filter(|(serial, _)| *serial == key.serial)?;
        let id = stream.id.filter(|_| stream.named);
        let result = last(stream);
        // Where it stands: it is too large to be moved for nothing.
        *place = None;
        self.vacant.push(key.index);
        if let Some(id) = id {
            self.by_id.remove(&id);
        }
        Some(result)
    }

    /// Gives back the room of a table that is empty. Numbers go on: no tenant is taken for one of before.
    pub(super) fn shrink(&mut self) {
        if self.len() == 0 {
            *self = Self {
                serial: self.serial,
                ..Self::default()
            };
        }
    }

    /// All keys, in the order of the table.
    pub(super) fn keys(&self) -> Vec<Key> {
        let occupied = self.slots.iter().enumerate();
        occupied
            .filter_map(|(index, slot)| slot.as_ref().map(|(serial, _)| Key::new(index as u32, *serial)))
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }
}
