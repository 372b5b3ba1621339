//! Records that were handed over together, until each has its answer. A broker refuses all records of a request
//! together, so a record that was refused with others is published again by itself, which shows the record at fault.
//! That must not delay the answers to the other records.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};

use super::producer::Producer;
use super::records::Outgoing;
use crate::bus::confirmations::Answers;
use crate::bus::{Answer, Group, PublishError};

/// Records that wait for their answers, and the answers as a stream.
struct Publishing {
    producer: Arc<Producer>,
    /// The records without an answer, by their index.
    records: Vec<Option<Outgoing>>,
    answers: Answers,
    alone: bool,
    refused: VecDeque<(usize, Outgoing)>,
    again: Option<BoxFuture<'static, (usize, Answer)>>,
}

impl Producer {
    /// Publishes records together. The stream answers for each record, by its index, when a broker has stored it.
    pub(super) async fn publish_all(
        self: &Arc<Producer>,
        records: Vec<Outgoing>,
    ) -> BoxStream<'static, Group> {
        match self.hand_over(&records, false).await {
            Ok((answers, alone)) => Publishing::new(Arc::clone(self), records, answers, alone).boxed(),
            Err(error) => {
                stream::iter([vec![Err(error); records.len()].into_iter().enumerate().collect()]).boxed()
            }
        }
    }
}

impl Publishing {
    /// Records, and the stream of their answers; `alone` where each record was sent in a request of its own.
    fn new(producer: Arc<Producer>, records: Vec<Outgoing>, answers: Answers, alone: bool) -> Publishing {
        let records = records.into_iter().map(Some).collect();
        Publishing { producer, records, answers, alone, refused: VecDeque::new(), again: None }
    }

    /// The final answers of a group. Records that were refused with others are queued to be published again.
    fn sort(&mut self, group: Group) -> Group {
        let mut answered = Group::with_capacity(group.len());
        for (index, answer) in group {
            let Some(record) = self.records[index].take() else { continue };
            if !self.alone && matches!(answer, Err(PublishError::Refused(_))) {
                self.refused.push_back((index, record));
            } else {
                answered.push((index, answer));
            }
        }
        answered
    }

    /// Publishes the refused records one after the other: side by side they would share a request again.
    fn publish_again(&mut self, context: &mut Context<'_>) -> Poll<Option<Group>> {
        if self.again.is_none() {
            let Some((index, record)) = self.refused.pop_front() else { return Poll::Ready(None) };
            let producer = Arc::clone(&self.producer);
            self.again = Some(async move { (index, producer.publish(&record).await) }.boxed());
        }
        let Some(again) = &mut self.again else { return Poll::Ready(None) };
        let answered = ready!(again.poll_unpin(context));
        self.again = None;
        Poll::Ready(Some(vec![answered]))
    }
}

impl Stream for Publishing {
    type Item = Group;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Group>> {
        loop {
            let more = match self.answers.poll_next_unpin(context) {
                Poll::Ready(Some(group)) => {
                    let answered = self.sort(group);
                    if answered.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(answered));
                }
                Poll::Ready(None) => false,
                Poll::Pending => true,
            };
            return match self.publish_again(context) {
                Poll::Ready(None) if more => Poll::Pending,
                answered => answered,
            };
        }
    }
}
