//! The shared part of the handlers that change one order: the preconditions and the key of a request, the call of the
//! service, and its response. A batch does not use it. A command without a choice of versions is queued by the call of
//! `submit` itself, before its future is polled. Of several versions in `If-Match`, the change is tried for the current
//! one; the attempts end because versions only grow. A handler that is dropped loses only the answer: a queued command
//! continues.

use std::sync::Arc;

use axum::response::Response;
use futures_util::future::Either;
use hyper::HeaderMap;
use hyper::header::HeaderName;

use super::change_response::answer;
use super::preconditions::{IfMatch, single};
use super::prefer::Preferences;
use crate::api::caller::Caller;
use crate::api::problem::Problem;
use crate::api::state::ApiState;
use crate::api::submission::Submission;
use crate::error::Error;
use crate::order::{self, Invalid, KeyText, Version};
use crate::service::quota::{HeldMemory, Permit};
use crate::service::{CommandReceipt, Deadline};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The deadline for the response to a write.
pub(super) fn deadline(api: &ApiState, preferences: Preferences) -> Deadline {
    let deadline = api.service.deadline(preferences.wait_policy());
    if preferences.wants_representation() { deadline.with_last_read() } else { deadline }
}

/// The versions that the precondition allows, the newest first; empty where it allows any. Sets the first one in the
/// submission.
pub(super) fn allowed(
    if_match: Option<IfMatch>,
    submission: &mut Submission<'_>,
) -> Result<Vec<Version>, Invalid> {
    let (versions, named) = (if_match.map_or_else(Vec::new, IfMatch::versions), submission.version);
    submission.require(&versions)?;
    Ok(named.map_or(versions, |named| vec![named]))
}

/// Submits a request to the service, and returns the response with its outcome.
pub(super) fn submit<'a>(
    api: &'a ApiState,
    caller: &'a Caller,
    request: order::CommandRequest,
    versions: &'a [Version],
    headers: &HeaderMap,
    memory: Permit,
) -> impl Future<Output = Result<Response, Problem>> + Send + 'a {
    let preferences = Preferences::read(headers);
    let deadline = deadline(api, preferences);
    let outcome = match versions.len() {
        0 | 1 => Either::Left(api.service.submit_by(request, deadline, memory.into())),
        _ => Either::Right(Box::pin(async move {
            let memory = Arc::new(memory);
            let submit = |version| {
                let memory = HeldMemory::Shared(Arc::clone(&memory));
                api.service.submit_by(request.for_version(version), deadline, memory)
            };
            for_one_of(versions, submit).await
        })),
    };
    async move { Ok(answer(api, caller, &outcome.await?, preferences, deadline).await) }
}

/// Carries out a change for the order's current version, if that is one of these. The order may change meanwhile, and
/// the change is then tried with the next version; the loop ends because versions only grow.
pub(super) async fn for_one_of<F: Future<Output = Result<CommandReceipt, Error>> + Send>(
    versions: &[Version],
    change: impl Fn(Version) -> F,
) -> Result<CommandReceipt, Error> {
    let mut version = versions.first().copied().unwrap_or_default();
    loop {
        match change(version).await {
            Err(Error::PreconditionFailed { current: Some(current), .. })
                if current != version && versions.contains(&current) =>
            {
                version = current;
            }
            outcome => return outcome,
        }
    }
}

/// The idempotency key of a request, where it has one.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<KeyText>, Invalid> {
    let Some(text) = single(headers, &IDEMPOTENCY_KEY, "Idempotency-Key")? else { return Ok(None) };
    let key = KeyText::parse(text).map_err(|error| Invalid::new("Idempotency-Key", error.to_string()))?;
    Ok(Some(key))
}
