//! Identity: root CA, join tokens, certificates and TLS configurations.
