//! Reflection, in both versions of that service: it describes the methods and messages to clients without our files. An
//! option turns it on. The descriptors are compiled in from the proto files of the served methods, so the two always
//! fit. A failure to set it up is logged and must never keep calls from being served. A request is at most 4 KiB,
//! because it only names a service or a file.

use tonic::service::Routes;
use tonic_reflection::server::Builder;

use super::message::SMALL_MESSAGE;
use super::proto::DESCRIPTORS;

/// Adds the two services of reflection.
pub(super) fn add_to(mut routes: Routes) -> Routes {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            let v1 = v1.max_decoding_message_size(SMALL_MESSAGE);
            let v1alpha = v1alpha.max_decoding_message_size(SMALL_MESSAGE);
            routes = routes.add_service(v1).add_service(v1alpha);
        }
        // Compiled-in descriptors do not fail at run time, and calls work without reflection.
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "gRPC reflection cannot be set up; calls work without it; report this");
        }
    }
    routes
}
