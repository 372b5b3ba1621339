//! The confirmations of one publish: each event has one answer, and answers arrive in groups, in any order. An event
//! that waits for a broker therefore does not delay the answers to the other events of its batch.
//!
//! A bus records each answer in a [`Ledger`]. The publisher wakes when the last answer is recorded, and before that
//! only when the bus announces new answers: one wake for a burst of answers, not one for each.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::stream::{self, BoxStream, Stream, StreamExt};

use super::error::PublishError;

/// Whether the bus took responsibility for one event, or why not.
pub type Answer = Result<(), PublishError>;

/// Answers, each with the index of its event in the batch.
pub type Group = Vec<(usize, Answer)>;

/// The answers to the events of one publish, in groups, in the order in which they arrive. Each event is answered once;
/// the stream ends behind the last answer. Dropping it does not cancel the publish.
pub struct Confirmations {
    count: usize,
    groups: BoxStream<'static, Group>,
}

impl Confirmations {
    /// The answers to so many events.
    pub(in crate::bus) fn new(
        count: usize,
        groups: impl Stream<Item = Group> + Send + 'static,
    ) -> Confirmations {
        Confirmations { count, groups: groups.boxed() }
    }

    /// Answers that are known already, one for each event, in the order of the events.
    #[must_use]
    pub fn known(answers: Vec<Answer>) -> Confirmations {
        let group: Group = answers.into_iter().enumerate().collect();
        Confirmations::new(group.len(), stream::iter((!group.is_empty()).then_some(group)))
    }

    /// Waits for all answers, and returns them in the order of the events.
    pub async fn all(mut self) -> Vec<Answer> {
        let unanswered = || Err(PublishError::Unavailable("the bus did not answer".to_owned()));
        let mut answers: Vec<Answer> = (0..self.count).map(|_| unanswered()).collect();
        while let Some(group) = self.next().await {
            for (index, answer) in group {
                answers[index] = answer;
            }
        }
        answers
    }
}

impl Stream for Confirmations {
    type Item = Group;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Group>> {
        self.groups.poll_next_unpin(context)
    }
}

/// Where a bus records the answers to one publish.
pub(in crate::bus) struct Ledger {
    // std Mutex: held to record or to take answers, never across .await
    state: Mutex<State>,
}

struct State {
    /// What the publisher has not taken yet.
    answers: Group,
    /// How many events have no answer.
    open: usize,
    publisher: Option<Waker>,
}

impl Ledger {
    /// A ledger for so many events, and the publisher's end of it.
    pub(in crate::bus) fn new(count: usize) -> (Arc<Ledger>, Answers) {
        let state = State { answers: Vec::new(), open: count, publisher: None };
        let ledger = Arc::new(Ledger { state: Mutex::new(state) });
        (Arc::clone(&ledger), Answers(ledger))
    }

    /// Records the answer to one event; the caller answers each event once. Returns whether the caller is to announce
    /// the ledger: this is the first answer since the publisher took some, and not the last one of all.
    pub(in crate::bus) fn answer(&self, index: usize, answer: Answer) -> bool {
        let mut state = self.lock();
        state.answers.push((index, answer));
        state.open -= 1;
        if state.open > 0 {
            return state.answers.len() == 1;
        }
        wake(state);
        false
    }

    /// Wakes the publisher, if there are answers that it has not taken.
    pub(in crate::bus) fn announce(&self) {
        let state = self.lock();
        if !state.answers.is_empty() {
            wake(state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let publisher = state.publisher.take();
    drop(state);
    if let Some(publisher) = publisher {
        publisher.wake();
    }
}

/// The publisher's end of a ledger.
pub(in crate::bus) struct Answers(Arc<Ledger>);

impl Answers {
    /// The first failure among the answers that are recorded now.
    pub(in crate::bus) fn failure(&self) -> Option<PublishError> {
        self.0.lock().answers.iter().find_map(|(_, answer)| answer.clone().err())
    }
}

impl Stream for Answers {
    type Item = Group;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Group>> {
        let mut state = self.0.lock();
        if !state.answers.is_empty() {
            return Poll::Ready(Some(std::mem::take(&mut state.answers)));
        }
        if state.open == 0 {
            return Poll::Ready(None);
        }
        state.publisher = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// Counts how often a publisher is woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_burst_of_answers_is_one_group_and_one_wake() {
        let (wakes, refused) = (Arc::new(Wakes::default()), PublishError::Refused("too large".to_owned()));
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let (ledger, mut answers) = Ledger::new(4);
        assert!(answers.poll_next_unpin(&mut context).is_pending());
        assert!(ledger.answer(2, Ok(())), "the first of a burst");
        assert!(!ledger.answer(0, Err(refused.clone())));
        assert_eq!((wakes.0.load(Ordering::SeqCst), answers.failure()), (0, Some(refused.clone())));
        ledger.announce();
        ledger.announce();
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        let group = vec![(2, Ok(())), (0, Err(refused))];
        assert_eq!(answers.poll_next_unpin(&mut context), Poll::Ready(Some(group)));
        assert!(answers.poll_next_unpin(&mut context).is_pending());
        ledger.announce();
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1, "nothing is new");
        assert!(ledger.answer(1, Ok(())));
        assert!(!ledger.answer(3, Ok(())), "the last answer wakes the publisher without an announcement");
        assert_eq!(wakes.0.load(Ordering::SeqCst), 2);
        let group = vec![(1, Ok(())), (3, Ok(()))];
        assert_eq!(answers.poll_next_unpin(&mut context), Poll::Ready(Some(group)));
        assert_eq!(answers.poll_next_unpin(&mut context), Poll::Ready(None));
    }
}
