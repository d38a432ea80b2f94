//! What waits in line on a stream. The first stands apart, because most lines never have a second, and the rest is kept
//! elsewhere, because there are many streams: an empty line is as large as one that waits in it.

use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub(super) struct Line<T> {
    first: Option<T>,
    /// Made when there is a second for the first time.
    #[expect(
        clippy::box_collection,
        reason = "a word instead of four in each of many streams"
    )]
    rest: Option<Box<VecDeque<T>>>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Line {
            first: None,
            rest: None,
        }
    }
}

impl<T> Line<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.front().is_none()
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.first.as_ref().or_else(|| self.rest.as_ref()?.front())
    }

    pub(super) fn back(&self) -> Option<&T> {
        let rest = self.rest.as_ref().and_then(|rest| rest.back());
        rest.or(self.first.as_ref())
    }

    pub(super) fn back_mut(&mut self) -> Option<&mut T> {
        let rest = self.rest.as_mut().and_then(|rest| rest.back_mut());
        rest.or(self.first.as_mut())
    }

    pub(super) fn push_back(&mut self, item: T) {
        if self.is_empty() {
            self.first = Some(item);
        } else {
            self.rest.get_or_insert_default().push_back(item);
        }
    }

    pub(super) fn push_front(&mut self, item: T) {
        if let Some(second) = self.first.replace(item) {
            self.rest.get_or_insert_default().push_front(second);
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        self.first.take().or_else(|| self.rest.as_mut()?.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Front(u8),
        Back(u8),
        Change(u8),
        Pop,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<u8>().prop_map(Step::Front),
            any::<u8>().prop_map(Step::Back),
            any::<u8>().prop_map(Step::Change),
            Just(Step::Pop),
            Just(Step::Pop),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec(step(), 1..60)) {
            let (mut line, mut queue) = (Line::default(), VecDeque::new());
            for step in steps {
                match step {
                    Step::Front(n) => {
                        line.push_front(n);
                        queue.push_front(n);
                    }
                    Step::Back(n) => {
                        line.push_back(n);
                        queue.push_back(n);
                    }
                    Step::Change(n) => {
                        prop_assert_eq!(line.back_mut().is_some(), !queue.is_empty());
                        if let (Some(one), Some(other)) = (line.back_mut(), queue.back_mut()) {
                            (*one, *other) = (n, n);
                        }
                    }
                    Step::Pop => prop_assert_eq!(line.pop_front(), queue.pop_front()),
                }
                prop_assert_eq!(line.front(), queue.front());
                prop_assert_eq!(line.back(), queue.back());
                prop_assert_eq!(line.is_empty(), queue.is_empty());
            }
            while let Some(n) = queue.pop_front() {
                prop_assert_eq!(line.pop_front(), Some(n));
            }
            prop_assert!(line.is_empty());
        }
    }
}
