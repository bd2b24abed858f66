//! `GET /metrics`: the engine's counters and those of HTTP, in the OpenMetrics text format.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lmrun_engine::Stats;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::error::ApiError;
use crate::model::Model;
use crate::state::App;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The route of a request that has none, so that what strangers type makes no series.
const NO_ROUTE: &str = "none";

/// Counters of HTTP, and the registry of everything.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

impl Metrics {
    pub(crate) fn new(model: &Arc<dyn Model>) -> Self {
        let mut registry = Registry::with_prefix("lmrun");
        let requests = Family::<RequestLabels, Counter>::default();
        let help = "Answered requests by route and status";
        registry.register("http_requests", help, requests.clone());
        // 1 ms to 131 s.
        let seconds = Family::<RouteLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 2.0, 18))
        });
        let help = "Time to the response's head, which for a stream is its first token";
        registry.register_with_unit("http_response", help, Unit::Seconds, seconds.clone());
        registry.register_collector(Box::new(EngineCollector(model.clone())));
        Self {
            registry,
            requests,
            seconds,
        }
    }
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let mut body = String::new();
    text::encode(&mut body, &app.metrics.registry).map_err(|_| ApiError::internal())?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response())
}

/// Counts every request under its route's pattern.
pub(crate) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or(NO_ROUTE, MatchedPath::as_str);
    let route = route.to_owned();
    let start = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let seconds = start.elapsed().as_secs_f64();
    app.metrics
        .seconds
        .get_or_create(&RouteLabels {
            route: route.clone(),
        })
        .observe(seconds);
    app.metrics
        .requests
        .get_or_create(&RequestLabels { route, status })
        .inc();
    response
}

/// Reads the engine's counters when it is asked.
struct EngineCollector(Arc<dyn Model>);

impl std::fmt::Debug for EngineCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EngineCollector")
    }
}

impl Collector for EngineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let stats = self.0.stats();
        for (name, help, value) in GAUGES {
            let gauge = ConstGauge::<i64>::new(i64::try_from(value(&stats)).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, value) in COUNTERS {
            let counter = ConstCounter::<u64>::new(value(&stats));
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

/// A number of the engine's: its name, what it says, and where it is found.
type Reading<T> = (&'static str, &'static str, fn(&Stats) -> T);

const GAUGES: [Reading<usize>; 6] = [
    ("requests_running", "Requests in the batch", |stats| {
        stats.n_running
    }),
    ("requests_waiting", "Requests in the queue", |stats| {
        stats.n_waiting
    }),
    ("kv_pages_free", "KV pages that hold nothing", |stats| {
        stats.n_pages_free
    }),
    ("kv_pages_cached", "KV pages of the prefix cache", |stats| {
        stats.n_pages_cached
    }),
    (
        "kv_pages_held",
        "KV pages that only running requests hold",
        |stats| stats.n_pages_held,
    ),
    (
        "kv_pages",
        "KV pages of the pool: free, cached and held",
        |stats| stats.n_pages_total,
    ),
];

const COUNTERS: [Reading<u64>; 13] = [
    (
        "prompt_tokens",
        "Prompt tokens of started requests",
        |stats| stats.n_prompt_tokens,
    ),
    (
        "cached_tokens",
        "Prompt tokens read from the cache",
        |stats| stats.n_cached_tokens,
    ),
    ("generated_tokens", "Output tokens", |stats| {
        stats.n_generated_tokens
    }),
    (
        "forced_tokens",
        "Output tokens that a constraint forced, computed together with the one before",
        |stats| stats.n_forced_tokens,
    ),
    (
        "unplanned_tokens",
        "Tokens computed ahead for a constraint, and not chosen",
        |stats| stats.n_unplanned_tokens,
    ),
    (
        "rollbacks",
        "Times that tokens of an output were taken back",
        |stats| stats.n_rollbacks,
    ),
    (
        "computed_tokens",
        "Tokens that went through the decoder",
        |stats| stats.n_computed_tokens,
    ),
    ("steps", "Steps of the decoder", |stats| stats.n_steps),
    ("failed_steps", "Steps that failed", |stats| {
        stats.n_failed_steps
    }),
    (
        "preemptions",
        "Running requests sent back to wait",
        |stats| stats.n_preemptions,
    ),
    (
        "evicted_pages",
        "KV pages evicted from the cache",
        |stats| stats.n_pages_evicted,
    ),
    ("requests", "Requests that the engine accepted", |stats| {
        stats.n_requests
    }),
    (
        "requests_ended",
        "Requests that ended, in whatever way",
        |stats| stats.n_ended,
    ),
];
