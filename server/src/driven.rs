//! A stream that drives the future which fills it, so that work belongs to whoever reads: dropped together.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedReceiver;

/// What a future sends while it runs, then its outcome as the last item.
pub(crate) struct Driven<S, T, F> {
    /// None once it has ended.
    future: Option<BoxFuture<'static, T>>,
    sent: UnboundedReceiver<S>,
    wrap: F,
    /// The outcome, kept back until all that was sent is out.
    last: Option<T>,
}

impl<S, T, F: FnMut(S) -> T> Driven<S, T, F> {
    /// What is sent to `sent` becomes an item through `wrap`.
    pub(crate) fn new(future: BoxFuture<'static, T>, sent: UnboundedReceiver<S>, wrap: F) -> Self {
        Self {
            future: Some(future),
            sent,
            wrap,
            last: None,
        }
    }
}

impl<S, T: Unpin, F: FnMut(S) -> T + Unpin> Stream for Driven<S, T, F> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        if let Some(future) = &mut this.future
            && let Poll::Ready(last) = future.as_mut().poll(cx)
        {
            this.future = None;
            this.last = Some(last);
        }
        match this.sent.poll_recv(cx) {
            Poll::Ready(Some(sent)) => Poll::Ready(Some((this.wrap)(sent))),
            // An ended future sends nothing more, whoever else may still hold its sender.
            Poll::Ready(None) | Poll::Pending if this.future.is_none() => {
                Poll::Ready(this.last.take())
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
