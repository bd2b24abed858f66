//! Server-sent events: responses that end in order when the server does.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;

use crate::error::ApiError;
use crate::state::App;

/// How often a silent stream says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One event without a name, as the OpenAI API sends them.
pub(crate) fn data(value: &Value) -> Event {
    Event::default().data(value.to_string())
}

/// The events of `items`; if the server must end before they do, `last_words` instead of the rest.
pub(crate) fn respond(
    app: &App,
    items: impl Stream<Item = Event> + Send + 'static,
    last_words: impl FnOnce(&ApiError) -> Event + Send + 'static,
) -> Response {
    let start = Some((Box::pin(items), Box::pin(app.ending()), last_words));
    let events = stream::unfold(start, |state| async move {
        let (mut items, mut ending, last_words) = state?;
        tokio::select! {
            biased;
            () = &mut ending => Some((last_words(&ApiError::shutting_down()), None)),
            item = items.next() => item.map(|event| (event, Some((items, ending, last_words)))),
        }
    });
    let events = events.map(Ok::<_, Infallible>);
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}
