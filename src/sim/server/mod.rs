//! HTTP/1.1, TLS, sockets and faults. No mail here.
