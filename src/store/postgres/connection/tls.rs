//! TLS to Postgres, with rustls. The verification follows `sslmode` as in libpq: nothing unless the DSN names
//! authorities, then the chain of certificates, and with `verify-full` the server's name, too. A certificate that does
//! not pass the demanded verification must always fail the connection.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dsn::{Dsn, DsnError, RootCert, Verify};

/// The TLS connector for a DSN.
pub(super) fn connector(dsn: &Dsn) -> Result<MakeRustlsConnect, DsnError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        // Cannot fail: the versions are the provider's own.
        .map_err(|error| refused(Path::new(""), &error))?;
    let trust = match &dsn.root_cert {
        Some(RootCert::File(path)) if dsn.verify != Verify::Nothing => Some(trust(path, &provider)?),
        Some(RootCert::System) => Some(system_trust(&provider)?),
        _ => None,
    };
    let verifier = Arc::new(Verifier { verify: dsn.verify, trust, provider });
    let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn trust(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Trust, DsnError> {
    let (mut roots, mut certificates) = (RootCertStore::empty(), Vec::new());
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| refused(path, &error))? {
        let certificate = certificate.map_err(|error| refused(path, &error))?;
        roots.add(certificate.clone()).map_err(|error| refused(path, &error))?;
        certificates.push(certificate);
    }
    if roots.is_empty() {
        return Err(refused(path, &"there is no certificate in it"));
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    Ok(Trust { certificates, chain: chain.map_err(|error| refused(path, &error))? })
}

/// The authorities that the system trusts, or those in `SSL_CERT_FILE` and `SSL_CERT_DIR`, as in OpenSSL. A certificate
/// that cannot be read is skipped.
fn system_trust(provider: &Arc<CryptoProvider>) -> Result<Trust, DsnError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs.iter().cloned());
    if added == 0 {
        let reason = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(DsnError::SystemRootCerts(format!("no certificate can be read: {reason}")));
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let chain = chain.map_err(|error| DsnError::SystemRootCerts(error.to_string()))?;
    Ok(Trust { certificates: found.certs, chain })
}

fn refused(path: &Path, reason: &dyn std::fmt::Display) -> DsnError {
    DsnError::RootCert { path: path.to_owned(), reason: reason.to_string() }
}

/// The trusted certificates of `sslrootcert`.
#[derive(Debug)]
struct Trust {
    certificates: Vec<CertificateDer<'static>>,
    chain: Arc<WebPkiServerVerifier>,
}

/// Verifies what `sslmode` demands.
#[derive(Debug)]
struct Verifier {
    verify: Verify,
    trust: Option<Trust>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(trust) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        let chained =
            trust.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let verdict = match chained {
            // By the first recipe of Postgres' manual a server presents a self-signed certificate of an authority,
            // which is not part of a chain. A DSN that names it trusts it; rustls has checked its dates already.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if trust.certificates.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)
                    .map(|()| ServerCertVerified::assertion())
            }
            verdict => verdict,
        };
        match verdict {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.verify == Verify::Authority => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
